//! The sitegate protocol: who holds each ticket, agreed by a majority, leased, and fenced before anybody else holds.
//!
//! One state machine, [`Member`], without I/O, clocks, threads or randomness. Its owner passes in time and [`Event`]s
//! and gets back a [`Step`]; steps are gathered in a [`Turn`], committed to a [`Store`], and only then give out
//! [`Effects`]. The same code runs in the daemons, the simulator and the explorer.
//!
//! Each ticket has two registers, *ownership* and *intent*, in the manner of CASPaxos: on every member a promised
//! ballot and an accepted value, no log, no leader. On top of ownership lies a lease. Its holder counts from when it
//! **sent** what a majority answered; acceptors count from when they **received** it and wait longer, so that the
//! holder has stopped, and fenced, before a majority can agree on anybody else. Why that is enough, under loss, delay,
//! duplication, reordering, crashes and clocks that are off by ρ, is proved in `docs/protocol.md`.
//!
//! Where to look: [`Register`] is the acceptor in forty lines; `member/proposer.rs` a round; `member/pulse.rs` and
//! `mirror.rs` the heartbeats that renew all tickets at once; `member/ticket.rs` a site's dealings with one ticket;
//! `member/recovery.rs` what a member does that may have forgotten.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod durable;
mod event;
mod ids;
mod invariant;
mod member;
mod message;
mod mirror;
mod quorum;
mod register;
mod rng;
mod settings;
mod support;
mod time;
mod timer;
mod turn;
mod value;

pub use durable::{Durable, Duty, Own, Record, Slot, Store};
pub use event::{
    Bar, Caller, CheckId, CheckResult, Command, CommandId, CommandRefusal, Done, Effects, Event, Extension,
    Fatal, FenceEvent, FenceReason, FenceReport, GiveUp, Note, Order, Reply,
};
pub use ids::{
    BadTicketName, Ballot, Epoch, Identity, Incarnation, Life, Lsn, MemberId, Nonce, TicketName, Token,
};
pub use invariant::{Broken, never_regresses};
pub use member::{
    GuardView, LeaseView, LocalView, Member, PeerView, RoundView, StandingView, Start, TicketView, View,
};
pub use message::{Body, Frame, Header, Misbehaved, Refusal, RequestId, ValidFrame};
pub use quorum::{majority, readmitters, witnesses};
pub use register::{Accepted, Outbid, Register, Vote};
pub use settings::{LocalTicket, Role, Settings, TicketSettings, Timing};
pub use time::{Boot, Deadline, Drift, Guard, Now, Raw, Span};
pub use timer::Timeouts;
pub use turn::{Committing, Step, Turn};
pub use value::{
    Author, Identities, Intent, Key, Ownership, Proof, Standby, StandbyMode, Takeover, Takeovers, Tenancy,
    Value, Wanted,
};
