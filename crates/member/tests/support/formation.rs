//! A formation of real processes on loopback: this very test program, started again as a daemon.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use sitegate_member::config::{Configuration, Role, TlsFiles};
use sitegate_member::daemon::{Program, nothing_to_check, start};
use tempfile::TempDir;

use super::authority::Authority;
use super::http::{Answer, Unix};
use super::{comes_true, fence, wait_for};

/// Tells the program, started again, that it is a daemon, and its words.
const WORDS: &str = "SITEGATE_TEST_WORDS";
/// And of which role.
const ROLE: &str = "SITEGATE_TEST_ROLE";

/// To be called by an ignored test `daemon` of each test file that uses this: the daemons enter there.
pub fn enter() {
    let Ok(words) = std::env::var(WORDS) else { return };
    let role = if std::env::var(ROLE).unwrap() == "site" { Role::Site } else { Role::Arbitrator };
    let program = Program {
        name: "test-daemon",
        what: "a daemon in a test",
        role,
        check: nothing_to_check,
        attach: (role == Role::Site).then_some(fence::attach),
    };
    std::process::exit(start(&program, words.split('\n').map(Into::into)).code().into());
}

/// The test program as a daemon of `role` with these words.
pub fn command(role: &str, words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["daemon", "--exact", "--ignored", "--nocapture", "--quiet"]);
    command.env(WORDS, words.join("\n")).env(ROLE, role).stdin(Stdio::null());
    command
}

/// Three members with one ticket and short times.
pub struct Formation {
    pub directory: TempDir,
    pub authority: Authority,
    pub members: Vec<MemberFiles>,
}

/// Where one member's files lie.
#[derive(Clone)]
pub struct MemberFiles {
    pub name: &'static str,
    pub role: &'static str,
    pub directory: PathBuf,
    pub port: u16,
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    pub files: MemberFiles,
    child: Child,
}

pub const MEMBERS: [(&str, &str); 3] = [("paris", "site"), ("lyon", "site"), ("tiebreak", "arbitrator")];

impl Formation {
    /// With files for everybody, and no store yet.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut authority = Authority::new(&directory.path().join("pki"));
        let members: Vec<MemberFiles> = MEMBERS
            .iter()
            .map(|&(name, role)| MemberFiles {
                name,
                role,
                directory: directory.path().join(name),
                port: free_port(),
            })
            .collect();
        let formation = formation_toml(&members, "100ms");
        for member in &members {
            let tls = authority.issue(&format!("sitegate://acme/member/{}", member.name), -1..1000);
            member.write(&formation, &tls);
        }
        Self { directory, authority, members }
    }

    /// Initialised and started; all vote.
    pub fn started() -> (Self, Vec<Daemon>) {
        let formation = Self::new();
        for member in &formation.members {
            assert!(member.run(&["init"]).0.success());
        }
        let daemons: Vec<Daemon> = formation.members.iter().map(MemberFiles::start).collect();
        for daemon in &daemons {
            daemon.wait_until_voting();
        }
        (formation, daemons)
    }
}

/// A formation file for these members.
pub fn formation_toml(members: &[MemberFiles], heartbeat: &str) -> String {
    let mut text = format!("formation = \"acme\"\nheartbeat = \"{heartbeat}\"\nrtt-max = \"50ms\"\n");
    for (index, MemberFiles { name, role, port, .. }) in members.iter().enumerate() {
        let id = index + 1;
        write!(
            text,
            "[[member]]\nid = {id}\nname = \"{name}\"\nrole = \"{role}\"\naddress = [\"127.0.0.1:{port}\"]\n"
        )
        .unwrap();
    }
    text.push_str("[ticket-defaults]\nexpire = \"2s\"\nacquire-after = \"1s\"\n[ticket.db]\norder = [\"paris\", \"lyon\"]\n");
    text
}

/// A port of loopback that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl MemberFiles {
    /// Writes both configuration files.
    pub fn write(&self, formation: &str, tls: &TlsFiles) {
        std::fs::create_dir_all(&self.directory).unwrap();
        std::fs::write(self.directory.join("formation.toml"), formation).unwrap();
        let member = format!(
            "name = \"{}\"\nstate-dir = \"state\"\nruntime-dir = \"run\"\nlisten = [\"127.0.0.1:{}\"]\n\
             [tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
            self.name, self.port, tls.ca, tls.cert, tls.key
        );
        std::fs::write(self.directory.join("member.toml"), member).unwrap();
    }

    pub fn configuration(&self) -> Configuration {
        Configuration::load(&self.directory).unwrap()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn words<'w>(&'w self, words: &[&'w str]) -> Vec<&'w str> {
        let mut all = vec!["--config", self.directory.to_str().unwrap()];
        all.extend(words);
        all
    }

    /// Runs the daemon's program with these words to its end; what it said on standard error comes back.
    pub fn run(&self, words: &[&str]) -> (ExitStatus, String) {
        let output = command(self.role, &self.words(words)).output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Starts the daemon; its log is appended to a file.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// Starts the daemon with more in its environment.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = command(self.role, &self.words(&[]));
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        Daemon { files: self.clone(), child }
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn api(&self) -> Unix {
        Unix::new(&self.directory.join("run/sitegate.sock"))
    }

    /// Waits until the log has a line with all of `parts`.
    pub fn wait_for_log(&self, parts: &[&str]) -> String {
        wait_for(&format!("{parts:?} in the log of {}", self.name), || {
            let log = self.log();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }
}

impl Daemon {
    /// Its answer to `GET path`.
    pub fn get(&self, path: &str) -> Answer {
        self.files.api().get(path)
    }

    pub fn wait_until_voting(&self) {
        let mut last = None;
        let votes = || {
            last = self.files.api().try_get("/v1/status").map(|answer| answer.body);
            let status: serde_json::Value = serde_json::from_str(last.as_ref()?).ok()?;
            (status["standing"] == "voting").then_some(())
        };
        if !comes_true(votes) {
            panic!("{} does not vote: {last:?}\n{}", self.files.name, self.files.log());
        }
    }

    /// Gives a command and waits for its end: all lines of the answer.
    pub fn give(&self, command: &serde_json::Value) -> Vec<serde_json::Value> {
        let answer = self.files.api().post("/v1/commands", command);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.lines()
    }

    /// The ticket's status as this member has it.
    pub fn ticket(&self, name: &str) -> serde_json::Value {
        let status = self.get("/v1/status").json();
        let tickets = status["tickets"].as_array().unwrap();
        tickets.iter().find(|ticket| ticket["ticket"] == name).unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its end, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn end(mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for(&format!("the end of {}", self.files.name), || child.try_wait().unwrap())
    }

    /// SIGTERM, and its end.
    pub fn stop(self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.end()
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory's path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
