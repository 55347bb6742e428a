//! What keeps a daemon from starting, and how it says so. docs/operations.md tells what to do then.

mod support;

use std::process::ExitStatus;

use support::formation::{Formation, MemberFiles, command, enter};
use support::wait_for;

/// Not a test: the daemons of the tests enter here.
#[test]
#[ignore = "only for the daemons that the tests start"]
fn daemon() {
    enter();
}

const FAILED: i32 = 1;
const WRONG_CONFIGURATION: i32 = 2;
const NO_STORE: i32 = 3;

fn paris() -> (Formation, MemberFiles) {
    let formation = Formation::new();
    let paris = formation.members[0].clone();
    (formation, paris)
}

/// That it ended so, and said all of this.
fn said((status, said): (ExitStatus, String), code: i32, parts: &[&str]) {
    assert_eq!(status.code(), Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn without_a_store_nothing_begins() {
    let (_formation, paris) = paris();
    said(
        paris.run(&[]),
        NO_STORE,
        &["error: there is no store in", "hint: create it, once, with `sitegate init`"],
    );
    assert!(!paris.state_dir().join("store.redb").exists(), "a daemon makes no store");
}

#[test]
fn init_twice_is_an_error_and_changes_nothing() {
    let (_formation, paris) = paris();
    assert!(paris.run(&["init"]).0.success());
    let before = std::fs::read(paris.state_dir().join("store.redb")).unwrap();
    said(
        paris.run(&["init"]),
        NO_STORE,
        &["has a store already: this member was initialised before", "hint:"],
    );
    assert_eq!(std::fs::read(paris.state_dir().join("store.redb")).unwrap(), before);
}

#[test]
fn a_store_of_another_member_or_formation_is_refused() {
    let (formation, paris) = paris();
    let lyon = &formation.members[1];
    assert!(lyon.run(&["init"]).0.success());
    std::fs::rename(lyon.state_dir(), paris.state_dir()).unwrap();
    let parts = [
        "belongs to member lyon of formation acme, but this is member paris of formation acme",
        "hint: check",
    ];
    said(paris.run(&[]), NO_STORE, &parts);
}

#[test]
fn a_corrupt_store_is_never_a_first_boot() {
    let (_formation, paris) = paris();
    assert!(paris.run(&["init"]).0.success());
    std::fs::write(paris.state_dir().join("store.redb"), "not a store").unwrap();
    said(paris.run(&[]), NO_STORE, &["is corrupt", "hint: do not restore an old copy"]);
    said(paris.run(&["init"]), NO_STORE, &["has a store already"]);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told() {
    let (_formation, paris) = paris();
    // A file in its place: what even root cannot use.
    std::fs::write(paris.state_dir(), "").unwrap();
    said(paris.run(&["init"]), NO_STORE, &["cannot create the directory", "state", "hint:"]);
    said(
        paris.run(&[]),
        FAILED,
        &["cannot open the store", "Not a directory", "hint: the state directory must exist"],
    );
}

#[test]
fn a_state_directory_that_may_not_be_written_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let (_formation, paris) = paris();
    assert!(paris.run(&["init"]).0.success());
    let mode =
        |mode| std::fs::set_permissions(paris.state_dir(), std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::remove_file(paris.state_dir().join("lock")).unwrap();
    mode(0o500);
    // Root may write everywhere.
    if std::fs::write(paris.state_dir().join("probe"), "").is_err() {
        said(paris.run(&[]), FAILED, &["cannot open", "lock", "Permission denied", "hint:"]);
    }
    mode(0o700);
}

#[test]
fn a_second_daemon_is_told_who_the_first_is() {
    let (_formation, paris) = paris();
    assert!(paris.run(&["init"]).0.success());
    let first = paris.start();
    wait_for("the first to serve", || paris.api().try_get("/v1/status"));
    let holder = format!("is locked by process {}", first.pid());
    said(paris.run(&[]), FAILED, &[&holder, "hint: only one daemon may work with a state directory"]);
    // The first one goes on.
    assert_eq!(first.get("/v1/status").json()["standing"], "unborn");
    assert_eq!(first.get("/healthz").status, 503);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let (_formation, paris) = paris();
    assert!(paris.run(&["init"]).0.success());
    let _taken = std::net::TcpListener::bind(("127.0.0.1", paris.port)).unwrap();
    said(paris.run(&[]), FAILED, &["cannot listen on 127.0.0.1", "Address already in use", "hint:"]);
}

#[test]
fn the_wrong_program_for_a_role_says_which_is_right() {
    let (formation, paris) = paris();
    let arbitrator = MemberFiles { role: "arbitrator", ..paris };
    let parts = [
        "paris is a site in formation.toml, but test-daemon is for arbitrators",
        "hint: run sitegated on sites",
    ];
    said(arbitrator.run(&["check"]), WRONG_CONFIGURATION, &parts);
    assert!(formation.members[2].run(&["check"]).0.success());
}

#[test]
fn wrong_words_and_files_are_told_with_the_way_out() {
    let (formation, paris) = paris();
    said(paris.run(&["start"]), WRONG_CONFIGURATION, &["`start` is not known here", "hint:"]);
    let formation_file = paris.directory.join("formation.toml");
    let sound = std::fs::read_to_string(&formation_file).unwrap();
    for (what, with, cause) in [
        ("id = 2", "id = 1", "`paris` has the id 1 already"),
        ("name = \"lyon\"", "name = \"paris\"", "is named `paris` already"),
        ("heartbeat = ", "heartbeet = ", "heartbeet"),
        ("expire = \"2s\"", "expire = \"200ms\"", "expire is too short"),
    ] {
        std::fs::write(&formation_file, sound.replace(what, with)).unwrap();
        said(paris.run(&[]), WRONG_CONFIGURATION, &["formation.toml:", cause, "hint:"]);
    }
    std::fs::remove_file(&formation_file).unwrap();
    said(paris.run(&[]), WRONG_CONFIGURATION, &["formation.toml"]);
    drop(formation);
    let nowhere = command("site", &["--config", "/nonexistent"]).output().unwrap();
    said(
        (nowhere.status, String::from_utf8_lossy(&nowhere.stderr).into_owned()),
        WRONG_CONFIGURATION,
        &["/nonexistent"],
    );
}
