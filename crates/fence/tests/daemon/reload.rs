//! Another `fenced.toml` while the daemon works (docs/fencing.md, "Reloading").

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use sitegate_fence_client::status::{ResourceState, Status};
use sitegate_fence_client::wire::{Notice, Refusal};
use sitegate_fence_client::{Client, ClientError, Event, Events};

use crate::site::{FAR_MS, Site, ahead, any, db, eventually, extend, is_alive, name, next, receipt, revoked};

/// One level, which writes its own name and its limit.
fn plan(site: &Site, level: &str, within: &str) -> String {
    let script = site.script(level, &format!("echo {level} >> $D/levels"));
    format!("fence = [{{ driver = \"command\", command = [\"{script}\"], within = \"{within}\" }}]\n")
}

fn table(site: &Site, resource: &str, level: &str, within: &str) -> String {
    format!("[resource.{resource}]\nlast-level-may-fail = true\n{}", plan(site, level, within))
}

/// Resources with a level of their own name each, of which two are fenced at once.
fn configure_two_at_once(site: &Site, resources: &[(&str, &str)]) {
    let tables = resources.iter().map(|(resource, within)| table(site, resource, resource, within));
    site.configure(&tables.collect::<String>());
    fs::write(site.path("fenced.toml"), format!("concurrency = 2\n{}", site.text("fenced.toml"))).unwrap();
}

async fn reloaded(events: &mut Events) -> Status {
    loop {
        if let Event::Reloaded(status) = any(events).await {
            return *status;
        }
    }
}

fn within_ms(status: &Status) -> u64 {
    status.resources.iter().find(|r| r.name == db()).unwrap().plan.within_ms
}

async fn refusal(client: &Client, token: u64) -> Refusal {
    match client.arm(db(), token, ahead(FAR_MS), 1).await.unwrap_err() {
        ClientError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_wrong_file_changes_nothing() {
    let mut site = Site::new();
    site.configure(&table(&site, "db", "first", "60s"));
    let (client, _events) = site.up().await;
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    let right = site.text("fenced.toml");
    let missing = right.replace("/first", "/absent");
    let moved = right.replace("/state\"", "/elsewhere\"").replace("\"20s\"", "\"10s\"");
    for (text, why) in [
        ("[resource.db]\nfence = [{ driver = \"reboott\" }]\n", "did you mean `reboot`?"),
        (missing.as_str(), "/absent does not exist"),
        (moved.as_str(), "a reload cannot change: state-dir, kill-within"),
    ] {
        // Each with something that would be right by itself.
        fs::write(site.path("fenced.toml"), format!("{text}{}", table(&site, "new", "second", "1s")))
            .unwrap();
        let said = site.reload().await;
        assert!(said.contains("not reloaded, all stays as it was") && said.contains(why), "{said}");
        let status = client.status().await.unwrap();
        assert_eq!(status.resources.len(), 1, "{said}");
    }
    fs::write(site.path("fenced.toml"), right).unwrap();
    assert!(site.reload().await.contains("nothing has changed"));
    assert_eq!(client.fence(db(), 1, revoked()).await.unwrap().token, 1);
    assert_eq!(site.text("levels"), "first\n");
}

#[tokio::test]
async fn with_more_resources_more_files_may_be_open() {
    let mut site = Site::new();
    site.configure(&table(&site, "db", "first", "60s"));
    let (_client, mut events) = site.up().await;
    let daemon = Pid::from_raw(site.daemon_pid());
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit =
        |current| prlimit(daemon, Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap();
    limit(512);
    fs::write(site.path("fenced.toml"), site.text("fenced.toml") + &table(&site, "new", "second", "1s"))
        .unwrap();
    site.reload().await;
    reloaded(&mut events).await;
    assert_eq!(limit(600).current, Some(526), "three more for each of two, four for a level of each");
}

#[tokio::test]
async fn resources_come_and_programs_change() {
    let mut site = Site::new();
    site.configure_db("echo one >> $D/started", "exit 0", "exit 0");
    let (client, mut events) = site.running(1).await;
    let other = site.script("other-start", "echo two >> $D/started");
    let text = site.text("fenced.toml").replace(&site.path("start").display().to_string(), &other);
    fs::write(site.path("fenced.toml"), format!("{text}{}", table(&site, "new", "level-2", "1s"))).unwrap();
    let said = site.reload().await;
    assert!(said.contains("programs of db") && said.contains("resource new is new"), "{said}");
    let status = reloaded(&mut events).await;
    assert_eq!(status.resources.iter().map(|r| &r.name).collect::<Vec<_>>(), [&db(), &name("new")]);
    assert!(matches!(status.resources[0].state, ResourceState::Armed { token: 1, .. }));
    client.arm(name("new"), 7, ahead(FAR_MS), 1).await.unwrap();
    client.stop(db(), 1).await.unwrap().unwrap();
    client.start(db(), 1).await.unwrap().unwrap();
    assert_eq!(site.text("started"), "one\ntwo\n");
    assert_eq!(client.fence(name("new"), 7, revoked()).await.unwrap().token, 7);
}

#[tokio::test]
async fn a_longer_plan_waits_for_the_end_of_the_tenure_and_a_shorter_one_does_not() {
    let mut site = Site::new();
    site.configure(&table(&site, "db", "first", "60s"));
    let (client, mut events) = site.up().await;
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    let before = within_ms(&client.status().await.unwrap());
    site.configure(&table(&site, "db", "shorter", "59s"));
    assert!(site.reload().await.contains("plan of db"));
    assert_eq!(within_ms(&reloaded(&mut events).await), before - 1000);
    site.configure(&table(&site, "db", "longer", "61s"));
    assert!(site.reload().await.contains("plan of db once its tenure is over"));
    assert_eq!(within_ms(&client.status().await.unwrap()), before - 1000);
    client.fence(db(), 1, revoked()).await.unwrap();
    assert_eq!(site.text("levels"), "shorter\n", "the tenure ends as was counted with");
    eventually("the longer one is in force", || site.text("log").contains("left to come is in force")).await;
    assert_eq!(within_ms(&client.status().await.unwrap()), before + 1000);
    client.arm(db(), 2, ahead(FAR_MS), 1).await.unwrap();
    client.fence(db(), 2, revoked()).await.unwrap();
    assert_eq!(site.text("levels"), "shorter\nlonger\n");
}

#[tokio::test]
async fn what_would_make_fencing_all_take_longer_waits_until_nothing_is_armed() {
    let mut site = Site::new();
    configure_two_at_once(&site, &[("db", "60s"), ("web", "30s")]);
    let (client, mut events) = site.up().await;
    let all_ms = |status: &Status| status.resources[0].plan.within_all_ms;
    let before = all_ms(&client.status().await.unwrap());
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    // A plan that does not become the longest may become longer, although another resource is armed.
    configure_two_at_once(&site, &[("db", "60s"), ("web", "60s")]);
    assert!(site.reload().await.contains("changed=\"plan of web\""));
    assert_eq!(all_ms(&reloaded(&mut events).await), before);
    // But not the longest of all, nor may there be more than are fenced in one turn.
    configure_two_at_once(&site, &[("db", "60s"), ("web", "61s"), ("more", "1s")]);
    let said = site.reload().await;
    assert!(said.contains("resource more is new once nothing is armed"), "{said}");
    assert!(said.contains("plan of web once nothing is armed"), "{said}");
    assert_eq!(all_ms(&client.status().await.unwrap()), before);
    let unknown = client.fence(name("more"), 1, revoked()).await.unwrap_err().to_string();
    assert!(unknown.contains(&Refusal::UnknownResource.to_string()), "{unknown}");
    client.fence(db(), 1, revoked()).await.unwrap();
    while all_ms(&reloaded(&mut events).await) == before {}
    assert_eq!(client.status().await.unwrap().resources.len(), 3);
}

#[tokio::test]
async fn a_plan_that_fails_is_replaced_between_two_rounds() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 1");
    let (client, mut events) = site.up().await;
    let fence = tokio::spawn({
        let client = client.clone();
        async move { client.fence(db(), 5, revoked()).await }
    });
    while !matches!(next(&mut events).await, Notice::FenceFailed { .. }) {}
    site.configure(&table(&site, "db", "better", "70s"));
    site.reload().await;
    assert_eq!(fence.await.unwrap().unwrap().token, 5);
    assert_eq!(site.text("levels"), "better\n");
}

#[tokio::test]
async fn a_resource_that_is_taken_out_keeps_its_plan_until_it_is_fenced_and_its_token_for_ever() {
    let mut site = Site::new();
    let both = || {
        let (mine, others) = (table(&site, "db", "first", "60s"), table(&site, "other", "second", "60s"));
        (format!("{mine}{others}"), others)
    };
    let (both, without) = both();
    site.configure(&both);
    let (client, mut events) = site.up().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    site.configure(&without);
    assert!(site.reload().await.contains("resource db is gone once its tenure is over and fenced"));
    extend(&client, 5, 100).await;
    assert_eq!(receipt(&mut events).await.token, 5);
    assert_eq!(site.text("levels"), "first\n");
    assert_eq!(reloaded(&mut events).await.resources.len(), 1);
    assert_eq!(refusal(&client, 6).await, Refusal::UnknownResource);
    site.configure(&both);
    site.reload().await;
    assert_eq!(refusal(&client, 5).await, Refusal::AlreadyFenced { receipted: 5 });
    // A restart without it does not make it forget either.
    site.configure(&without);
    assert!(site.reload().await.contains("resource db is gone"));
    assert!(site.terminate().success());
    let (client, _events) = site.up().await;
    site.configure(&both);
    site.reload().await;
    assert_eq!(refusal(&client, 4).await, Refusal::AlreadyFenced { receipted: 5 });
    client.arm(db(), 6, ahead(FAR_MS), 1).await.unwrap();
}

#[tokio::test]
async fn a_plan_that_is_put_back_fences_what_was_left_without_one() {
    let mut site = Site::new();
    site.configure_db("setsid sleep 3600 & echo $! > $D/pid", "exit 0", "exit 0");
    drop(site.running(10).await);
    assert!(site.terminate().success());
    let mine = site.text("fenced.toml");
    site.configure("[resource.other]\nfence = []\nunfenced = true\n");
    let (client, mut events) = site.up().await;
    fs::write(site.path("fenced.toml"), &mine).unwrap();
    assert!(site.reload().await.contains("plan of db"), "at once, though it is longer than none");
    extend(&client, 10, 50).await;
    assert_eq!(receipt(&mut events).await.token, 10);
    assert!(!is_alive(site.pid("pid").unwrap()));
}

#[tokio::test]
async fn who_may_connect_can_change() {
    let mut site = Site::new();
    site.configure(&table(&site, "db", "first", "60s"));
    let (client, _events) = site.up().await;
    let mode = || fs::metadata(site.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let text = site.text("fenced.toml");
    fs::write(site.path("fenced.toml"), format!("allow-uid = [12345]\n{text}").replace("info", "warn"))
        .unwrap();
    assert!(site.reload().await.contains("allow-uid"));
    assert_eq!(mode(), 0o666);
    fs::write(site.path("fenced.toml"), text).unwrap();
    site.reload().await;
    assert_eq!(mode(), 0o600);
    client.status().await.unwrap();
}
