//! The leases of what is armed, and whether a program may be executed by them.

use std::collections::BTreeMap;

use sitegate_fence_client::wire::{Activity, Deadline, Incarnation, Instant, Name, Token};
use sitegate_mutant::planted;

/// What must survive the daemon but not the boot: kept in the runtime directory, where it is read by the next start of
/// the daemon and by every program about to be started.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The armed token.
    pub token: Token,
    /// The newest incarnation of the client that has spoken for it.
    pub incarnation: Incarnation,
    /// The deadline in force.
    pub deadline: Deadline,
    /// What was started.
    pub activity: Activity,
}

/// The leases of all armed resources. A resource that is not in it may not start anything.
pub type Leases = BTreeMap<Name, Lease>;

/// Which leases have changed, and what they are now; nothing where one is withdrawn. After a start it speaks of all resources.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Changes(pub(super) Vec<(Name, Option<Lease>)>);

impl Changes {
    /// Makes `leases` what they are now.
    pub fn apply(&self, leases: &mut Leases) {
        for (name, lease) in &self.0 {
            match lease {
                Some(lease) => drop(leases.insert(name.clone(), lease.clone())),
                None => drop(leases.remove(name)),
            }
        }
    }

    /// Each resource, with what its lease is now.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Option<&Lease>)> {
        self.0.iter().map(|(name, lease)| (name, lease.as_ref()))
    }

    /// Of which resources.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().map(|(name, _)| name)
    }
}

/// Whether a program of (`resource`, `token`) may be executed now, by the `leases` that are published. To be asked in the
/// process that is about to exec, where a kill already finds it.
///
/// # Errors
/// Why not.
pub fn may_exec(leases: &Leases, resource: &Name, token: Token, now: Instant) -> Result<(), Barred> {
    if planted!(StartsAfterReceipt) {
        return Ok(());
    }
    match leases.get(resource) {
        None => Err(Barred::NotArmed),
        Some(lease) if lease.token != token => Err(Barred::ArmedOtherwise(lease.token)),
        Some(lease) if lease.deadline.passed(now) => Err(Barred::DeadlinePassed),
        Some(_) => Ok(()),
    }
}

/// Why a program may not be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// Its resource has no lease.
    #[error("it is not armed any more")]
    NotArmed,
    /// The lease is another tenure's.
    #[error("another token, {0}, is armed")]
    ArmedOtherwise(Token),
    /// The lease is over, whether or not the daemon has noticed.
    #[error("its deadline has passed")]
    DeadlinePassed,
}
