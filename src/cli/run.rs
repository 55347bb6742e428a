//! `sitegate run`: a command that runs while this site holds a ticket, without any manager.
//!
//! The command is a child that has joined the ticket's resource before it becomes the command (docs/fencing.md, "Joining"): the
//! fence daemon kills it, whatever became of this process. What is here is courtesy: waiting, SIGTERM in time, the exit code.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Signal;
use sitegate_client::{Name, Tenure, Watch, WatchError};
use sitegate_fence_client::{Client, ClientError};
use tokio::time::{MissedTickBehavior, interval};

use crate::api::place::fence_socket;
use crate::terminal::exit::Exit;
use crate::terminal::failure::{Failure, with_causes};
use crate::terminal::progress::Waiting;

mod args;
mod child;
mod joined;
mod refusal;

pub(crate) use args::RunArgs;
use child::{Child, Ended, Signals};
pub(crate) use joined::{RunJoinedArgs, join};
use refusal::{ANSWER_MAX, refused};

/// Runs the command, once the ticket is held here.
///
/// # Errors
/// It could not be run, or the ticket was lost and nobody wants to wait for it again.
pub(crate) async fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let socket = args.fenced_socket.clone().unwrap_or_else(fence_socket);
    let ticket = &args.ticket;
    let mut signals = Signals::new().map_err(|error| Failure::machine("handle signals", &error))?;
    let mut watch = Watch::connect(&socket, ticket.clone()).await.map_err(|error| not_watched(&error))?;
    let Some(within) = watch.join_within() else {
        let text = format!("nobody may join {ticket}, so nothing can run under it from here");
        return Err(Failure::new(Exit::Forbidden, text)
            .hint("add join = { uid = [UID] } to the resource in fenced.toml, and reload sitegate-fenced"));
    };
    loop {
        let tenure = tokio::select! {
            tenure = held(&mut watch, &socket, ticket) => tenure,
            signal = signals.next() => return Ok(ended_by(signal)),
        };
        eprintln!("{ticket} is held here, with token {}", tenure.token);
        let mut child = Child::start(args, &socket)?;
        match child.see_through(&mut watch, tenure.token, within, &mut signals).await? {
            Ended::Told(code) => return Ok(code),
            Ended::ByItself(code) if stands(&socket, &watch, ticket, tenure).await => return Ok(code),
            Ended::ByItself(_) | Ended::InTime => {}
        }
        let lost = format!("{ticket} was lost, and the command has ended");
        if !args.again {
            return Err(Failure::new(Exit::Lost, lost));
        }
        eprintln!("{lost}; waiting for the ticket again");
        // Some time may be left of what was not renewed, too little to begin with. The next renewal, or the next tenure, is news.
        tokio::select! {
            () = watch.changed() => {}
            signal = signals.next() => return Ok(ended_by(signal)),
        }
    }
}

/// Waits until the ticket is held here and may be worked under, and says so.
async fn held(watch: &mut Watch, socket: &Path, ticket: &Name) -> Tenure {
    let mut shown = Waiting::new();
    let text = format!("waiting until {ticket} is held here");
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let free = async {
        loop {
            let tenure = watch.held().await;
            // It may be held here and be on its way elsewhere.
            if stands(socket, watch, ticket, tenure).await {
                return tenure;
            }
            watch.changed().await;
        }
    };
    let mut free = pin!(free);
    loop {
        tokio::select! {
            tenure = &mut free => return tenure,
            _ = seconds.tick() => shown.waits_for(&text),
        }
    }
}

/// Whether the tenure stands, and is not about to be stopped: the daemon is asked, since what it says by itself may still be under
/// way.
async fn stands(socket: &Path, watch: &Watch, ticket: &Name, tenure: Tenure) -> bool {
    let asking = async {
        let (_client, _events, status) = Client::connect(socket, None, false).await?;
        Ok::<_, ClientError>(status)
    };
    match tokio::time::timeout(ANSWER_MAX, asking).await {
        Ok(Ok(status)) => {
            let of_ticket = status.resources.iter().find(|resource| resource.name == *ticket);
            of_ticket.is_some_and(|resource| child::goes_on(&resource.state, tenure.token))
        }
        // Then what it has said last stands until its deadline.
        Ok(Err(_)) | Err(_) => watch.tenure().is_some_and(|newest| newest.token == tenure.token),
    }
}

fn ended_by(signal: Signal) -> ExitCode {
    child::code_of_signal(signal.as_raw())
}

fn not_watched(error: &WatchError) -> Failure {
    let text = with_causes(error);
    match error {
        WatchError::Refused { source: ClientError::Refused(refusal), .. } => refused(refusal, text),
        WatchError::Refused { .. } | WatchError::Silent { .. } => Failure::new(Exit::Unreachable, text)
            .hint("see whether sitegate-fenced runs here, and that you may use its socket"),
    }
}
