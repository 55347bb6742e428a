//! `test`: what levels would fence by is looked at, and nothing is fenced.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use sitegate_fence_client::status::Found;
use sitegate_fence_client::{ClientError, wire::Refusal};

use crate::site::*;

fn level(site: &Site, name: &str, check: Option<&str>) -> String {
    let command = site.script(name, "touch $D/fenced");
    let check = check.map(|body| format!(", check = [\"{}\"]", site.script(&format!("{name}-check"), body)));
    let check = check.unwrap_or_default();
    format!("{{ driver = \"command\", command = [\"{command}\"]{check}, within = \"60s\" }}")
}

#[tokio::test]
async fn every_level_is_checked_and_none_is_run() {
    let mut site = Site::new();
    let good = level(&site, "good", Some("exit 0"));
    let bad = level(&site, "bad", Some("echo the switch does not answer; exit 1"));
    let silent = level(&site, "silent", None);
    site.configure(&format!(
        "[resource.db]\nlast-level-may-fail = true\nfence = [{good}, {bad}, {silent}]\n\
         [resource.web]\nfence = []\nunfenced = true\n"
    ));
    let (client, _events) = site.up().await;
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    let tested = client.test(None).await.unwrap();
    assert_eq!(tested.iter().map(|resource| resource.name.as_str()).collect::<Vec<_>>(), ["db", "web"]);
    let found: Vec<&Found> = tested[0].levels.iter().map(|level| &level.found).collect();
    assert!(matches!(found[0], Found::Ready { what } if what.ends_with("exited with 0")), "{found:?}");
    assert!(matches!(found[1], Found::Failed { why } if why.contains("does not answer")), "{found:?}");
    assert!(
        matches!(found[2], Found::Untested { what } if what.contains("give the level a `check`")),
        "{found:?}"
    );
    assert!(!site.path("fenced").exists());
    assert!(tested[1].levels.is_empty());
    assert_eq!(client.test(Some(name("web"))).await.unwrap(), tested[1..]);
    let unknown = client.test(Some(name("other"))).await.unwrap_err();
    assert!(matches!(unknown, ClientError::Refused(Refusal::UnknownResource)), "{unknown}");
}

#[tokio::test]
async fn a_check_that_hangs_is_ended_and_holds_up_no_fence() {
    let mut site = Site::new();
    let command = site.script("level", "exit 0");
    let check = site.script("check", "echo begun > $D/begun; sleep 1000000");
    site.configure(&format!(
        "[resource.db]\nlast-level-may-fail = true\nfence = [\n\
         {{ driver = \"command\", command = [\"{command}\"], check = [\"{check}\"], within = \"60s\" }}]\n"
    ));
    let (client, mut events) = site.up().await;
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    let asking = client.clone();
    let test = tokio::spawn(async move { asking.test(None).await });
    eventually("the check runs", || site.path("begun").exists()).await;
    let another = client.test(None).await.unwrap_err();
    assert!(matches!(&another, ClientError::Failed(why) if why.contains("another test runs")), "{another}");
    // What is killed for a fence is everything of the resource.
    client.fence(db(), 1, revoked()).await.unwrap();
    receipt(&mut events).await;
    let tested = test.await.unwrap().unwrap();
    assert!(
        matches!(&tested[0].levels[0].found, Found::Failed { why } if why.contains("was killed")),
        "{tested:?}"
    );
}

#[tokio::test]
async fn a_script_that_closes_its_end_gets_its_answer() {
    let mut site = Site::new();
    let level = level(&site, "level", Some("sleep 0.2"));
    site.configure(&format!("[resource.db]\nlast-level-may-fail = true\nfence = [{level}]\n"));
    let (_client, _events) = site.up().await;
    let mut script = UnixStream::connect(site.socket()).unwrap();
    script.write_all(b"{\"op\":\"test\"}\n").unwrap();
    script.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    script.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"reply\":\"tested\""), "{answer}");
}

/// An agent is asked for the status of each plug, and never to switch off.
#[tokio::test]
async fn an_agent_is_asked_for_the_status_of_its_plugs() {
    let mut site = Site::new();
    let agent = site.script(
        "fence_test",
        "while read -r line; do eval \"$line\"; done; echo $action >> $D/actions; [ $plug = n1 ] || exit 7",
    );
    site.configure(&format!(
        "[resource.db]\nlast-level-may-fail = true\n\
         fence = [{{ driver = \"agent\", agent = \"{agent}\", plugs = [\"n1\", \"n2\"], within = \"60s\" }}]\n"
    ));
    let (client, _events) = site.up().await;
    let tested = client.test(None).await.unwrap();
    let Found::Failed { why } = &tested[0].levels[0].found else { panic!("{tested:?}") };
    assert!(why.contains("n2") && why.contains("code 7") && !why.contains("n1"), "{why}");
    assert!(!site.text("actions").contains("off"), "{}", site.text("actions"));
}
