//! Planted bugs: proof that the checkers see. `cargo xtask mutants` plants one after the other and says what killed it.
//!
//! The places where they are planted stand in the code that they break, each as a [`planted!`] in an expression. Without
//! `--cfg sitegate_mutants` that is `false` and this crate has nothing else: no list, no name, no state. A `cfg` and not a
//! feature: features of one dependency tree are united, and one careless `cargo build` would ship them all.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(sitegate_mutants, test))]
mod bugs;

#[cfg(any(sitegate_mutants, test))]
pub use bugs::{Mutant, plant, planted};

/// Whether the bug of this name is planted, as `planted!(GuardIgnored)`.
#[cfg(sitegate_mutants)]
#[macro_export]
macro_rules! planted {
    ($mutant:ident) => {
        $crate::planted($crate::Mutant::$mutant)
    };
}

/// Whether the bug of this name is planted, as `planted!(GuardIgnored)`: never, in a build like this one. That there is
/// one of the name is checked by a mutant build.
#[cfg(not(sitegate_mutants))]
#[macro_export]
macro_rules! planted {
    ($mutant:ident) => {
        false
    };
}
