//! What is said after `sitegate run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use sitegate_client::Name;

/// `sitegate run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The ticket that has to be held here
    #[arg(long, value_parser = Name::new)]
    pub(super) ticket: Name,
    /// When the ticket is lost, wait for it again and run the command anew
    #[arg(long)]
    pub(super) again: bool,
    /// The socket of sitegate-fenced [default: as in /etc/sitegate/member.toml]
    #[arg(long, value_name = "PATH")]
    pub(super) fenced_socket: Option<PathBuf>,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}
