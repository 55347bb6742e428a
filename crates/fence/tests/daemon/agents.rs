//! Levels with fence agents: scripts that are honest, lie, hang, fail, flood and die.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sitegate_fence::agent::Agent;
use sitegate_fence::agent::off::Case;
use sitegate_fence::agent::trial::{Told, try_out};
use sitegate_fence::config::ContainmentChoice;
use sitegate_fence::containment::Containment;
use sitegate_fence::programs;
use sitegate_fence_client::wire::{Notice, Receipt};
use tokio::sync::oneshot;

use crate::contained;
use crate::site::{SOON, Site, ahead, db, eventually, is_alive, next, revoked};

/// Reads what an agent reads, and notes each call but that for metadata, which comes whenever the daemon looks.
const READ: &str = "while read -r line; do case $line in action=*) action=${line#*=} ;; plug=*) plug=${line#*=} ;; esac\n\
                    echo \"$line\" >> $D/stdin-$$; done; [ $action = metadata ] || echo \"$action $plug\" >> $D/calls";
/// As much of a description as the scripts need.
const METADATA: &str = "metadata) echo '<resource-agent name=\"x\"><parameters><parameter name=\"plug\" required=\"1\"/>\
                        <parameter name=\"ip\"/><parameter name=\"password\"/></parameters>\
                        <actions><action name=\"off\"/><action name=\"status\"/></actions></resource-agent>' ;;";

/// An agent whose actions are these branches of a `case`.
fn agent(site: &Site, branches: &str) -> String {
    site.script("fence_x", &format!("{READ}\ncase $action in {METADATA}\n{branches}\nesac"))
}

fn configure(site: &Site, agent: &str, keys: &str) {
    site.configure(&format!(
        "[resource.db]\nlast-level-may-fail = true\nfence = [\n\
         {{ driver = \"agent\", agent = \"{agent}\", retry-after = \"100ms\", {keys} }},\n]\n"
    ));
}

async fn fenced(site: &mut Site) -> Receipt {
    let (client, _events) = site.up().await;
    client.fence(db(), 7, revoked()).await.unwrap()
}

/// The calls other than those for metadata, in order.
fn calls(site: &Site) -> Vec<String> {
    site.text("calls").lines().map(|line| line.trim().to_owned()).collect()
}

/// Why the level failed.
async fn failure(site: &mut Site) -> String {
    let (client, mut events) = site.up().await;
    let order = tokio::spawn(async move { client.fence(db(), 7, revoked()).await });
    loop {
        if let Notice::LevelFailed { why, .. } = next(&mut events).await {
            assert!(!order.is_finished(), "there is no receipt");
            order.abort();
            return why;
        }
    }
}

contained! {
    async fn all_plugs_are_switched_off_at_once_and_proven(site) {
        let mut site = site;
        // Neither ends before the other has begun.
        let agent = agent(
            &site,
            "off) touch $D/off-$plug; while [ ! -e $D/off-a ] || [ ! -e $D/off-b ]; do sleep 0.02; done ;;\n\
             status) [ ! -e $D/off-$plug ] || exit 2 ;;",
        );
        configure(&site, &agent, "plugs = [\"a\", \"b\"], within = \"60s\"");
        let receipt = fenced(&mut site).await;
        assert_eq!(receipt.level, Some(1));
        assert_eq!(
            receipt.proof.what,
            format!("{agent} succeeded with off for a, b, and its status then said off for each")
        );
        let mut calls = calls(&site);
        calls.sort();
        assert_eq!(calls, ["off a", "off b", "status a", "status b"]);
    }

    async fn one_that_hangs_is_killed_and_tried_again(site) {
        let mut site = site;
        let agent = agent(
            &site,
            "off) [ ! -e $D/left ] || exit 0; trap '' TERM INT HUP\n\
             setsid sleep 3600 & echo $! > $D/left; sleep 3600 ;;\nstatus) exit 2 ;;",
        );
        configure(&site, &agent, "attempt-within = \"2s\", within = \"60s\"");
        let receipt = fenced(&mut site).await;
        assert_eq!(receipt.level, Some(1));
        assert_eq!(calls(&site), ["off", "off", "status"]);
        assert!(!is_alive(site.pid("left").unwrap()));
        assert!(site.text("log").contains("took longer than its limit of 2000 ms and was killed"));
    }

    async fn a_trial_that_is_given_up_leaves_nothing(site) {
        let agent = agent(&site, "status) setsid sleep 3600 & echo $! > $D/left; sleep 3600 ;;");
        let (go_on, cancel) = oneshot::channel();
        let trial = tokio::spawn(trial(&site, &agent, &["a"], SOON * 2, cancel));
        eventually("the agent runs", || site.pid("left").is_some()).await;
        drop(go_on);
        let told = trial.await.unwrap().unwrap();
        assert_eq!(told[0].outcome, Err(format!("{agent} a: status was given up")));
        assert!(!is_alive(site.pid("left").unwrap()));
    }
}

#[tokio::test]
async fn what_fails_is_done_again_until_the_status_says_off() {
    let mut site = Site::new();
    // Refuses, dies, succeeds; cannot tell, says on, says off.
    let agent = agent(
        &site,
        "*) case $(wc -l < $D/calls) in 1) echo 'no route' >&2; exit 1 ;; 2) kill -9 $$ ;; 4) exit 1 ;; 5 | 3 | 6) ;; 7) exit 2 ;; esac ;;",
    );
    configure(&site, &agent, "within = \"60s\"");
    let receipt = fenced(&mut site).await;
    assert_eq!(receipt.level, Some(1));
    assert_eq!(calls(&site), ["off", "off", "off", "status", "status", "off", "status"]);
    let log = site.text("log");
    for said in [
        "off exited with code 1; it wrote: no route; tried again after 100 ms",
        "off was killed by signal 9",
        "status exited with code 1",
        "off succeeded, but status says that it is still on",
    ] {
        assert!(log.contains(said), "{said}");
    }
}

#[tokio::test]
async fn a_liar_gets_no_receipt() {
    let mut site = Site::new();
    let agent = agent(&site, "off | status) exit 0 ;;");
    configure(&site, &agent, "plugs = [\"a\"], within = \"2s\"");
    let why = failure(&mut site).await;
    assert!(why.contains("off succeeded, but status says that it is still on"), "{why}");
    assert!(calls(&site).iter().filter(|call| *call == "off a").count() > 1, "{:?}", calls(&site));
}

#[tokio::test]
async fn one_plug_that_stays_on_is_enough_to_fail() {
    let mut site = Site::new();
    let agent = agent(&site, "off) ;; status) [ $plug = b ] || exit 2 ;;");
    configure(&site, &agent, "plugs = [\"a\", \"b\"], within = \"1s\"");
    let why = failure(&mut site).await;
    assert!(why.contains(&format!("{agent} b: off succeeded, but")) && !why.contains(" a: "), "{why}");
}

#[tokio::test]
async fn a_status_of_off_without_a_successful_off_is_no_proof() {
    let mut site = Site::new();
    let agent = agent(&site, "off) exit 1 ;; status) exit 2 ;;");
    configure(&site, &agent, "within = \"1s\"");
    let why = failure(&mut site).await;
    assert!(why.contains("off exited with code 1") && why.contains("given up after"), "{why}");
    assert!(calls(&site).iter().all(|call| call == "off"), "{:?}", calls(&site));
}

#[tokio::test]
async fn a_flood_holds_up_nothing() {
    let mut site = Site::new();
    let agent = agent(&site, "off) yes flood | head -c 20000000 ;;\nstatus) exit 2 ;;");
    configure(&site, &agent, "within = \"60s\"");
    assert_eq!(fenced(&mut site).await.level, Some(1));
    eventually("the rest is counted", || site.text("log").contains("wrote more than is logged")).await;
    let log = site.text("log").len();
    assert!(log < 200_000, "{log} bytes");
}

#[tokio::test]
async fn secrets_go_to_stdin_and_nowhere_else() {
    let mut site = Site::new();
    let agent = agent(
        &site,
        "*) env > $D/seen-env; tr '\\0' ' ' < /proc/$$/cmdline > $D/seen-argv\n\
         cat /proc/$PPID/cmdline > $D/seen-keeper; [ $action = off ] || exit 2 ;;",
    );
    fs::write(site.path("secrets"), "password=hun ter=2\n").unwrap();
    fs::set_permissions(site.path("secrets"), fs::Permissions::from_mode(0o600)).unwrap();
    configure(
        &site,
        &agent,
        "options-file = \"secrets\", options = { ip = \"192.0.2.7\" }, within = \"60s\"",
    );
    assert_eq!(fenced(&mut site).await.level, Some(1));
    let read = fs::read_dir(site.dir.path()).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.starts_with("stdin-").then(|| site.text(&name))
    });
    let off: Vec<String> = read.filter(|text| text.contains("action=off")).collect();
    assert_eq!(off, ["ip=192.0.2.7\npassword=hun ter=2\naction=off\n"]);
    assert!(site.text("seen-keeper").contains("--input"), "{:?}", site.text("seen-keeper"));
    for file in ["seen-env", "seen-argv", "seen-keeper", "log"] {
        let text = site.text(file);
        assert!(!text.is_empty() && !text.contains("hun ter"), "{file}: {text}");
    }
}

#[tokio::test]
async fn secrets_that_others_can_read_are_not_used() {
    let mut site = Site::new();
    let agent = agent(&site, "off) ;; status) exit 2 ;;");
    fs::write(site.path("secrets"), "password=hunter2\n").unwrap();
    fs::set_permissions(site.path("secrets"), fs::Permissions::from_mode(0o644)).unwrap();
    configure(&site, &agent, "options-file = \"secrets\", within = \"60s\"");
    let why = failure(&mut site).await;
    assert!(why.contains("chmod 600") && !why.contains("hunter2"), "{why}");
    assert_eq!(calls(&site), [""; 0]);
}

#[tokio::test]
async fn a_file_that_no_agent_agrees_with_is_not_taken() {
    let mut site = Site::new();
    let agent = agent(&site, "off) ;; status) exit 2 ;;");
    configure(&site, &agent, "plugs = [\"a\"], within = \"60s\"");
    let (client, _events) = site.up().await;
    client.arm(db(), 1, ahead(3_600_000), 1).await.unwrap();
    configure(&site, &agent, "plugs = [\"a\"], options = { ipp = \"x\" }, within = \"60s\"");
    let said = site.reload().await;
    assert!(said.contains("not reloaded") && said.contains("does not know the option `ipp`"), "{said}");
    assert!(said.contains("did you mean `ip`?") && said.contains("fenced.toml:10:"), "{said}");
    // One that says nothing is only warned of.
    let mute = site.script("mute", "exit 1");
    configure(&site, &mute, "options = { ipp = \"x\" }, within = \"10s\"");
    let said = site.reload().await;
    assert!(said.contains("its options are not checked") && !said.contains("not reloaded"), "{said}");
}

#[test]
fn a_check_asks_the_agent_and_warns_of_this_very_host() {
    let site = Site::new();
    let agent = agent(&site, "off) ;; status) exit 2 ;;");
    let check = |keys: &str| {
        configure(&site, &agent, keys);
        let output = site.command().arg("--check").stderr(Stdio::piped()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check("options = { ip = \"192.0.2.7\" }, within = \"10s\"");
    assert!(code == 3 && said.contains("needs the option `plug`") && said.contains("plugs = ["), "{said}");
    let (code, said) = check("plugs = [\"localhost\"], within = \"10s\"");
    assert!(code == 0 && said.starts_with("warning: ") && said.contains("aimed at this very host"), "{said}");
    let (code, said) = check("plugs = [\"1\"], options = { ip = \"localhost\" }, within = \"10s\"");
    assert_eq!((code, said.as_str()), (0, ""), "what is switched off is the plug");
}

/// Tries an agent out, in this process.
fn trial(
    site: &Site,
    agent: &str,
    plugs: &[&str],
    within: Duration,
    cancel: oneshot::Receiver<()>,
) -> impl Future<Output = Result<Vec<Told>, String>> + Send + use<> {
    let dir = site.path("run");
    fs::create_dir_all(&dir).unwrap();
    let containment = Containment::set_up(&site.choice(), &dir, &dir).unwrap();
    let containment = containment.with_keeper(env!("CARGO_BIN_EXE_sitegate-fenced"));
    let programs = programs::Programs {
        containment,
        leases: dir.join("leases"),
        kill_within: Duration::from_secs(20),
        places: programs::Places::default(),
    };
    let agent = Agent {
        name: agent.to_owned(),
        options: [].into(),
        options_file: None,
        plugs: plugs.iter().map(|&plug| plug.to_owned()).collect(),
        plug_option: "plug".to_owned(),
        retry_after: Duration::from_secs(1),
        attempt_within: Duration::from_secs(1),
    };
    let told = programs::Told { site: None, reason: revoked(), deadline: ahead(60_000) };
    let case = Case { resource: db(), token: 0, run: 1, told };
    try_out(Arc::new(agent), case, within, programs, cancel)
}

#[tokio::test]
async fn a_trial_asks_once_and_switches_nothing() {
    let site = Site::new();
    let agent = agent(
        &site,
        "status) case $plug in on) ;; off) exit 2 ;; bad) echo 'no such plug' >&2; exit 1 ;; slow) sleep 3600 ;; esac ;;\n\
         monitor) ;;",
    );
    let (_go_on, cancel) = oneshot::channel();
    let told =
        trial(&site, &agent, &["on", "off", "bad", "slow"], Duration::from_secs(5), cancel).await.unwrap();
    let outcomes: Vec<_> =
        told.iter().map(|told| (told.plug.as_deref().unwrap(), told.outcome.clone())).collect();
    assert_eq!(outcomes[0], ("on", Ok(format!("{agent} on: status says on"))));
    assert_eq!(outcomes[1], ("off", Ok(format!("{agent} off: status says off"))));
    let bad = format!("{agent} bad: status exited with code 1; it wrote: no such plug");
    assert_eq!(outcomes[2], ("bad", Err(bad)));
    assert!(matches!(&outcomes[3], ("slow", Err(why)) if why.contains("took longer than its limit")));
    let (_go_on, cancel) = oneshot::channel();
    let told = trial(&site, &agent, &[], SOON, cancel).await.unwrap();
    assert_eq!(told, [Told { plug: None, outcome: Ok(format!("{agent}: the device answers")) }]);
    let mut calls = calls(&site);
    calls.sort();
    assert_eq!(calls, ["monitor", "status bad", "status off", "status on", "status slow"]);
}

impl Site {
    fn choice(&self) -> ContainmentChoice {
        match self.containment() {
            "tree" => ContainmentChoice::Tree,
            _ => ContainmentChoice::Cgroup(None),
        }
    }
}
