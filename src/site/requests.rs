//! Orders as requests to the fence daemon, and its answers as events.

use std::collections::BTreeSet;

use sitegate_fence_client::request::Extension as WireExtension;
use sitegate_fence_client::{Client, ClientError};
use sitegate_protocol::{Deadline, Extension, FenceEvent, FenceReason, Order, TicketName, Token};
use tracing::{debug, error, warn};

use super::convert::{deadline_in, deadline_out, reason, resource};

/// Something to ask the fence daemon for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Arm(TicketName, Token, Deadline),
    Extend(Vec<Extension>),
    Start(TicketName, Token),
    Stop(TicketName, Token),
    Fence(TicketName, Token, FenceReason),
}

/// What came of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// For the protocol.
    Event(FenceEvent),
    /// The connection is gone: whoever holds it will notice, too.
    Gone,
    /// Nothing that the protocol could use; it was said in the log.
    Nothing,
}

impl From<Order> for Request {
    fn from(order: Order) -> Self {
        match order {
            Order::Arm(ticket, token, deadline) => Self::Arm(ticket, token, deadline),
            Order::Extend(extensions) => Self::Extend(extensions),
            Order::Start(ticket, token) => Self::Start(ticket, token),
            Order::Stop(ticket, token) => Self::Stop(ticket, token),
            Order::Fence(ticket, token, reason) => Self::Fence(ticket, token, reason),
        }
    }
}

impl Request {
    /// Asks, and waits for the answer: for some requests as long as a program or a whole plan takes.
    pub(super) async fn ask(self, client: Client, incarnation: u64) -> Answer {
        match self {
            Self::Arm(ticket, token, deadline) => arm(&client, incarnation, ticket, token, deadline).await,
            Self::Extend(extensions) => extend(&client, incarnation, extensions).await,
            Self::Start(ticket, token) => start(&client, ticket, token).await,
            Self::Stop(ticket, token) => stop(&client, ticket, token).await,
            Self::Fence(ticket, token, why) => fence(&client, ticket, token, why).await,
        }
    }
}

async fn arm(
    client: &Client,
    incarnation: u64,
    ticket: TicketName,
    token: Token,
    deadline: Deadline,
) -> Answer {
    let Some(name) = resource(&ticket) else { return Answer::Event(FenceEvent::ArmRefused(ticket, token)) };
    match client.arm(name, token.0, deadline_out(deadline), incarnation).await {
        Ok(armed) => Answer::Event(FenceEvent::Armed(ticket, token, deadline_in(armed))),
        Err(ClientError::Closed | ClientError::Connect { .. }) => Answer::Gone,
        Err(error) => {
            warn!(%ticket, token = token.0, %error, "the fence daemon does not arm");
            Answer::Event(FenceEvent::ArmRefused(ticket, token))
        }
    }
}

async fn extend(client: &Client, incarnation: u64, extensions: Vec<Extension>) -> Answer {
    let set = extensions.iter().map(|extension| WireExtension {
        deadline: deadline_out(extension.deadline),
        resources: extension
            .tickets
            .iter()
            .filter_map(|(ticket, token)| Some((resource(ticket)?, token.0)))
            .collect(),
    });
    match client.extend(incarnation, set.collect()).await {
        Ok(refused) => {
            for one in &refused {
                debug!(ticket = %one.resource, token = one.token, why = one.why, "a deadline was not taken");
            }
            let refused: BTreeSet<(&str, u64)> =
                refused.iter().map(|one| (one.resource.as_str(), one.token)).collect();
            let taken = extensions.into_iter().map(|mut extension| {
                extension.tickets.retain(|(ticket, token)| !refused.contains(&(ticket.as_str(), token.0)));
                extension
            });
            Answer::Event(FenceEvent::Extended(taken.collect()))
        }
        Err(ClientError::Closed | ClientError::Connect { .. }) => Answer::Gone,
        Err(error) => {
            warn!(%error, "the fence daemon takes no deadlines");
            Answer::Nothing
        }
    }
}

async fn start(client: &Client, ticket: TicketName, token: Token) -> Answer {
    let Some(name) = resource(&ticket) else { return Answer::Nothing };
    let why = match client.start(name, token.0).await {
        Ok(Ok(())) => return Answer::Event(FenceEvent::Started(ticket, token, true)),
        Ok(Err(why)) => why,
        Err(ClientError::Closed | ClientError::Connect { .. }) => return Answer::Gone,
        Err(error) => error.to_string(),
    };
    warn!(%ticket, token = token.0, why, "start failed");
    Answer::Event(FenceEvent::Started(ticket, token, false))
}

async fn stop(client: &Client, ticket: TicketName, token: Token) -> Answer {
    let Some(name) = resource(&ticket) else { return Answer::Nothing };
    let why = match client.stop(name, token.0).await {
        Ok(Ok(())) => return Answer::Event(FenceEvent::Stopped(ticket, token, true)),
        Ok(Err(why)) => why,
        Err(ClientError::Closed | ClientError::Connect { .. }) => return Answer::Gone,
        Err(error) => error.to_string(),
    };
    // The fence plan comes next in any case: it makes certain.
    warn!(%ticket, token = token.0, why, "stop failed");
    Answer::Event(FenceEvent::Stopped(ticket, token, false))
}

async fn fence(client: &Client, ticket: TicketName, token: Token, why: FenceReason) -> Answer {
    let Some(name) = resource(&ticket) else { return Answer::Nothing };
    match client.fence(name, token.0, reason(why)).await {
        Ok(receipt) => Answer::Event(FenceEvent::Receipt(ticket, Token(receipt.token))),
        Err(ClientError::Closed | ClientError::Connect { .. }) => Answer::Gone,
        Err(error) => {
            error!(%ticket, token = token.0, %error, "the fence daemon does not fence: the ticket stays here");
            Answer::Event(FenceEvent::Failing(ticket, token))
        }
    }
}
