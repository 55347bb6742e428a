//! `kill -9` of a process that commits, again and again: nothing that it acknowledged is lost.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use sitegate_member::store::{Loaded, create, open};
use sitegate_protocol::Lsn;

use super::disk::Chance;
use super::workload::{IDENTITY, commit_until, owner, state};

/// Tells this program, started again, where to commit.
const DIRECTORY: &str = "SITEGATE_TEST_STORE";
/// Commits that a process lives for, at most.
const LIFE_MAX: usize = 12;

#[test]
fn killed_again_and_again_it_loses_nothing() {
    killed_until(100);
}

/// The same for longer: `cargo test -p sitegate-member --test storage -- --ignored --exact kill::a_thousand_commits`.
#[test]
#[ignore = "takes a minute on a slow disk; CI runs it"]
fn a_thousand_commits() {
    killed_until(1000);
}

/// The process that is killed.
#[test]
#[ignore = "the other tests start it"]
fn commits_for_ever() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let Loaded { mut store, lsn: Lsn(mut lsn), .. } = open(directory.as_ref(), &owner()).unwrap();
    loop {
        assert_eq!(commit_until(&mut store, lsn, lsn + 1), lsn + 1);
        lsn += 1;
        println!("acknowledged {lsn}");
    }
}

fn killed_until(commits: u64) {
    let directory = tempfile::tempdir().unwrap();
    create(directory.path(), &owner(), IDENTITY).unwrap();
    let (mut acknowledged, mut kills, mut chance) = (0, 0, Chance(commits));
    while acknowledged < commits {
        let mut writer = Writer::start(directory.path());
        for _ in 0..=chance.below(LIFE_MAX) {
            acknowledged = writer.next_acknowledged();
        }
        // Somewhere in the next commit.
        std::thread::sleep(std::time::Duration::from_micros(100 * chance.below(30) as u64));
        acknowledged = writer.kill().unwrap_or(acknowledged);
        kills += 1;
        let Loaded { durable, lsn: Lsn(lsn), .. } = open(directory.path(), &owner()).unwrap();
        assert!(lsn >= acknowledged, "{acknowledged} was acknowledged, and the disk has {lsn}");
        assert!(durable == state(lsn), "not what commit {lsn} left");
    }
    println!("{acknowledged} commits, {kills} kills, nothing lost");
}

struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Writer {
    fn start(directory: &std::path::Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["kill::commits_for_ever", "--exact", "--ignored", "--nocapture", "--quiet"]);
        command.env(DIRECTORY, directory).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The number that it says next; it ends if there is none, and so does the test.
    fn next_acknowledged(&mut self) -> u64 {
        self.read().expect("it commits for ever")
    }

    fn read(&mut self) -> Option<u64> {
        let said = |line: String| line.strip_prefix("acknowledged ")?.parse().ok();
        self.lines.by_ref().map_while(Result::ok).find_map(said)
    }

    /// Kills it; the last that it said, if there was more.
    fn kill(mut self) -> Option<u64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.read()).last()
    }
}
