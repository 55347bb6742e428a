//! Requests, replies and events: one JSON object a line, in each direction. `docs/fencing.md` shows them as a shell
//! script would write them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::status::{HistoryEntry, Joined, Status, TestedResource, Watched};
use crate::wire::{Deadline, Incarnation, Name, Notice, Reason, Receipt, Refusal, Token};

/// The version of this protocol, sent in the answer to `hello`. It grows when a client has to know.
pub const PROTOCOL_VERSION: u32 = 1;

/// The longest line the daemon accepts, in bytes: an `extend` of ten thousand resources with the longest names fits.
pub const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The longest line a client accepts, in bytes: the `status` of ten thousand resources with the longest names, each with a
/// receipt, fits.
pub const REPLY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Introduces the client; wants to know how everything stands. Need not come first, nor at all.
    Hello {
        /// The site's name for the programs that are run (`SITEGATE_SITE`); remembered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        site: Option<Name>,
        /// Whether events are to be pushed on this connection.
        #[serde(default)]
        watch: bool,
    },
    /// Arms a resource. Answered once that is durable.
    Arm {
        /// The resource.
        resource: Name,
        /// The token of the tenure.
        token: Token,
        /// When to fence unless it is extended.
        deadline: Deadline,
        /// The client's incarnation.
        #[serde(default)]
        incarnation: Incarnation,
    },
    /// Sets deadlines. Answered with those that were refused; all others are in force.
    Extend {
        /// The client's incarnation.
        #[serde(default)]
        incarnation: Incarnation,
        /// Which.
        set: Vec<Extension>,
    },
    /// Runs `start`. Answered when it has ended.
    Start {
        /// The resource.
        resource: Name,
        /// The armed token.
        token: Token,
    },
    /// Runs `stop`. Answered when it has ended.
    Stop {
        /// The resource.
        resource: Name,
        /// The armed token.
        token: Token,
    },
    /// Runs the fence plan. Answered with the receipt, however long that takes.
    Fence {
        /// The resource.
        resource: Name,
        /// Everything up to this token.
        token: Token,
        /// Why.
        reason: Reason,
    },
    /// Checks every level of a plan, without fencing. Answered when all checks have ended.
    Test {
        /// Only of this resource.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<Name>,
    },
    /// Wants to be told of one resource on this connection from now on, each new deadline among it.
    Watch {
        /// The resource.
        resource: Name,
    },
    /// Takes the process that has connected into what a fence of the resource kills. Answered once it is there.
    Join {
        /// The resource.
        resource: Name,
    },
    /// How everything stands.
    Status {},
    /// What happened lately, oldest first.
    History {
        /// Only of this resource.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<Name>,
        /// Only the newest so many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
}

/// Resources that get the same new deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// The deadline.
    pub deadline: Deadline,
    /// The resources, each with its armed token.
    pub resources: Vec<(Name, Token)>,
}

/// A resource whose deadline was not set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotExtended {
    /// The resource.
    pub resource: Name,
    /// The token it was asked for.
    pub token: Token,
    /// Why not.
    #[serde(flatten)]
    pub refusal: Refusal,
    /// The same in words.
    pub why: String,
}

/// What the daemon answers. Every request gets exactly one reply, which bears its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To `hello` and `status`.
    Status(Status),
    /// To `arm`: durable, with the deadline now in force.
    Armed {
        /// The deadline in force.
        deadline: Deadline,
    },
    /// To `extend`: all but these.
    Extended {
        /// What was refused.
        refused: Vec<NotExtended>,
    },
    /// To `start`.
    Started {
        /// Null if it succeeded, else why not.
        failed: Option<String>,
    },
    /// To `stop`.
    Stopped {
        /// Null if it succeeded, else why not.
        failed: Option<String>,
    },
    /// To `fence`.
    Receipt(Receipt),
    /// To `history`.
    History {
        /// Oldest first.
        entries: Vec<HistoryEntry>,
    },
    /// To `watch`.
    Watched(Box<Watched>),
    /// To `join`.
    Joined(Joined),
    /// To `test`.
    Tested {
        /// By name.
        resources: Vec<TestedResource>,
    },
    /// What was asked for has not happened and will not.
    Refused {
        /// Why.
        #[serde(flatten)]
        refusal: Refusal,
        /// The same in words.
        why: String,
    },
    /// The request was no request, or could not be carried out for a reason that lies with the machine.
    Error {
        /// What was wrong, and what to do.
        why: String,
    },
}

impl Reply {
    /// A refusal with its words.
    #[must_use]
    pub fn refused(refusal: Refusal) -> Self {
        Self::Refused { why: refusal.to_string(), refusal }
    }
}

/// A line from the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromDaemon {
    /// The reply to the request with this id; without one, to a request without one, or to a line that was none.
    Reply(Option<u64>, Reply),
    /// An event, to those who watch.
    Event(Event),
}

/// What is pushed to those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a resource.
    Resource(Notice),
    /// The daemon works with another configuration: how everything stands now.
    Reloaded(Box<Status>),
}

/// A line that is none of ours.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or not an object, or not of the known kinds.
    #[error("not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// The id is not a number from 0 to 2^64-1.
    #[error("\"id\" must be a whole number, 0 or more")]
    Id,
    /// Neither a reply nor an event.
    #[error("neither \"reply\" nor \"event\" in the line")]
    Kind,
}

/// Writes a request with its id as one line, newline included.
///
/// # Errors
/// None in practice: the types have no values that JSON cannot hold.
pub fn request_line(id: u64, request: &Request) -> Result<String, LineError> {
    line(Some(id), serde_json::to_value(request)?)
}

/// Reads a request. The id comes back even where the rest is no request, as far as it can be found.
///
/// # Errors
/// [`LineError`], with the id to answer under.
pub fn parse_request(line: &[u8]) -> Result<(Option<u64>, Request), (Option<u64>, LineError)> {
    let (id, value) = split_id(line)?;
    match serde_json::from_value(value) {
        Ok(request) => Ok((id, request)),
        Err(error) => Err((id, error.into())),
    }
}

/// Writes a reply as one line, newline included.
///
/// # Errors
/// None in practice: the types have no values that JSON cannot hold.
pub fn reply_line(id: Option<u64>, reply: &Reply) -> Result<String, LineError> {
    line(id, serde_json::to_value(reply)?)
}

/// Writes an event of a resource as one line, newline included.
///
/// # Errors
/// None in practice: the types have no values that JSON cannot hold.
pub fn event_line(event: &Notice) -> Result<String, LineError> {
    line(None, serde_json::to_value(event)?)
}

/// Writes the event of a reload as one line, newline included.
///
/// # Errors
/// None in practice: the types have no values that JSON cannot hold.
pub fn reloaded_line(status: &Status) -> Result<String, LineError> {
    let mut value = serde_json::to_value(status)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("event".to_owned(), RELOADED.into());
    }
    line(None, value)
}

/// The event that is not of a resource.
const RELOADED: &str = "reloaded";

/// Reads a line of the daemon's.
///
/// # Errors
/// [`LineError`] if it is neither a reply nor an event.
pub fn parse_from_daemon(line: &[u8]) -> Result<FromDaemon, LineError> {
    let (id, value) = split_id(line).map_err(|(_, error)| error)?;
    match value.get("event").map(|event| event == RELOADED) {
        Some(true) => return Ok(FromDaemon::Event(Event::Reloaded(serde_json::from_value(value)?))),
        Some(false) => return Ok(FromDaemon::Event(Event::Resource(serde_json::from_value(value)?))),
        None => {}
    }
    if value.get("reply").is_some() {
        return Ok(FromDaemon::Reply(id, serde_json::from_value(value)?));
    }
    Err(LineError::Kind)
}

fn line(id: Option<u64>, mut value: Value) -> Result<String, LineError> {
    if let (Some(id), Some(object)) = (id, value.as_object_mut()) {
        object.insert("id".to_owned(), id.into());
    }
    let mut line = serde_json::to_string(&value)?;
    line.push('\n');
    Ok(line)
}

fn split_id(line: &[u8]) -> Result<(Option<u64>, Value), (Option<u64>, LineError)> {
    let mut value: Value = serde_json::from_slice(line).map_err(|e| (None, e.into()))?;
    let id = match value.as_object_mut().and_then(|object| object.remove("id")) {
        None | Some(Value::Null) => None,
        Some(id) => Some(id.as_u64().ok_or((None, LineError::Id))?),
    };
    Ok((id, value))
}

#[cfg(test)]
mod tests;
