//! `start`, `stop`, and what can be wrong with programs.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use rustix::process::Signal;
use sitegate_fence_client::status::ResourceState;
use sitegate_fence_client::wire::{Activity, Notice, Token};
use sitegate_host::clock::boot_id;

use crate::contained;
use crate::site::{FAR_MS, Site, ahead, db, eventually, is_alive, next, revoked, signal};

contained! {
    async fn a_start_that_hangs_is_killed_with_its_whole_tree(site) {
        let mut site = site;
        let start = site.script("start", "trap '' TERM; setsid sleep 3600 & echo $! > $D/pid; sleep 3600");
        let level = site.script("level", "exit 0");
        site.configure(&format!(
            "[resource.db]\nlast-level-may-fail = true\n\
             start = {{ command = [\"{start}\"], within = \"300ms\" }}\n\
             fence = [{{ driver = \"command\", command = [\"{level}\"], within = \"60s\" }}]\n"
        ));
        let (client, _events) = site.up().await;
        client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
        let why = client.start(db(), 1).await.unwrap().unwrap_err();
        assert!(why.contains("limit of 300 ms"), "{why}");
        assert!(!is_alive(site.pid("pid").unwrap()));
        let status = client.status().await.unwrap();
        assert!(matches!(&status.resources[0].state, ResourceState::Armed { activity: Activity::Failed(_), .. }));
    }

    async fn a_start_that_fails_leaves_nothing_running(site) {
        let mut site = site;
        site.configure_db("setsid sleep 3600 & echo $! > $D/pid; echo no license >&2; exit 7", "exit 0", "exit 0");
        let (client, _events) = site.up().await;
        client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
        let why = client.start(db(), 1).await.unwrap().unwrap_err();
        assert_eq!(why, "exited with code 7; it wrote: no license");
        assert!(!is_alive(site.pid("pid").unwrap()));
    }

    async fn stop_then_start_again(site) {
        let mut site = site;
        site.configure_db(
            "setsid sleep 3600 & echo $! > $D/pid",
            "kill $(cat $D/pid); echo $SITEGATE_REASON > $D/stopped",
            "exit 0",
        );
        let (client, _events) = site.running(1).await;
        let first = site.pid("pid").unwrap();
        client.stop(db(), 1).await.unwrap().unwrap();
        eventually("it has stopped", || !is_alive(first)).await;
        assert_eq!(site.text("stopped"), "stop\n");
        client.start(db(), 1).await.unwrap().unwrap();
        assert!(is_alive(site.pid("pid").unwrap()));
        client.fence(db(), 1, revoked()).await.unwrap();
        assert!(!is_alive(site.pid("pid").unwrap()));
    }

    async fn a_fence_ends_a_stop_that_hangs(site) {
        let mut site = site;
        site.configure_db("exit 0", "echo $$ > $D/stop-pid; trap '' TERM; while :; do sleep 1; done", "exit 0");
        let (client, _events) = site.running(1).await;
        let stopping = tokio::spawn({
            let client = client.clone();
            async move { client.stop(db(), 1).await }
        });
        eventually("stop runs", || site.pid("stop-pid").is_some()).await;
        client.fence(db(), 1, revoked()).await.unwrap();
        assert!(!is_alive(site.pid("stop-pid").unwrap()));
        let why = stopping.await.unwrap().unwrap().unwrap_err();
        assert!(why.contains("being fenced"), "{why}");
    }
}

/// Whoever wants to start it again here has to know that it may still run.
#[tokio::test]
async fn why_a_program_cannot_be_started_is_told() {
    let mut site = Site::new();
    let level = site.script("level", "exit 0");
    let ring = site.path("ring").display().to_string();
    symlink(&ring, &ring).unwrap();
    // Longer than the kernel takes (MAX_ARG_STRLEN), so that not even the keeper can be started.
    let long = "x".repeat(256 * 1024);
    site.configure(&format!(
        "[resource.db]\nlast-level-may-fail = true\nfence = [\n\
         {{ driver = \"command\", command = [\"{ring}\"], within = \"60s\" }},\n\
         {{ driver = \"command\", command = [\"{level}\", \"{long}\"], within = \"60s\" }},\n\
         {{ driver = \"command\", command = [\"{level}\"], within = \"60s\" }},\n]\n"
    ));
    let (client, mut events) = site.up().await;
    client.fence(db(), 1, revoked()).await.unwrap();
    for cause in ["Too many levels of symbolic links", "Argument list too long"] {
        let why = loop {
            if let Notice::LevelFailed { why, .. } = next(&mut events).await {
                break why;
            }
        };
        assert!(why.contains(cause), "{why}");
    }
}

#[tokio::test]
async fn a_stop_that_fails_is_told_as_answer_event_and_state() {
    let mut site = Site::new();
    site.configure_db("exit 0", "echo still in use; test -e $D/free || exit 3", "exit 0");
    let (client, mut events) = site.running(1).await;
    let why = client.stop(db(), 1).await.unwrap().unwrap_err();
    assert_eq!(why, "exited with code 3; it wrote: still in use");
    loop {
        if let Notice::Stopped { token: 1, failed, .. } = next(&mut events).await {
            assert_eq!(failed.as_ref(), Some(&why));
            break;
        }
    }
    let status = client.status().await.unwrap();
    let ResourceState::Armed { activity, .. } = &status.resources[0].state else { panic!("{status:?}") };
    assert_eq!(*activity, Activity::Failed(why));
    fs::write(site.path("free"), "").unwrap();
    client.stop(db(), 1).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_gives_up_a_start_that_hangs() {
    let mut site = Site::new();
    site.configure_db("echo $$ > $D/start-pid; sleep 3600", "exit 0", "exit 0");
    let (client, _events) = site.up().await;
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    let starting = tokio::spawn({
        let client = client.clone();
        async move { client.start(db(), 1).await }
    });
    eventually("start runs", || site.pid("start-pid").is_some()).await;
    client.stop(db(), 1).await.unwrap().unwrap();
    assert!(starting.await.unwrap().unwrap().unwrap_err().contains("to be stopped"));
    eventually("start is dead", || !is_alive(site.pid("start-pid").unwrap())).await;
}

#[tokio::test]
async fn says_what_is_wrong_with_a_program() {
    let mut site = Site::new();
    fs::write(site.path("plain"), "#!/bin/sh\n").unwrap();
    let dir = site.dir.path().display();
    site.configure(&format!(
        "[resource.db]\nfence = []\nunfenced = true\nstart = {{ command = [\"/nonexistent/start\"], within = \"1s\" }}\n\
         stop = {{ command = [\"{dir}/plain\"], within = \"1s\" }}\n"
    ));
    let (client, _events) = site.up().await;
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    let why = client.start(db(), 1).await.unwrap().unwrap_err();
    assert!(why.contains("/nonexistent/start does not exist"), "{why}");
    let why = client.stop(db(), 1).await.unwrap().unwrap_err();
    assert!(why.contains("chmod +x"), "{why}");
    let log = site.text("log");
    assert!(
        log.contains("WARN") && log.contains("/nonexistent/start does not exist"),
        "said at the start too:\n{log}"
    );
}

#[tokio::test]
async fn a_flood_of_output_holds_up_nothing() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end");
    let (client, _events) = site.up().await;
    client.fence(db(), 1, revoked()).await.unwrap();
    let log = site.text("log");
    assert!(log.len() < 400_000, "{} bytes of log", log.len());
    assert!(log.contains("dropped_bytes"), "{}", &log[log.len().saturating_sub(2000)..]);
}

#[tokio::test]
async fn a_flood_of_short_lines_is_no_flood_of_log() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "yes | head -n 50000");
    let (client, _events) = site.up().await;
    client.fence(db(), 1, revoked()).await.unwrap();
    let log = site.text("log");
    assert!(log.contains("dropped_bytes") && log.len() < 200_000, "{} bytes of log", log.len());
}

#[tokio::test]
async fn a_frozen_daemon_does_not_stop_what_talks_to_it() {
    let mut site = Site::new();
    let start =
        "setsid sh -c 'while :; do head -c 2000 /dev/zero; echo x >> $0/lines; sleep 0.005; done' $D &";
    site.configure_db(start, "exit 0", "exit 0");
    let (client, _events) = site.running(1).await;
    signal(site.daemon_pid(), Signal::STOP);
    let lines = site.text("lines").len();
    // Far more than the pipes hold.
    eventually("it goes on", || site.text("lines").len() > lines + 2 * 100).await;
    signal(site.daemon_pid(), Signal::CONT);
    client.fence(db(), 1, revoked()).await.unwrap();
}

/// A keeper started late, or frozen on its way: it looks at the lease itself, at the last moment.
#[tokio::test]
async fn a_keeper_starts_nothing_without_a_lease() {
    let site = Site::new();
    let hook = site.script("hook", "echo ran > $D/ran");
    let keeper = |token: Token| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sitegate-fenced"));
        command.args(["keeper", "db", "--token", &token.to_string(), "--leases"]).arg(site.path("leases"));
        command.args(["--stay", "--", &hook]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(keeper(5), "refused it is not armed any more\n");
    let lease = |deadline: u64| {
        let text = format!("sitegate-leases-1 {}\ndb 5 1 {deadline} {deadline} idle\n", boot_id().unwrap());
        fs::write(site.path("leases"), text).unwrap();
    };
    lease(1);
    assert_eq!(keeper(5), "refused its deadline has passed\n");
    lease(u64::MAX);
    assert_eq!(keeper(4), "refused another token, 5, is armed\n");
    assert_eq!(site.text("ran"), "");
    assert_eq!(keeper(5), "exited 0\n");
    assert_eq!(site.text("ran"), "ran\n");
}
