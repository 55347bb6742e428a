//! What members say to each other. One [`Frame`] carries everything for one peer of one loop turn.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Ballot, Epoch, Identity, Incarnation, Life, Lsn, MemberId, Nonce, TicketName};
use crate::register::{Accepted, Register};
use crate::settings::Settings;
use crate::time::{Boot, Span};
use crate::value::{Identities, Intent, Key, Ownership, Value};

/// One message to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Who speaks, and what it knows of the others.
    pub header: Header,
    /// What it says.
    pub bodies: Vec<Body>,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Header {
    /// The epoch of identities that the sender lives in.
    pub epoch: Epoch,
    /// The sender.
    pub from: MemberId,
    /// Its identity.
    pub identity: Identity,
    /// Its life.
    pub life: Life,
    /// What it has committed.
    pub lsn: Lsn,
    /// The addressee's nonce as far as the sender knows: replies count only under the right one.
    pub to: Option<Nonce>,
    /// The newest life that the sender knows of every other member.
    pub known: Vec<(MemberId, Life)>,
}

/// Ties a request of this process to its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// One thing said. A reply is bound to the nonce of the process that asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// Asks for a promise; the same ballot is sent again until it is answered.
    Prepare {
        /// Which register.
        key: Key,
        /// The proposal.
        ballot: Ballot,
        /// The candidate's rank, 0 is best: decides among parked ones.
        rank: u8,
    },
    /// Reply: promised.
    Promise {
        /// Which register.
        key: Key,
        /// The proposal.
        ballot: Ballot,
        /// What was accepted before.
        accepted: Option<Accepted>,
        /// The registers that a proposer for this one has to look at too.
        context: Vec<(Key, Accepted)>,
    },
    /// Reply: a higher ballot was promised.
    Nack {
        /// Which register.
        key: Key,
        /// The proposal.
        ballot: Ballot,
        /// What was promised.
        promised: Ballot,
    },
    /// Reply: parked until the guard ends.
    Leased {
        /// Which ticket.
        ticket: TicketName,
        /// The proposal.
        ballot: Ballot,
        /// Whose lease.
        holder: MemberId,
        /// How long the guard still lasts unless it is renewed.
        remaining: Span,
    },
    /// Asks for a vote.
    Accept {
        /// Which register.
        key: Key,
        /// The proposal.
        ballot: Ballot,
        /// Its value.
        value: Value,
        /// Which sending of it.
        attempt: u32,
    },
    /// Reply: accepted.
    Accepted {
        /// Which register.
        key: Key,
        /// The proposal.
        ballot: Ballot,
        /// Which sending of it is answered.
        attempt: u32,
    },
    /// Announces a chosen value.
    Chosen {
        /// Which register.
        key: Key,
        /// The proposal.
        ballot: Ballot,
        /// Its value.
        value: Value,
    },
    /// A site lives, and renews all that is supported.
    Heartbeat {
        /// Numbers heartbeats and pings of one process.
        seq: u64,
    },
    /// Reply to a heartbeat.
    Ack {
        /// Of which heartbeat.
        seq: u64,
        /// Of the set of (ticket, ballot) supported for the asker, under the sender's nonce.
        support: u128,
        /// Of all that the sender knows to be chosen.
        chosen: u128,
        /// The sender's boot clock: peers watch each other's rates.
        clock: Boot,
    },
    /// A site asks who hears it, and renews nothing.
    Ping {
        /// As in heartbeats.
        seq: u64,
    },
    /// Reply to a ping.
    Pong {
        /// Of which ping.
        seq: u64,
    },
    /// The holder no longer counts on these: heartbeats renew them no more.
    Forgo {
        /// At most `LIST_PAGE` of them.
        tickets: Vec<(TicketName, Ballot)>,
    },
    /// Asks for a page of the set behind the digest. Renews as a heartbeat does.
    ListAsk {
        /// The newest heartbeat or ping of the sender; none if it must not renew.
        seq: Option<u64>,
        /// Continues after this ticket.
        after: Option<TicketName>,
    },
    /// Reply: a page.
    Listing {
        /// As in the question: what is listed is renewed.
        seq: Option<u64>,
        /// Continues after this ticket.
        after: Option<TicketName>,
        /// At most `LIST_PAGE` of them, in order.
        entries: Vec<(TicketName, Ballot)>,
        /// Of the whole set, as it was when this page was made.
        support: u128,
        /// Whether the set ends here.
        last: bool,
    },
    /// What the sender knows to be chosen, in pages.
    Compare {
        /// The page continues after this key.
        after: Option<Key>,
        /// At most `COMPARE_PAGE` of them, in order.
        entries: Vec<(Key, Ballot)>,
        /// Whether this page reaches to the end of all keys.
        last: bool,
    },
    /// Asks for `Chosen` of these.
    Want {
        /// At most `COMPARE_PAGE` of them.
        keys: Vec<Key>,
    },
    /// Asks a site for an ownership round that begins after this was received.
    Settle {
        /// Which ticket.
        ticket: TicketName,
        /// Of this request.
        id: RequestId,
    },
    /// Reply: such a round chose this.
    Settled {
        /// Which ticket.
        ticket: TicketName,
        /// Of the request.
        id: RequestId,
        /// What was chosen.
        ownership: Ownership,
        /// The wish that the site knew when it was.
        intent: Option<Intent>,
    },
    /// Asks a site to check whether it could take a ticket.
    Willing {
        /// Which ticket.
        ticket: TicketName,
        /// Of this request.
        id: RequestId,
    },
    /// Reply: whether it could.
    Willingness {
        /// Which ticket.
        ticket: TicketName,
        /// Of the request.
        id: RequestId,
        /// Why not, if not.
        refusal: Option<Refusal>,
    },
    /// Asks to be told if the site is heard from now on.
    HeardAsk {
        /// The site that is said to be dead.
        site: MemberId,
        /// Of this request.
        id: RequestId,
    },
    /// Reply: it was heard.
    Heard {
        /// Of the request.
        id: RequestId,
    },
    /// An unborn member introduces itself.
    Meet {
        /// Drawn anew whenever the sender's list of identities changes.
        ask: RequestId,
    },
    /// Reply: the identities that the sender has durably written down.
    Met {
        /// Of the request.
        ask: RequestId,
        /// All that it has met, itself included.
        identities: BTreeMap<MemberId, Identity>,
        /// The formation it was born into, if it was.
        born: Option<Identities>,
    },
    /// A member that may have forgotten asks what others know.
    RecoverAsk {
        /// Continues after this key.
        after: Option<Key>,
    },
    /// Reply: a page of registers.
    RecoverPage {
        /// Continues after this key.
        after: Option<Key>,
        /// At most `RECOVER_PAGE` of them, in order.
        registers: Vec<(Key, Register)>,
        /// Whether they end here.
        last: bool,
        /// The sender may have forgotten too.
        unsure: bool,
    },
    /// Reply to a frame of another epoch or identity: the identities of the formation today.
    Epoch {
        /// The ballot at which they were chosen; zero at birth.
        ballot: Ballot,
        /// The identities.
        identities: Identities,
    },
    /// Reply: the sender remembers more of the addressee than it does itself.
    RolledBack {
        /// The largest incarnation that is known of the addressee.
        incarnation: Incarnation,
        /// The commits that it told of.
        lsn: Lsn,
    },
}

/// Entries of one `Listing`: keeps a frame small, so that heartbeats are not held up.
pub(crate) const LIST_PAGE: usize = 1000;
/// Entries of one `Compare`.
pub(crate) const COMPARE_PAGE: usize = 1000;
/// Registers of one `RecoverPage`.
pub(crate) const RECOVER_PAGE: usize = 500;

/// Why a site does not take a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// The ticket is not in its configuration.
    NotConfigured,
    /// It is on standby.
    Standby,
    /// Its health check failed not long ago.
    Resting,
    /// Its check before acquiring failed.
    CheckFailed,
    /// It has no fence daemon.
    NoFence,
    /// It is not voting (unborn, recovering, quarantined).
    NotVoting,
}

impl Body {
    /// Whether it answers something, and so counts only for the process that asked.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        matches!(
            self,
            Self::Promise { .. }
                | Self::Nack { .. }
                | Self::Leased { .. }
                | Self::Accepted { .. }
                | Self::Ack { .. }
                | Self::Pong { .. }
                | Self::Listing { .. }
                | Self::Settled { .. }
                | Self::Willingness { .. }
                | Self::Heard { .. }
                | Self::Met { .. }
                | Self::RecoverPage { .. }
                | Self::RolledBack { .. }
        )
    }

    /// Whether it belongs to a round: an ask for promises or votes, or an answer to one.
    pub(crate) const fn is_of_round(&self) -> bool {
        matches!(
            self,
            Self::Prepare { .. }
                | Self::Promise { .. }
                | Self::Nack { .. }
                | Self::Leased { .. }
                | Self::Accept { .. }
                | Self::Accepted { .. }
        )
    }

    /// Whether it may pass a running commit: it neither reads nor writes what is being committed.
    #[must_use]
    pub const fn is_prompt(&self) -> bool {
        matches!(self, Self::Heartbeat { .. } | Self::Ack { .. } | Self::Ping { .. } | Self::Pong { .. })
    }
}

/// A peer that breaks the protocol. The frame is dropped whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaved {
    /// The frame says another sender than its certificate.
    WrongSender {
        /// By the certificate.
        authenticated: MemberId,
        /// By the frame.
        claimed: MemberId,
    },
    /// The frame names a member that the formation does not have.
    UnknownMember(MemberId),
    /// A value in a register of another kind.
    WrongKind(Key),
    /// A proposal at somebody else's ballot.
    ForeignBallot(Ballot),
    /// A round or a span that cannot be.
    OutOfRange,
    /// A page whose entries are not in order, or not after the page before.
    Unsorted,
}

impl fmt::Display for Misbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongSender { authenticated, claimed } => {
                write!(f, "member {authenticated} speaks for member {claimed}")
            }
            Self::UnknownMember(member) => write!(f, "member {member} is not in the formation"),
            Self::WrongKind(key) => write!(f, "a value of another kind for register {key:?}"),
            Self::ForeignBallot(ballot) => write!(f, "a proposal at somebody else's ballot {ballot}"),
            Self::OutOfRange => f.write_str("a ballot round or a time out of range"),
            Self::Unsorted => f.write_str("a page whose entries are not in order"),
        }
    }
}

impl core::error::Error for Misbehaved {}

/// A frame that has been checked: from its authenticated sender, in range, every value where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValidFrame(Frame);

/// Ten years: no lease is longer.
const LEASE_MAX: Span = Span::from_secs(10 * 366 * 86_400);

impl ValidFrame {
    /// Checks `frame`, which came over a connection that the certificate of `authenticated` opened.
    ///
    /// # Errors
    /// What the peer did wrong.
    pub fn check(frame: Frame, authenticated: MemberId, settings: &Settings) -> Result<Self, Misbehaved> {
        let claimed = frame.header.from;
        if claimed != authenticated {
            return Err(Misbehaved::WrongSender { authenticated, claimed });
        }
        let known = frame.header.known.iter().map(|(member, _)| *member);
        for member in known.chain([claimed]) {
            check_member(member, settings)?;
        }
        frame.bodies.iter().try_for_each(|body| check_body(body, claimed, settings))?;
        Ok(Self(frame))
    }

    /// What was checked.
    #[must_use]
    pub const fn as_frame(&self) -> &Frame {
        &self.0
    }

    pub(crate) fn into_parts(self) -> (Header, Vec<Body>) {
        (self.0.header, self.0.bodies)
    }

    /// Whether everything in it may pass a running commit.
    #[must_use]
    pub fn is_prompt(&self) -> bool {
        self.0.bodies.iter().all(Body::is_prompt)
    }
}

fn check_body(body: &Body, from: MemberId, settings: &Settings) -> Result<(), Misbehaved> {
    match body {
        Body::Prepare { ballot, key, .. } => {
            check_key(key, settings)?;
            check_own(*ballot, from)
        }
        Body::Accept { key, ballot, value, .. } => {
            check_own(*ballot, from)?;
            check_value(key, *ballot, value, settings)
        }
        Body::Chosen { key, ballot, value } => check_value(key, *ballot, value, settings),
        Body::Promise { key, accepted, context, .. } => {
            let pairs = accepted.iter().map(|a| (key, a)).chain(context.iter().map(|(k, a)| (k, a)));
            pairs.into_iter().try_for_each(|(k, a)| check_value(k, a.ballot, &a.value, settings))
        }
        Body::RecoverPage { registers, .. } => registers.iter().try_for_each(|(key, register)| {
            check_round(register.promised())?;
            register.accepted().map_or(Ok(()), |a| check_value(key, a.ballot, &a.value, settings))
        }),
        Body::Compare { after, entries, .. } => {
            let keys: Vec<&Key> = after.iter().chain(entries.iter().map(|(key, _)| key)).collect();
            if keys.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(Misbehaved::Unsorted) }
        }
        Body::Nack { promised, .. } => check_round(*promised),
        Body::HeardAsk { site, .. } => check_member(*site, settings),
        Body::Leased { holder, .. } => check_member(*holder, settings),
        Body::Epoch { identities, .. } => check_identities(identities, settings),
        Body::Met { born: Some(identities), .. } => check_identities(identities, settings),
        _ => Ok(()),
    }
}

fn check_value(key: &Key, ballot: Ballot, value: &Value, settings: &Settings) -> Result<(), Misbehaved> {
    check_key(key, settings)?;
    check_round(ballot)?;
    if !key.fits(value) {
        return Err(Misbehaved::WrongKind(key.clone()));
    }
    match value {
        Value::Ownership(Ownership::Held(tenancy)) => {
            if !settings.is_site(tenancy.site) {
                return Err(Misbehaved::UnknownMember(tenancy.site));
            }
            if tenancy.lease() > LEASE_MAX { Err(Misbehaved::OutOfRange) } else { Ok(()) }
        }
        Value::Identities(identities) => check_identities(identities, settings),
        Value::Ownership(_) | Value::Intent(_) | Value::Standby(_) => Ok(()),
    }
}

fn check_identities(identities: &Identities, settings: &Settings) -> Result<(), Misbehaved> {
    for &member in identities.of.keys() {
        check_member(member, settings)?;
    }
    if identities.of.len() == settings.n() { Ok(()) } else { Err(Misbehaved::OutOfRange) }
}

fn check_key(key: &Key, settings: &Settings) -> Result<(), Misbehaved> {
    if let Key::Standby(site) = key { check_member(*site, settings) } else { Ok(()) }
}

fn check_member(member: MemberId, settings: &Settings) -> Result<(), Misbehaved> {
    if settings.members.contains_key(&member) { Ok(()) } else { Err(Misbehaved::UnknownMember(member)) }
}

fn check_own(ballot: Ballot, from: MemberId) -> Result<(), Misbehaved> {
    check_round(ballot)?;
    if ballot.is_of(from) { Ok(()) } else { Err(Misbehaved::ForeignBallot(ballot)) }
}

fn check_round(ballot: Ballot) -> Result<(), Misbehaved> {
    if ballot.round < Ballot::ROUND_MAX { Ok(()) } else { Err(Misbehaved::OutOfRange) }
}
