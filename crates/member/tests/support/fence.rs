//! A fence daemon that does at once whatever it is told, within the member's own process. What is armed lies in a file, so
//! that the next process finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::Router;
use sitegate_member::site::{SitePort, Work};
use sitegate_protocol::{
    Boot, CheckResult, Deadline, Event, FenceEvent, FenceReport, Order, Raw, TicketName, Token,
};

type Armed = BTreeMap<TicketName, (Token, Deadline)>;

/// Attaches it to a member.
pub fn attach(mut port: SitePort) -> Router {
    tokio::spawn(async move {
        let file = port.shared.configuration.get().local.state_dir.join("armed");
        let mut armed = read(&file);
        let report = |(ticket, armed): (&TicketName, &(Token, Deadline))| FenceReport {
            ticket: ticket.clone(),
            armed: Some(*armed),
            fencing: None,
            receipt: None,
        };
        let up = FenceEvent::Up(armed.iter().map(report).collect());
        port.events.send(Event::Fence(up)).await.unwrap();
        while let Some(work) = port.work.recv().await {
            let event = match work {
                Work::Check(ticket, check) => Event::Checked(ticket, check, CheckResult::Passed),
                Work::Order(order) => Event::Fence(follow(order, &mut armed)),
                Work::Reload => continue,
            };
            write(&file, &armed);
            if port.events.send(event).await.is_err() {
                return;
            }
        }
    });
    Router::new()
}

fn follow(order: Order, armed: &mut Armed) -> FenceEvent {
    match order {
        Order::Arm(ticket, token, deadline) => {
            armed.insert(ticket.clone(), (token, deadline));
            FenceEvent::Armed(ticket, token, deadline)
        }
        Order::Extend(extensions) => {
            for extension in &extensions {
                for (ticket, token) in &extension.tickets {
                    armed.insert(ticket.clone(), (*token, extension.deadline));
                }
            }
            FenceEvent::Extended { taken: extensions, refused: Vec::new() }
        }
        Order::Start(ticket, token) => FenceEvent::Started(ticket, token, true),
        Order::Stop(ticket, token) => FenceEvent::Stopped(ticket, token, true),
        Order::Fence(ticket, token, _) => {
            armed.remove(&ticket);
            FenceEvent::Receipt(ticket, token)
        }
    }
}

fn write(file: &PathBuf, armed: &Armed) {
    let line = |(ticket, (token, deadline)): (&TicketName, &(Token, Deadline))| {
        format!("{ticket} {} {} {}\n", token.0, deadline.boot.0, deadline.raw.0)
    };
    std::fs::write(file, armed.iter().map(line).collect::<String>()).unwrap();
}

fn read(file: &Path) -> Armed {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let deadline = Deadline { boot: Boot(number(2)), raw: Raw(number(3)) };
        (TicketName::new(words[0]).unwrap(), (Token(number(1)), deadline))
    };
    text.lines().map(line).collect()
}
