use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// Long enough for a busy laptop.
const WITHIN: Duration = Duration::from_secs(10);

fn mark(name: &str) -> String {
    format!("sweep-test-{}/{name}", std::process::id())
}

/// Runs a shell script under a mark; it says "ready" when it has started what it starts.
fn marked(mark: &str, script: &str) -> Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .env(MARK_VARIABLE, mark)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    child
}

#[test]
fn the_marks_of_the_dead_are_forgotten() {
    let mut marks = Marks::default();
    let dead = Process { pid: i32::MAX, started: 0 };
    marks.insert(dead, None);
    let _ = Look::take(&mut marks);
    assert!(!marks.contains_key(&dead) && !marks.is_empty());
}

/// A child that was looked at before its exec has shown what this process bears: nothing, or the mark of a daemon around it.
#[test]
fn a_mark_of_our_own_is_not_remembered_of_a_child() {
    let own = mark("own");
    let mut child = marked(&own, "echo ready; exec sleep 600");
    let process = process::stat(i32::try_from(child.id()).unwrap()).unwrap().process;
    for before_exec in [None, Some(mark("around"))] {
        let mut marks = Marks::from([(process, before_exec.clone())]);
        let look = Look::take_as(before_exec.clone(), &mut marks);
        let found = look.belonging(&target(&own), &BTreeSet::new());
        assert_eq!(found.len(), 1, "after {before_exec:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_is_in_the_middle_of_an_exec_is_waited_for() {
    let (done, _answer) = oneshot::channel();
    let mut job = Job::new(target("nobody"), Instant::now(), done);
    let mut marks = Marks::default();
    let me = process::stat(i32::try_from(std::process::id()).unwrap()).unwrap().process;
    let mut look = Look::take(&mut marks);
    look.in_exec = BTreeSet::from([me]);
    assert!(!job.is_over(&[], &look), "the first look");
    assert!(!job.is_over(&[], &look), "it may come to bear the mark");
    look.in_exec.clear();
    assert!(job.is_over(&[], &look), "it bears none");

    (job.empty_looks, job.doubtful) = (1, BTreeSet::from([Process { pid: i32::MAX, started: 0 }]));
    assert!(!job.is_over(&[], &look), "it has ended, and may have forked before");
    assert!(job.is_over(&[], &look), "whom nobody has seen");
}

fn target(mark: &str) -> Target {
    Target { mark: mark.to_owned(), cgroups: Vec::new(), processes: BTreeSet::new() }
}

fn alive(mark: &str) -> usize {
    Look::take(&mut Marks::default()).belonging(&target(mark), &BTreeSet::new()).len()
}

#[tokio::test]
async fn kills_a_tree_that_ignores_signals() {
    let mark = mark("tree");
    let script = "trap '' TERM INT HUP; (trap '' TERM; setsid sleep 600 & echo ready; wait) & wait";
    let mut child = marked(&mark, script);
    assert!(alive(&mark) >= 3);
    let swept = Sweeper::start().unwrap().kill(target(&mark), WITHIN).await.unwrap();
    assert!(swept.processes >= 3, "{swept:?}");
    assert_eq!(alive(&mark), 0);
    child.wait().unwrap();
}

#[tokio::test]
async fn kills_what_forks_all_the_time() {
    let mark = mark("forks");
    let script = "f() { while :; do sleep 0.001 & done; }; f & f & echo ready; wait";
    let mut child = marked(&mark, script);
    Sweeper::start().unwrap().kill(target(&mark), WITHIN).await.unwrap();
    assert_eq!(alive(&mark), 0);
    child.wait().unwrap();
}

#[tokio::test]
async fn finds_descendants_without_the_mark() {
    let mark = mark("unmarked");
    let mut child = marked(&mark, "env -i /bin/sleep 600 & echo ready; wait");
    let swept = Sweeper::start().unwrap().kill(target(&mark), WITHIN).await.unwrap();
    assert!(swept.processes >= 2, "{swept:?}");
    child.wait().unwrap();
}

#[tokio::test]
async fn spares_others() {
    let (mine, other) = (mark("a"), mark("ab"));
    let mut spared = marked(&other, "echo ready; exec sleep 600");
    let mut child = marked(&format!("{mine}/start"), "echo ready; exec sleep 600");
    let swept = Sweeper::start().unwrap().kill(target(&mine), WITHIN).await.unwrap();
    assert_eq!(swept.processes, 1);
    assert_eq!(alive(&other), 1);
    child.wait().unwrap();
    spared.kill().unwrap();
    spared.wait().unwrap();
}

#[tokio::test]
async fn empties_a_control_group() {
    let Some(parent) = Cgroup::own().filter(|own| own.usable().is_ok()) else {
        eprintln!("skipped: no writable control group here");
        return;
    };
    let group = parent.child(&format!("sitegate-sweep-test-{}", std::process::id()));
    group.create().unwrap();
    let procs = group.path().join("cgroup.procs");
    let script = format!("echo $$ > {}; setsid env -i /bin/sleep 600 & echo ready; wait", procs.display());
    let mut child = Command::new("/bin/sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(group.populated().unwrap());
    let target = Target { mark: mark("none"), cgroups: vec![group.clone()], processes: BTreeSet::new() };
    Sweeper::start().unwrap().kill(target, WITHIN).await.unwrap();
    assert!(!group.path().exists());
    child.wait().unwrap();
}

/// A thread that hangs is played by a queue that nobody reads.
#[tokio::test]
async fn a_thread_that_hangs_is_not_waited_for() {
    let (jobs, queue) = mpsc::channel(1);
    let sweeper = Sweeper { jobs };
    let waits = sweeper.kill(target(&mark("hangs")), Duration::ZERO).await.unwrap_err();
    assert!(waits.0.contains("does not answer"), "{waits}");
    let full = sweeper.kill(target(&mark("full")), WITHIN).await.unwrap_err();
    assert!(full.0.contains("it hangs"), "{full}");
    drop(queue);
    let gone = sweeper.kill(target(&mark("gone")), WITHIN).await.unwrap_err();
    assert!(gone.0.contains("has ended"), "{gone}");
}

#[tokio::test]
async fn an_empty_target_is_done() {
    let swept = Sweeper::start().unwrap().kill(target(&mark("nothing")), Duration::ZERO).await.unwrap();
    assert_eq!(swept, Swept { processes: 0 });
}
