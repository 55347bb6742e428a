//! Deadlines, orders, levels, receipts.

use std::fs;

use rustix::process::Signal;
use sitegate_fence_client::ClientError;
use sitegate_fence_client::request::Extension;
use sitegate_fence_client::status::ResourceState;
use sitegate_fence_client::wire::{Notice, Refusal};

use sitegate_host::process;

use crate::contained;
use crate::site::{
    FAR_MS, Site, ahead, db, eventually, extend, is_alive, name, next, receipt, revoked, signal,
};

/// Starts a process that leaves its parent, its session and its environment behind where the test asks for that.
const START: &str = "setsid sleep 3600 & echo $! > $D/pid";

/// The keeper that a process hangs under, once its own parent is gone.
fn keeper_of(pid: i32) -> Option<i32> {
    let parent = process::stat(pid)?.parent;
    (process::name(parent) == "fenced-keeper").then_some(parent)
}

contained! {
    async fn a_deadline_that_passes_is_fenced(site) {
        let mut site = site;
        site.configure_db(START, "exit 0", "env > $D/env");
        let (client, _) = site.running(259).await;
        let pid = site.pid("pid").unwrap();
        assert!(is_alive(pid));
        let (_watcher, mut events) = site.connect().await;
        extend(&client, 259, 200).await;
        // Nobody extends it any more; the client may as well be dead.
        drop(client);
        let receipt = receipt(&mut events).await;
        assert!(!is_alive(pid));
        assert_eq!((receipt.token, receipt.level, receipt.reason.as_str()), (259, Some(1), "deadline"));
        let env = site.text("env");
        for expected in
            ["SITEGATE_TICKET=db", "SITEGATE_TOKEN=259", "SITEGATE_SITE=paris", "SITEGATE_REASON=deadline", "SITEGATE_DEADLINE="]
        {
            assert!(env.lines().any(|line| line.starts_with(expected)), "{expected} in\n{env}");
        }
        assert!(!env.contains("CARGO"), "the daemon's own environment is not passed on:\n{env}");
    }

    async fn an_ordered_fence_kills_what_tries_to_escape(site) {
        let mut site = site;
        // Double fork, new session, no mark in the environment, signals ignored.
        let script = "(setsid env -i /bin/sh -c \"trap '' TERM HUP INT; echo \\$\\$ > $D/pid; while :; do sleep 1; done\" &) &";
        site.configure_db(&format!("{script}\nwhile [ ! -s $D/pid ]; do sleep 0.01; done"), "exit 0", "exit 0");
        let (client, _events) = site.running(7).await;
        let pid = site.pid("pid").unwrap();
        assert!(is_alive(pid));
        let receipt = client.fence(db(), 7, revoked()).await.unwrap();
        assert!(!is_alive(pid), "{receipt:?}");
        assert_eq!(receipt.reason, revoked());
    }

    async fn what_a_killed_keeper_leaves_is_still_found(site) {
        let mut site = site;
        site.configure_db(START, "exit 0", "exit 0");
        let (client, _events) = site.running(7).await;
        let pid = site.pid("pid").unwrap();
        eventually("its parent is the keeper", || keeper_of(pid).is_some()).await;
        let keeper = keeper_of(pid).unwrap();
        signal(keeper, Signal::KILL);
        eventually("the keeper is dead", || !is_alive(keeper)).await;
        assert!(is_alive(pid));
        client.fence(db(), 7, revoked()).await.unwrap();
        assert!(!is_alive(pid));
    }

    async fn a_fence_spares_a_resource_whose_name_begins_alike(site) {
        let mut site = site;
        let start = site.script("start", "setsid sleep 3600 & echo $! > $D/pid-$(echo $SITEGATE_TICKET | tr / _)");
        let tables: String = ["db", "db/main", "db-main"]
            .iter()
            .map(|name| {
                format!(
                    "[resource.\"{name}\"]\nfence = []\nunfenced = true\n\
                     start = {{ command = [\"{start}\"], within = \"60s\" }}\n"
                )
            })
            .collect();
        site.configure(&tables);
        let (client, _events) = site.up().await;
        for resource in ["db", "db/main", "db-main"].map(name) {
            client.arm(resource.clone(), 1, ahead(FAR_MS), 1).await.unwrap();
            client.start(resource, 1).await.unwrap().unwrap();
        }
        client.fence(db(), 1, revoked()).await.unwrap();
        assert!(!is_alive(site.pid("pid-db").unwrap()));
        for spared in ["pid-db_main", "pid-db-main"] {
            assert!(is_alive(site.pid(spared).unwrap()), "{spared}");
        }
    }

    async fn a_level_that_fails_gives_way_to_the_next(site) {
        let mut site = site;
        let first = site.script("first", "echo trouble >&2; exit 3");
        // Ignores everything but the kill that comes with its limit, and tries to leave something behind.
        let second = site.script("second", "trap '' TERM INT HUP; setsid sleep 3600 & echo $! > $D/left; sleep 3600");
        let third = site.script("third", "exit 0");
        site.configure(&format!(
            "[resource.db]\nlast-level-may-fail = true\nfence = [\n\
             {{ driver = \"command\", command = [\"{first}\"], within = \"60s\" }},\n\
             {{ driver = \"command\", command = [\"/nonexistent/fence\"], within = \"60s\" }},\n\
             {{ driver = \"command\", command = [\"{second}\"], within = \"300ms\" }},\n\
             {{ driver = \"command\", command = [\"{third}\"], within = \"60s\" }},\n]\n"
        ));
        let (client, mut events) = site.up().await;
        let receipt = client.fence(db(), 1, revoked()).await.unwrap();
        assert_eq!(receipt.level, Some(4));
        let mut failed = Vec::new();
        while failed.len() < 3 {
            if let Notice::LevelFailed { level, why, .. } = next(&mut events).await {
                failed.push((level, why));
            }
        }
        assert_eq!(failed[0], (1, "exited with code 3; it wrote: trouble".to_owned()));
        assert!(failed[1].1.contains("/nonexistent/fence does not exist"), "{failed:?}");
        assert!(failed[2].1.contains("limit of 300 ms"), "{failed:?}");
        assert!(!is_alive(site.pid("left").unwrap()), "a level is killed with all it started");
    }
}

#[tokio::test]
async fn a_plan_whose_levels_all_fail_starts_over_until_one_succeeds() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "test -e $D/mended");
    let (client, mut events) = site.up().await;
    let fence = tokio::spawn({
        let client = client.clone();
        async move { client.fence(db(), 5, revoked()).await }
    });
    loop {
        if let Notice::FenceFailed { rounds: 2, .. } = next(&mut events).await {
            break;
        }
    }
    let refused = client.arm(db(), 6, ahead(FAR_MS), 1).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused(Refusal::BeingFenced { fencing: 5 })), "{refused}");
    fs::write(site.path("mended"), "").unwrap();
    assert_eq!(fence.await.unwrap().unwrap().token, 5);
}

#[tokio::test]
async fn an_unfenced_resource_is_killed() {
    let mut site = Site::new();
    let start = site.script("start", START);
    site.configure(&format!(
        "[resource.db]\nstart = {{ command = [\"{start}\"], within = \"60s\" }}\nfence = []\nunfenced = true\n"
    ));
    let (client, _events) = site.running(3).await;
    let receipt = client.fence(db(), 3, revoked()).await.unwrap();
    assert_eq!(receipt.level, None);
    assert!(!is_alive(site.pid("pid").unwrap()));
}

#[tokio::test]
async fn tokens_and_incarnations_are_checked() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let (client, _events) = site.up().await;
    let refusal = |error: ClientError| match error {
        ClientError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    };
    let start = client.start(db(), 5).await.unwrap_err();
    assert_eq!(refusal(start), Refusal::NotArmed);
    client.arm(db(), 5, ahead(FAR_MS), 2).await.unwrap();
    for (error, expected) in [
        (client.arm(name("other"), 5, ahead(FAR_MS), 2).await.unwrap_err(), Refusal::UnknownResource),
        (client.arm(db(), 6, ahead(FAR_MS), 2).await.unwrap_err(), Refusal::ArmedOtherwise { armed: 5 }),
        (client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap_err(), Refusal::OlderIncarnation { newest: 2 }),
        (client.arm(db(), 5, ahead(0), 2).await.unwrap_err(), Refusal::DeadlinePast),
        (client.start(db(), 4).await.unwrap_err(), Refusal::ArmedOtherwise { armed: 5 }),
        (client.fence(db(), 4, revoked()).await.unwrap_err(), Refusal::ArmedOtherwise { armed: 5 }),
    ] {
        assert_eq!(refusal(error), expected);
    }
    let first = client.fence(db(), 5, revoked()).await.unwrap();
    assert_eq!(
        refusal(client.arm(db(), 5, ahead(FAR_MS), 2).await.unwrap_err()),
        Refusal::AlreadyFenced { receipted: 5 }
    );
    assert_eq!(client.fence(db(), 4, revoked()).await.unwrap(), first, "asked again, the same receipt");
}

#[tokio::test]
async fn many_resources_share_lines_syncs_and_looks() {
    const COUNT: usize = 300;
    let mut site = Site::new();
    let level = site.script("level", "exit 0");
    let resources: Vec<_> = (0..COUNT).map(|i| name(&format!("t{i}"))).collect();
    let tables: String = resources
        .iter()
        .map(|r| {
            format!(
                "[resource.{r}]\nlast-level-may-fail = true\n\
                 fence = [{{ driver = \"command\", command = [\"{level}\"], within = \"60s\" }}]\n"
            )
        })
        .collect();
    site.configure(&tables);
    let (client, mut events) = site.up().await;
    let mut arming = tokio::task::JoinSet::new();
    for resource in resources.clone() {
        let client = client.clone();
        arming.spawn(async move { client.arm(resource, 9, ahead(FAR_MS), 1).await });
    }
    while let Some(armed) = arming.join_next().await {
        armed.unwrap().unwrap();
    }
    let all = |token| resources.iter().map(|r| (r.clone(), token)).collect::<Vec<_>>();
    let wrong =
        client.extend(1, vec![Extension { deadline: ahead(FAR_MS), resources: all(8) }]).await.unwrap();
    assert_eq!(wrong.len(), COUNT);
    let right = client.extend(1, vec![Extension { deadline: ahead(300), resources: all(9) }]).await.unwrap();
    assert_eq!(right, []);
    for _ in 0..COUNT {
        receipt(&mut events).await;
    }
    let status = client.status().await.unwrap();
    assert!(status.resources.iter().all(|r| r.state == ResourceState::Unarmed && r.receipt.is_some()));
}

#[tokio::test]
async fn a_client_that_goes_changes_nothing() {
    let mut site = Site::new();
    site.configure_db(START, "exit 0", "exit 0");
    let (client, events) = site.running(4).await;
    drop((client, events));
    let (second, mut second_events) = site.connect().await;
    let (third, mut third_events) = site.connect().await;
    assert!(is_alive(site.pid("pid").unwrap()));
    extend(&second, 4, FAR_MS).await;
    let ordered = third.fence(db(), 4, revoked()).await.unwrap();
    assert_eq!(receipt(&mut second_events).await, ordered, "everybody who watches is told");
    assert_eq!(receipt(&mut third_events).await, ordered);
    let history = second.history(Some(db()), None).await.unwrap();
    let events: Vec<&Notice> = history.iter().map(|entry| &entry.event).collect();
    assert!(matches!(
        events[..],
        [Notice::Armed { .. }, Notice::Started { .. }, Notice::Fencing { .. }, Notice::Receipt(_)]
    ));
    assert_eq!(second.history(None, Some(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn without_its_runtime_directory_it_extends_nothing_but_still_fences() {
    let mut site = Site::new();
    site.configure_db(START, "exit 0", "exit 0");
    let (client, _events) = site.running(4).await;
    fs::rename(site.path("run"), site.path("away")).unwrap();
    let set = vec![Extension { deadline: ahead(FAR_MS), resources: vec![(db(), 4)] }];
    let error = client.extend(1, set).await.unwrap_err().to_string();
    assert!(error.contains("cannot be published"), "{error}");
    let receipt = client.fence(db(), 4, revoked()).await.unwrap();
    assert_eq!(receipt.token, 4);
    let pid = site.pid("pid").unwrap();
    assert!(!is_alive(pid));
    let error = client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap_err().to_string();
    assert!(error.contains("cannot be published"), "{error}");
    fs::rename(site.path("away"), site.path("run")).unwrap();
    extend(&client, 5, FAR_MS).await;
    client.start(db(), 5).await.unwrap().unwrap();
    eventually("it runs again", || site.pid("pid").is_some_and(|new| new != pid && is_alive(new))).await;
}
