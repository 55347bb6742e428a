//! `sitegate-arbitrator`: votes on tickets and never holds one.

use std::process::ExitCode;

use sitegate_member::config::Role;
use sitegate_member::daemon::{Program, main as daemon, nothing_to_check};

fn main() -> ExitCode {
    daemon(&Program {
        name: "sitegate-arbitrator",
        what: "the lightweight daemon of a member that votes and never holds a ticket",
        role: Role::Arbitrator,
        check: nothing_to_check,
        attach: None,
    })
}
