//! Why a ticket stands as it does, from each side.

use super::Scene;
use crate::api::types::TicketStatus;

impl Scene {
    pub(super) fn about_wish(&self) -> Vec<String> {
        let TicketStatus { ticket, intent_by, intent_reason, intent_version, paused, .. } = &self.status;
        if *intent_version == 0 && self.not_voting.is_some() {
            return Vec::new();
        }
        if *intent_version == 0 {
            return vec![format!("It waits for a first `sitegate grant {ticket} --site SITE`.")];
        }
        let mut sentences = Vec::new();
        let because = if intent_reason.is_empty() { String::new() } else { format!(": {intent_reason}") };
        let wish = match (self.status.wanted.as_str(), &self.status.preferred) {
            ("revoked", _) => "nobody should hold it".to_owned(),
            (_, Some(site)) => format!("{site} should hold it, or else another site"),
            (_, None) => "some site should hold it".to_owned(),
        };
        sentences
            .push(format!("The wish (version {intent_version}, by {intent_by}{because}) is that {wish}."));
        if *paused {
            sentences.push(format!(
                "It is paused: no site begins a new tenure until `sitegate resume {ticket}`; one that runs goes on."
            ));
        }
        if let Some(limit) = self.takeover_limit
            && self.status.takeovers > 0
        {
            sentences.push(format!(
                "It was taken over {}× since the last command; after {limit}× it is paused.",
                self.status.takeovers
            ));
        }
        sentences
    }

    pub(super) fn about_this_member(&self) -> Vec<String> {
        let not_voting =
            self.not_voting.as_ref().map(|why| format!("This member ({}) does not vote: {why}.", self.me));
        let bar = self.bar.map(|why| format!("This site sends no heartbeats, and so renews nothing: {why}."));
        not_voting.into_iter().chain(bar).collect()
    }

    fn has_majority(&self) -> bool {
        self.members.iter().filter(|member| member.reachable && !member.quarantined).count() >= self.majority
    }

    pub(super) fn about_members(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let (n, reachable) =
            (self.members.len(), self.members.iter().filter(|member| member.reachable).count());
        let gone: Vec<&str> = self.members.iter().filter(|m| !m.reachable).map(|m| m.name.as_str()).collect();
        if !self.has_majority() {
            sentences.push(format!(
                "Only {reachable} of {n} members can be reached from here, and it takes {} to decide anything; out of reach: {}.",
                self.majority,
                gone.join(", ")
            ));
        } else if !gone.is_empty() {
            sentences.push(format!("Out of reach from here: {}.", gone.join(", ")));
        }
        for member in self.members.iter().filter(|member| member.quarantined) {
            sentences.push(format!("{} is in quarantine and does not vote.", member.name));
        }
        for member in &self.members {
            match member.standby.as_deref() {
                Some("keep") => {
                    sentences.push(format!("{} is on standby: it takes no tickets.", member.name));
                }
                Some("vacate") => {
                    sentences.push(format!(
                        "{} is on standby: it takes no tickets and gives up its own.",
                        member.name
                    ));
                }
                _ => {}
            }
        }
        sentences
    }

    pub(super) fn about_tenure(&self) -> Vec<String> {
        let TicketStatus { ticket, holder, takeover, proof, .. } = &self.status;
        let mut sentences = Vec::new();
        if let Some(holder) = holder {
            let reachable = self.members.iter().any(|member| member.name == *holder && member.reachable);
            if !reachable && takeover == "confirmed" {
                sentences.push(format!(
                    "{holder} is out of reach, and takeover is `confirmed`: nobody takes {ticket} over without its fence receipt or \
                     `sitegate attest-dead {holder}`."
                ));
            } else if !reachable {
                sentences.push(format!(
                    "{holder} is out of reach: once its lease and its time to fence are over, another site takes {ticket} over."
                ));
            }
        }
        let proof = proof.as_deref().and_then(|proof| match proof {
            "receipt" => Some("its last holder has proven that nothing runs there any more"),
            "waited" => Some("its last holder has had the time to fence"),
            "attested" => Some("an operator vouches that nothing of its last holder runs"),
            _ => None,
        });
        sentences.extend(proof.map(|why| format!("It is free: {why}.")));
        sentences
    }

    pub(super) fn about_local(&self) -> Vec<String> {
        let Some(local) = &self.status.local else { return Vec::new() };
        let mut sentences = Vec::new();
        let token = local.token.unwrap_or_default();
        let here = match local.state.as_str() {
            "resuming" => Some("held it before its restart and asks a majority to go on".to_owned()),
            "arming" => Some(format!("was agreed on and has its fence daemon armed (token {token})")),
            "held" => Some(format!("holds it (token {token})")),
            "stopping" => Some(format!("gives it up: the stop hook runs (token {token})")),
            "fencing" if !self.fence_up => Some(format!(
                "is to fence it (token {token}), but its fence daemon does not answer: start sitegate-fenced"
            )),
            "fencing" => Some(format!("fences it (token {token})")),
            "stopped" => Some(format!("has stopped it, by receipt, and tells the others (token {token})")),
            _ => None,
        };
        sentences.extend(here.map(|what| format!("This site ({}) {what}.", self.me)));
        if local.fence_failing {
            sentences.push(
                "FENCING FAILS here: every level of the plan failed, and it is tried again; the ticket stays here until it succeeds."
                    .into(),
            );
        }
        if let Some(refusal) = &local.refusal {
            sentences.push(format!("This site ({}) would not take it: {refusal}.", self.me));
        }
        match local.check.as_str() {
            "running" => sentences.push("Its check before acquiring is running here.".into()),
            "failed" => sentences.push("Its check before acquiring failed here; it is tried again.".into()),
            _ => {}
        }
        if !self.fence_up && local.refusal.is_none() {
            sentences.push(
                "The fence daemon of this site does not answer: nothing is acquired or renewed.".into(),
            );
        }
        sentences
    }

    pub(super) fn about_guard(&self) -> Vec<String> {
        let Some(remaining) = self.status.guard_remaining_ms else { return Vec::new() };
        let holder = self.status.holder.as_deref().unwrap_or("its last holder");
        if holder == self.me {
            return Vec::new();
        }
        let mut sentences = vec![format!(
            "This member has promised {holder} its lease: it votes for nobody else for {} unless {holder} gives the ticket up.",
            seconds(remaining)
        )];
        if !self.status.parked.is_empty() {
            sentences.push(format!("Until then it lets {} wait.", self.status.parked.join(" and ")));
        }
        sentences
    }

    pub(super) fn about_round(&self) -> Vec<String> {
        let Some(round) = &self.status.round else { return Vec::new() };
        let mut sentences = Vec::new();
        for leased in &round.leased {
            sentences.push(format!(
                "{} has promised {} its lease, and does not vote for this site for {} more.",
                leased.by,
                leased.holder,
                seconds(leased.remaining_ms)
            ));
        }
        let asks = if round.accepting { "votes" } else { "promises" };
        let agreed = if round.agreed.is_empty() {
            "nobody has".to_owned()
        } else {
            format!("{} did", round.agreed.join(", "))
        };
        sentences.push(format!(
            "This site asks for {asks} to {} it (ballot {}): {agreed} so far, and it takes {}.",
            round.aim, round.ballot, self.majority
        ));
        sentences
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
