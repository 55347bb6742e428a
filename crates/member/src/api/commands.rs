//! Commands: given once, followed until they hold.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use sitegate_protocol::{Caller, Command, CommandId, Done, MemberId, Reply, StandbyMode, TicketName};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::refusal::refused;
use super::stream::{Lines, lines};
use super::types::{CommandRequest, Progress};
use super::{Api, ApiError, Who};
use crate::driver::{Handle, Request};
use crate::settings::Names;

mod words;

/// How often to look whether a command waits for something else by now.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a question to a majority may take.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// The longest reason, in bytes; registers keep [`sitegate_protocol::Author::LENGTH_MAX`] of it, the journal all.
const REASON_BYTES_MAX: usize = 1000;
/// As long as anybody waits.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) async fn give(
    State(api): State<Arc<Api>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Result<Json<CommandRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(asked) = body.map_err(|error| ApiError::bad_request(error.body_text(), SEE_MANUAL))?;
    let command = parse(&asked, &api.shared.names)?;
    let reason = asked.reason.unwrap_or_default().trim().to_owned();
    if reason.len() > REASON_BYTES_MAX {
        let error = format!("the reason is longer than {REASON_BYTES_MAX} bytes");
        return Err(ApiError::bad_request(error, "shorten it"));
    }
    let request = asked.request.filter(|request| *request != 0).map_or_else(random, Ok)?;
    let caller = Caller { who: who.recorded(&headers), reason, request };
    let patience = asked.timeout_ms.map_or(FOR_EVER, Duration::from_millis).min(FOR_EVER);
    let (id, replies) = api.begin(command.clone(), caller).await?;
    let (lines, response) = lines();
    tokio::spawn(async move {
        let watched = Watched { api, lines, id, command, request, until: Instant::now() + patience };
        watched.follow(replies).await;
    });
    Ok(response)
}

const SEE_MANUAL: &str = "docs/api.md shows what a command looks like";

fn random() -> Result<u64, ApiError> {
    getrandom::u64().map(|random| random.max(1)).map_err(|error| {
        ApiError::internal(format!("the system gives no random numbers: {error}"), "look after the machine")
    })
}

fn parse(asked: &CommandRequest, names: &Names) -> Result<Command, ApiError> {
    let ticket = || {
        let name = asked.ticket.as_deref().ok_or_else(|| missing(&asked.command, "ticket"))?;
        TicketName::new(name).map_err(|error| ApiError::bad_request(error.to_string(), SEE_MANUAL))
    };
    let site = || find(asked.site.as_deref().ok_or_else(|| missing(&asked.command, "site"))?, names);
    match asked.command.as_str() {
        "grant" => Ok(Command::Grant(ticket()?, site()?)),
        "revoke" => Ok(Command::Revoke(ticket()?)),
        "move" => Ok(Command::Move(ticket()?, site()?)),
        "pause" => Ok(Command::Pause(ticket()?)),
        "resume" => Ok(Command::Resume(ticket()?)),
        "standby" if asked.keep => Ok(Command::Standby(site()?, StandbyMode::Keep)),
        "standby" => Ok(Command::Standby(site()?, StandbyMode::Vacate)),
        "online" => Ok(Command::Standby(site()?, StandbyMode::Online)),
        "attest-dead" => {
            if asked.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
                return Err(ApiError::bad_request(
                    "attest-dead needs a reason",
                    "say how you know that nothing of the site runs: it is recorded",
                ));
            }
            let ticket = asked.ticket.is_some().then(ticket).transpose()?;
            Ok(Command::AttestDead(site()?, ticket))
        }
        "readmit" => {
            let member = asked.member.as_deref().ok_or_else(|| missing("readmit", "member"))?;
            Ok(Command::Readmit(find(member, names)?))
        }
        other => {
            Err(ApiError::bad_request(format!("there is no command `{}`", other.escape_debug()), SEE_MANUAL))
        }
    }
}

fn missing(command: &str, field: &str) -> ApiError {
    ApiError::bad_request(format!("{command} needs `{field}`"), SEE_MANUAL)
}

fn find(name: &str, names: &Names) -> Result<MemberId, ApiError> {
    names.id(name).ok_or_else(|| {
        let known: Vec<String> = names.all().map(|(_, name)| name.to_string()).collect();
        let hint = match sitegate_host::diagnostic::nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("the members are {}", known.join(", ")),
        };
        ApiError::bad_request(format!("no member is named `{}`", name.escape_debug()), hint)
    })
}

impl Api {
    async fn begin(
        &self,
        command: Command,
        caller: Caller,
    ) -> Result<(CommandId, mpsc::Receiver<Reply>), ApiError> {
        let id = self.next_command();
        let (sender, replies) = Handle::replies();
        let gone = |_| ApiError::unavailable("this member is ending".into(), "ask another one");
        self.handle.ask(Request::Command(id, command, caller, sender)).await.map_err(gone)?;
        Ok((id, replies))
    }

    /// Gives a command that nobody follows, and waits for its only reply; `None` if it takes too long.
    pub(super) async fn ask_once(&self, command: Command) -> Result<Option<Reply>, ApiError> {
        let caller = Caller { who: String::new(), reason: String::new(), request: 0 };
        let (id, mut replies) = self.begin(command, caller).await?;
        let reply = timeout(ASK_WITHIN, replies.recv()).await.ok().flatten();
        if reply.is_none() {
            self.abandon(id).await;
        }
        Ok(reply)
    }

    async fn abandon(&self, id: CommandId) {
        // A member that is ending has forgotten it anyway.
        let _ = self.handle.ask(Request::Abandon(id)).await;
    }
}

/// A command on its way.
struct Watched {
    api: Arc<Api>,
    lines: Lines,
    id: CommandId,
    command: Command,
    request: u64,
    until: Instant,
}

impl Watched {
    async fn follow(self, mut replies: mpsc::Receiver<Reply>) {
        // Most commands are done before anybody could read what they wait for.
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut accepted, mut recorded, mut waiting) = (false, false, String::new());
        loop {
            let progress = tokio::select! {
                biased;
                reply = replies.recv() => match reply {
                    Some(Reply::Recorded) => { recorded = true; Progress::Recorded }
                    Some(Reply::Done(done)) => return self.end(accepted, self.done(&done).await).await,
                    Some(Reply::Refused(why)) => {
                        return self.end(accepted, refused(&self.command, &why, &self.api.shared.names)).await;
                    }
                    None => return self.end(accepted, self.cut_off(recorded)).await,
                },
                () = self.lines.closed() => return self.api.abandon(self.id).await,
                () = sleep_until(self.until) => {
                    self.api.abandon(self.id).await;
                    return self.end(accepted, words::out_of_time(recorded, &waiting)).await;
                }
                _ = look.tick() => match self.waits_for(recorded).await {
                    Some(text) if text != waiting => { waiting.clone_from(&text); Progress::Waiting { text } }
                    _ => continue,
                },
            };
            if !accepted {
                accepted = self.lines.write(&Progress::Accepted { request: self.request }).await;
            }
            self.lines.write(&progress).await;
        }
    }

    async fn end(&self, accepted: bool, progress: Progress) {
        if !accepted && !matches!(progress, Progress::Refused { .. }) {
            self.lines.write(&Progress::Accepted { request: self.request }).await;
        }
        // Whoever reads may have gone.
        self.lines.write(&progress).await;
    }

    async fn waits_for(&self, recorded: bool) -> Option<String> {
        let observed = self.api.glance().await.ok()?;
        Some(words::waits_for(&self.api, &self.command, recorded, &observed))
    }

    async fn done(&self, done: &Done) -> Progress {
        // A look waits for the commit that runs: only what needs it takes the time. A member that is ending says less.
        let observed = if *done == Done::Wish { self.api.look().await.ok() } else { None };
        let tickets = observed.as_ref().map(|observed| &observed.view.tickets);
        words::done(&self.command, self.request, done, tickets, &self.api.shared.names)
    }

    /// This member has given up on it: it is ending.
    fn cut_off(&self, recorded: bool) -> Progress {
        let text = if recorded { "the wish is recorded" } else { "the wish may or may not be recorded" };
        Progress::Timeout { text: format!("this member is ending; {text}") }
    }
}
