//! A site to test at: directories, hooks, and the daemon's process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sitegate_fence::leases::now;
use sitegate_fence_client::request::Extension;
use sitegate_fence_client::wire::{Deadline, Notice, Receipt, Token};
use sitegate_fence_client::{Client, Event, Events};
use sitegate_host::cgroup::Cgroup;
use sitegate_host::sweep::{Sweeper, Target};
use tempfile::TempDir;

pub(crate) use sitegate_test_support::terms::{FAR_MS, SOON, db, eventually, is_alive, name, revoked};

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    containment: String,
    daemon: Option<Child>,
}

pub(crate) fn ahead(ms: u64) -> Deadline {
    now().after(ms * 1_000_000)
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

impl Site {
    /// A site whose daemon contains like this; `None` if this machine does not let it.
    pub(crate) fn with(containment: &str) -> Option<Self> {
        if containment == "cgroup" && Cgroup::own().is_none_or(|own| own.usable().is_err()) {
            eprintln!("skipped: no writable control group here");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        Some(Self { dir, containment: containment.to_owned(), daemon: None })
    }

    /// A site with process trees.
    pub(crate) fn new() -> Self {
        Self::with("tree").unwrap()
    }

    pub(crate) fn containment(&self) -> &str {
        &self.containment
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A pid that a script has written.
    pub(crate) fn pid(&self, name: &str) -> Option<i32> {
        let text = self.text(name);
        text.ends_with('\n').then(|| text.trim().parse().unwrap())
    }

    /// Writes an executable shell script; `$D` in it is the test's directory. Returns its path.
    pub(crate) fn script(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        let text = format!("#!/bin/sh\nD={}\n{body}\n", self.dir.path().display());
        // Written aside and renamed, so that no test execs a file that another thread's fork still has open for writing.
        let aside = self.path(&format!("{name}.new"));
        fs::write(&aside, text).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&aside, &path).unwrap();
        path.display().to_string()
    }

    /// Writes the configuration: the given resources, and what every test needs.
    pub(crate) fn configure(&self, resources: &str) {
        let Self { containment, .. } = self;
        let dir = self.dir.path().display();
        let text = format!(
            "state-dir = \"{dir}/state\"\nruntime-dir = \"{dir}/run\"\ncontainment = \"{containment}\"\n\
             kill-within = \"20s\"\n[log]\nfilter = \"debug\"\n{resources}"
        );
        fs::write(self.path("fenced.toml"), text).unwrap();
    }

    /// Resource `db`: `start`, `stop`, and the one level `level` are scripts with these bodies.
    pub(crate) fn configure_db(&self, start: &str, stop: &str, level: &str) {
        let (start, stop) = (self.script("start", start), self.script("stop", stop));
        let level = self.script("level", level);
        self.configure(&format!(
            "[resource.db]\nlast-level-may-fail = true\n\
             start = {{ command = [\"{start}\"], within = \"60s\" }}\n\
             stop = {{ command = [\"{stop}\"], within = \"60s\" }}\n\
             fence = [{{ driver = \"command\", command = [\"{level}\"], within = \"60s\" }}]\n"
        ));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/fenced.sock")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sitegate-fenced"));
        command.arg("--config").arg(self.path("fenced.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts the daemon and connects, watching.
    pub(crate) async fn up(&mut self) -> (Client, Events) {
        self.up_with(&[]).await
    }

    /// The same, with more in its environment.
    pub(crate) async fn up_with(&mut self, environment: &[(&str, PathBuf)]) -> (Client, Events) {
        self.begin_with(environment);
        self.connect().await
    }

    /// Starts the daemon and waits for nothing.
    pub(crate) fn begin(&mut self) {
        self.begin_with(&[]);
    }

    fn begin_with(&mut self, environment: &[(&str, PathBuf)]) {
        assert!(self.daemon.is_none());
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command();
        command.stderr(log).envs(environment.iter().map(|(name, value)| (name, value)));
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Starts the daemon where files cannot grow beyond so many bytes, its log aside, and connects, watching.
    pub(crate) async fn up_with_small_files(&mut self, bytes: u64) -> (Client, Events) {
        let mut command = Command::new("/bin/sh");
        // POSIX counts blocks of 512 bytes. Ignored signals stay so across exec.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
        command.args(["-c", &script, env!("CARGO_BIN_EXE_sitegate-fenced"), "--config"]);
        command
            .arg(self.path("fenced.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.daemon = Some(command.spawn().unwrap());
        self.connect().await
    }

    pub(crate) async fn connect(&mut self) -> (Client, Events) {
        let until = Instant::now() + SOON;
        loop {
            match Client::connect(&self.socket(), Some(name("paris")), true).await {
                Ok((client, events, _)) => return (client, events),
                Err(error) => {
                    let ended = self.daemon.as_mut().and_then(|d| d.try_wait().unwrap());
                    let late = Instant::now() > until;
                    assert!(ended.is_none() && !late, "{error}; daemon: {ended:?}\n{}", self.text("log"));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    pub(crate) fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap()
    }

    /// Kills the daemon as a crash would.
    pub(crate) fn crash(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        assert_eq!(daemon.wait().unwrap().signal(), Some(9));
    }

    /// Ends the daemon as a service manager would.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        signal(self.daemon_pid(), Signal::TERM);
        self.daemon.take().unwrap().wait().unwrap()
    }

    /// Has the daemon read its configuration again, and waits until it has said how that went.
    pub(crate) async fn reload(&self) -> String {
        let before = self.text("log").len();
        signal(self.daemon_pid(), Signal::HUP);
        let said = || self.text("log")[before..].to_owned();
        eventually("it says how the reload went", || said().contains("reloaded")).await;
        said()
    }

    /// Arms `db` far ahead and starts it.
    pub(crate) async fn running(&mut self, token: Token) -> (Client, Events) {
        let (client, events) = self.up().await;
        client.arm(db(), token, ahead(FAR_MS), 1).await.unwrap();
        client.start(db(), token).await.unwrap().unwrap();
        (client, events)
    }

    /// Runs the daemon to its end and gives exit code and stderr.
    pub(crate) fn fails(&self) -> (i32, String) {
        let mut child = self.command().stderr(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (child.wait().unwrap().code().unwrap(), text)
    }
}

impl Drop for Site {
    /// Leaves nothing behind, whatever a test has found.
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.text("log"));
        }
        let id = self.text("run/containment-id").trim().to_owned();
        if id.is_empty() {
            return;
        }
        let cgroups = self.text("run/cgroup-parents").lines().map(|l| Cgroup::at(Path::new(l))).collect();
        // A thread of its own, since this may run within a runtime.
        let sweep = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let target = Target { mark: id, cgroups, processes: BTreeSet::new() };
            let kill = async { Sweeper::start().unwrap().kill(target, SOON).await };
            runtime.block_on(kill)
        });
        let swept = sweep.join().unwrap();
        assert!(std::thread::panicking() || swept.is_ok(), "{swept:?}");
    }
}

/// Sets the deadline of `db` to so many milliseconds from now.
pub(crate) async fn extend(client: &Client, token: Token, ms: u64) {
    let set = vec![Extension { deadline: ahead(ms), resources: vec![(db(), token)] }];
    assert_eq!(client.extend(1, set).await.unwrap(), []);
}

/// Reads events up to the next receipt.
pub(crate) async fn receipt(events: &mut Events) -> Receipt {
    loop {
        if let Notice::Receipt(receipt) = next(events).await {
            return receipt;
        }
    }
}

pub(crate) async fn next(events: &mut Events) -> Notice {
    loop {
        if let Event::Resource(notice) = any(events).await {
            return notice;
        }
    }
}

pub(crate) async fn any(events: &mut Events) -> Event {
    tokio::time::timeout(SOON, events.next()).await.expect("an event comes").expect("the daemon lives")
}
