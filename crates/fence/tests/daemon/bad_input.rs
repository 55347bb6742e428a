//! Wrong lines, wrong files, wrong command lines: each is told, and harms nobody else.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, geteuid, prlimit};
use serde_json::Value;
use sitegate_fence_client::Client;
use sitegate_fence_client::request::LINE_BYTES_MAX;
use sitegate_fence_client::wire::Notice;

use crate::site::{FAR_MS, Site, ahead, db, extend, name, next};

struct Raw(BufReader<UnixStream>);

impl Raw {
    fn connect(site: &Site) -> Self {
        Self(BufReader::new(UnixStream::connect(site.socket()).unwrap()))
    }

    fn send(&mut self, bytes: &[u8]) {
        // The daemon may have hung up already, which the answer shows.
        let _ = self.0.get_mut().write_all(bytes);
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn ask(&mut self, line: &str) -> Value {
        self.send(format!("{line}\n").as_bytes());
        self.answer()
    }
}

#[tokio::test]
async fn garbage_is_answered_and_forgiven() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let (client, _events) = site.running(3).await;
    let mut raw = Raw::connect(&site);
    for (line, why) in [
        ("hello", "expected value"),
        ("", "EOF"),
        ("{}", "missing field `op`"),
        (r#"{"op":"destroy"}"#, "unknown variant"),
        (r#"{"op":"arm","resource":"db"}"#, "missing field"),
        (r#"{"op":"fence","resource":"a b","token":1,"reason":"x"}"#, "no resource name"),
        ("{\"op\":\"fence\",\"resource\":\"db\",\"token\":1,\"reason\":\"a\\nb\"}", "one line"),
        (r#"{"op":"start","resource":"db","token":1e99}"#, "invalid type"),
    ] {
        let answer = raw.ask(line);
        assert_eq!(answer["reply"], "error", "{line}: {answer}");
        assert!(answer["why"].as_str().unwrap().contains(why), "{line}: {answer}");
    }
    let many = format!("{}[\"db\",3]", "[\"db\",3],".repeat(20_000));
    let set = format!(r#"[{{"deadline":{{"boot_ns":1,"raw_ns":1}},"resources":[{many}]}}]"#);
    let answer = raw.ask(&format!(r#"{{"op":"extend","incarnation":1,"set":{set}}}"#));
    assert!(answer["why"].as_str().unwrap().contains("at most 20000 resources"), "{answer}");
    raw.send(b"\xff\xfe\x00\n");
    assert_eq!(raw.answer()["reply"], "error");
    let answer = raw.ask(r#"{"id":12,"op":"start","resource":"db","token":2}"#);
    assert_eq!(
        (&answer["id"], &answer["reply"], &answer["code"]),
        (&12.into(), &"refused".into(), &"armed-otherwise".into())
    );
    assert_eq!(raw.ask(r#"{"op":"status"}"#)["resources"][0]["state"], "armed");
    extend(&client, 3, FAR_MS).await;
}

#[tokio::test]
async fn an_endless_line_ends_only_its_own_connection() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let (client, _events) = site.running(3).await;
    let mut raw = Raw::connect(&site);
    raw.send(&vec![b'x'; LINE_BYTES_MAX + 1]);
    assert!(raw.answer()["why"].as_str().unwrap().contains("longer than"));
    let mut rest = Vec::new();
    // Reset or closed, but ended.
    let _ = raw.0.read_to_end(&mut rest);
    assert!(rest.is_empty());
    extend(&client, 3, FAR_MS).await;
}

#[tokio::test]
async fn half_a_line_is_no_request() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let (client, _events) = site.running(3).await;
    let mut raw = Raw::connect(&site);
    raw.send(br#"{"op":"fence","resource":"db","token":3,"reason":"half"}"#);
    raw.0.get_ref().shutdown(Shutdown::Both).unwrap();
    drop(raw);
    extend(&client, 3, FAR_MS).await;
}

#[tokio::test]
async fn a_script_that_closes_its_end_still_gets_its_answer() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "sleep 0.2");
    let (client, _events) = site.up().await;
    let mut raw = Raw::connect(&site);
    raw.send(b"{\"op\":\"fence\",\"resource\":\"db\",\"token\":3,\"reason\":\"by hand\"}\n");
    raw.0.get_ref().shutdown(Shutdown::Write).unwrap();
    let answer = raw.answer();
    assert_eq!((&answer["reply"], &answer["token"]), (&"receipt".into(), &3.into()), "{answer}");
    let mut rest = String::new();
    raw.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "and then the connection is closed");
    client.arm(db(), 4, ahead(FAR_MS), 1).await.unwrap();
}

#[tokio::test]
async fn without_room_for_another_thread_it_goes_on() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let (client, mut events) = site.up().await;
    client.arm(db(), 3, ahead(FAR_MS), 1).await.unwrap();
    let none = Rlimit { current: Some(1), maximum: Some(1) };
    prlimit(Pid::from_raw(site.daemon_pid()), Resource::Nproc, none).unwrap();
    // To remember another name, and to read the configuration, it would make one.
    let (_lyon, _events, status) = Client::connect(&site.socket(), Some(name("lyon")), false).await.unwrap();
    assert_eq!(status.site, Some(name("lyon")));
    let said = site.reload().await;
    assert!(said.contains("cannot start a thread") || geteuid().is_root(), "{said}");
    extend(&client, 3, 100).await;
    while !matches!(next(&mut events).await, Notice::Fencing { .. }) {}
}

#[tokio::test]
async fn a_second_daemon_is_told_who_is_there() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let (client, _events) = site.up().await;
    let (code, text) = site.fails();
    assert_eq!(code, 1);
    assert!(text.contains(&format!("locked by process {}", site.daemon_pid())), "{text}");
    client.status().await.unwrap();
}

#[test]
fn a_wrong_configuration_is_shown_with_its_place() {
    let site = Site::new();
    fs::write(site.path("fenced.toml"), "[resource.db]\nfence = [{ driver = \"reboott\" }]\n").unwrap();
    let (code, text) = site.fails();
    assert_eq!(code, 3);
    assert!(text.contains("fenced.toml:2:21") && text.contains("did you mean `reboot`?"), "{text}");
}

#[test]
fn directories_that_cannot_be_used_are_named() {
    let site = Site::new();
    fs::write(site.path("file"), "").unwrap();
    let dir = site.dir.path().display();
    let rest = "[resource.db]\nfence = []\nunfenced = true\n";
    for (state, run, named) in [("file", "run", "file"), ("state", "file/run", "file/run")] {
        let text = format!("state-dir = \"{dir}/{state}\"\nruntime-dir = \"{dir}/{run}\"\n{rest}");
        fs::write(site.path("fenced.toml"), text).unwrap();
        let (code, text) = site.fails();
        assert_eq!(code, 1);
        assert!(text.contains(&format!("cannot create the directory {dir}/{named}")), "{text}");
    }
    fs::create_dir_all(site.path("taken/fenced.sock/x")).unwrap();
    fs::write(
        site.path("fenced.toml"),
        format!("state-dir = \"{dir}/s\"\nruntime-dir = \"{dir}/taken\"\n{rest}"),
    )
    .unwrap();
    let (code, text) = site.fails();
    assert_eq!(code, 1);
    assert!(text.contains("cannot listen on"), "{text}");
}

#[test]
fn the_command_line_is_checked() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sitegate-fenced")).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    };
    assert_eq!(run(&["--colour"]).0, 2);
    assert_eq!(run(&["keeper"]).0, 2);
    let (code, text) = run(&["--help"]);
    assert!(code == 0 && text.contains("Exit codes"), "{text}");
    let (code, text) = run(&["--check", "--config", "/nonexistent/fenced.toml"]);
    assert!(code == 3 && text.contains("create it, or say where it is"), "{text}");
    let site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    let (code, text) = run(&["--check", "--config", site.path("fenced.toml").to_str().unwrap()]);
    // A kill of 20 s, a level of 60 s, a kill.
    assert!(code == 0 && text.contains("db: fenced within 100000 ms"), "{text}");
}
