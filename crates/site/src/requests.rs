//! Orders as requests to the fence daemon, and its answers.

use std::collections::BTreeSet;

use sitegate_fence_client::request::Extension as WireExtension;
use sitegate_fence_client::wire::Name;
use sitegate_fence_client::{Client, ClientError};
use sitegate_protocol::{Extension, Order, TicketName, Token};
use sitegate_shell::site::Answer;
use tracing::{debug, error, warn};

use super::convert::{deadline_in, deadline_out, reason, resource, ticket};

/// Asks, and waits for the answer: for some orders as long as a program or a whole plan takes. `None` if the connection has ended
/// before there was one.
pub(super) async fn ask(client: &Client, incarnation: u64, order: &Order) -> Option<Answer> {
    let asked = match order {
        Order::Extend(extensions) => extend(client, incarnation, extensions).await,
        Order::Arm(ticket, ..)
        | Order::Start(ticket, _)
        | Order::Stop(ticket, _)
        | Order::Fence(ticket, ..) => {
            let Some(name) = resource(ticket) else {
                return Some(Answer::Failed("no resource can have the name of this ticket".into()));
            };
            ask_one(client, incarnation, name, order).await
        }
    };
    match asked {
        Ok(answer) => Some(answer),
        Err(ClientError::Closed | ClientError::Connect { .. }) => None,
        Err(error) => Some(Answer::Failed(error.to_string())),
    }
}

async fn ask_one(
    client: &Client,
    incarnation: u64,
    name: Name,
    order: &Order,
) -> Result<Answer, ClientError> {
    let ended = |ended: Result<(), String>| ended.map_or_else(Answer::Failed, |()| Answer::Ended);
    Ok(match order {
        Order::Arm(_, token, deadline) => {
            let armed = client.arm(name, token.0, deadline_out(*deadline), incarnation).await?;
            Answer::Armed(deadline_in(armed))
        }
        Order::Start(_, token) => ended(client.start(name, token.0).await?),
        Order::Stop(_, token) => ended(client.stop(name, token.0).await?),
        Order::Fence(_, token, why) => {
            let receipt = client.fence(name, token.0, reason(*why)).await?;
            Answer::Receipt(Token(receipt.token))
        }
        Order::Extend(_) => unreachable!("deadlines are for many"),
    })
}

async fn extend(client: &Client, incarnation: u64, extensions: &[Extension]) -> Result<Answer, ClientError> {
    let set = extensions.iter().map(|extension| WireExtension {
        deadline: deadline_out(extension.deadline),
        resources: extension
            .tickets
            .iter()
            .filter_map(|(ticket, token)| Some((resource(ticket)?, token.0)))
            .collect(),
    });
    let refused = client.extend(incarnation, set.collect()).await?;
    for one in &refused {
        debug!(ticket = %one.resource, token = one.token, why = one.why, "a deadline was not taken");
    }
    let refused = refused.iter().filter_map(|one| Some((ticket(&one.resource)?, Token(one.token))));
    let refused: BTreeSet<(TicketName, Token)> = refused.collect();
    Ok(Answer::Extended(refused))
}

/// Tells the log what the fence daemon has not done.
pub(super) fn complain(order: &Order, why: &str) {
    match order {
        Order::Arm(ticket, token, _) => {
            warn!(%ticket, token = token.0, why, "the fence daemon does not arm");
        }
        Order::Extend(_) => warn!(why, "the fence daemon takes no deadlines"),
        Order::Start(ticket, token) => warn!(%ticket, token = token.0, why, "start failed"),
        Order::Stop(ticket, token) => warn!(%ticket, token = token.0, why, "stop failed"),
        Order::Fence(ticket, token, _) => {
            error!(%ticket, token = token.0, why, "the fence daemon does not fence: the ticket stays here");
        }
    }
}
