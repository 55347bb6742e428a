//! What happens to a member, and what it wants done: the whole traffic across the seam.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Ballot, Epoch, Incarnation, MemberId, TicketName, Token};
use crate::message::{Refusal, ValidFrame};
use crate::settings::Settings;
use crate::time::{Deadline, Span};
use crate::value::{Intent, Ownership, StandbyMode};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A peer said something.
    Frame(ValidFrame),
    /// A time that `next_timeout` named has come, or any other: early is harmless.
    Tick,
    /// An administrator wants something.
    Command(CommandId, Command, Caller),
    /// Whoever gave the command no longer waits. What it wrote stays.
    Abandon(CommandId),
    /// The check before acquiring has ended.
    Checked(TicketName, CheckId, CheckResult),
    /// The health check of a held ticket failed too often.
    Unhealthy(TicketName, Token),
    /// The fence daemon said something.
    Fence(FenceEvent),
    /// The configuration was read again.
    Reload(Settings),
    /// The shell has seen that this machine was put back in time (a resumed snapshot): nothing in memory counts.
    Suspect,
}

impl Event {
    /// Whether it may be handled while a commit is running: it writes nothing.
    #[must_use]
    pub fn is_prompt(&self) -> bool {
        matches!(self, Self::Frame(frame) if frame.is_prompt())
    }
}

/// Numbers the commands of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId(pub u64);

/// Numbers the checks of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckId(pub u64);

/// Who gave a command and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Caller {
    /// The user or certificate.
    pub who: String,
    /// What they say for it; may be empty.
    pub reason: String,
    /// Made up by whoever relays: the same number is the same command.
    pub request: u64,
}

/// What an administrator may want. See the table in docs/protocol.md, "Wishes".
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// A site should hold a free ticket, and others after it should that site be lost.
    Grant(TicketName, MemberId),
    /// Nobody should hold it.
    Revoke(TicketName),
    /// Another site should hold it.
    Move(TicketName, MemberId),
    /// No new tenure.
    Pause(TicketName),
    /// New tenures again.
    Resume(TicketName),
    /// The site takes no tickets, and with `Vacate` keeps none.
    Standby(MemberId, StandbyMode),
    /// The operator vouches that nothing of the site runs: of one ticket, or of all that it holds.
    AttestDead(MemberId, Option<TicketName>),
    /// Takes a member with a new identity back.
    Readmit(MemberId),
    /// Asks a majority what a ticket's registers hold.
    Inspect(TicketName),
}

/// What became of a command so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reply {
    /// The wish is chosen: it will come true even if nobody waits.
    Recorded,
    /// What was asked for holds.
    Done(Done),
    /// Nothing was changed, or what was changed cannot lead there.
    Refused(CommandRefusal),
}

/// What holds now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Done {
    /// The site holds the ticket under this token, and its fence daemon is armed.
    Held(MemberId, Token),
    /// The ticket is free, for good.
    Free(Ownership),
    /// The wish holds; there is nothing to wait for.
    Wish,
    /// The member is back, in this epoch.
    Readmitted(Epoch),
    /// What a majority knows.
    Inspected {
        /// The newest ownership that a majority knows.
        ownership: Ownership,
        /// The intent, chosen.
        intent: Intent,
    },
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CommandRefusal {
    /// This member does not vote now.
    NotVoting,
    /// Too many commands wait here.
    Busy,
    /// The formation has no such ticket, and nobody has heard of it.
    NoSuchTicket,
    /// The member is not a site.
    NotASite(MemberId),
    /// Another site holds it: move it instead.
    HeldElsewhere(MemberId),
    /// Nobody holds it: grant it instead.
    NotHeld,
    /// The ticket is paused: resume it first.
    Paused,
    /// The ticket is revoked.
    Revoked,
    /// The site is on standby: take it online first.
    OnStandby(MemberId),
    /// The site does not want the ticket.
    Unwilling(MemberId, Refusal),
    /// The site could not be asked.
    Unreachable(MemberId),
    /// The site was heard since the command was given: it is not dead.
    Heard(MemberId),
    /// The site holds nothing that could be attested.
    NothingHeld(MemberId),
    /// Another command has changed the wish since.
    Overruled,
    /// Another site got it.
    WentTo(MemberId),
    /// The member is not in quarantine, or has not been heard with its new identity.
    NotQuarantined(MemberId),
    /// With so few members, one cannot be readmitted: build the formation anew.
    TooFewMembers,
}

/// What the fence daemon says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FenceEvent {
    /// It answers, and this is how its resources stand. Said at every connection.
    Up(Vec<FenceReport>),
    /// It does not answer.
    Down,
    /// It will fence at the deadline unless it is extended.
    Armed(TicketName, Token, Deadline),
    /// It refuses to arm.
    ArmRefused(TicketName, Token),
    /// Its word about deadlines: on their way to it several orders may have become one, of which only the last deadline of each
    /// ticket counts.
    Extended {
        /// In force from now on.
        taken: Vec<Extension>,
        /// Not in force: for these tickets it goes on by what it had taken before.
        refused: Vec<(TicketName, Token)>,
    },
    /// The start hook has ended, well or not.
    Started(TicketName, Token, bool),
    /// The stop hook has ended, well or not.
    Stopped(TicketName, Token, bool),
    /// Under this token, or a smaller one, nothing runs.
    Receipt(TicketName, Token),
    /// All levels of the plan failed; it goes on trying.
    Failing(TicketName, Token),
}

/// How one resource of the fence daemon stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FenceReport {
    /// Which.
    pub ticket: TicketName,
    /// What it is armed with.
    pub armed: Option<(Token, Deadline)>,
    /// The token that is being fenced.
    pub fencing: Option<Token>,
    /// The token of the last receipt.
    pub receipt: Option<Token>,
}

/// One deadline for a number of tickets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Extension {
    /// The deadline to set.
    pub deadline: Deadline,
    /// For which.
    pub tickets: Vec<(TicketName, Token)>,
}

/// What the fence daemon should do. It answers each, but for deadlines: those that are overtaken by others on their way to it, or
/// fail with the request that bore them, are answered by nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Fence at the deadline unless extended. Durable before it is answered.
    Arm(TicketName, Token, Deadline),
    /// Set deadlines, later or earlier.
    Extend(Vec<Extension>),
    /// Run the start hook.
    Start(TicketName, Token),
    /// Run the stop hook.
    Stop(TicketName, Token),
    /// Run the plan; answer with the receipt.
    Fence(TicketName, Token, FenceReason),
}

/// Why resources are fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FenceReason {
    /// Graceful: the ticket is given up.
    Release,
    /// The lease ran out.
    Lost,
    /// The site daemon does not know what runs.
    Unknown,
    /// An operator attested the site dead.
    Attested,
    /// The health check failed.
    Unhealthy,
}

/// How a check before acquiring ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CheckResult {
    /// The site could run it.
    Passed,
    /// It could not.
    Failed,
}

/// Something worth writing down: for the journal and the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Note {
    /// All members have met.
    Born,
    /// Looks for witnesses before it votes.
    Recovering,
    /// Has found enough witnesses.
    Recovered,
    /// Found too few witnesses in time and trusts its disk.
    TrustsDisk {
        /// How many had answered for certain.
        answered: u8,
        /// How many it takes.
        needed: u8,
    },
    /// Votes.
    Voting,
    /// The others know another identity for this member.
    Quarantined,
    /// The formation's identities have changed.
    EpochChanged(Epoch),
    /// A member is heard under an identity that is not the formation's.
    Stranger(MemberId),
    /// A member has restarted.
    PeerRestarted(MemberId, Incarnation),
    /// A member has forgotten what it had told.
    PeerRolledBack(MemberId),
    /// The others remember more of this member than it does itself: it starts again and looks for witnesses.
    RolledBack,
    /// A member's clock runs off by so many parts per million.
    ClockOff(MemberId, i64),
    /// The check before acquiring failed.
    CheckFailed(TicketName),
    /// Tries to acquire.
    Candidate(TicketName, Ballot),
    /// The check passed, a majority agreed.
    Acquired(TicketName, Token),
    /// Holds it; the fence daemon is armed.
    Held(TicketName, Token, Deadline),
    /// Holds it again after a restart of the daemon, under the same token.
    Resumed(TicketName, Token),
    /// The lease ran out.
    Lost(TicketName, Token),
    /// Gives it up.
    Relinquishing(TicketName, Token, GiveUp),
    /// Nothing runs any more.
    Fenced(TicketName, Token),
    /// All levels failed.
    FenceFailing(TicketName, Token),
    /// The release is chosen.
    Released(TicketName, Token),
    /// An intent is chosen.
    Intent(TicketName, Intent),
    /// A site's standby is chosen.
    Standby(MemberId, StandbyMode),
    /// Too many takeovers: paused.
    Flapping(TicketName),
    /// The start hook failed.
    StartFailed(TicketName, Token),
    /// The health check failed too often.
    Unhealthy(TicketName, Token),
    /// No other site takes it: restarts it here.
    RestartsHere(TicketName, Token),
    /// Stops its heartbeats.
    Barred(Bar),
    /// Sends heartbeats again.
    Unbarred,
    /// Guards another's lease; parks this candidate.
    Parked(TicketName, MemberId, Span),
}

/// Why a holder gives a ticket up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GiveUp {
    /// Revoked.
    Revoked,
    /// Moved.
    Vacate,
    /// Its site goes on standby.
    Standby,
    /// Its health check or start hook failed.
    Unhealthy,
    /// The ticket is no longer configured here.
    Unconfigured,
}

/// Why a holder's heartbeats stop: it sends pings instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Bar {
    /// No commit within a quarter of the smallest E.
    Disk,
    /// The fence daemon does not answer.
    Fence,
    /// No majority of answers for half the smallest E.
    Unheard,
}

/// Ends the process: the shell commits what came with it, says why, and exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fatal {
    /// It must start again and look for witnesses.
    StartAgain,
}

/// What the shell must do. All of it stands on a finished commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Effects {
    /// One frame per peer.
    pub frames: Vec<(MemberId, crate::message::Frame)>,
    /// For the fence daemon, in this order.
    pub orders: Vec<Order>,
    /// Checks to run before acquiring.
    pub checks: Vec<(TicketName, CheckId)>,
    /// For those who gave commands.
    pub replies: Vec<(CommandId, Reply)>,
    /// For the journal.
    pub notes: Vec<Note>,
    /// The process ends here.
    pub fatal: Option<Fatal>,
}
