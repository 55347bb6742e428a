//! What every command says, and how it ends: data goes to standard output, everything else to standard error. `exit.rs` lists how
//! the program ends.

pub(crate) mod exit;
pub(crate) mod failure;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod style;
pub(crate) mod table;
