//! `sitegated` with real fence daemons and hooks, as an ordinary user on loopback.

#[path = "site/ground.rs"]
mod ground;

use std::fs;
use std::time::Duration;

use ground::{Ground, Process, SITES, full_pipe};
use serde_json::json;
use sitegate_test_support::wait::wait_for;

/// All sites, and fence daemons for these.
fn started(fenced: &[&str]) -> (Ground, Vec<Process>, Vec<Process>) {
    let ground = Ground::new();
    let fence_daemons = fenced.iter().map(|site| ground.start_fenced(site)).collect();
    let sites: Vec<Process> = SITES.iter().map(|site| ground.start(site)).collect();
    for site in SITES {
        ground.wait_until_voting(site);
    }
    for site in fenced {
        wait_for("the fence daemon", || {
            (ground.get(site, "/v1/status").json()["fence"] == "up").then_some(())
        });
    }
    (ground, fence_daemons, sites)
}

#[test]
fn a_site_without_its_fence_daemon_takes_nothing_and_keeps_what_is_armed() {
    let (ground, _, mut sites) = started(&[]);
    let refused = ground
        .give("paris", &json!({ "command": "grant", "ticket": "db", "site": "paris", "timeout_ms": 1500 }));
    assert_eq!(refused["event"], "timeout", "{refused}");
    let status = ground.get("paris", "/v1/status").json();
    assert_eq!((&status["fence"], &status["tickets"][0]["holder"]), (&json!("down"), &json!(null)));
    let explained = ground.get("paris", "/v1/explain/db").json()["reasons"].to_string();
    assert!(explained.contains("its fence daemon does not answer"), "{explained}");
    assert_eq!(ground.get("paris", "/v1/fence/status").status, 503);

    // The wish was recorded: it comes true once it can.
    let fenced = ground.start_fenced("paris");
    let token = ground.wait_until_held("paris");
    let fence = ground.get("paris", "/v1/fence/status").json();
    assert_eq!(
        (&fence["resources"][0]["state"], &fence["resources"][0]["token"]),
        (&json!("armed"), &json!(token))
    );

    // Either daemon may be restarted: the tenure goes on.
    fenced.kill();
    let _fenced = ground.start_fenced("paris");
    wait_for("the fence daemon to answer again", || {
        (ground.get("paris", "/v1/status").json()["fence"] == "up").then_some(())
    });
    assert!(sites.remove(0).stop().success());
    assert!(
        ground.log("paris").contains("db stays held and its fence daemon armed"),
        "{}",
        ground.log("paris")
    );
    let _paris = ground.start("paris");
    ground.wait_until_voting("paris");
    assert_eq!(ground.wait_until_held("paris"), token);
    let history = ground.get("paris", "/v1/fence/history").json()["entries"].to_string();
    assert!(history.contains("\"armed\"") && !history.contains("\"receipt\""), "{history}");
    assert!(ground.shown("paris", &["fence", "history", "db"]).contains(&format!("armed, token {token}")));
    assert_eq!(ground.shown("paris", &["fence", "history", "web"]), "", "nothing of another ticket");
}

#[test]
fn a_ticket_that_the_fence_daemon_does_not_know_is_never_acquired() {
    let (ground, mut fence_daemons, _sites) = started(&["lyon"]);
    fence_daemons.remove(0).kill();
    let right = fs::read_to_string(ground.of("lyon", "fenced.toml")).unwrap();
    let other = right.replace("[resource.db]", "[resource.web]");
    fs::write(ground.of("lyon", "fenced.toml"), other).unwrap();
    let fenced = ground.start_fenced("lyon");
    wait_for("a warning", || {
        let warnings = ground.get("lyon", "/v1/status").json()["warnings"].to_string();
        warnings.contains("sitegate-fenced has no [resource.db]: this site never acquires db").then_some(())
    });
    let refused = ground
        .give("lyon", &json!({ "command": "grant", "ticket": "db", "site": "lyon", "timeout_ms": 1000 }));
    assert_eq!(refused["event"], "timeout", "{refused}");
    assert_eq!(ground.ticket("lyon")["holder"], json!(null));
    // Nor one whose plan takes longer than the others wait, whatever this daemon has read at its own start.
    let said = |warning: &str| {
        let warnings = ground.get("lyon", "/v1/status").json()["warnings"].to_string();
        warnings.contains(warning).then_some(())
    };
    fs::write(
        ground.of("lyon", "fenced.toml"),
        right.replace("\"/bin/true\"], within = \"", "\"/bin/true\"], within = \"1"),
    )
    .unwrap();
    fenced.hang_up();
    wait_for("another warning", || said("this site does not acquire it; raise acquire-after to"));
    ground.wait_for_log("lyon", &["WARN", "sitegate-fenced works with a plan that takes up to"]);
    assert_eq!(ground.ticket("lyon")["holder"], json!(null));
    // Nobody has to restart anything when it is put right.
    fs::write(ground.of("lyon", "fenced.toml"), right).unwrap();
    fenced.hang_up();
    ground.wait_until_held("lyon");
}

#[test]
fn before_acquire_decides_and_bad_hooks_are_told() {
    let (ground, _fence_daemons, _sites) = started(&["paris"]);
    let not_executable = ground.of("paris", "not-executable");
    fs::write(&not_executable, "#!/bin/sh\n").unwrap();
    let hangs = ground.script("paris", "hangs", "sleep 60 & sleep 60");
    let floods = ground.script(
        "paris",
        "floods",
        "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1",
    );
    let asks_wish = json!({ "command": "grant", "ticket": "db", "site": "paris", "timeout_ms": 500 });
    for (hook, within, log) in [
        ("/nonexistent/hook", "1s", "/nonexistent/hook does not exist"),
        (not_executable.to_str().unwrap(), "1s", "cannot be executed"),
        (hangs.as_str(), "300ms", "took longer than its limit of 300 ms and was killed"),
        (floods.as_str(), "5s", "exited with code 1: the end"),
    ] {
        ground.write_member(
            "paris",
            &format!("before-acquire = {{ command = [\"{hook}\"], within = \"{within}\" }}"),
        );
        assert_eq!(ground.reload("paris").json()["changed"], json!(["hooks"]));
        assert_eq!(ground.give("paris", &asks_wish)["event"], "timeout");
        ground.wait_for_log("paris", &["WARN", "the check before acquiring failed", log]);
        assert_eq!(ground.ticket("paris")["holder"], json!(null), "{hook}");
    }
    let log = ground.log("paris");
    assert!(log.len() < 1_000_000, "a hook has flooded the log: {} bytes", log.len());

    let environment = ground.of("paris", "environment");
    let ready =
        ground.script("paris", "ready", &format!("env | grep ^SITEGATE_ > {}", environment.display()));
    ground.write_member(
        "paris",
        &format!("before-acquire = {{ command = [\"{ready}\", \"--quick\"], within = \"2s\" }}"),
    );
    ground.reload("paris");
    ground.wait_until_held("paris");
    let told = fs::read_to_string(environment).unwrap();
    for line in [
        "SITEGATE_TICKET=db\n",
        "SITEGATE_TOKEN=\n",
        "SITEGATE_SITE=paris\n",
        "SITEGATE_REASON=before-acquire\n",
        "SITEGATE_DEADLINE=",
    ] {
        assert!(told.contains(line), "{line:?} is not in\n{told}");
    }
}

#[test]
fn a_health_check_that_fails_in_a_row_moves_the_ticket() {
    let (ground, _fence_daemons, _sites) = started(&["paris", "lyon"]);
    let (ill, environment) = (ground.of("paris", "ill"), ground.of("paris", "environment"));
    let check = format!("env | grep ^SITEGATE_ > {}; test ! -e {}", environment.display(), ill.display());
    let check = ground.script("paris", "check", &check);
    ground.write_member(
        "paris",
        &format!(
            "check = {{ command = [\"{check}\"], every = \"200ms\", within = \"200ms\", failures = 2 }}"
        ),
    );
    ground.reload("paris");
    let done = ground.grant("paris");
    assert_eq!((&done["event"], &done["holder"]), (&json!("done"), &json!("paris")), "{done}");
    let told = wait_for("the check to run", || {
        fs::read_to_string(&environment).ok().filter(|told| told.contains("DEADLINE"))
    });
    for line in [&format!("SITEGATE_TOKEN={}\n", done["token"]), "SITEGATE_REASON=check\n"] {
        assert!(told.contains(line), "{line:?} is not in\n{told}");
    }
    fs::write(&ill, "").unwrap();
    assert!(ground.wait_until_held("lyon") > done["token"].as_u64().unwrap());
    ground.wait_for_log("paris", &["the health check failed", "in_a_row=2"]);
    let kinds = ground.get("paris", "/v1/history?ticket=db").json().to_string();
    for kind in ["unhealthy", "relinquishing", "receipt", "released"] {
        assert!(kinds.contains(&format!("\"kind\":\"{kind}\"")), "{kind} is not in the history");
    }
    // It rests: nothing bounces.
    let explained = ground.get("paris", "/v1/explain/db").json()["reasons"].to_string();
    assert!(explained.contains("its health check failed there not long ago"), "{explained}");
}

#[test]
fn too_little_time_to_fence_is_an_error_with_numbers() {
    let ground = Ground::new();
    let (status, said) = ground.run("paris", &["check"]);
    assert!(status.success(), "{said}");
    ground.write_fenced("paris", "30s");
    let (status, said) = ground.run("paris", &[]);
    assert_eq!(status.code(), Some(2), "{said}");
    for part in ["ticket db: acquire-after leaves", "hint: raise acquire-after to"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    // Where it cannot be read it cannot be checked, which is said.
    fs::remove_file(ground.of("paris", "fenced.toml")).unwrap();
    let (status, said) = ground.run("paris", &["check"]);
    assert!(status.success() && said.contains("was not checked"), "{said}");
}

/// As under a journald that was stopped: nothing that the daemons do may wait for their log.
#[test]
fn a_log_that_nobody_reads_costs_no_ticket() {
    let ground = Ground::new();
    let (_reader, writer) = full_pipe();
    let [_fenced, paris] = ground.start_unread("paris", &writer);
    let _others: Vec<Process> = ["lyon", "nice"].map(|site| ground.start(site)).into();
    for site in SITES {
        ground.wait_until_voting(site);
    }
    assert_eq!(ground.grant("paris")["event"], "done");
    let token = ground.wait_until_held("paris");
    // Three leases, each of which would end if it were not renewed.
    let until = std::time::Instant::now() + Duration::from_secs(6);
    wait_for("three leases", || (std::time::Instant::now() > until).then_some(()));
    assert_eq!(ground.wait_until_held("paris"), token);
    assert!(paris.stop().success(), "what it could not say does not keep it from ending");
}
