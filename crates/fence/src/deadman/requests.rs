//! What clients ask of the deadman, and when it refuses.

use sitegate_fence_client::wire::{
    Activity, Deadline, Incarnation, Instant, Name, Notice, Reason, Refusal, Token,
};
use sitegate_mutant::planted;

use super::{Armed, Deadman, Order, Record, RunId, Tenure};

impl Deadman {
    /// Arms a resource: from the moment this is durable ([`Notice::Armed`]) it may be started, and is fenced at the
    /// deadline unless that is extended. Arming again with the armed token sets the deadline, and lets a newer
    /// incarnation of the client take over.
    ///
    /// # Errors
    /// [`Refusal`]: no such resource; deadline past; token receipted or smaller; a fence runs; armed with another
    /// token; an older incarnation of the client.
    pub fn arm(
        &mut self,
        now: Instant,
        name: &Name,
        token: Token,
        deadline: Deadline,
        incarnation: Incarnation,
    ) -> Result<(), Refusal> {
        self.expire(now, name);
        let resource = self.resource(name)?;
        if let Some(receipted) = resource.receipt.as_ref().map(|r| r.token).filter(|t| token <= *t) {
            return Err(Refusal::AlreadyFenced { receipted });
        }
        if deadline.passed(now) {
            return Err(Refusal::DeadlinePast);
        }
        match &mut resource.tenure {
            Tenure::Unarmed => {
                let record = Record { open: Some(token), receipt: resource.receipt.clone() };
                let save = self.save(name, record);
                self.resource(name)?.tenure = Tenure::Arming { save, token, incarnation, deadline };
                if planted!(ArmedBeforeCommit) {
                    self.acts.notices.push(Notice::Armed { resource: name.clone(), token, deadline });
                }
                Ok(())
            }
            Tenure::Arming { token: armed, incarnation: newest, deadline: in_force, .. } => {
                speaks_for(*armed, *newest, token, incarnation)?;
                *newest = incarnation;
                *in_force = deadline;
                Ok(())
            }
            Tenure::Armed(armed) => {
                armed.set(token, deadline, incarnation)?;
                self.changed.insert(name.clone());
                self.acts.notices.push(Notice::Armed { resource: name.clone(), token, deadline });
                Ok(())
            }
            Tenure::Fencing(_) if planted!(ArmsDuringFence) => {
                let record = Record { open: Some(token), receipt: resource.receipt.clone() };
                let save = self.save(name, record);
                self.resource(name)?.tenure = Tenure::Arming { save, token, incarnation, deadline };
                Ok(())
            }
            Tenure::Fencing(fence) => Err(Refusal::BeingFenced { fencing: fence.token() }),
        }
    }

    /// Sets the deadline of an armed resource, to a later or an earlier one ([`Notice::Extended`]).
    ///
    /// # Errors
    /// [`Refusal`]: no such resource; not armed, or with another token; being fenced, also because its own deadline
    /// has just passed; the new deadline past; an older incarnation of the client.
    pub fn extend(
        &mut self,
        now: Instant,
        name: &Name,
        token: Token,
        deadline: Deadline,
        incarnation: Incarnation,
    ) -> Result<(), Refusal> {
        let armed = self.armed(now, name, token)?;
        if deadline.passed(now) {
            return Err(Refusal::DeadlinePast);
        }
        armed.set(token, deadline, incarnation)?;
        self.changed.insert(name.clone());
        self.acts.notices.push(Notice::Extended { resource: name.clone(), token, deadline });
        Ok(())
    }

    /// Runs `start`, unless it has already succeeded or still runs ([`Notice::Started`] tells).
    ///
    /// # Errors
    /// [`Refusal`]: no such resource; not armed, or with another token; being fenced; `stop` runs.
    pub fn start(&mut self, now: Instant, name: &Name, token: Token) -> Result<(), Refusal> {
        let run = self.new_run();
        let armed = self.armed(now, name, token)?;
        match armed.activity {
            Activity::Starting => {}
            Activity::Stopping => return Err(Refusal::Stopping),
            Activity::Started => {
                self.acts.notices.push(Notice::Started { resource: name.clone(), token, failed: None });
            }
            Activity::Idle | Activity::Stopped | Activity::Failed(_) | Activity::Interrupted => {
                armed.run = Some(run);
                armed.activity = Activity::Starting;
                let deadline = armed.deadline;
                self.changed.insert(name.clone());
                self.acts.orders.push(Order::Start { run, resource: name.clone(), token, deadline });
            }
        }
        Ok(())
    }

    /// Runs `stop`, unless it has already succeeded or still runs ([`Notice::Stopped`] tells). A `start` that still
    /// runs is given up for it.
    ///
    /// # Errors
    /// [`Refusal`]: no such resource; not armed, or with another token; being fenced.
    pub fn stop(&mut self, now: Instant, name: &Name, token: Token) -> Result<(), Refusal> {
        let run = self.new_run();
        let armed = self.armed(now, name, token)?;
        match armed.activity {
            Activity::Stopping => return Ok(()),
            Activity::Stopped => {
                self.acts.notices.push(Notice::Stopped { resource: name.clone(), token, failed: None });
                return Ok(());
            }
            Activity::Idle
            | Activity::Starting
            | Activity::Started
            | Activity::Failed(_)
            | Activity::Interrupted => {}
        }
        let deadline = armed.deadline;
        let given_up = armed.run.replace(run);
        armed.activity = Activity::Stopping;
        self.changed.insert(name.clone());
        if let Some(run) = given_up {
            self.acts.orders.push(Order::Cancel { run });
            let failed = Some("given up: the resource is to be stopped".to_owned());
            self.acts.notices.push(Notice::Started { resource: name.clone(), token, failed });
        }
        self.acts.orders.push(Order::Stop { run, resource: name.clone(), token, deadline });
        Ok(())
    }

    /// `start` ended: without error, or with why it failed.
    pub fn start_done(&mut self, now: Instant, resource: &Name, run: RunId, failed: Option<String>) {
        if let Some(token) = self.program_done(now, resource, run, Activity::Started, failed.as_ref()) {
            self.acts.notices.push(Notice::Started { resource: resource.clone(), token, failed });
        }
    }

    /// `stop` ended: without error, or with why it failed.
    pub fn stop_done(&mut self, now: Instant, resource: &Name, run: RunId, failed: Option<String>) {
        if let Some(token) = self.program_done(now, resource, run, Activity::Stopped, failed.as_ref()) {
            self.acts.notices.push(Notice::Stopped { resource: resource.clone(), token, failed });
        }
    }

    /// Orders a fence of everything of the resource with a token up to `token` ([`Notice::Receipt`] ends it). A fence
    /// that runs is joined; one that has been receipted is answered with that receipt; a token never armed is fenced
    /// all the same.
    ///
    /// # Errors
    /// [`Refusal`]: no such resource; a larger token is armed, whose tenure this order must not end.
    pub fn fence(&mut self, now: Instant, name: &Name, token: Token, reason: Reason) -> Result<(), Refusal> {
        self.expire(now, name);
        let resource = self.resource(name)?;
        let again = match &resource.tenure {
            Tenure::Fencing(fence) => Some(fence.token()),
            Tenure::Unarmed | Tenure::Arming { .. } | Tenure::Armed(_) => None,
        };
        // What was fenced once, ran all the same, and is being fenced again has no receipt for now.
        let receipt = resource.receipt.as_ref().filter(|r| token <= r.token && again != Some(r.token));
        if let Some(receipt) = receipt {
            let receipt = receipt.clone();
            self.acts.notices.push(Notice::Receipt(receipt));
            return Ok(());
        }
        match &mut resource.tenure {
            Tenure::Arming { token: armed, .. } | Tenure::Armed(Armed { token: armed, .. })
                if token < *armed =>
            {
                return Err(Refusal::ArmedOtherwise { armed: *armed });
            }
            Tenure::Fencing(fence) => {
                let notice = fence.join(name, token, reason);
                self.acts.notices.push(notice);
                return Ok(());
            }
            Tenure::Unarmed | Tenure::Arming { .. } | Tenure::Armed(_) => {}
        }
        self.begin_fence(now, name, token, reason);
        Ok(())
    }

    /// The resource was found running although nothing is armed: it is fenced, under the last token that was, so that it can be
    /// armed with the next one. False if something is armed or being fenced by now, or there is no such resource.
    pub fn stray(&mut self, now: Instant, name: &Name) -> bool {
        let Some(resource) = self.resources.get(name).filter(|r| r.tenure == Tenure::Unarmed) else {
            return false;
        };
        let token = resource.receipt.as_ref().map_or(0, |receipt| receipt.token);
        self.begin_fence(now, name, token, Reason::stray());
        true
    }

    /// The tenure of `name`, if it is armed with exactly this token and its deadline lies ahead.
    fn armed(&mut self, now: Instant, name: &Name, token: Token) -> Result<&mut Armed, Refusal> {
        self.expire(now, name);
        let resource = self.resource(name)?;
        let receipted = resource.receipt.as_ref().map(|r| r.token).filter(|t| token <= *t);
        match &mut resource.tenure {
            Tenure::Armed(armed) => {
                if armed.token == token {
                    Ok(armed)
                } else {
                    Err(Refusal::ArmedOtherwise { armed: armed.token })
                }
            }
            Tenure::Fencing(fence) => Err(Refusal::BeingFenced { fencing: fence.token() }),
            Tenure::Unarmed | Tenure::Arming { .. } => {
                Err(receipted.map_or(Refusal::NotArmed, |receipted| Refusal::AlreadyFenced { receipted }))
            }
        }
    }

    fn program_done(
        &mut self,
        now: Instant,
        name: &Name,
        run: RunId,
        done: Activity,
        failed: Option<&String>,
    ) -> Option<Token> {
        self.expire(now, name);
        let Tenure::Armed(armed) = &mut self.resources.get_mut(name)?.tenure else { return None };
        if armed.run != Some(run) {
            return None;
        }
        armed.run = None;
        armed.activity = failed.map_or(done, |why| Activity::Failed(why.clone()));
        self.changed.insert(name.clone());
        Some(armed.token)
    }
}

impl Armed {
    fn set(&mut self, token: Token, deadline: Deadline, incarnation: Incarnation) -> Result<(), Refusal> {
        speaks_for(self.token, self.incarnation, token, incarnation)?;
        self.incarnation = incarnation;
        self.deadline = deadline;
        Ok(())
    }
}

/// Whether a client's incarnation may speak for what is armed.
fn speaks_for(
    armed: Token,
    newest: Incarnation,
    token: Token,
    incarnation: Incarnation,
) -> Result<(), Refusal> {
    if token != armed {
        return Err(Refusal::ArmedOtherwise { armed });
    }
    if incarnation < newest {
        return Err(Refusal::OlderIncarnation { newest });
    }
    Ok(())
}
