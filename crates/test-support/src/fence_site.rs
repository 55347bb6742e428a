//! A fence daemon in a directory of its own, with resources that can be joined; for tests of its clients.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sitegate_fence_client::Client;
use sitegate_fence_client::request::Extension;
use sitegate_fence_client::wire::{Deadline, Instant as Moment, Token};
use sitegate_host::clock::{boot_ns, raw_ns};
use sitegate_host::process;
use sitegate_host::sweep::{Sweeper, Target};
use tempfile::TempDir;

use crate::programs::program;
use crate::terms::{SOON, db, name};

/// A directory with a fence daemon, or without one for now. Nothing of it is left when this is dropped.
#[derive(Debug)]
pub struct FenceSite {
    directory: TempDir,
    daemon: Option<Child>,
}

/// A deadline so far from now.
#[must_use]
pub fn ahead(ms: u64) -> Deadline {
    Moment { boot_ns: boot_ns(), raw_ns: raw_ns() }.after(ms * 1_000_000)
}

impl FenceSite {
    /// `db` can be joined by us, `others` by somebody else, `web` by nobody. What has joined may take `within` to end.
    #[must_use]
    pub fn new(within: &str) -> Self {
        let mut site = Self::down();
        site.configure(within);
        site.start();
        site
    }

    /// Without a daemon.
    #[must_use]
    pub fn down() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), daemon: None }
    }

    fn configure(&self, within: &str) {
        let (dir, uid) = (self.dir().display(), process::user(own_pid()).unwrap());
        let text = format!(
            "state-dir = \"{dir}/state\"\nruntime-dir = \"{dir}/run\"\ncontainment = \"tree\"\nkill-within = \"20s\"\n\
             [resource.db]\nfence = []\nunfenced = true\njoin = {{ uid = [{uid}], within = \"{within}\" }}\n\
             [resource.others]\nfence = []\nunfenced = true\njoin = {{ uid = [{}] }}\n\
             [resource.web]\nfence = []\nunfenced = true\n",
            uid + 1
        );
        fs::write(self.path("fenced.toml"), text).unwrap();
    }

    /// Starts the daemon.
    pub fn start(&mut self) {
        // Where cargo puts tests is a directory below that of programs.
        let own = std::env::current_exe().unwrap();
        let programs = own.parent().unwrap().parent().unwrap();
        let program = program(programs, "sitegate-fence", "sitegate-fenced");
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(program);
        command.arg("--config").arg(self.path("fenced.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Kills the daemon as a crash would.
    pub fn crash(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// As site paris, once it answers.
    pub async fn connect(&self) -> Client {
        let until = Instant::now() + SOON;
        loop {
            match Client::connect(&self.socket(), Some(name("paris")), false).await {
                Ok((client, _events, _status)) => return client,
                Err(error) => assert!(Instant::now() < until, "{error}\n{}", self.text("log")),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sets the deadline of `db`.
    pub async fn extend(&self, client: &Client, token: Token, deadline: Deadline) {
        let set = vec![Extension { deadline, resources: vec![(db(), token)] }];
        assert_eq!(client.extend(1, set).await.unwrap(), []);
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("run/fenced.sock")
    }

    /// What stands in a file; nothing if there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A pid that a script has written.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<i32> {
        let text = self.text(name);
        text.ends_with('\n').then(|| text.trim().parse().unwrap())
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

impl Drop for FenceSite {
    /// Leaves nothing behind, whatever a test has found.
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.crash();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.text("log"));
        }
        let mark = self.text("run/containment-id").trim().to_owned();
        if mark.is_empty() {
            return;
        }
        let target = Target { mark, cgroups: Vec::new(), processes: BTreeSet::new() };
        // A thread of its own, since this may run within a runtime.
        let sweep = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { Sweeper::start().unwrap().kill(target, SOON).await })
        });
        let swept = sweep.join().unwrap();
        assert!(std::thread::panicking() || swept.is_ok(), "{swept:?}");
    }
}
