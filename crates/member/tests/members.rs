//! Three members as processes: they form, grant, remember, stop and reload.

mod support;

use rustix::process::Signal;
use serde_json::json;
use support::formation::{Daemon, Formation, MemberFiles, enter, formation_toml};
use support::wait_for;

/// Not a test: the daemons of the tests enter here.
#[test]
#[ignore = "only for the daemons that the tests start"]
fn daemon() {
    enter();
}

fn events(lines: &[serde_json::Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).filter(|event| *event != "waiting").collect()
}

fn grant(to: &Daemon, site: &str) -> u64 {
    let lines = to.give(&json!({ "command": "grant", "ticket": "db", "site": site }));
    assert_eq!(events(&lines), ["accepted", "recorded", "done"], "{lines:?}");
    let done = lines.last().unwrap();
    assert_eq!(done["holder"], site);
    done["token"].as_u64().unwrap()
}

#[test]
fn a_grant_through_any_member_reaches_the_site_and_outlives_everything() {
    let (formation, daemons) = Formation::started();
    let [paris, lyon, tiebreak] = <[Daemon; 3]>::try_from(daemons).ok().unwrap();
    let token = grant(&tiebreak, "paris");
    for member in [&paris, &lyon, &tiebreak] {
        let known =
            || (member.ticket("db")["holder"] == "paris").then(|| member.ticket("db")["token"].clone());
        assert_eq!(wait_for("everybody to know", known), token);
    }
    let asked = lyon.get("/v1/status?consistent=db").json();
    assert_eq!(asked["tickets"][0]["holder"], "paris");
    assert_eq!(asked["tickets"].as_array().unwrap().len(), 1);

    // Stopping is not losing: the same token after a restart of its site.
    let status = paris.stop();
    assert!(status.success(), "{status}");
    let log = formation.members[0].log();
    assert!(log.contains("db stays held and its fence daemon armed: start again before"), "{log}");
    let paris = formation.members[0].start();
    paris.wait_until_voting();
    let held = || {
        (paris.ticket("db")["local"]["state"] == "held").then(|| paris.ticket("db")["local"]["token"].clone())
    };
    assert_eq!(wait_for("the ticket to be held again", held), token);

    // Everybody killed at once: on the same boot and disk nobody has to ask anybody. (At its birth one may have to, if the
    // others were born first.)
    let asked = || formation.members[0].log().matches("looks for witnesses").count();
    let before = asked();
    for member in [paris, lyon, tiebreak] {
        member.kill();
    }
    let daemons: Vec<Daemon> = formation.members.iter().map(MemberFiles::start).collect();
    for daemon in &daemons {
        daemon.wait_until_voting();
    }
    wait_for("the ticket to be held after a full restart", || {
        (daemons[1].ticket("db")["holder"] == "paris").then_some(())
    });
    assert_eq!(asked(), before);

    let lines = daemons[1].give(&json!({ "command": "revoke", "ticket": "db", "reason": "done" }));
    assert_eq!(events(&lines).last(), Some(&"done"), "{lines:?}");
    assert_eq!(daemons[1].ticket("db")["wanted"], "revoked");
}

#[test]
fn what_is_done_is_said_by_name() {
    let (_formation, mut daemons) = Formation::started();
    let token = grant(&daemons[1], "paris");
    let text = |daemon: &Daemon, command| {
        let last = daemon.give(&command).pop().unwrap();
        assert_eq!(last["event"], "done", "{last}");
        last["text"].as_str().unwrap().to_owned()
    };
    for (command, expected) in [
        (json!({ "command": "pause", "ticket": "db" }), "db is paused; paris goes on holding it"),
        (json!({ "command": "resume", "ticket": "db" }), "db is resumed"),
        (json!({ "command": "standby", "site": "lyon" }), "lyon is on standby and holds nothing"),
        (
            json!({ "command": "standby", "site": "lyon", "keep": true }),
            "lyon is on standby: it takes no more tickets, and keeps what it holds",
        ),
        (json!({ "command": "online", "site": "lyon" }), "lyon is online"),
    ] {
        assert_eq!(text(&daemons[1], command), expected);
    }
    daemons.remove(0).kill();
    let attest = json!({ "command": "attest-dead", "site": "paris", "reason": "killed" });
    assert_eq!(text(&daemons[0], attest), format!("paris is attested dead for db (token {token})"));
}

#[test]
fn commands_that_cannot_be_are_refused_with_a_hint() {
    let (_formation, daemons) = Formation::started();
    let refused = |body| {
        let answer = daemons[0].files.api().post("/v1/commands", &body);
        (answer.status, answer.json()["error"].as_str().unwrap().to_owned(), answer.json()["hint"].clone())
    };
    let (status, error, _) = refused(json!({ "command": "conquer", "ticket": "db" }));
    assert_eq!((status, error.as_str()), (400, "there is no command `conquer`"));
    let (_, error, hint) = refused(json!({ "command": "grant", "ticket": "db", "site": "pariss" }));
    assert_eq!((error.as_str(), hint), ("no member is named `pariss`", json!("did you mean paris?")));
    let (_, error, _) = refused(json!({ "command": "grant", "ticket": "db" }));
    assert_eq!(error, "grant needs `site`");
    let (_, error, _) = refused(json!({ "command": "revoke", "ticket": "db", "colour": 1 }));
    assert!(error.contains("unknown field `colour`"), "{error}");
    let (_, error, _) = refused(json!({ "command": "attest-dead", "site": "paris" }));
    assert_eq!(error, "attest-dead needs a reason");
    for path in ["/v1/history?limit=many", "/v1/history?resource=db", "/v1/status?consitent=db"] {
        let answer = daemons[0].get(path);
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!((answer.status, error.contains("query string")), (400, true), "{path}: {error}");
    }

    let outcome = |body| daemons[0].give(&body).pop().unwrap();
    let unknown = outcome(json!({ "command": "revoke", "ticket": "nothing" }));
    assert_eq!((&unknown["event"], &unknown["code"]), (&json!("refused"), &json!("no-such-ticket")));
    grant(&daemons[0], "paris");
    let elsewhere = outcome(json!({ "command": "grant", "ticket": "db", "site": "lyon" }));
    assert_eq!(elsewhere["code"], "held-elsewhere");
    assert!(elsewhere["hint"].as_str().unwrap().contains("sitegate move"), "{elsewhere}");
    let heard = outcome(json!({ "command": "attest-dead", "site": "paris", "reason": "a test" }));
    assert_eq!(heard["code"], "heard");

    assert_eq!(daemons[0].get("/v1/explain/nothing").status, 404);
    assert_eq!(daemons[0].get("/v1/unicorns").status, 404);
    assert_eq!(daemons[2].get("/v1/fence/status").json()["error"], "an arbitrator fences nothing");
    assert_eq!(daemons[0].files.api().post("/v1/status", &json!({})).status, 405);
}

#[test]
fn a_command_without_a_majority_times_out_and_says_so() {
    let (_formation, mut daemons) = Formation::started();
    daemons.truncate(1);
    let lines =
        daemons[0].give(&json!({ "command": "grant", "ticket": "db", "site": "paris", "timeout_ms": 3000 }));
    let last = lines.last().unwrap();
    assert_eq!(last["event"], "timeout", "{lines:?}");
    assert!(last["text"].as_str().unwrap().contains("may still take effect"), "{last}");
    let waits =
        lines.iter().filter(|line| line["event"] == "waiting").map(|line| line["text"].as_str().unwrap());
    let waits: Vec<&str> = waits.collect();
    assert!(
        waits.iter().any(|text| text.contains("waits for a majority: no answer from lyon, tiebreak")),
        "{waits:?}"
    );
    assert_eq!(daemons[0].get("/v1/status?consistent=db").status, 503);
}

#[test]
fn history_metrics_and_health_tell_what_happened() {
    let (_formation, daemons) = Formation::started();
    let token = grant(&daemons[1], "paris");
    let history = daemons[0].get("/v1/history?ticket=db&limit=50").json();
    let kinds: Vec<&str> =
        history["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    for kind in ["intent", "vote", "acquired", "held"] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    assert_eq!(daemons[0].get("/v1/history?limit=2").json()["entries"].as_array().unwrap().len(), 2);
    let journal = daemons[0].get("/v1/journal").body;
    assert!(sitegate_member::journal::verify(journal.lines()).unwrap() > 5);

    let command = daemons[1].get("/v1/history?ticket=db").json();
    let command = command["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["kind"] == "command")
        .unwrap()
        .clone();
    let me = rustix::process::geteuid().as_raw();
    let by = command["detail"]["by"].as_str().unwrap();
    assert!(if me == 0 { by == "root" } else { !by.is_empty() }, "{by}");

    assert_eq!((daemons[0].get("/healthz").status, daemons[0].get("/healthz").body), (200, "ok\n".into()));
    let metrics = daemons[0].get("/metrics").body;
    for line in [
        "sitegate_info{member=\"paris\",role=\"site\",formation=\"acme\",version=",
        "sitegate_voting 1",
        "sitegate_ticket_holder{ticket=\"db\",site=\"paris\"} 1",
        &format!("sitegate_ticket_token{{ticket=\"db\"}} {token}"),
        "sitegate_commit_seconds_count ",
    ] {
        assert!(metrics.lines().any(|have| have.starts_with(line)), "{line} is not in\n{metrics}");
    }
    let families: Vec<&str> = metrics.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let distinct: std::collections::BTreeSet<&&str> = families.iter().collect();
    assert_eq!(families.len(), distinct.len(), "a family is described twice");
}

#[test]
fn a_reload_takes_all_or_nothing() {
    let (formation, daemons) = Formation::started();
    let paris = &daemons[0];
    let file = paris.files.directory.join("formation.toml");
    let reload = || paris.files.api().post("/v1/reload", &json!({}));
    assert_eq!(reload().json(), json!({ "changed": [] }));

    let broken = std::fs::read_to_string(&file).unwrap().replace("expire = \"2s\"", "expire = \"2 sheep\"");
    std::fs::write(&file, &broken).unwrap();
    let answer = reload();
    assert_eq!(answer.status, 422);
    assert!(answer.json()["error"].as_str().unwrap().contains("formation.toml:"), "{}", answer.body);

    let moved = formation_toml(&formation.members, "100ms").replace("\"tiebreak\"", "\"somebody\"");
    std::fs::write(&file, moved).unwrap();
    let answer = reload();
    assert_eq!(answer.status, 422);
    assert!(
        answer.json()["error"].as_str().unwrap().contains("a reload cannot change: members"),
        "{}",
        answer.body
    );

    // What is sound is taken, by signal too; the others notice that the files differ now.
    let changed = formation_toml(&formation.members, "100ms") + "[ticket.web]\n";
    std::fs::write(&file, changed).unwrap();
    paris.signal(Signal::HUP);
    wait_for("the new ticket", || {
        let status = paris.get("/v1/status").json();
        (status["tickets"].as_array().unwrap().len() == 2).then_some(())
    });
    wait_for("the others to see that the files differ", || {
        let status = daemons[2].get("/v1/status").json();
        (status["config_differs"] == json!(["paris"])).then_some(())
    });
    grant(paris, "paris");
}

#[test]
fn a_closed_connection_abandons_the_command_and_keeps_the_wish() {
    use std::io::{Read, Write};
    let (_formation, mut daemons) = Formation::started();
    let lyon = daemons.remove(1);
    lyon.kill();
    // lyon is down: a grant to it is recorded and waits.
    let body = json!({ "command": "grant", "ticket": "db", "site": "lyon" });
    let mut stream = daemons[0].files.api().connect().unwrap();
    stream.write_all(support::http::post("/v1/commands", &body).as_bytes()).unwrap();
    let mut seen = String::new();
    wait_for("the wish to be recorded", || {
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).unwrap();
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        seen.contains("recorded").then_some(())
    });
    drop(stream);
    assert_eq!(daemons[0].ticket("db")["preferred"], "lyon");
    assert_eq!(daemons[0].ticket("db")["intent_version"], 1);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Takes lyon down, lets it run once more, and gives it back what was on its disk before.
fn put_back(formation: &Formation, daemons: &mut Vec<Daemon>, with_proof: bool) -> MemberFiles {
    let lyon = formation.members[1].clone();
    let (state, run) = (lyon.state_dir(), lyon.directory.join("run"));
    let (old_state, old_run) = (lyon.directory.join("old-state"), lyon.directory.join("old-run"));
    assert!(daemons.remove(1).stop().success());
    copy(&state, &old_state);
    copy(&run, &old_run);
    let once_more = lyon.start();
    once_more.wait_until_voting();
    grant(&once_more, "paris");
    assert!(once_more.stop().success());
    copy(&old_state, &state);
    if with_proof {
        copy(&old_run, &run);
    }
    lyon
}

/// The exit code with which a daemon asks to be started again.
const START_AGAIN: i32 = 75;

/// Starts it as a service manager would: again whenever it asks for that, until it votes.
fn supervise(member: &MemberFiles) -> Daemon {
    /// Each start learns something of what the others remember.
    const STARTS_MAX: usize = 4;
    for _ in 0..STARTS_MAX {
        let mut daemon = member.start();
        let ended = wait_for(&format!("{} to vote or to end", member.name), || {
            let votes =
                || (member.api().try_get("/v1/status")?.json()["standing"] == "voting").then_some(None);
            daemon.ended().map(Some).or_else(votes)
        });
        match ended {
            None => return daemon,
            Some(status) => assert_eq!(status.code(), Some(START_AGAIN), "{}", member.log()),
        }
    }
    panic!("{} starts again and again:\n{}", member.name, member.log());
}

#[test]
fn a_disk_that_was_put_back_is_noticed_by_its_proof() {
    let (formation, mut daemons) = Formation::started();
    let lyon = put_back(&formation, &mut daemons, false);
    let again = supervise(&lyon);
    lyon.wait_for_log(&["may have forgotten: looks for witnesses before it votes"]);
    lyon.wait_for_log(&["has found enough witnesses"]);
    wait_for("lyon to know again", || (again.ticket("db")["holder"] == "paris").then_some(()));
}

#[test]
fn a_snapshot_that_was_put_back_as_a_whole_is_noticed_by_the_others() {
    let (formation, mut daemons) = Formation::started();
    let lyon = put_back(&formation, &mut daemons, true);
    let status = lyon.start().end();
    assert_eq!(status.code(), Some(START_AGAIN), "{}", lyon.log());
    lyon.wait_for_log(&["ERROR", "ROLLED BACK"]);
    let again = supervise(&lyon);
    lyon.wait_for_log(&["has found enough witnesses"]);
    wait_for("lyon to know again", || (again.ticket("db")["holder"] == "paris").then_some(()));
}
