//! Commands that wish something of the formation: given once, and waited for until they hold.

use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::{Value, json};
use sitegate_host::diagnostic::Period;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

use super::client::Client;
use super::exit::Exit;
use super::failure::Failure;
use super::output::{print, print_json_line};
use super::place::PlaceArgs;
use super::progress::Progress;

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

/// What is wished. The fields of `POST /v1/commands`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// In one word.
    pub(crate) command: &'static str,
    /// About which ticket.
    pub(crate) ticket: Option<String>,
    /// About which site.
    pub(crate) site: Option<String>,
    /// About which member.
    pub(crate) member: Option<String>,
    /// Of standby: whether the site keeps what it has.
    pub(crate) keep: bool,
    /// Why, for the history.
    pub(crate) reason: Option<String>,
}

/// A line of the member's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Accepted,
    Recorded,
    Waiting { text: String },
    Done { text: String },
    Refused { text: String, hint: Option<String> },
    Timeout { text: String },
}

/// Gives a command and waits as `args` say.
///
/// # Errors
/// It was refused, nobody answers, or it does not hold in time.
pub(crate) async fn give(wish: &Wish, args: &WaitArgs) -> Result<(), Failure> {
    let client = Client::new(args.place.resolve()?);
    let mut giving = Giving {
        body: wish.body(args.timeout.get())?,
        json: args.json,
        no_wait: args.no_wait,
        until: Instant::now() + args.timeout.get() + GRACE,
        recorded: false,
        asked: false,
        progress: Progress::new(),
    };
    tokio::select! {
        outcome = giving.run(&client) => outcome,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    }
}

fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted: if the wish is recorded, it may still come true")
        .hint("look with `sitegate status`; to take the wish back, give the opposite command")
}

impl Wish {
    fn body(&self, timeout: Duration) -> Result<Value, Failure> {
        let mut number = [0; 8];
        SystemRandom::new()
            .fill(&mut number)
            .map_err(|_| Failure::new(Exit::Failed, "the system gives no random numbers"))?;
        let mut body = json!({
            "command": self.command,
            "request": u64::from_le_bytes(number),
            "timeout_ms": u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        });
        let texts = [
            ("ticket", &self.ticket),
            ("site", &self.site),
            ("member", &self.member),
            ("reason", &self.reason),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                body[field] = text.as_str().into();
            }
        }
        if self.keep {
            body["keep"] = true.into();
        }
        Ok(body)
    }
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
    progress: Progress,
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
            self.progress.waits_for("the member has gone away; asking again");
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
                    self.progress.tick();
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
        match Event::deserialize(value).map_err(nonsense)? {
            Event::Accepted => self.progress.waits_for("waiting until the wish is recorded"),
            Event::Recorded if self.no_wait => {
                return self.end("recorded: it comes true even if nobody waits; look with `sitegate status`");
            }
            Event::Recorded => {
                self.recorded = true;
                self.progress.waits_for("recorded; waiting until it holds");
            }
            Event::Waiting { text } => self.progress.waits_for(&text),
            Event::Done { text } => return self.end(&text),
            Event::Refused { text, hint, .. } => {
                return Err(Failure::new(Exit::Refused, text).maybe_hint(hint));
            }
            Event::Timeout { text } => return Err(self.late(&text)),
        }
        Ok(Step::Wait)
    }

    fn end(&mut self, text: &str) -> Result<Step, Failure> {
        self.progress.clear();
        if !self.json {
            print(&format!("{text}\n"))?;
        }
        Ok(Step::End)
    }

    fn late(&mut self, blocked: &str) -> Failure {
        let outlook = if self.recorded {
            "the wish is recorded and may still come true"
        } else {
            "it may still take effect"
        };
        Failure::new(Exit::Unfinished, format!("not done in time: {blocked}; {outlook}"))
            .hint("look with `sitegate status` or `sitegate explain`; the same command again waits on")
    }
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
