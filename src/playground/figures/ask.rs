//! Asking members from within this process, so that no program's start is measured along.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use ring::rand::{SecureRandom, SystemRandom};
use sitegate_host::clock::boot_ns;
use sitegate_member::api::types::{CommandRequest, Progress};
use tokio::time::{sleep, timeout};

use crate::api::client::Client;
use crate::api::place::PlaceArgs;
use crate::playground::ground::HEARTBEAT;
use crate::playground::stage::{Stage, Unmet};

/// For a command: the longest lease that it may have to wait for, and time for a loaded machine.
const COMMAND_MAX: Duration = Duration::from_secs(20);
/// The longest answer to a command, in bytes: some lines of a sentence each.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A command that was carried out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    /// When it was sent, on `CLOCK_BOOTTIME`.
    pub(super) sent_ns: u64,
    /// When the member had said that it holds.
    pub(super) done_ns: u64,
}

/// A command about a ticket, and a site where it names one.
pub(super) fn wish(command: &str, ticket: &str, site: Option<&str>) -> CommandRequest {
    CommandRequest {
        command: command.to_owned(),
        ticket: Some(ticket.to_owned()),
        site: site.map(str::to_owned),
        ..CommandRequest::default()
    }
}

/// Gives a command through a member, and waits until what it asks for holds.
pub(super) async fn give(stage: &Stage, through: &str, wish: &CommandRequest) -> Result<Given, Unmet> {
    give_to(&client(stage, through)?, wish).await
}

/// As [`give`], through a client.
pub(super) async fn give_to(client: &Client, wish: &CommandRequest) -> Result<Given, Unmet> {
    let body = serde_json::to_value(wish).map_err(|error| Unmet(error.to_string()))?;
    let sent_ns = boot_ns();
    let answer = async {
        let body = client.post_streaming("/v1/commands", &body).await.map_err(Unmet::from)?;
        let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        whole.map(http_body_util::Collected::to_bytes).map_err(|error| Unmet(error.to_string()))
    };
    let answer = timeout(COMMAND_MAX, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(Unmet(format!("no end of {} in time", wish.command))))?;
    let done_ns = boot_ns();
    let last = answer.trim_ascii().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice(last) {
        Ok(Progress::Done { .. }) => Ok(Given { sent_ns, done_ns }),
        _ => Err(Unmet(format!("{} ended with {}", wish.command, String::from_utf8_lossy(last)))),
    }
}

/// What a member counts: the sum of a family of `/metrics` over its labels.
pub(super) struct Counts(String);

/// What a member has counted so far.
pub(super) async fn counts(stage: &Stage, member: &str) -> Result<Counts, Unmet> {
    Ok(Counts(client(stage, member)?.get_text("/metrics").await?))
}

impl Counts {
    /// The sum of the samples of a family, whatever their labels.
    pub(super) fn sum(&self, family: &str) -> u64 {
        let samples = self.0.lines().filter_map(|line| line.strip_prefix(family));
        let values =
            samples.filter(|rest| rest.starts_with(['{', ' '])).filter_map(|rest| rest.rsplit(' ').next());
        values.filter_map(|value| value.parse::<u64>().ok()).sum()
    }
}

/// A client of a member.
pub(super) fn client(stage: &Stage, member: &str) -> Result<Client, Unmet> {
    Ok(Client::new(PlaceArgs::at_socket(stage.ground.socket(member)).resolve()?))
}

/// Waits for up to a heartbeat, so that what follows falls anywhere between two.
pub(super) async fn any_phase() -> Result<(), Unmet> {
    let mut byte = [0; 1];
    SystemRandom::new()
        .fill(&mut byte)
        .map_err(|_| Unmet("the system gives no random numbers".to_owned()))?;
    sleep(HEARTBEAT * u32::from(byte[0]) / 256).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_labels() {
        let page =
            "# HELP a_total x\na_total{lane=\"pulse\"} 3\na_total{lane=\"bulk\"} 4\na_total_more 9\nb 5\n";
        let counts = Counts(page.to_owned());
        assert_eq!((counts.sum("a_total"), counts.sum("b"), counts.sum("c")), (7, 5, 0));
    }
}
