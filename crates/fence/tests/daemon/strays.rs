//! What runs without being armed (docs/fencing.md, "What runs without its ticket").

use sitegate_fence_client::wire::{Notice, Reason};

use crate::site::*;

/// `running` stands for a service of the machine that nothing of ours has started. How often it was looked at is counted.
fn configure(site: &Site) {
    let status =
        site.script("status", "echo >> $D/looks; [ ! -e $D/ill ] || exit 5; [ -e $D/running ] || exit 3");
    let level = site.script("level", "rm -f $D/running");
    site.configure(&format!(
        "[resource.db]\nlast-level-may-fail = true\nstatus = {{ command = [\"{status}\"], within = \"60s\" }}\n\
         fence = [{{ driver = \"command\", command = [\"{level}\"], within = \"60s\" }}]\n"
    ));
    let text = format!("status-every = \"1s\"\n{}", site.text("fenced.toml"));
    std::fs::write(site.path("fenced.toml"), text).unwrap();
}

fn looks(site: &Site) -> usize {
    site.text("looks").lines().count()
}

async fn looked_again(site: &Site) {
    let before = looks(site);
    eventually("it looks again, and has looked", || looks(site) > before + 1).await;
}

#[tokio::test]
async fn what_runs_without_being_armed_is_fenced() {
    let mut site = Site::new();
    configure(&site);
    let (client, mut events) = site.up().await;
    looked_again(&site).await;
    std::fs::write(site.path("running"), "").unwrap();
    let Notice::Fencing { reason, .. } = next(&mut events).await else { panic!("nothing else happens") };
    assert_eq!(reason, Reason::stray());
    assert_eq!(receipt(&mut events).await.token, 0);
    assert!(!site.path("running").exists());
    assert!(site.text("log").contains("RUNS HERE WITHOUT ITS TICKET"));
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
}

#[tokio::test]
async fn what_is_armed_may_run_and_what_cannot_be_told_is_left_alone() {
    let mut site = Site::new();
    configure(&site);
    std::fs::write(site.path("ill"), "").unwrap();
    std::fs::write(site.path("running"), "").unwrap();
    let (client, mut events) = site.up().await;
    looked_again(&site).await;
    assert!(site.text("log").contains("status exited with code 5"), "{}", site.text("log"));
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    std::fs::remove_file(site.path("ill")).unwrap();
    assert!(matches!(next(&mut events).await, Notice::Armed { .. }));
    let before = looks(&site);
    // One look may have been under way.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert!(looks(&site) <= before + 1, "nobody looks while it is armed");
    assert!(site.path("running").exists());
}
