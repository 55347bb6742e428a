//! `sitegated`: the daemon of a site.

use std::process::ExitCode;

use sitegate_member::config::Role;
use sitegate_member::daemon::{Program, main as daemon};
use sitegate_site::{attach, check};

fn main() -> ExitCode {
    daemon(&Program {
        name: "sitegated",
        what: "the daemon of a site: votes on tickets, holds them, and has what they gate started, stopped and fenced",
        role: Role::Site,
        check,
        attach: Some(attach),
    })
}
