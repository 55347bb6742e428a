//! A disk that takes nothing more while the daemon works, played by a limit on the length of files.

use std::fs;
use std::time::Instant;

use sitegate_fence_client::status::{FencePhase, ResourceState};
use sitegate_fence_client::wire::Notice;

use crate::site::{FAR_MS, SOON, Site, ahead, db, extend, is_alive, name, next, revoked};

#[tokio::test]
async fn a_disk_that_is_full_stops_arming_and_receipts_but_not_fencing() {
    let mut site = Site::new();
    site.configure_db("setsid sleep 3600 & echo $! > $D/pid", "exit 0", "exit 0");
    let text = site.text("fenced.toml") + "[resource.other]\nfence = []\nunfenced = true\n";
    fs::write(site.path("fenced.toml"), text).unwrap();
    let (client, mut events) = site.up_with_small_files(4096).await;
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    client.start(db(), 1).await.unwrap().unwrap();
    let mut token = 0;
    let why = loop {
        token += 1;
        assert!(token < 100, "the disk has become full by now");
        match client.fence(name("other"), token, revoked()).await {
            Ok(receipt) => assert_eq!(receipt.token, token),
            Err(error) => break error.to_string(),
        }
    };
    assert!(why.contains("no receipt can be given") && why.contains("journal"), "{why}");
    let before = client.fence(name("other"), token - 1, revoked()).await.unwrap();
    assert_eq!(before.token, token - 1, "what was receipted stays so");
    let armed = client.arm(name("other"), token + 1, ahead(FAR_MS), 1).await.unwrap_err().to_string();
    assert!(armed.contains("cannot write its state") && armed.contains("journal"), "{armed}");
    assert!(client.status().await.unwrap().store_failed.is_some());
    extend(&client, 1, FAR_MS).await;
    assert!(is_alive(site.pid("pid").unwrap()));
    extend(&client, 1, 100).await;
    while !matches!(next(&mut events).await, Notice::Fencing { resource, .. } if resource == db()) {}
    let until = Instant::now() + SOON;
    loop {
        let db = client.status().await.unwrap().resources.remove(0);
        assert!(db.receipt.is_none(), "{db:?}");
        if matches!(db.state, ResourceState::Fencing { phase: FencePhase::Recording, .. }) {
            break;
        }
        assert!(Instant::now() < until, "still fencing: {db:?}");
    }
    assert!(!is_alive(site.pid("pid").unwrap()));
    // There is room again, and the daemon is started again.
    assert!(site.terminate().success());
    let (client, _events) = site.up().await;
    assert_eq!(client.fence(db(), 1, revoked()).await.unwrap().reason.as_str(), "not-receipted");
    assert_eq!(client.fence(name("other"), token, revoked()).await.unwrap().token, token);
}
