//! What a member can say of itself: for `status`, `explain`, metrics, and for the checkers of the simulator.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::Serialize;

use super::candidate::Readiness;
use super::fencing::FenceLink;
use super::proposer::{Aim, Phase};
use super::ticket::{Local, Stage, State};
use super::{Member, Standing};
use crate::event::Bar;
use crate::ids::{Ballot, Epoch, Life, Lsn, MemberId, TicketName, Token};
use crate::message::Refusal;
use crate::time::{Deadline, Now, Span};
use crate::value::{Intent, Key, Ownership, StandbyMode};

/// Everything about one member at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// The member.
    pub me: MemberId,
    /// Its life.
    pub life: Life,
    /// What it has committed.
    pub lsn: Lsn,
    /// The epoch of identities.
    pub epoch: Epoch,
    /// Whether it votes.
    pub standing: StandingView,
    /// Why its heartbeats stop, if they do.
    pub bar: Option<Bar>,
    /// Whether its fence daemon answers.
    pub fence_up: bool,
    /// The others.
    pub peers: BTreeMap<MemberId, PeerView>,
    /// What sites do about tickets.
    pub standby: BTreeMap<MemberId, StandbyMode>,
    /// The tickets.
    pub tickets: BTreeMap<TicketName, TicketView>,
}

/// Whether a member votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum StandingView {
    /// It has met only these of the others.
    Unborn {
        /// Met so far.
        met: Vec<MemberId>,
    },
    /// It looks for witnesses.
    Recovering,
    /// It was readmitted and waits for the longest lease.
    Settling,
    /// It votes.
    Voting,
    /// The others know another identity for it.
    Quarantined,
}

/// One peer, as seen here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerView {
    /// How long ago it was last heard.
    pub heard_ago: Option<Span>,
    /// How long ago the newest heartbeat was sent that it has answered.
    pub answered_ago: Option<Span>,
    /// Whether it speaks with an identity that is not the formation's.
    pub stranger: bool,
    /// Whether its clock runs off.
    pub clock_off: bool,
}

/// One ticket, as seen here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TicketView {
    /// The newest ownership that this member accepted or learnt.
    pub ownership: Ownership,
    /// Whether that is known to be chosen.
    pub chosen: bool,
    /// The newest intent that this member accepted or learnt.
    pub intent: Option<Intent>,
    /// The guard that this member keeps.
    pub guard: Option<GuardView>,
    /// Candidates that wait for its end.
    pub parked: Vec<MemberId>,
    /// What this site is doing; nothing on an arbitrator.
    pub local: Option<LocalView>,
    /// The round that this member runs about it.
    pub round: Option<RoundView>,
}

/// A guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuardView {
    /// Whose lease.
    pub holder: MemberId,
    /// Of which tenure.
    pub token: Token,
    /// What is left of it.
    pub remaining: Span,
}

/// What a site is doing about a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocalView {
    /// In one word: `idle`, `resuming`, `arming`, `held`, `stopping`, `fencing`, `stopped`.
    pub state: &'static str,
    /// The token of its tenure, while there is one or its end is not told yet.
    pub token: Option<Token>,
    /// The deadline that the fence daemon has acknowledged.
    pub deadline: Option<Deadline>,
    /// What is left until then.
    pub remaining: Option<Span>,
    /// Why it would not take the ticket.
    pub refusal: Option<Refusal>,
    /// The check before acquiring: `unknown`, `running`, `passed`, `failed`.
    pub check: &'static str,
}

/// A round under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoundView {
    /// Its ballot.
    pub ballot: Ballot,
    /// What for: `acquire`, `renew`, `resume`, `release`, `settle`.
    pub aim: &'static str,
    /// Who has promised, or voted.
    pub agreed: Vec<MemberId>,
    /// Whether it asks for votes already.
    pub accepting: bool,
    /// Who guards whose lease against it, and for how long yet.
    pub leased: BTreeMap<MemberId, (MemberId, Span)>,
}

impl Member {
    /// What this member can say of itself.
    #[must_use]
    pub fn view(&self, now: Now) -> View {
        let standby = self.settings.sites().map(|site| (site, self.standby_mode(site))).collect();
        View {
            me: self.settings.me,
            life: self.life,
            lsn: self.lsn,
            epoch: self.epoch(),
            standing: self.standing_view(),
            bar: self.pulse.bar(),
            fence_up: self.fence != FenceLink::Down,
            peers: self.peers_view(now),
            standby,
            tickets: self
                .known_tickets()
                .into_iter()
                .map(|t| (t.clone(), self.ticket_view(now, &t)))
                .collect(),
        }
    }

    fn standing_view(&self) -> StandingView {
        match &self.standing {
            Standing::Unborn(_) => StandingView::Unborn { met: self.durable.met.keys().copied().collect() },
            Standing::Recovering(_) | Standing::Over => StandingView::Recovering,
            Standing::Settling { .. } => StandingView::Settling,
            Standing::Voting => StandingView::Voting,
            Standing::Quarantined => StandingView::Quarantined,
        }
    }

    fn peers_view(&self, now: Now) -> BTreeMap<MemberId, PeerView> {
        let others = self.peers.iter().filter(|(id, _)| **id != self.settings.me);
        let view = |peer: &super::Peer| PeerView {
            heard_ago: peer.heard.map(|at| now.boot.since(at.boot)),
            answered_ago: peer.answered.map(|at| now.boot.since(at.boot)),
            stranger: peer.stranger.is_some(),
            clock_off: peer.clock_off,
        };
        others.map(|(&id, peer)| (id, view(peer))).collect()
    }

    /// What this member can say of one ticket.
    #[must_use]
    pub fn ticket_view(&self, now: Now, ticket: &TicketName) -> TicketView {
        let guard = self.support.guard_of(ticket).filter(|(.., guard)| !guard.is_over(now));
        let site = self.settings.is_site(self.settings.me);
        TicketView {
            ownership: self.ownership(ticket).clone(),
            chosen: self.is_chosen(&Key::Ownership(ticket.clone())),
            intent: self.intent(ticket).cloned(),
            guard: guard.map(|(holder, token, guard)| GuardView {
                holder,
                token,
                remaining: guard.remaining(now),
            }),
            parked: self.parked.get(ticket).map(|p| p.keys().copied().collect()).unwrap_or_default(),
            local: site.then(|| self.local_view(now, ticket)),
            round: self.round_view(now, ticket),
        }
    }

    /// The tenure of `ticket` that this member guards or guarded last, and when it was renewed last: what its guard counts
    /// from. For the journal.
    #[must_use]
    pub fn last_renewal(&self, ticket: &TicketName) -> Option<(Token, Now)> {
        self.support.last_arrival(ticket)
    }

    fn local_view(&self, now: Now, ticket: &TicketName) -> LocalView {
        let empty = Local::default();
        let local = self.locals.get(ticket).unwrap_or(&empty);
        let (state, token) = match &local.state {
            State::Idle => ("idle", None),
            State::Resuming { token, .. } => ("resuming", Some(*token)),
            State::Arming(tenure) => ("arming", Some(tenure.terms.token)),
            State::Held(tenure) => ("held", Some(tenure.terms.token)),
            State::Leaving(tenure, _, Stage::Stopping) => ("stopping", Some(tenure.terms.token)),
            State::Leaving(tenure, _, Stage::Fencing) => ("fencing", Some(tenure.terms.token)),
            State::Fencing { token, .. } => ("fencing", Some(*token)),
            State::Stopped { token, .. } => ("stopped", Some(*token)),
        };
        let deadline = local.state.tenure().and_then(super::tenure::Tenure::acknowledged);
        LocalView {
            state,
            token,
            deadline,
            remaining: deadline.map(|deadline| deadline.remaining(now)),
            refusal: self.refusal(ticket, local),
            check: match local.readiness {
                Readiness::Unknown => "unknown",
                Readiness::Checking(_) => "running",
                Readiness::Passed(_) => "passed",
                Readiness::Failed(_) => "failed",
            },
        }
    }

    fn round_view(&self, now: Now, ticket: &TicketName) -> Option<RoundView> {
        let round = self.rounds.get(&Key::Ownership(ticket.clone()))?;
        let (agreed, accepting) = match &round.phase {
            Phase::Preparing(promises) => (promises.keys().copied().collect(), false),
            Phase::Accepting { votes, .. } => (votes.by.keys().copied().collect(), true),
        };
        let leased = round.leased.iter().map(|(&by, &(holder, until))| (by, (holder, until.since(now.boot))));
        Some(RoundView {
            ballot: round.ballot,
            aim: match round.aim {
                Aim::Acquire => "acquire",
                Aim::Renew => "renew",
                Aim::Resume => "resume",
                Aim::Release(_) => "release",
                Aim::Settle => "settle",
                Aim::Command(_) | Aim::Complete | Aim::Flap | Aim::Failback(..) => "wish",
            },
            agreed,
            accepting,
            leased: leased.collect(),
        })
    }
}
