//! The judge of a world: what it has seen so far, and the invariants of docs/protocol.md that it holds every transition to.

use std::collections::BTreeMap;

use sitegate_protocol::{
    Ballot, Body, Done, Key, MemberId, Ownership, Proof, Reply, Takeover, Token, Value, majority,
};

use super::machine::Reaction;
use super::scene::Scene;
use super::search::Broken;
use super::shared::Shared;
use super::site::{Hold, Site};
use super::world::{ACQUIRE_AFTER, World, id};
use crate::checks::choices::follows;

/// What the judge remembers. It is a part of the state: two states that differ in it are two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Judge {
    /// Every proposal of which anybody has spoken: its value, and who has a vote for it on its disk, a bit for each.
    proposals: BTreeMap<(Key, Ballot), (Shared<Value>, u16)>,
    /// The newest tenure under which something was started.
    newest: Option<(Token, usize)>,
    /// Somebody was told that the ticket is revoked, and that nobody holds it.
    revoked: bool,
}

type Verdict = Result<(), Broken>;

impl Judge {
    /// The newest tenure under which something was started.
    pub(super) fn newest(&self) -> Option<Token> {
        self.newest.map(|(token, _)| token)
    }

    /// Machine `i` of `scene` has reacted.
    pub(super) fn look(world: &World, scene: &mut Scene, i: usize, reaction: &Reaction) {
        if scene.broken.is_some() {
            return;
        }
        let quiet = reaction.did.votes.is_empty()
            && reaction.did.frames.is_empty()
            && reaction.did.started.is_empty()
            && reaction.did.replies.is_empty();
        let verdict = match &reaction.did.broken {
            Some(broken) => Err(broken.clone()),
            None if quiet => alone(world, scene, i),
            None => {
                let mut judge = Self::clone(&scene.judge);
                let verdict = judge.consider(world, scene, i, reaction);
                if judge != *scene.judge {
                    scene.judge = Shared::new(judge);
                }
                verdict
            }
        };
        scene.broken = verdict.err();
    }

    fn consider(&mut self, world: &World, scene: &Scene, i: usize, reaction: &Reaction) -> Verdict {
        for (key, ballot, value) in &reaction.did.votes {
            self.voted(world, i, key, *ballot, value)?;
        }
        let bodies = reaction.did.frames.iter().flat_map(|(_, frame)| &frame.bodies);
        for body in bodies {
            self.said(world, scene, i, body)?;
        }
        for token in &reaction.did.started {
            self.started(world, scene, i, *token)?;
        }
        self.revoked |= reaction.did.replies.iter().any(|reply| matches!(reply, Reply::Done(Done::Free(_))));
        alone(world, scene, i)
    }

    /// I4: one value per ballot.
    fn spoken_of(&mut self, key: &Key, ballot: Ballot, value: &Value) -> Result<&mut u16, Broken> {
        let fresh = || (Shared::new(value.clone()), 0);
        let (known, votes) = self.proposals.entry((key.clone(), ballot)).or_insert_with(fresh);
        if **known != *value {
            let what = format!("{key:?} has two values under {ballot}: {:?} and {value:?}", **known);
            return Err(("I4", what));
        }
        Ok(votes)
    }

    /// I4: what is chosen is one chain.
    fn voted(&mut self, world: &World, i: usize, key: &Key, ballot: Ballot, value: &Value) -> Verdict {
        let needed = majority(world.n());
        let is_chosen = |votes: u16| votes.count_ones() as usize >= needed;
        let votes = self.spoken_of(key, ballot, value)?;
        let before = is_chosen(*votes);
        *votes |= 1 << i;
        if before || !is_chosen(*votes) {
            return Ok(());
        }
        let chosen = self.proposals.iter().filter(|((k, _), (_, votes))| k == key && is_chosen(*votes));
        let chain: Vec<(Ballot, &Shared<Value>)> = chosen.map(|((_, b), (value, _))| (*b, value)).collect();
        for pair in chain.windows(2) {
            let ((low, a), (high, b)) = (&pair[0], &pair[1]);
            if !follows(a, b, *high) {
                return Err(("I4", format!("{key:?}: {b:?} is chosen at {high} after {a:?} at {low}")));
            }
        }
        Ok(())
    }

    fn said(&mut self, world: &World, scene: &Scene, i: usize, body: &Body) -> Verdict {
        match body {
            Body::Accept { key, ballot, value, .. } => {
                // What was freed once may be committed again by anybody.
                let again = self.proposals.values().any(|(known, _)| **known == *value);
                self.spoken_of(key, *ballot, value)?;
                if again { Ok(()) } else { self.may_propose(world, scene, i, value) }
            }
            Body::Chosen { key, ballot, value } => {
                let votes = *self.spoken_of(key, *ballot, value)?;
                if (votes.count_ones() as usize) < majority(world.n()) {
                    let what = format!("{:?} announces {key:?} at {ballot}: no majority has voted", id(i));
                    return Err(("I4", what));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// I8 and I10: who proposes what.
    fn may_propose(&self, world: &World, scene: &Scene, i: usize, value: &Value) -> Verdict {
        let Some(ownership) = value.ownership() else { return Ok(()) };
        let (token, proof) = match ownership {
            Ownership::Held(_) if !world.is_site(i) => {
                return Err(("I10", format!("an arbitrator proposes {ownership:?}")));
            }
            Ownership::Held(_) => return Ok(()),
            Ownership::Free { last_token, proof, .. } => (*last_token, *proof),
        };
        let holder = usize::try_from(token.0 & 0xff).unwrap_or(0).wrapping_sub(1);
        let wrong = match proof {
            Proof::Receipt => {
                let site = scene.machines.get(holder).and_then(|machine| machine.site.as_ref());
                site.and_then(Site::receipt) < Some(token)
            }
            Proof::Waited => world.takeover == Takeover::Confirmed || holder == i,
            Proof::Never => token != Token(0) && self.newest.is_some_and(|(newest, _)| newest == token),
            Proof::Attested => true, // nobody attests anything
        };
        if wrong {
            return Err(("I8", format!("{:?} frees the ticket of {token} with {proof:?}", id(i))));
        }
        Ok(())
    }

    /// I2, I3, I9: something begins to run at `i`.
    fn started(&mut self, world: &World, scene: &Scene, i: usize, token: Token) -> Verdict {
        if let Some((last, site)) = self.newest
            && (token < last || (token == last && site != i))
        {
            return Err(("I3", format!("{token} starts at {:?} after {last}", id(i))));
        }
        self.newest = Some((token, i));
        if self.revoked {
            return Err(("I9", format!("{token} starts at {:?} after a confirmed revoke", id(i))));
        }
        for (other, site) in sites(scene).filter(|(other, _)| *other != i) {
            let other = id(other);
            if let Some(running) = site.running {
                let what =
                    format!("{:?} starts under {token} while {other:?} still runs under {running}", id(i));
                return Err(("I2", what));
            }
            if let Some(hold) = site.hold.filter(|hold| !may_start_after(world, other, *hold, scene.tick)) {
                let what = format!("{:?} starts under {token} while {other:?} may run under {hold:?}", id(i));
                return Err(("I2", what));
            }
        }
        Ok(())
    }
}

/// I2: the other site has its receipt, or was given all of A to fence.
fn may_start_after(world: &World, site: MemberId, hold: Hold, tick: u16) -> bool {
    let i = usize::from(site.get()) - 1;
    let timed = world.takeover == Takeover::Timed;
    hold.over || (timed && world.is_over(i, hold.deadline, ACQUIRE_AFTER, tick))
}

/// I1: at most one site before its deadline. And in truth: nothing runs at two sites at once.
fn alone(world: &World, scene: &Scene, i: usize) -> Verdict {
    let before = |(i, site): &(usize, &Site)| {
        let hold = site.hold.filter(|hold| !hold.over);
        hold.is_some_and(|hold| !world.is_over(*i, hold.deadline, 0, scene.tick))
    };
    let holders: Vec<(usize, &Site)> = sites(scene).filter(before).collect();
    if let [a, b, ..] = &holders[..] {
        let what = format!("{:?} holds by {:?} and {:?} by {:?}", id(a.0), a.1.hold, id(b.0), b.1.hold);
        return Err(("I1", what));
    }
    if sites(scene).filter(|(_, site)| site.running.is_some()).count() > 1 {
        return Err(("I2", format!("two sites run it, one is {:?}", id(i))));
    }
    Ok(())
}

fn sites(scene: &Scene) -> impl Iterator<Item = (usize, &Site)> {
    let machines = scene.machines.iter().enumerate();
    machines.filter_map(|(i, machine)| machine.site.as_ref().map(|site| (i, site)))
}
