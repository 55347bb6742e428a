//! The daemon goes and comes back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use sitegate_fence_client::status::ResourceState;
use sitegate_fence_client::wire::{Activity, Notice};

use crate::contained;
use crate::site::{
    FAR_MS, SOON, Site, ahead, db, eventually, extend, is_alive, next, receipt, revoked, signal,
};

/// Leaves a process running that talks all the time: its output must not break with the daemon.
const TALKS: &str =
    "setsid sh -c 'while :; do echo line; echo x >> $0/lines; sleep 0.02; done' $D & echo $! > $D/pid";

contained! {
    async fn a_crash_before_the_deadline_costs_nothing(site) {
        let mut site = site;
        site.configure_db(TALKS, "exit 0", "exit 0");
        drop(site.running(10).await);
        let pid = site.pid("pid").unwrap();
        site.crash();
        let lines = site.text("lines").len();
        eventually("it goes on writing without the daemon", || site.text("lines").len() > lines + 40).await;
        let (client, mut events) = site.up().await;
        let status = client.status().await.unwrap();
        let ResourceState::Armed { token: 10, incarnation: 1, activity, .. } = &status.resources[0].state else {
            panic!("{status:?}");
        };
        assert_eq!(*activity, Activity::Started);
        client.start(db(), 10).await.unwrap().unwrap();
        assert_eq!(site.pid("pid").unwrap(), pid, "what runs is not started again");
        assert!(is_alive(pid));
        extend(&client, 10, 100).await;
        receipt(&mut events).await;
        assert!(!is_alive(pid), "what an earlier daemon started is found and killed");
    }

    async fn a_deadline_that_passes_while_it_is_down_is_fenced_at_the_start(site) {
        let mut site = site;
        site.configure_db(TALKS, "exit 0", "echo $SITEGATE_REASON $SITEGATE_SITE > $D/fenced");
        let (client, events) = site.running(10).await;
        let pid = site.pid("pid").unwrap();
        let deadline = ahead(50);
        extend(&client, 10, 50).await;
        site.crash();
        drop((client, events));
        eventually("the deadline passes", || deadline.passed(sitegate_fence::leases::now())).await;
        let (client, _events) = site.up().await;
        let receipt = client.fence(db(), 10, revoked()).await.unwrap();
        // Its own fence may have begun before the crash; either way it was not this order.
        assert!(["deadline", "not-receipted"].contains(&receipt.reason.as_str()), "{receipt:?}");
        assert!(!is_alive(pid));
        assert_eq!(site.text("fenced"), format!("{} paris\n", receipt.reason));
    }

    async fn ending_on_request_fences_nothing(site) {
        let mut site = site;
        site.configure_db(TALKS, "exit 0", "exit 0");
        drop(site.running(10).await);
        let pid = site.pid("pid").unwrap();
        assert!(site.terminate().success());
        assert!(site.text("log").contains("must be back within"), "{}", site.text("log"));
        assert!(is_alive(pid));
        let (client, _events) = site.up().await;
        assert!(is_alive(pid));
        client.fence(db(), 10, revoked()).await.unwrap();
        assert!(!is_alive(pid));
    }

    async fn a_start_that_hangs_across_a_crash_starts_nothing_after_the_receipt(site) {
        let mut site = site;
        let start = "echo $$ > $D/hook; while [ ! -e $D/go ]; do sleep 0.01; done; echo started > $D/started";
        site.configure_db(start, "exit 0", "exit 0");
        let (client, _events) = site.up().await;
        client.arm(db(), 10, ahead(FAR_MS), 1).await.unwrap();
        let starting = tokio::spawn({
            let client = client.clone();
            async move { client.start(db(), 10).await }
        });
        eventually("the hook runs", || site.pid("hook").is_some()).await;
        let hook = site.pid("hook").unwrap();
        site.crash();
        assert!(starting.await.unwrap().is_err());
        let (client, _events) = site.up().await;
        let status = client.status().await.unwrap();
        assert!(matches!(&status.resources[0].state, ResourceState::Armed { activity: Activity::Interrupted, .. }));
        assert!(is_alive(hook));
        // Frozen, it would outlive a polite kill and go on after the thaw.
        signal(hook, Signal::STOP);
        client.fence(db(), 10, revoked()).await.unwrap();
        fs::write(site.path("go"), "").unwrap();
        assert!(!is_alive(hook));
        assert_eq!(site.text("started"), "");
    }
}

#[tokio::test]
async fn receipts_are_remembered() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let (client, _events) = site.up().await;
    let receipt = client.fence(db(), 10, revoked()).await.unwrap();
    for crash in [true, false] {
        if crash {
            site.crash();
        } else {
            assert!(site.terminate().success());
        }
        let (client, _events) = site.up().await;
        assert_eq!(client.fence(db(), 10, revoked()).await.unwrap(), receipt);
        let history = client.history(None, None).await.unwrap();
        assert!(history.iter().any(|entry| entry.event == Notice::Receipt(receipt.clone())));
    }
}

#[tokio::test]
async fn another_boot_is_fenced_whatever_the_lease_says() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    drop(site.running(10).await);
    site.crash();
    let leases = site.text("run/leases");
    let (header, rest) = leases.split_once('\n').unwrap();
    let boot = header.split_once(' ').unwrap().1;
    let other = format!("{}\n{rest}", header.replace(boot, "00000000-0000-0000-0000-000000000000"));
    fs::write(site.path("run/leases"), other).unwrap();
    let (client, mut events) = site.up().await;
    let status = client.status().await.unwrap();
    if status.resources[0].receipt.is_none() {
        receipt(&mut events).await;
    }
    let receipt = client.fence(db(), 10, revoked()).await.unwrap();
    assert_eq!(receipt.reason.as_str(), "not-receipted");
}

#[tokio::test]
async fn a_lost_journal_does_not_lose_a_tenure() {
    let mut site = Site::new();
    site.configure_db("setsid sleep 3600 & echo $! > $D/pid", "exit 0", "exit 0");
    drop(site.running(10).await);
    site.crash();
    fs::remove_dir_all(site.path("state")).unwrap();
    let (client, mut events) = site.up().await;
    assert!(site.text("log").contains("the state was lost"));
    extend(&client, 10, 100).await;
    receipt(&mut events).await;
    assert!(!is_alive(site.pid("pid").unwrap()));
}

#[tokio::test]
async fn a_wrong_configuration_does_not_lose_a_deadline() {
    let mut site = Site::new();
    site.configure_db("setsid sleep 3600 & echo $! > $D/pid", "exit 0", "exit 0");
    drop(site.running(10).await);
    assert_eq!(site.path("run/accepted.toml").metadata().unwrap().mode() & 0o077, 0);
    assert!(site.terminate().success());
    let right = site.text("fenced.toml");
    for wrong in [right.replace("[resource.db]", "[resource.db"), right.replace("within", "withn")] {
        fs::write(site.path("fenced.toml"), wrong).unwrap();
        drop(site.up().await);
        assert!(site.text("log").contains("THE CONFIGURATION IS WRONG"), "{}", site.text("log"));
        assert!(site.reload().await.contains("not reloaded"));
        assert!(is_alive(site.pid("pid").unwrap()));
        assert!(site.terminate().success());
    }
    let (client, mut events) = site.up().await;
    extend(&client, 10, 100).await;
    assert_eq!(receipt(&mut events).await.level, Some(1), "fenced by the plan that was in force");
    assert!(!is_alive(site.pid("pid").unwrap()));
    assert!(site.terminate().success());
    assert_eq!(site.fails().0, 3, "with nothing armed it has to be corrected first");
}

#[tokio::test]
async fn a_damaged_journal_fences_everything_that_is_not_provably_armed() {
    let mut site = Site::new();
    site.configure_db("setsid sleep 3600 & echo $! > $D/pid", "exit 0", "exit 0");
    drop(site.running(10).await);
    site.crash();
    fs::write(site.path("state/journal"), "nonsense\n").unwrap();
    fs::remove_file(site.path("run/leases")).unwrap();
    let (client, _events) = site.up().await;
    assert!(site.text("log").contains("THE JOURNAL IS DAMAGED"));
    eventually("what ran is dead", || !is_alive(site.pid("pid").unwrap())).await;
    assert_eq!(site.text("state/journal.corrupt"), "nonsense\n");
    drop(client);
}

#[tokio::test]
async fn a_resource_taken_out_of_the_configuration_is_not_forgotten() {
    let mut site = Site::new();
    site.configure_db("setsid sleep 3600 & echo $! > $D/pid", "exit 0", "exit 0");
    drop(site.running(10).await);
    assert!(site.terminate().success());
    let mine = site.text("fenced.toml");
    site.configure("[resource.other]\nfence = []\nunfenced = true\n");
    let (client, mut events) = site.up().await;
    extend(&client, 10, 50).await;
    loop {
        if let Notice::FenceFailed { why, .. } = next(&mut events).await {
            assert!(why.contains("no longer in fenced.toml"), "{why}");
            break;
        }
    }
    assert!(!is_alive(site.pid("pid").unwrap()), "its processes are killed all the same");
    assert!(site.terminate().success());
    fs::write(site.path("fenced.toml"), mine).unwrap();
    let (client, _events) = site.up().await;
    assert_eq!(client.fence(db(), 10, revoked()).await.unwrap().token, 10);
}

#[tokio::test]
async fn a_daemon_frozen_past_the_deadline_fences_when_it_thaws() {
    let mut site = Site::new();
    site.configure_db("setsid sleep 3600 & echo $! > $D/pid", "exit 0", "exit 0");
    let (client, mut events) = site.running(10).await;
    let deadline = ahead(100);
    extend(&client, 10, 100).await;
    signal(site.daemon_pid(), Signal::STOP);
    eventually("the deadline passes", || deadline.passed(sitegate_fence::leases::now())).await;
    signal(site.daemon_pid(), Signal::CONT);
    let receipt = receipt(&mut events).await;
    assert_eq!(receipt.reason.as_str(), "deadline");
    assert!(!is_alive(site.pid("pid").unwrap()));
}

#[tokio::test]
async fn tells_the_service_manager_how_it_is() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let manager = UnixDatagram::bind(site.path("notify")).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let said = || {
        let mut buffer = [0; 100];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let environment = [("NOTIFY_SOCKET", site.path("notify")), ("WATCHDOG_USEC", "30000".into())];
    let (client, _events) = site.up_with(&environment).await;
    assert_eq!(said(), "READY=1");
    for _ in 0..3 {
        assert_eq!(said(), "WATCHDOG=1");
    }
    signal(site.daemon_pid(), Signal::HUP);
    while !said().starts_with("RELOADING=1\nMONOTONIC_USEC=") {}
    while said() != "READY=1" {}
    client.status().await.unwrap();
    assert!(site.terminate().success());
    while said() != "STOPPING=1" {}
}

#[tokio::test]
async fn a_service_manager_that_does_not_listen_holds_up_nothing() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let manager = UnixDatagram::bind(site.path("notify")).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    // There is no room for a word more, already when the daemon starts.
    while sender.send_to(b"STATUS=busy", site.path("notify")).is_ok() {}
    let environment = [("NOTIFY_SOCKET", site.path("notify")), ("WATCHDOG_USEC", "30000".into())];
    let fenced = async {
        let (client, _events) = site.up_with(&environment).await;
        client.arm(db(), 1, ahead(100), 1).await.unwrap();
        client.fence(db(), 1, revoked()).await.unwrap()
    };
    assert_eq!(tokio::time::timeout(SOON, fenced).await.expect("it is fenced").token, 1);
    manager.set_read_timeout(Some(SOON)).unwrap();
    let mut buffer = [0; 100];
    let mut said = || {
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    while said() != "READY=1" {}
}

#[tokio::test]
async fn a_lost_state_directory_does_not_keep_it_from_fencing() {
    let mut site = Site::new();
    site.configure_db("setsid sleep 3600 & echo $! > $D/pid", "exit 0", "echo > $D/fenced");
    drop(site.running(10).await);
    site.crash();
    fs::rename(site.path("state"), site.path("away")).unwrap();
    fs::write(site.path("state"), "a file where the directory was").unwrap();
    let (client, mut events) = site.up().await;
    assert!(client.status().await.unwrap().store_failed.unwrap().contains("state"));
    extend(&client, 10, FAR_MS).await;
    assert!(is_alive(site.pid("pid").unwrap()));
    let error = client.fence(db(), 10, revoked()).await.unwrap_err().to_string();
    assert!(error.contains("no receipt can be given"), "{error}");
    eventually("it is fenced", || site.text("fenced") == "\n" && !is_alive(site.pid("pid").unwrap())).await;
    let error = client.arm(db(), 11, ahead(FAR_MS), 1).await.unwrap_err().to_string();
    assert!(error.contains("cannot write its state"), "{error}");
    // Repaired, and started again: now there is proof.
    assert!(site.terminate().success());
    while events.next().await.is_some() {}
    fs::remove_file(site.path("state")).unwrap();
    fs::rename(site.path("away"), site.path("state")).unwrap();
    let (client, _events) = site.up().await;
    assert_eq!(client.fence(db(), 10, revoked()).await.unwrap().token, 10);
}
