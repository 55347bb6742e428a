//! Commands that wish something of the formation: given once, and waited for until they hold.

use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::Value;
use sitegate_host::diagnostic::Period;
use sitegate_member::api::types::{CommandRequest, Progress};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

use crate::api::client::Client;
use crate::api::place::PlaceArgs;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;
use crate::terminal::output::{print, print_json_line};
use crate::terminal::progress::Waiting;

/// How much longer than asked the client waits, so that the member can say what it waited for.
const GRACE: Duration = Duration::from_secs(2);
/// How long to leave a member that has gone away before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// The longest line of a member, in bytes: a sentence or two.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Options of every command that waits.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct WaitArgs {
    /// How long to wait, as in 30s or 10m; the wish may still come true after that
    #[arg(long, value_name = "TIME", default_value = "5m")]
    timeout: Period,
    /// Return as soon as the wish is recorded; it comes true even if nobody waits
    #[arg(long)]
    no_wait: bool,
    /// Print every event of the command as one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Gives a command and waits as `args` say.
///
/// # Errors
/// It was refused, nobody answers, or it does not hold in time.
pub(crate) async fn give(wish: CommandRequest, args: &WaitArgs) -> Result<(), Failure> {
    let client = Client::new(args.place.resolve()?);
    let timeout = args.timeout.get();
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let body = CommandRequest { request: Some(random()?), timeout_ms: Some(timeout_ms), ..wish };
    let mut giving = Giving {
        body: serde_json::to_value(body).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?,
        json: args.json,
        no_wait: args.no_wait,
        until: Instant::now() + timeout + GRACE,
        recorded: false,
        asked: false,
        shown: Waiting::new(),
    };
    let outcome = tokio::select! {
        outcome = giving.run(&client) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
    };
    outcome.unwrap_or_else(|| Err(giving.interrupted()))
}

fn random() -> Result<u64, Failure> {
    let mut number = [0; 8];
    let filled = SystemRandom::new().fill(&mut number);
    filled.map_err(|_| Failure::new(Exit::Failed, "the system gives no random numbers"))?;
    // 0 would mean none.
    Ok(u64::from_le_bytes(number).max(1))
}

/// A command under way.
struct Giving {
    /// The same for every attempt: its number makes them one command.
    body: Value,
    json: bool,
    no_wait: bool,
    until: Instant,
    recorded: bool,
    /// Whether a member may have taken it on.
    asked: bool,
    shown: Waiting,
}

/// What to do after an event.
enum Step {
    Wait,
    End,
}

impl Giving {
    async fn run(&mut self, client: &Client) -> Result<(), Failure> {
        loop {
            let failure = match self.attempt(client).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // Before anybody has taken it on, the caller learns at once that nobody answers.
            let gone = failure.exit == Exit::Unreachable && self.asked;
            if !gone {
                return Err(failure);
            }
            self.shown.waits_for("the member has gone away; asking again");
            if Instant::now() + ASK_AGAIN >= self.until {
                return Err(self.late("the member has gone away"));
            }
            sleep_until(Instant::now() + ASK_AGAIN).await;
        }
    }

    /// Asks once and reads to the end of the answer.
    async fn attempt(&mut self, client: &Client) -> Result<(), Failure> {
        let asking = client.post_streaming("/v1/commands", &self.body);
        let Ok(body) = timeout_at(self.until, asking).await else {
            return Err(self.late("the member has not answered"));
        };
        let mut lines = Lines { body: body?, buffer: Vec::new() };
        self.asked = true;
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                _ = seconds.tick() => {
                    self.shown.tick();
                    continue;
                }
                () = sleep_until(self.until) => return Err(self.late("the member does not say how it stands")),
            };
            let Some(line) = line? else {
                return Err(Failure::new(Exit::Unreachable, "the member closed the connection"));
            };
            if let Step::End = self.take(&line)? {
                return Ok(());
            }
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<Step, Failure> {
        let nonsense =
            |error| Failure::new(Exit::Failed, format!("the member's answer is not understood: {error}"));
        let value: Value = serde_json::from_slice(line).map_err(nonsense)?;
        if self.json {
            print_json_line(&value)?;
        }
        match Progress::deserialize(value).map_err(nonsense)? {
            Progress::Accepted { .. } => self.shown.waits_for("waiting until the wish is recorded"),
            Progress::Recorded if self.no_wait => {
                return self.end("recorded: it comes true even if nobody waits; look with `sitegate status`");
            }
            Progress::Recorded => {
                self.recorded = true;
                self.shown.waits_for("recorded; waiting until it holds");
            }
            Progress::Waiting { text } => self.shown.waits_for(&text),
            Progress::Done { text, .. } => return self.end(&text),
            Progress::Refused { text, hint, .. } => {
                return Err(Failure::new(Exit::Refused, text).maybe_hint(Some(hint)));
            }
            // Before its time, the member ends rather than the wait.
            Progress::Timeout { text } if Instant::now() + GRACE < self.until => {
                return Err(Failure::new(Exit::Unreachable, text));
            }
            Progress::Timeout { text } => {
                return Err(unfinished(Exit::Unfinished, format!("not done in time: {text}")));
            }
        }
        Ok(Step::Wait)
    }

    fn end(&mut self, text: &str) -> Result<Step, Failure> {
        self.shown.clear();
        if !self.json {
            print(&format!("{text}\n"))?;
        }
        Ok(Step::End)
    }

    /// The time is up, by our own clock.
    fn late(&self, blocked: &str) -> Failure {
        unfinished(Exit::Unfinished, format!("not done in time: {blocked}; {}", self.outlook()))
    }

    fn interrupted(&self) -> Failure {
        unfinished(Exit::Interrupted, format!("interrupted; {}", self.outlook()))
    }

    fn outlook(&self) -> &'static str {
        match (self.recorded, self.asked) {
            (true, _) => "the wish is recorded and comes true once it can, even if nobody waits",
            (false, true) => "the wish may or may not be recorded, and may still take effect",
            (false, false) => "nobody has taken the wish on",
        }
    }
}

fn unfinished(exit: Exit, text: String) -> Failure {
    Failure::new(exit, text)
        .hint("look with `sitegate status` or `sitegate explain`; the same command again waits on")
}

/// The lines of a body as they come.
struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; none at the end. Safe to cancel.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let broken =
            |why: String| Failure::new(Exit::Unreachable, format!("the member's answer broke off: {why}"));
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(broken("a line without end".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
