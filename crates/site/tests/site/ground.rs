//! Three sites on loopback, the first two with fence daemons of their own.

use std::fmt::Write as _;
use std::fs;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sitegate_test_support::http::{Answer, Unix};
use sitegate_test_support::programs::program;
use sitegate_test_support::wait::wait_for;
use tempfile::TempDir;

/// A daemon; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    fn start(program: &Path, arguments: &[&str], log: &Path) -> Self {
        Self::start_with(program, arguments, fs::File::options().create(true).append(true).open(log).unwrap())
    }

    fn start_with(program: &Path, arguments: &[&str], log: impl Into<Stdio>) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) fn kill(self) {
        drop(self);
    }

    /// SIGHUP, which has it take its configuration again.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.0), Signal::HUP).unwrap();
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        wait_for("the end of a daemon", || self.0.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pipe that takes nothing more; whoever writes to it waits until somebody reads.
pub(crate) fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 512]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// Where all programs lie.
fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sitegated")).parent().unwrap()
}

fn sitegate() -> Command {
    Command::new(program(programs(), "sitegate", "sitegate"))
}

pub(crate) const SITES: [&str; 3] = ["paris", "lyon", "nice"];

pub(crate) struct Ground {
    directory: TempDir,
}

impl Ground {
    /// All files, every member initialised.
    pub(crate) fn new() -> Self {
        let ground = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(ground.path("formation.toml"), formation()).unwrap();
        let pki = ["pki", "init", "--formation", "@/formation.toml", "--out", "@/pki"];
        let pki = pki.map(|word| word.replace('@', ground.directory.path().to_str().unwrap()));
        let made = sitegate().args(pki).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for site in SITES {
            fs::create_dir_all(ground.path(site)).unwrap();
            fs::copy(ground.path("formation.toml"), ground.of(site, "formation.toml")).unwrap();
            ground.write_member(site, "");
            ground.write_fenced(site, "500ms");
            assert!(ground.run(site, &["init"]).0.success());
        }
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file of a site.
    pub(crate) fn of(&self, site: &str, name: &str) -> PathBuf {
        self.path(site).join(name)
    }

    /// Writes member.toml, with these hooks of ticket `db`.
    pub(crate) fn write_member(&self, site: &str, hooks: &str) {
        let port = port_of(&fs::read_to_string(self.path("formation.toml")).unwrap(), site);
        let text = format!(
            "name = \"{site}\"\nstate-dir = \"state\"\nruntime-dir = \"run\"\nfence-socket = \"frun/fenced.sock\"\n\
             listen = [\"127.0.0.1:{port}\"]\n[tls]\nca = \"../pki/{site}/ca.pem\"\ncert = \"../pki/{site}/{site}.pem\"\n\
             key = \"../pki/{site}/{site}.key\"\n[ticket.db]\n{hooks}\n"
        );
        fs::write(self.of(site, "member.toml"), text).unwrap();
    }

    /// Writes fenced.toml, whose only level may take so long.
    pub(crate) fn write_fenced(&self, site: &str, within: &str) {
        let text = format!(
            "state-dir = \"fstate\"\nruntime-dir = \"frun\"\ncontainment = \"tree\"\nkill-within = \"200ms\"\n[resource.db]\n\
             last-level-may-fail = true\nstart = {{ command = [\"/bin/true\"], within = \"2s\" }}\n\
             stop = {{ command = [\"/bin/true\"], within = \"2s\" }}\n\
             fence = [ {{ driver = \"command\", command = [\"/bin/true\"], within = \"{within}\" }} ]\n"
        );
        fs::write(self.of(site, "fenced.toml"), text).unwrap();
    }

    /// Writes an executable script; its path.
    pub(crate) fn script(&self, site: &str, name: &str, text: &str) -> String {
        let path = self.of(site, name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs sitegated with these words to its end; what it said comes back.
    pub(crate) fn run(&self, site: &str, words: &[&str]) -> (ExitStatus, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_sitegated"))
            .arg("--config")
            .arg(self.path(site))
            .args(words)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&said).into_owned())
    }

    /// What the command line shows when it asks `site`.
    pub(crate) fn shown(&self, site: &str, words: &[&str]) -> String {
        let output =
            sitegate().args(words).arg("--socket").arg(self.of(site, "run/sitegate.sock")).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn start(&self, site: &str) -> Process {
        let directory = self.path(site);
        let program = Path::new(env!("CARGO_BIN_EXE_sitegated"));
        Process::start(program, &["--config", directory.to_str().unwrap()], &self.of(site, "log"))
    }

    /// Its fence daemon and its site daemon, whose logs go into a pipe that is full, and that nobody reads.
    pub(crate) fn start_unread(&self, site: &str, pipe: &PipeWriter) -> [Process; 2] {
        self.make_fenced_directories(site);
        let (directory, fenced_config) = (self.path(site), self.of(site, "fenced.toml"));
        let sitegated = Path::new(env!("CARGO_BIN_EXE_sitegated"));
        let fenced = program(programs(), "sitegate-fence", "sitegate-fenced");
        let start = |program: &Path, config: &Path| {
            let arguments = ["--config", config.to_str().unwrap()];
            Process::start_with(program, &arguments, pipe.try_clone().unwrap())
        };
        [start(&fenced, &fenced_config), start(sitegated, &directory)]
    }

    fn make_fenced_directories(&self, site: &str) {
        for directory in ["fstate", "frun"] {
            fs::create_dir_all(self.of(site, directory)).unwrap();
        }
    }

    pub(crate) fn start_fenced(&self, site: &str) -> Process {
        self.make_fenced_directories(site);
        let config = self.of(site, "fenced.toml");
        let arguments = ["--config", config.to_str().unwrap()];
        let program = program(programs(), "sitegate-fence", "sitegate-fenced");
        Process::start(&program, &arguments, &self.of(site, "fenced.log"))
    }

    pub(crate) fn log(&self, site: &str) -> String {
        fs::read_to_string(self.of(site, "log")).unwrap_or_default()
    }

    /// Waits until a line with all of these stands in the log of `site`.
    pub(crate) fn wait_for_log(&self, site: &str, parts: &[&str]) {
        wait_for(&format!("{parts:?} in the log of {site}"), || {
            let log = self.log(site);
            log.lines().any(|line| parts.iter().all(|part| line.contains(part))).then_some(())
        });
    }

    pub(crate) fn api(&self, site: &str) -> Unix {
        Unix::new(&self.of(site, "run/sitegate.sock"))
    }

    pub(crate) fn get(&self, site: &str, path: &str) -> Answer {
        self.api(site).get(path)
    }

    pub(crate) fn wait_until_voting(&self, site: &str) {
        wait_for(&format!("{site} to vote"), || {
            (self.api(site).try_get("/v1/status")?.json()["standing"] == "voting").then_some(())
        });
    }

    pub(crate) fn ticket(&self, site: &str) -> Value {
        self.get(site, "/v1/status").json()["tickets"][0].clone()
    }

    /// Waits until `site` holds the ticket, armed; its token.
    pub(crate) fn wait_until_held(&self, site: &str) -> u64 {
        wait_for(&format!("{site} to hold the ticket"), || {
            let ticket = self.ticket(site);
            (ticket["local"]["state"] == "held").then(|| ticket["local"]["token"].as_u64()).flatten()
        })
    }

    /// Gives a command; the last line of the answer.
    pub(crate) fn give(&self, site: &str, command: &Value) -> Value {
        let answer = self.api(site).post("/v1/commands", command);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.lines().pop().unwrap()
    }

    pub(crate) fn grant(&self, site: &str) -> Value {
        self.give(site, &json!({ "command": "grant", "ticket": "db", "site": site, "timeout_ms": 10_000 }))
    }

    pub(crate) fn reload(&self, site: &str) -> Answer {
        self.api(site).post("/v1/reload", &json!({}))
    }
}

fn formation() -> String {
    let mut text = "formation = \"acme\"\nheartbeat = \"100ms\"\nrtt-max = \"50ms\"\n".to_owned();
    // All are held until all are chosen, so that they differ.
    let ports = SITES.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    for (index, (site, port)) in SITES.iter().zip(&ports).enumerate() {
        let (id, address) = (index + 1, port.local_addr().unwrap());
        write!(
            text,
            "[[member]]\nid = {id}\nname = \"{site}\"\nrole = \"site\"\naddress = [\"{address}\"]\n"
        )
        .unwrap();
    }
    text.push_str(
        "[ticket.db]\nexpire = \"2s\"\nacquire-after = \"1500ms\"\norder = [\"paris\", \"lyon\"]\n",
    );
    text
}

fn port_of(formation: &str, site: &str) -> String {
    let entry = formation.split("[[member]]").find(|entry| entry.contains(&format!("\"{site}\""))).unwrap();
    let address = entry.split("127.0.0.1:").nth(1).unwrap();
    address.split('"').next().unwrap().to_owned()
}
