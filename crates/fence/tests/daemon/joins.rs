//! `join` and `watch` (docs/fencing.md, "Joining"): what was not started here, and dies with the ticket all the same.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::geteuid;
use sitegate_fence::leases::now;
use sitegate_fence_client::request::{FromDaemon, Reply, parse_from_daemon};
use sitegate_fence_client::status::ResourceState;
use sitegate_fence_client::wire::{Notice, Refusal};

use crate::contained;
use crate::site::*;

/// Variables that make this program one that joins.
const SOCKET: &str = "TEST_JOIN_SOCKET";
const SCRIPT: &str = "TEST_JOIN_SCRIPT";
const REQUEST: &str = "TEST_JOIN_REQUEST";
const LEFT_TO: &str = "TEST_JOIN_LEFT_TO";

const JOIN: &str = "{\"op\":\"join\",\"resource\":\"db\"}";

/// Not a test: what the tests start. It joins `db`, writes the answer to stdout, and becomes a shell.
#[test]
fn joiner() {
    let (Ok(socket), Ok(script)) = (std::env::var(SOCKET), std::env::var(SCRIPT)) else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = std::env::var(REQUEST).unwrap_or_else(|_| JOIN.to_owned());
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    // A line of its own, whatever the harness has written before.
    print!("\n{line}");
    std::io::stdout().flush().unwrap();
    let Ok(FromDaemon::Reply(_, Reply::Joined(joined))) = parse_from_daemon(line.as_bytes()) else { return };
    panic!("{}", Command::new("/bin/sh").args(["-c", &script]).envs(joined.environment).exec());
}

/// Not a test either: it connects, and leaves the connection to a shell.
#[test]
#[expect(clippy::zombie_processes, reason = "the shell is to outlive us")]
fn leaver() {
    let (Ok(socket), Ok(script)) = (std::env::var(SOCKET), std::env::var(LEFT_TO)) else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"{\"op\":\"status\"}\n").unwrap();
    // Then it has been let in.
    BufReader::new(&stream).read_line(&mut String::new()).unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &script]).env("PARENT", std::process::id().to_string());
    shell.stdin(OwnedFd::from(stream)).stdout(Stdio::null()).spawn().unwrap();
}

/// A process that joins `db`, and what it was told.
struct Joiner {
    process: Child,
    told: Reply,
}

impl Joiner {
    /// `$D` in the script is the test's directory.
    fn start(site: &Site, script: &str) -> Self {
        Self::begin(site, script).told().unwrap()
    }

    fn begin(site: &Site, script: &str) -> Beginning {
        Beginning(Self::command(site, script, JOIN).spawn().unwrap())
    }

    /// One that asks `request` as somebody else.
    fn of_user(uid: u32, site: &Site, script: &str, request: &str) -> Self {
        let mut command = Self::command(site, script, request);
        Beginning(command.uid(uid).gid(uid).spawn().unwrap()).told().unwrap()
    }

    fn command(site: &Site, script: &str, request: &str) -> Command {
        let script = format!("D={}\n{script}", site.dir.path().display());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "joins::joiner", "--nocapture"]);
        command.env(SOCKET, site.socket()).env(SCRIPT, script).env(REQUEST, request).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    fn refused(self) -> Refusal {
        let Reply::Refused { refusal, .. } = &self.told else { panic!("{:?}", self.told) };
        refusal.clone()
    }

    fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One that may not have been answered yet.
struct Beginning(Child);

impl Beginning {
    /// None if it was killed before it could say.
    fn told(mut self) -> Option<Joiner> {
        let output = BufReader::new(self.0.stdout.as_mut().unwrap());
        let Some(answer) = output.lines().map(Result::unwrap).find(|line| line.starts_with('{')) else {
            assert_eq!(self.0.wait().unwrap().signal(), Some(9), "it was to say what it was told");
            return None;
        };
        let Ok(FromDaemon::Reply(_, told)) = parse_from_daemon(answer.as_bytes()) else { panic!("{answer}") };
        Some(Joiner { process: self.0, told })
    }
}

/// `db` can be joined by us.
fn configure(site: &Site, within: &str, level: &str) {
    configure_for(site, geteuid().as_raw(), within, level);
}

fn configure_for(site: &Site, uid: u32, within: &str, level: &str) {
    let level = site.script("level", level);
    site.configure(&format!(
        "[resource.db]\nlast-level-may-fail = true\njoin = {{ uid = [{uid}], within = \"{within}\" }}\n\
         fence = [{{ driver = \"command\", command = [\"{level}\"], within = \"60s\" }}]\n\
         [resource.web]\nfence = []\nunfenced = true\n"
    ));
}

/// Runs on, ignores what it can, has a descendant in a session of its own, and says so.
const STUBBORN: &str = "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; echo $$ > $0/child; while :; do sleep 1; done' $D & \
                        echo $$ > $D/pid; while :; do sleep 1; done";

contained! {
    async fn what_has_joined_is_killed_at_the_deadline(site) {
        let mut site = site;
        configure(&site, "10s", "exit 0");
        let (client, mut events) = site.up().await;
        client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
        let mut joiner = Joiner::start(&site, STUBBORN);
        let Reply::Joined(joined) = &joiner.told else { panic!("{:?}", joiner.told) };
        assert_eq!((joined.token, joined.environment["SITEGATE_TOKEN"].as_str()), (5, "5"));
        assert_eq!(joined.environment["SITEGATE_REASON"], "join");
        eventually("both run", || site.pid("pid").is_some() && site.pid("child").is_some()).await;
        let deadline = ahead(500);
        extend(&client, 5, 500).await;
        receipt(&mut events).await;
        assert!(deadline.passed(now()) && !is_alive(site.pid("child").unwrap()));
        assert!(!is_alive(joiner.pid()));
        assert!(joiner.has_ended());
    }

    /// Nothing in the environment tells that it belongs to anything: it is known by its pid alone, or by its control group.
    async fn what_has_joined_is_known_to_the_next_daemon(site) {
        let mut site = site;
        configure(&site, "10s", "exit 0");
        let (client, _events) = site.up().await;
        client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
        let joiner = Joiner::start(&site, "echo $$ > $D/pid; exec env -i /bin/sleep 3600");
        eventually("it runs", || site.pid("pid").is_some()).await;
        site.crash();
        let (client, _events) = site.up().await;
        assert!(is_alive(joiner.pid()));
        client.fence(db(), 5, revoked()).await.unwrap();
        assert!(!is_alive(joiner.pid()));
    }

    /// As on most sites: the daemon runs as root, and the command as a user who may do nothing else with the ticket.
    async fn a_user_who_is_listed_may_join_and_do_nothing_else(site) {
        const NOBODY: u32 = 65_534;
        if !geteuid().is_root() {
            eprintln!("skipped: only root can be another user");
            return;
        }
        let mut site = site;
        configure_for(&site, NOBODY, "10s", "exit 0");
        let (client, _events) = site.up().await;
        for directory in [site.path(""), site.path("run")] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
        let fence = "{\"op\":\"fence\",\"resource\":\"db\",\"token\":5,\"reason\":\"x\"}";
        let refused = Joiner::of_user(NOBODY, &site, "", fence).refused();
        assert_eq!(refused, Refusal::NotAllowed { uid: NOBODY });
        let joiner = Joiner::of_user(NOBODY, &site, "exec env -i /bin/sleep 3600", JOIN);
        assert!(matches!(joiner.told, Reply::Joined(_)), "{:?}", joiner.told);
        client.fence(db(), 5, revoked()).await.unwrap();
        assert!(!is_alive(joiner.pid()));
    }

    async fn a_stop_asks_what_has_joined_to_end(site) {
        let mut site = site;
        configure(&site, "30s", "exit 0");
        let (client, _events) = site.up().await;
        client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
        let script = "trap 'echo ended > $D/ended; exit 0' TERM; echo $$ > $D/pid; while :; do sleep 0.05; done";
        let joiner = Joiner::start(&site, script);
        eventually("it runs", || site.pid("pid").is_some()).await;
        client.stop(db(), 5).await.unwrap().unwrap();
        assert!(site.text("ended") == "ended\n" && !is_alive(joiner.pid()));
        assert_eq!(Joiner::start(&site, "sleep 3600").refused(), Refusal::Stopping);
        client.start(db(), 5).await.unwrap().unwrap();
        assert!(matches!(Joiner::start(&site, "sleep 3600").told, Reply::Joined(_)), "it may run again");
    }
}

#[tokio::test]
async fn what_does_not_end_in_time_is_told_and_fenced() {
    let mut site = Site::new();
    configure(&site, "200ms", "exit 0");
    let (client, _events) = site.up().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let joiner = Joiner::start(&site, STUBBORN);
    eventually("it runs", || site.pid("pid").is_some()).await;
    let why = client.stop(db(), 5).await.unwrap().unwrap_err();
    assert!(
        why.contains("did not end within 200 ms of SIGTERM") && why.contains(&joiner.pid().to_string()),
        "{why}"
    );
    client.fence(db(), 5, revoked()).await.unwrap();
    assert!(!is_alive(joiner.pid()));
}

#[tokio::test]
async fn only_who_is_listed_may_join_and_only_what_is_armed() {
    let mut site = Site::new();
    configure(&site, "10s", "until [ -e $D/go ]; do sleep 0.05; done");
    let (client, mut events) = site.up().await;
    assert_eq!(Joiner::start(&site, "sleep 3600").refused(), Refusal::NotArmed);
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let fencing = tokio::spawn({
        let client = client.clone();
        async move { client.fence(db(), 5, revoked()).await }
    });
    while !matches!(next(&mut events).await, Notice::Fencing { .. }) {}
    assert_eq!(Joiner::start(&site, "sleep 3600").refused(), Refusal::BeingFenced { fencing: 5 });
    fs::write(site.path("go"), "").unwrap();
    fencing.await.unwrap().unwrap();
    assert_eq!(Joiner::start(&site, "sleep 3600").refused(), Refusal::NotArmed);

    client.arm(db(), 6, ahead(FAR_MS), 1).await.unwrap();
    let own = geteuid().as_raw();
    configure_for(&site, own + 1, "10s", "exit 0");
    assert!(site.reload().await.contains("join of db"));
    assert_eq!(Joiner::start(&site, "sleep 3600").refused(), Refusal::NotAllowed { uid: own });
    assert!(site.text("run/joined").lines().count() <= 1, "nobody is taken down who was refused");
}

/// Somebody else's process is not killed for it: who has connected is who joins, and the daemon's own parent is spared.
#[tokio::test]
async fn nobody_joins_for_another() {
    let mut site = Site::new();
    configure(&site, "10s", "exit 0");
    let (client, _events) = site.up().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let why = client.join(db()).await.unwrap_err().to_string();
    assert!(why.contains("descends from it"), "{why}");

    let said = "read -r line; echo \"$line\" > $D/said";
    let script = format!(
        "D={}; while [ -e /proc/$PARENT ]; do sleep 0.05; done; echo '{{\"op\":\"join\",\"resource\":\"db\"}}' >&0; {said}",
        site.dir.path().display()
    );
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "joins::leaver"]).env(SOCKET, site.socket()).env(LEFT_TO, script);
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    eventually("it is answered", || site.text("said").ends_with('\n')).await;
    assert!(site.text("said").contains("it has ended"), "{}", site.text("said"));
}

/// Else its fence would miss what another one has drawn away.
#[tokio::test]
async fn what_belongs_to_one_ticket_cannot_join_another() {
    let mut site = Site::new();
    let uid = geteuid().as_raw();
    let join = std::env::current_exe().unwrap().display().to_string();
    let start = site.script(
        "start",
        &format!("{SOCKET}=$D/run/fenced.sock {SCRIPT}=: {join} --exact joins::joiner --nocapture > $D/said"),
    );
    site.configure(&format!(
        "[resource.web]\nfence = []\nunfenced = true\nstart = {{ command = [\"{start}\"], within = \"60s\" }}\n\
         [resource.db]\nfence = []\nunfenced = true\njoin = {{ uid = [{uid}] }}\n"
    ));
    let (client, _events) = site.up().await;
    for resource in [db(), name("web")] {
        client.arm(resource, 5, ahead(FAR_MS), 1).await.unwrap();
    }
    client.start(name("web"), 5).await.unwrap().unwrap();
    assert!(site.text("said").contains("it belongs to web already"), "{}", site.text("said"));
}

/// Whoever has come to join when the fence began is dead when there is a receipt, or was refused. Nothing in what they become tells
/// that they belong to anything.
#[tokio::test]
async fn nothing_that_joins_escapes_a_fence_that_begins_meanwhile() {
    let mut site = Site::new();
    configure(&site, "10s", "exit 0");
    let (client, mut events) = site.up().await;
    for token in 1..6 {
        client.arm(db(), token, ahead(FAR_MS), 1).await.unwrap();
        let coming: Vec<Beginning> =
            (0..12).map(|_| Joiner::begin(&site, "exec env -i /bin/sleep 3600")).collect();
        let until = std::time::Instant::now() + Duration::from_millis(20 * token);
        eventually("some are on their way", || std::time::Instant::now() >= until).await;
        client.fence(db(), token, revoked()).await.unwrap();
        assert_eq!(receipt(&mut events).await.token, token);
        for joiner in coming.into_iter().filter_map(Beginning::told) {
            match &joiner.told {
                Reply::Joined(_) => assert!(!is_alive(joiner.pid()), "it has escaped"),
                _ => drop(joiner.refused()),
            }
        }
    }
}

#[tokio::test]
async fn who_watches_a_resource_is_told_its_deadlines() {
    let mut site = Site::new();
    configure(&site, "10s", "exit 0");
    let (client, mut events) = site.up().await;
    let (watcher, mut watched, _) =
        sitegate_fence_client::Client::connect(&site.socket(), None, false).await.unwrap();
    let found = watcher.watch(db()).await.unwrap();
    assert_eq!((found.resource.state, found.join_within_ms), (ResourceState::Unarmed, Some(10_000)));
    assert_eq!(watcher.watch(name("web")).await.unwrap().join_within_ms, None);
    let unknown = watcher.watch(name("none")).await.unwrap_err();
    assert!(matches!(unknown, sitegate_fence_client::ClientError::Refused(Refusal::UnknownResource)));

    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    assert!(matches!(next(&mut watched).await, Notice::Armed { token: 5, .. }));
    extend(&client, 5, FAR_MS).await;
    let Notice::Extended { token: 5, deadline, .. } = next(&mut watched).await else {
        panic!("it was extended")
    };
    assert!(deadline.remaining_ns(now()) > (FAR_MS - 60_000) * 1_000_000);
    client.fence(db(), 5, revoked()).await.unwrap();
    assert!(matches!(next(&mut watched).await, Notice::Fencing { token: 5, .. }));
    // Who watches everything is not told of renewals.
    assert!(matches!(next(&mut events).await, Notice::Armed { .. }));
    assert!(matches!(next(&mut events).await, Notice::Fencing { .. }));
}
