//! The program `sitegate` as a shell sees it: exit codes, where data and talk go, and what it says when something is wrong.

use std::path::Path;
use std::process::{Command, Output};

fn sitegate(arguments: &[&str]) -> Output {
    in_home(Path::new("/nonexistent"), arguments)
}

/// Runs it with nothing of this machine's configuration.
fn in_home(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sitegate"));
    for variable in ["XDG_CONFIG_HOME", "SITEGATE_SOCKET", "SITEGATE_CERT", "SITEGATE_KEY", "SITEGATE_CA"] {
        command.env_remove(variable);
    }
    command.env("HOME", home).env("SITEGATE_CONFIG", home).args(arguments);
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said, if it ended with `code` and showed nothing.
fn failure(arguments: &[&str], code: i32) -> String {
    let output = sitegate(arguments);
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert_eq!(stdout(&output), "", "talk goes to standard error");
    said
}

#[test]
fn help_lists_every_exit_code() {
    let help = stdout(&sitegate(&["--help"]));
    for row in ["  0  what was asked for holds", "  4  the time is up", "130  Ctrl-C"] {
        assert!(help.contains(row), "{help}");
    }
    let grant = stdout(&sitegate(&["grant", "--help"]));
    assert!(
        grant.contains("Examples:") && grant.contains("Exit codes:") && grant.contains("--no-wait"),
        "{grant}"
    );
}

#[test]
fn a_wrong_command_line_is_2() {
    for line in [
        &["grant"][..],
        &["grant", "db"],
        &["grant", "a b", "--site", "paris"],
        &["status", "--consistent"],
        &["status", "--every", "1s"],
        &["status", "--socket", "/s", "--member", "paris"],
        &["revoke", "db", "--timeout", "5"],
        &["playground", "--scenario", "none"],
        &["attest-dead", "lyon"],
    ] {
        failure(line, 2);
    }
    assert!(failure(&["revoke", "db", "--timeout", "5"], 2).contains("hint: write \"5s\""));
}

#[test]
fn attest_dead_needs_somebody_to_ask() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sitegate"));
    command.args(["attest-dead", "lyon", "--reason", "seen"]).stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--yes-i-have-seen-it-dead"));
}

#[test]
fn nobody_there_is_3() {
    for line in [&["status"][..], &["grant", "db", "--site", "paris"], &["explain", "db"], &["reload"]] {
        let said = failure(&[line, &["--socket", "/nonexistent/sock"]].concat(), 3);
        assert!(said.starts_with("error: cannot connect to /nonexistent/sock: "), "{said}");
        assert!(said.contains("\nhint: "), "{said}");
    }
    let said = failure(&["fence", "status", "--fenced-socket", "/nonexistent/sock"], 3);
    assert!(said.contains("cannot connect to sitegate-fenced at /nonexistent/sock"), "{said}");
    let said = failure(&["fence", "test", "--fenced-socket", "/nonexistent/sock"], 3);
    assert!(said.contains("cannot connect to sitegate-fenced at /nonexistent/sock"), "{said}");
}

#[test]
fn the_socket_is_the_one_of_the_configuration() {
    let home = tempfile::tempdir().unwrap();
    let said = String::from_utf8(in_home(home.path(), &["status"]).stderr).unwrap();
    assert!(said.contains("/run/sitegate/sitegate.sock"), "{said}");
    let member = "name = \"paris\"\nsocket = \"here.sock\"\n[tls]\nca = \"a\"\ncert = \"b\"\nkey = \"c\"\n";
    std::fs::write(home.path().join("member.toml"), member).unwrap();
    let said = String::from_utf8(in_home(home.path(), &["status"]).stderr).unwrap();
    assert!(said.contains(&format!("{}/here.sock", home.path().display())), "{said}");
}

#[test]
fn a_member_from_afar_needs_a_certificate() {
    let said = failure(&["status", "--member", "localhost"], 5);
    assert!(said.contains("sitegate pki issue --operator NAME"), "{said}");
}

#[test]
fn an_invalid_configuration_is_5() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("formation.toml"), "formation = \"acme\"\nheartbeet = \"1s\"\n")
        .unwrap();
    let said = failure(&["check", &directory.path().to_string_lossy()], 5);
    assert!(said.contains("formation.toml:2:1") && said.contains("hint: "), "{said}");
    let said = failure(&["init", "--config", &directory.path().to_string_lossy()], 5);
    assert!(said.contains("member.toml"), "{said}");
}

#[test]
fn completions_are_for_the_shell_that_was_named() {
    let script = stdout(&sitegate(&["completions", "bash"]));
    assert!(script.contains("attest-dead") && script.contains("complete -F"));
    failure(&["completions", "cmd.exe"], 2);
}

#[test]
fn the_configuration_of_the_readme_is_good() {
    let readme = include_str!("../README.md");
    let blocks: Vec<&str> =
        readme.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    let directory = tempfile::tempdir().unwrap();
    for (name, block) in ["formation.toml", "member.toml", "fenced.toml"].iter().zip(&blocks) {
        std::fs::write(directory.path().join(name), block).unwrap();
    }
    assert_eq!(blocks.len(), 3);
    let output = sitegate(&["check", &directory.path().to_string_lossy(), "--json"]);
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let checked: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&checked["me"], &checked["tickets"][0]["name"]), (&"paris".into(), &"db".into()));
}
