use std::fs;
use std::path::Path;

use super::*;
use crate::spawn::base_environment;

fn shell(script: &str, within_ms: u64) -> Program {
    Program {
        ticket: "db".to_owned(),
        path: "/bin/sh".into(),
        arguments: ["-c", script].map(OsString::from).to_vec(),
        env: base_environment(),
        within: Duration::from_millis(within_ms),
    }
}

fn runner(name: &str) -> Runner {
    Runner::new(&format!("program-test-{}-{name}", std::process::id())).unwrap()
}

/// A limit no run of these tests comes near.
const LONG_MS: u64 = 60_000;

#[tokio::test]
async fn tells_success_from_failure() {
    let runner = runner("exit");
    let ok = runner.run(&shell("echo hello; echo there >&2", LONG_MS)).await;
    assert!(ok.succeeded(), "{ok:?}");
    assert_eq!(ok.tail, "hello\nthere");
    let failed = runner.run(&shell("exit 3", LONG_MS)).await;
    assert!(matches!(failed.ended, Ended::Exited(3)), "{failed:?}");
    let signalled = runner.run(&shell("kill -9 $$", LONG_MS)).await;
    assert!(matches!(signalled.ended, Ended::Signalled(9)), "{signalled:?}");
}

#[tokio::test]
async fn gives_exactly_the_environment() {
    let mut program = shell("env", LONG_MS);
    program.env = BTreeMap::from([("SITEGATE_TICKET".to_owned(), "db".to_owned())]);
    let outcome = runner("env").run(&program).await;
    let mut names: Vec<&str> = outcome.tail.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    names.sort_unstable();
    // PWD and the like are the shell's own.
    names.retain(|n| n.starts_with("SITEGATE"));
    assert_eq!(names, ["SITEGATE_CONTAINMENT", "SITEGATE_TICKET"]);
    assert!(!outcome.tail.contains("CARGO"), "{}", outcome.tail);
}

#[tokio::test]
async fn a_hang_is_killed_with_its_whole_tree() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script =
        format!("setsid sleep 600 & echo $! > {0}; sleep 600 & echo $! >> {0}; wait", pids.display());
    let outcome = runner("hang").run(&shell(&script, 300)).await;
    assert!(matches!(outcome.ended, Ended::TimedOut(_)), "{outcome:?}");
    assert_eq!(fs::read_to_string(&pids).unwrap().lines().count(), 2);
    assert_gone(&pids).await;
}

#[tokio::test]
async fn what_holds_the_output_is_not_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let outcome = runner("left")
        .run(&shell(&format!("setsid sleep 600 & echo $! > {}", pids.display()), LONG_MS))
        .await;
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_gone(&pids).await;
}

#[tokio::test]
async fn a_flood_neither_blocks_nor_is_kept() {
    let outcome = runner("flood").run(&shell("head -c 3000000 /dev/zero; echo; echo done", LONG_MS)).await;
    assert!(outcome.succeeded(), "{outcome:?}");
    assert!(outcome.tail.ends_with("done"));
}

#[tokio::test]
async fn says_why_a_program_cannot_run() {
    let dir = tempfile::tempdir().unwrap();
    let runner = runner("cannot");
    let mut cases = vec![(PathBuf::from("/nonexistent/hook"), "does not exist")];
    for (name, mode, text, why) in [
        ("plain", 0o644, "#!/bin/sh\n", "chmod +x"),
        ("badshebang", 0o755, "#!/nonexistent/sh\n", "first line"),
        ("noshebang", 0o755, "\u{0}\n", "first line"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        cases.push((path, why));
    }
    for (path, why) in cases {
        let mut program = shell("", LONG_MS);
        program.path.clone_from(&path);
        let outcome = runner.run(&program).await;
        let shown = outcome.ended.to_string();
        assert!(shown.contains(why) && shown.contains(path.to_str().unwrap()), "{shown}");
    }
}

#[tokio::test]
async fn finds_what_an_earlier_runner_left() {
    let first = runner("earlier");
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let program = shell(&format!("echo $$ > {}; exec sleep 600", pids.display()), LONG_MS);
    let run = tokio::spawn({
        let first = first.clone();
        async move { first.run(&program).await }
    });
    while fs::read_to_string(&pids).unwrap_or_default().is_empty() {
        tokio::task::yield_now().await;
    }
    runner("earlier").kill_left_over().await.unwrap();
    assert!(matches!(run.await.unwrap().ended, Ended::Signalled(9)));
}

#[tokio::test]
async fn a_run_that_is_given_up_is_killed_and_reaped() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!("setsid sleep 600 & echo $! $$ > {}; exec sleep 600", pids.display());
    let program = shell(&script, LONG_MS);
    let run = tokio::spawn(async move { runner("given-up").run(&program).await });
    let both = || fs::read_to_string(&pids).ok().filter(|text| text.ends_with('\n'));
    eventually("both run", || both().is_some()).await;
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    for pid in both().unwrap().split_whitespace() {
        let pid: i32 = pid.parse().unwrap();
        eventually("it is dead", || !crate::process::stat(pid).is_some_and(|s| s.alive())).await;
    }
    let own: i32 = both().unwrap().split_whitespace().last().unwrap().parse().unwrap();
    eventually("our child is no zombie", || crate::process::stat(own).is_none()).await;
}

/// Waits for a condition, with a bound.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_millis(LONG_MS);
    while !holds() {
        assert!(Instant::now() < until, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What is killed has closed its end of the pipe a moment before it is dead.
async fn assert_gone(pids: &Path) {
    for pid in fs::read_to_string(pids).unwrap().lines() {
        let pid: i32 = pid.parse().unwrap();
        eventually("what was left is dead", || !crate::process::stat(pid).is_some_and(|s| s.alive())).await;
    }
}
