//! One look at all processes, for all that are to be killed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{MARK_VARIABLE, Target};
use crate::process::{self, Environment, Process, Stat};

/// The marks of processes, remembered while there is killing to do: an environment is read once.
pub(super) type Marks = HashMap<Process, Option<String>>;

/// All processes at one moment, by descent and mark.
pub(super) struct Look {
    own: i32,
    /// What this process bears itself, if it was started by another such daemon.
    own_mark: Option<String>,
    stats: BTreeMap<i32, Stat>,
    children: HashMap<i32, Vec<i32>>,
    marked: Vec<(String, i32)>,
    /// In the middle of an exec, which will mark them or not.
    pub(super) in_exec: BTreeSet<Process>,
    pub(super) failed: Option<String>,
}

impl Look {
    pub(super) fn take(marks: &mut Marks) -> Self {
        let own_mark = std::env::var_os(MARK_VARIABLE).map(|mark| mark.to_string_lossy().into_owned());
        Self::take_as(own_mark, marks)
    }

    pub(super) fn take_as(own_mark: Option<String>, marks: &mut Marks) -> Self {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let (stats, children) = (BTreeMap::new(), HashMap::new());
        let (marked, in_exec) = (Vec::new(), BTreeSet::new());
        let mut look = Self { own, own_mark, stats, children, marked, in_exec, failed: None };
        match process::all() {
            Ok(all) => all.into_iter().filter(Stat::alive).for_each(|stat| look.add(stat, marks)),
            Err(error) => look.failed = Some(format!("cannot read /proc: {error}")),
        }
        // There may be killing to do for long, and others come and go meanwhile.
        marks.retain(|process, _| look.stats.get(&process.pid).is_some_and(|stat| stat.process == *process));
        look
    }

    fn add(&mut self, stat: Stat, marks: &mut Marks) {
        let pid = stat.process.pid;
        if stat.parent == self.own && marks.get(&stat.process) == Some(&self.own_mark) {
            // It may not have got to its exec yet, which will give it a mark of its own: until then it shows ours.
            marks.remove(&stat.process);
        }
        let mark = match marks.get(&stat.process) {
            Some(known) => known.clone(),
            None => match process::environment(pid, MARK_VARIABLE) {
                Environment::Has(mark) => Some(String::from_utf8_lossy(&mark).into_owned()),
                Environment::Lacks => None,
                // Nothing is remembered of it: it may bear a mark right after.
                hidden @ (Environment::InExec | Environment::Hidden) => {
                    if hidden == Environment::InExec {
                        self.in_exec.insert(stat.process);
                    }
                    self.add_without_mark(stat);
                    return;
                }
            },
        };
        marks.insert(stat.process, mark.clone());
        if let Some(mark) = mark {
            self.marked.push((mark, pid));
        }
        self.add_without_mark(stat);
    }

    /// Whether the process was there.
    pub(super) fn has(&self, process: Process) -> bool {
        self.stats.get(&process.pid).is_some_and(|stat| stat.process == process)
    }

    fn add_without_mark(&mut self, stat: Stat) {
        let pid = stat.process.pid;
        self.children.entry(stat.parent).or_default().push(pid);
        self.stats.insert(pid, stat);
    }

    /// What of `processes` was there.
    pub(super) fn stats_of(&self, processes: &BTreeSet<Process>) -> impl Iterator<Item = Stat> {
        processes
            .iter()
            .filter(|process| self.has(**process))
            .filter_map(|process| self.stats.get(&process.pid))
            .copied()
    }

    /// The living processes that bear the target's mark, are among its own or were known before, and their descendants; never this
    /// process.
    pub(super) fn belonging(&self, target: &Target, known: &BTreeSet<Process>) -> Vec<Stat> {
        let bears = |m: &str| {
            m.strip_prefix(target.mark.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut todo: Vec<i32> = self.marked.iter().filter(|(m, _)| bears(m)).map(|(_, pid)| *pid).collect();
        let known = target.processes.iter().chain(known);
        todo.extend(known.filter(|process| self.has(**process)).map(|process| process.pid));
        let mut seen = BTreeSet::from([self.own]);
        let mut found = Vec::new();
        while let Some(pid) = todo.pop() {
            if seen.insert(pid) {
                found.extend(self.stats.get(&pid).copied());
                todo.extend(self.children.get(&pid).into_iter().flatten());
            }
        }
        found
    }
}
