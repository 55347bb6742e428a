//! Every kind of entry, with what it says for programs.
//!
//! The table below is all there is: what is written, what `sitegate verify` reads, and the words on the disk. A kind that is
//! renamed, or a detail of another shape, changes `tests/kinds.jsonl` and has to be thought of by all who read journals;
//! a kind that is new does not compile before `verify` says what it means for a proof.

use serde::Deserialize;
use serde_json::Value;

mod detail;
mod vote;

pub use detail::{
    Acquiring, Armed, Ballot, Changes, Command, Count, EpochDetail, FenceLevel, GivingUp, Intent, Leap, Life,
    Mode, Nothing, Offset, Parked, Process, Reading, Receipt, Silence, TokenDetail, Until, Wanted, Witnesses,
};
pub use vote::{Proposal, Register, Renewal, Value as ChosenValue, Vote};

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// A kind of another version.
    #[error("its kind is not known")]
    Kind,
    /// A known kind with a detail that is not its own.
    #[error("its detail is not that of its kind: {0}")]
    Shape(String),
}

macro_rules! contents {
    ($($(#[$doc:meta])* $kind:literal $name:ident($detail:ty),)*) => {
        /// What an entry says, for programs.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Content {
            $($(#[$doc])* $name($detail),)*
        }

        impl Content {
            /// All kinds, as they stand on the disk.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The word for what it is, for filters.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $kind,)*
                }
            }

            /// What it says beside that.
            ///
            /// # Panics
            /// Never: nothing in here is beyond JSON.
            #[must_use]
            pub fn detail(&self) -> Value {
                match self {
                    $(Self::$name(detail) => serde_json::to_value(detail),)*
                }
                .expect("details have nothing that JSON cannot hold")
            }

            /// Reads what [`Content::kind`] and [`Content::detail`] gave, in this version or another: fields that are not
            /// known are left alone, and those that older versions did not write may be missing.
            ///
            /// # Errors
            /// Why it cannot be read.
            pub fn read(kind: &str, detail: &Value) -> Result<Self, Unread> {
                match kind {
                    $($kind => <$detail>::deserialize(detail)
                        .map(Self::$name)
                        .map_err(|error| Unread::Shape(error.to_string())),)*
                    _ => Err(Unread::Kind),
                }
            }
        }
    };
}

contents! {
    // A process.
    /// The first entry of a process, with what a verifier needs to know about all that follow.
    "started" Started(Process),
    /// The last entry of a process that could still say so.
    "stopped" Stopped(Nothing),
    /// Another configuration is in force.
    "reloaded" Reloaded(Changes),
    /// This machine stood still, or was put back in time.
    "clock-leap" ClockLeap(Leap),
    /// Entries are missing before this one: the disk did not keep up. The chain alone does not show it.
    "entries-lost" EntriesLost(Count),

    // What a member committed, and what it was told.
    /// A register of this member's acceptor, as it was committed.
    "vote" Vote(Vote),
    /// Somebody gave a command to this member.
    "command" Command(Command),

    // A ticket and its tenures.
    /// The check before acquiring failed.
    "check-failed" CheckFailed(Nothing),
    /// Tries to acquire.
    "candidate" Candidate(Acquiring),
    /// A majority agreed.
    "acquired" Acquired(TokenDetail),
    /// Holds it; the fence daemon is armed.
    "held" Held(Armed),
    /// Holds it again after a restart of the daemon.
    "resumed" Resumed(TokenDetail),
    /// What is wanted for it has changed.
    "intent" Intent(Intent),
    /// Too many takeovers: paused.
    "flapping" Flapping(Nothing),
    /// Guards another's lease, and lets a candidate wait.
    "parked" Parked(Parked),
    /// The lease ran out.
    "lost" Lost(TokenDetail),
    /// Gives it up.
    "relinquishing" Relinquishing(GivingUp),
    /// Nothing of it runs here any more: the member knows of a receipt.
    "fenced" Fenced(TokenDetail),
    /// All levels of the fence plan failed.
    "fence-failing" FenceFailing(TokenDetail),
    /// The release is chosen.
    "released" Released(TokenDetail),
    /// The start hook failed.
    "start-failed" StartFailed(TokenDetail),
    /// The health check failed too often.
    "unhealthy" Unhealthy(TokenDetail),
    /// What the health check said last, before that.
    "check-failed-too-often" CheckFailedTooOften(Nothing),
    /// No other site takes it: restarts it here.
    "restarts-here" RestartsHere(TokenDetail),

    // The fence daemon of this site.
    /// It answers.
    "fence-up" FenceUp(Nothing),
    /// It works with another fenced.toml.
    "fence-reloaded" FenceReloaded(Nothing),
    /// It does not answer any more.
    "fence-down" FenceDown(Nothing),
    /// It has begun to fence.
    "fencing" Fencing(TokenDetail),
    /// A level of a fence plan failed.
    "fence-level-failed" FenceLevelFailed(FenceLevel),
    /// Its receipt.
    "receipt" Receipt(Receipt),

    // Members.
    /// All members have met.
    "born" Born(Nothing),
    /// Looks for witnesses before it votes.
    "recovering" Recovering(Nothing),
    /// Has found enough witnesses.
    "recovered" Recovered(Nothing),
    /// Found too few witnesses in time, and trusts its disk.
    "trusts-disk" TrustsDisk(Witnesses),
    /// Votes.
    "voting" Voting(Nothing),
    /// The others know another identity for this member.
    "quarantined" Quarantined(Nothing),
    /// The identities of the formation have changed.
    "epoch" Epoch(EpochDetail),
    /// The others remember more of this member than it does itself.
    "rolled-back" RolledBack(Nothing),
    /// A member speaks with another identity.
    "stranger" Stranger(Nothing),
    /// A member has started.
    "peer-started" PeerStarted(Life),
    /// A member has forgotten what it had told.
    "peer-rolled-back" PeerRolledBack(Nothing),
    /// A member's clock runs off.
    "clock-off" ClockOff(Offset),
    /// A site goes on standby, or comes back.
    "standby" Standby(Mode),
    /// Stops its heartbeats.
    "barred" Barred(Silence),
    /// Sends heartbeats again.
    "unbarred" Unbarred(Nothing),
}
