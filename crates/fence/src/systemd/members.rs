//! Which units belong to one that a ticket gates: they are stopped and killed with it (docs/fencing.md, "Which units belong").

use std::collections::{BTreeMap, BTreeSet};

use super::unit::{is_special, kind};

/// What systemd says of a unit, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// Its name; others are aliases.
    pub(super) id: String,
    /// `LoadState`.
    pub(super) load: String,
    /// `ActiveState`.
    pub(super) active: String,
    /// `SubState`.
    pub(super) sub: String,
    /// The number of the job that is queued for it, or 0.
    pub(super) job: u32,
    /// Its control group, below the mount point; empty if it has none.
    pub(super) cgroup: String,
    /// What it starts: `Wants=` and the like, and what it activates.
    pub(super) pulls: BTreeSet<String>,
    /// What starts it.
    pub(super) pulled_by: BTreeSet<String>,
    /// What systemd stops when it is stopped.
    pub(super) stops: BTreeSet<String>,
}

impl Unit {
    /// Whether systemd knows what it depends on.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.load.as_str(), "loaded" | "masked")
    }

    /// Whether it neither runs nor is about to.
    pub(super) fn is_down(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed") && self.job == 0
    }
}

/// Units by name.
pub(super) type Table = BTreeMap<String, Unit>;

/// What belongs, as far as the table tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// The units, each behind one that it belongs for.
    pub(super) all: Vec<String>,
    /// Those of whom the table has to tell more.
    pub(super) unread: BTreeSet<String>,
}

/// What belongs to `root`:
///
/// 1. `root` itself;
/// 2. what systemd stops with a unit that belongs (`BindsTo=`, `Requires=`, `PartOf=` and the like on it);
/// 3. what `root` starts, if it is a target: how units join it (`WantedBy=`); not targets and slices;
/// 4. services, sockets, timers, paths and targets that a unit that belongs starts, if nothing that does not belong starts them too.
///
/// Never those of [`is_special`].
pub(super) fn members(root: &str, table: &Table) -> Members {
    let mut found = Members { all: vec![root.to_owned()], unread: BTreeSet::new() };
    loop {
        let more: BTreeSet<String> =
            found.all.clone().iter().flat_map(|name| found.more(root, name, table)).collect();
        if more.is_empty() {
            return found;
        }
        found.all.extend(more);
    }
}

impl Members {
    /// What belongs for `name`, and is not known to.
    fn more(&mut self, root: &str, name: &str, table: &Table) -> Vec<String> {
        let Some(unit) = table.get(name) else {
            self.unread.insert(name.to_owned());
            return Vec::new();
        };
        let joins = name == root && kind(root) == "target";
        let mut more: Vec<String> = unit.stops.iter().filter(|other| self.is_new(other)).cloned().collect();
        for other in unit.pulls.iter().filter(|other| self.is_new(other)).cloned().collect::<Vec<_>>() {
            if joins && !matches!(kind(&other), "target" | "slice") || self.is_its_own(&other, table) {
                more.push(other);
            }
        }
        more
    }

    fn is_new(&self, name: &str) -> bool {
        !is_special(name) && !self.all.iter().any(|known| known == name)
    }

    /// Whether it is started by what belongs and by nothing else. Mounts are not: whatever uses a path starts those below it.
    fn is_its_own(&mut self, name: &str, table: &Table) -> bool {
        if !matches!(kind(name), "service" | "socket" | "timer" | "path" | "target") {
            return false;
        }
        match table.get(name) {
            Some(unit) => unit.pulled_by.iter().all(|by| self.all.contains(by)),
            None => {
                self.unread.insert(name.to_owned());
                false
            }
        }
    }

    /// The units that something else would start, without the ticket, with what that is.
    pub(super) fn started_otherwise(&self, table: &Table) -> Vec<(String, Vec<String>)> {
        let others = |name: &String| {
            let by = table.get(name).into_iter().flat_map(|unit| &unit.pulled_by);
            by.filter(|by| !self.all.contains(by)).cloned().collect::<Vec<_>>()
        };
        let all = self.all.iter().map(|name| (name.clone(), others(name)));
        all.filter(|(_, others)| !others.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
