//! Units of systemd, as far as that can be tried on whatever machine this is: with a systemd that knows no such unit, or with none.
//! What a real one does is in tests/units.py.

use sitegate_fence_client::status::Found;
use sitegate_fence_client::wire::Notice;

use crate::site::*;

/// Nobody's ticket: a file of this name may be removed from the real directory, if this is root.
const TICKET: &str = "sitegate-test/no-such-ticket";
const UNIT: &str = "sitegate-test-no-such-unit.service";

/// A name that is misspelt proves nothing, and neither does a systemd that cannot be reached.
#[tokio::test]
async fn what_systemd_does_not_know_is_not_fenced_by_it() {
    let mut site = Site::new();
    let command = site.script("next", "touch $D/fenced");
    site.configure(&format!(
        "[resource.\"{TICKET}\"]\nlast-level-may-fail = true\nfence = [\n\
         {{ driver = \"systemd\", unit = \"{UNIT}\", within = \"2s\" }},\n\
         {{ driver = \"command\", command = [\"{command}\"], within = \"60s\" }}]\n"
    ));
    let (client, mut events) = site.up().await;
    let ticket = name(TICKET);
    client.arm(ticket.clone(), 1, ahead(FAR_MS), 1).await.unwrap();
    let tested = client.test(None).await.unwrap();
    let found = &tested[0].levels[0].found;
    assert!(matches!(found, Found::Failed { why } if why.contains("systemd")), "{found:?}");
    let receipt = client.fence(ticket, 1, revoked()).await.unwrap();
    assert_eq!(receipt.level, Some(2));
    assert!(site.path("fenced").exists());
    loop {
        if let Notice::LevelFailed { level: 1, why, .. } = next(&mut events).await {
            assert!(why.contains("systemd"), "{why}");
            return;
        }
    }
}
