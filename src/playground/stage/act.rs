//! What is asked of a formation, as a person would, and how long it takes until it shows in the shared file.

use std::process::Stdio;
use std::time::Duration;

use sitegate_host::clock::boot_ns;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Played, Stage, Unmet};
use crate::playground::writes::Tenure;

/// From the loss of the holder to the first write elsewhere: the bound in docs/protocol.md, "Inequalities",
/// and time for a loaded machine.
pub(in crate::playground) const FAILOVER_MAX: Duration = Duration::from_secs(10);
/// From a command's success to the write that proves it.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// For a command: the longest lease that it may have to wait for, and as long again.
const COMMAND_MAX: Duration = Duration::from_secs(20);

impl Stage {
    /// Runs this program with these arguments; it must exit with 0.
    pub(in crate::playground) async fn sitegate(&self, arguments: &[&str]) -> Played {
        let line = format!("sitegate {}", arguments.join(" "));
        let mut command = Command::new(self.ground.program());
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let Ok(output) = timeout(COMMAND_MAX, command.output()).await else {
            return Err(Unmet(format!("`{line}` does not return within {} s", COMMAND_MAX.as_secs())));
        };
        let output = output?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace('\n', "; ");
        Err(Unmet(format!("`{line}` ended with {}: {said}", output.status)))
    }

    /// Gives a command through a member.
    pub(in crate::playground) async fn command(&self, through: &str, arguments: &[&str]) -> Played {
        self.timeline.note(&format!("$ sitegate {}", arguments.join(" ")));
        let socket = self.ground.socket(through);
        let whom = ["--socket", &socket.to_string_lossy()];
        self.sitegate(&[arguments, &whom].concat()).await
    }

    /// Grants `db` to a site, and waits for the write that proves it.
    pub(in crate::playground) async fn grant(&mut self, site: &str) -> Played {
        let before = self.newest_token();
        let began = boot_ns();
        self.command(site, &["grant", "db", "--site", site]).await?;
        let tenure = self.first_write(site, before, WRITE_MAX).await?;
        self.grant_ms = Some(tenure.first_ns.saturating_sub(began) / 1_000_000);
        Ok(())
    }

    /// Waits for another site's first write, after a failure at `failed_ns`.
    pub(in crate::playground) async fn failover(&mut self, to: &str, failed_ns: u64) -> Played {
        let before = self.newest_token();
        let tenure = self.first_write(to, before, FAILOVER_MAX).await?;
        self.made_good(&tenure, failed_ns);
        Ok(())
    }

    /// Notes how long it took from a failure to the tenure that made good for it.
    pub(in crate::playground) fn made_good(&mut self, tenure: &Tenure, failed_ns: u64) {
        self.failover_ms = Some(tenure.first_ns.saturating_sub(failed_ns) / 1_000_000);
    }
}
