//! The bug that `cargo xtask mutants` has planted, for proof that a run or a scene sees it.

use std::sync::Once;

use sitegate_mutant::{Mutant, plant};

/// Names the bug to plant.
pub const VARIABLE: &str = "SITEGATE_MUTANT";

/// Plants the bug that the environment names; the whole process has one or none.
///
/// # Panics
/// If there is none of that name.
pub(crate) fn plant_from_environment() {
    static PLANTED: Once = Once::new();
    PLANTED.call_once(|| {
        if let Ok(name) = std::env::var(VARIABLE) {
            assert!(plant(&name), "there is no planted bug {name}");
        }
    });
}

/// Names and descriptions of all planted bugs.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    Mutant::ALL.iter().map(|mutant| (mutant.name(), mutant.bug()))
}
