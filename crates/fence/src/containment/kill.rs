//! Killing all of a resource, and what a kill has to wait for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sitegate_fence_client::wire::Name;
use sitegate_host::cgroup::Cgroup;
use sitegate_host::sweep::{NotSwept, Swept, Target};
use tokio::time::{sleep, timeout};

use super::Containment;
use crate::strike::Striking;

/// How often to look at what a kill waits for, which is mostly over.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Which share of a kill's time a strike may take beyond it.
const STRIKE_SHARE: u32 = 8;
const STARTING: &str = "the kernel has not yet come back from starting one more program";
const STRIKING: &str = "they may be, but the kernel has not yet come back from the strike at the deadline";

impl Containment {
    /// Kills all that was run for a resource, in one role or in all, and waits until nothing is left.
    ///
    /// # Errors
    /// [`NotSwept`] with what is left after `within`.
    pub async fn kill(
        &self,
        resource: &Name,
        role: Option<&str>,
        within: Duration,
    ) -> Result<Swept, NotSwept> {
        let group = |parent: &Cgroup| {
            let all = parent.child(&resource.file_name());
            role.map_or(all.clone(), |role| all.child(role))
        };
        let cgroups = self.parents.iter().map(group).collect();
        // Whoever has joined belongs to no role that is killed alone.
        let processes = if role.is_none() { self.joined.of(resource) } else { BTreeSet::new() };
        let target = Target { mark: self.mark(resource, role), cgroups, processes: processes.clone() };
        if role.is_some() {
            return self.sweeper.kill(target, within).await;
        }
        let until = Instant::now() + within;
        let swept = self.sweep(resource, &target, until).await;
        // It is over by now, unless the kernel hangs in it: that gets a little longer. What has not begun is called off.
        let left = left_until(until).max(within / STRIKE_SHARE);
        let struck = wait_until(left, || self.is_struck(resource)).await;
        let swept =
            swept.and_then(|swept| struck.map(|()| swept).map_err(|()| NotSwept(STRIKING.to_owned())))?;
        self.joined.forget(resource, &processes);
        Ok(swept)
    }

    /// Kills what is there, and what was just being started then. What begins later finds no lease.
    async fn sweep(&self, resource: &Name, target: &Target, until: Instant) -> Result<Swept, NotSwept> {
        let being_started = self.being_started(resource);
        let swept = self.sweeper.kill(target.clone(), left_until(until)).await?;
        if being_started == [None, None] {
            return Ok(swept);
        }
        let is_over = || {
            let now = self.being_started(resource);
            (0..now.len()).all(|i| being_started[i].is_none() || now[i] != being_started[i])
        };
        let started = wait_until(left_until(until), is_over).await;
        let left = left_until(until);
        // Later, another kill would meet what the plan has begun meanwhile.
        if started.is_err() || left.is_zero() {
            return Err(NotSwept(STARTING.to_owned()));
        }
        let again = self.sweeper.kill(target.clone(), left).await?;
        Ok(Swept { processes: swept.processes + again.processes })
    }

    fn being_started(&self, resource: &Name) -> [Option<u64>; 2] {
        [&self.of_plans, &self.of_others].map(|starter| starter.under_way(resource))
    }

    /// Whether no strike can come any more, and hit what the next tenure starts.
    fn is_struck(&self, resource: &Name) -> bool {
        match self.striker.settle(resource) {
            Ok(Some(late_ns @ 1..)) => {
                tracing::info!(ticket = %resource, late_us = late_ns / 1000, "was struck after its deadline");
                true
            }
            // Nothing was, or that was ordered before the deadline.
            Ok(None | Some(0)) => true,
            Err(Striking) => false,
        }
    }
}

fn left_until(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

async fn wait_until(within: Duration, is_over: impl Fn() -> bool) -> Result<(), ()> {
    let over = async {
        while !is_over() {
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(within, over).await.map_err(|_elapsed| ())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sitegate_host::sweep::MARK_VARIABLE;

    use super::super::starter::Starter;
    use super::*;
    use crate::config::ContainmentChoice;

    #[tokio::test]
    async fn a_kill_of_all_waits_for_what_is_just_being_started() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Containment::set_up(&ContainmentChoice::Tree, dir.path(), dir.path()).unwrap();
        let [db, web] = ["db", "web"].map(|name| Name::new(name).unwrap());
        let hangs = Containment { of_others: Arc::new(Starter::hanging(&db)), ..tree };
        let marked = |resource: &Name| {
            let mark = hangs.mark(resource, Some("start"));
            std::process::Command::new("/bin/sleep").arg("600").env(MARK_VARIABLE, mark).spawn().unwrap()
        };
        let (mut of_db, mut of_web) = (marked(&db), marked(&web));
        let error = hangs.kill(&db, None, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.0, STARTING);
        assert!(!of_db.wait().unwrap().success(), "what was there is killed first");
        hangs.kill(&web, None, Duration::from_secs(30)).await.unwrap();
        of_web.wait().unwrap();
    }
}
