//! `init`: how a member comes to be.

use sitegate_protocol::Identity;

use crate::config::Configuration;
use crate::store::{CreateError, Owner, create};

/// Why `init` failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The store could not be created, or is there already.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The system gives no random numbers for an identity; the machine's fault.
    #[error("the system gives no random numbers")]
    NoRandomness(#[from] getrandom::Error),
}

/// Creates the identity and the store of the member that `configuration` is for; says so in a sentence.
///
/// # Errors
/// [`CreateError::Exists`] if it has them already; then nothing is changed.
pub fn init(configuration: &Configuration) -> Result<String, InitError> {
    let mut identity = [0_u8; 16];
    getrandom::fill(&mut identity)?;
    let owner = Owner::of(configuration);
    create(&configuration.local.state_dir, &owner, Identity(u128::from_le_bytes(identity)))?;
    Ok(format!("{owner} has its identity and its store in {}", configuration.local.state_dir.display()))
}
