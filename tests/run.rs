//! `sitegate run` with a real fence daemon, as an ordinary user (docs/cli.md, "Running under a ticket").

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sitegate_client::now;
use sitegate_test_support::fence_site::{FenceSite, ahead};
use sitegate_test_support::terms::{self, FAR_MS, db, eventually, is_alive};

/// `sitegate run` under way.
struct Run(Child);

impl Run {
    /// `$D` in the script is the test's directory.
    fn start(site: &FenceSite, options: &[&str], script: &str) -> Self {
        let script = format!("D={}\n{script}", site.dir().display());
        Self::command(site, options, &["/bin/sh", "-c", &script])
    }

    fn command(site: &FenceSite, options: &[&str], command: &[&str]) -> Self {
        let mut run = Command::new(env!("CARGO_BIN_EXE_sitegate"));
        run.arg("run").args(["--fenced-socket".as_ref(), site.socket().as_os_str()]);
        if !options.contains(&"--ticket") {
            run.args(["--ticket", "db"]);
        }
        run.args(options).arg("--").args(command);
        let said = File::options().create(true).append(true).open(site.path("said")).unwrap();
        Self(run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    async fn code(mut self) -> Option<i32> {
        eventually("it ends", || self.0.try_wait().unwrap().is_some()).await;
        self.0.wait().unwrap().code()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says that it has been told to end, and does.
const GRACEFUL: &str =
    "trap 'echo ended > $D/ended; exit 0' TERM; echo $$ > $D/pid; while :; do sleep 0.05; done";
/// Ignores what it can, and has a child in a session of its own that does so too.
const STUBBORN: &str = "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM; echo $$ > $0/child; while :; do sleep 1; done' $D & \
                        echo $$ > $D/pid; while :; do sleep 1; done";

#[tokio::test]
async fn waits_for_the_ticket_and_exits_as_the_command_does() {
    let site = FenceSite::new("10s");
    let client = site.connect().await;
    let run =
        Run::start(&site, &[], "echo $SITEGATE_TICKET $SITEGATE_TOKEN $SITEGATE_REASON > $D/told; exit 7");
    eventually("it says that it waits", || site.text("said").contains("waiting until db is held here")).await;
    assert!(!site.path("told").exists());
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    assert_eq!(run.code().await, Some(7));
    assert_eq!(site.text("told"), "db 5 join\n");
    assert!(site.text("said").contains("db is held here, with token 5"));
}

#[tokio::test]
async fn what_ends_a_command_is_passed_on() {
    let site = FenceSite::new("10s");
    let client = site.connect().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let run = Run::start(&site, &[], "trap 'exit 3' TERM; echo $$ > $D/pid; while :; do sleep 0.05; done");
    eventually("it runs", || site.pid("pid").is_some()).await;
    run.signal(Signal::TERM);
    assert_eq!(run.code().await, Some(3));
    let run = Run::start(&site, &[], "kill -KILL $$");
    assert_eq!(run.code().await, Some(128 + 9));
}

#[tokio::test]
async fn a_command_is_told_to_end_before_its_deadline() {
    let site = FenceSite::new("3s");
    let client = site.connect().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let run = Run::start(&site, &[], GRACEFUL);
    eventually("it runs", || site.pid("pid").is_some()).await;
    let deadline = ahead(6_000);
    site.extend(&client, 5, deadline).await;
    eventually("it is told", || site.text("ended") == "ended\n").await;
    assert!(!deadline.passed(now()), "there was time left");
    assert_eq!(run.code().await, Some(124));
    assert!(site.text("said").contains("db was lost, and the command has ended"), "{}", site.text("said"));
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_at_its_deadline() {
    let site = FenceSite::new("10s");
    let client = site.connect().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let run = Run::start(&site, &[], STUBBORN);
    eventually("both run", || site.pid("pid").is_some() && site.pid("child").is_some()).await;
    site.extend(&client, 5, ahead(500)).await;
    assert_eq!(run.code().await, Some(124));
    client.fence(db(), 5, terms::revoked()).await.unwrap();
    assert!(!is_alive(site.pid("pid").unwrap()) && !is_alive(site.pid("child").unwrap()));
}

#[tokio::test]
async fn a_revoke_lets_the_command_end_by_itself() {
    let site = FenceSite::new("30s");
    let client = site.connect().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let run = Run::start(&site, &[], GRACEFUL);
    eventually("it runs", || site.pid("pid").is_some()).await;
    client.stop(db(), 5).await.unwrap().unwrap();
    assert_eq!(site.text("ended"), "ended\n");
    assert_eq!(run.code().await, Some(124));
}

/// Whoever kills `sitegate run` kills the command; what that has started is killed by the fence daemon.
#[tokio::test]
async fn a_kill_of_the_runner_leaves_nothing_alive_past_the_deadline() {
    let site = FenceSite::new("10s");
    let client = site.connect().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let run = Run::start(&site, &[], STUBBORN);
    eventually("both run", || site.pid("pid").is_some() && site.pid("child").is_some()).await;
    let (pid, child) = (site.pid("pid").unwrap(), site.pid("child").unwrap());
    run.signal(Signal::KILL);
    assert_eq!(run.code().await, None);
    eventually("the command dies with it", || !is_alive(pid)).await;
    assert!(is_alive(child));
    let deadline = ahead(300);
    site.extend(&client, 5, deadline).await;
    eventually("the fence daemon kills the rest", || !is_alive(child)).await;
    assert!(deadline.passed(now()));
}

#[tokio::test]
async fn runs_again_when_the_ticket_comes_back() {
    let site = FenceSite::new("10s");
    let client = site.connect().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let run = Run::start(&site, &["--again"], "echo $SITEGATE_TOKEN >> $D/tokens; while :; do sleep 1; done");
    eventually("it runs", || site.text("tokens") == "5\n").await;
    client.fence(db(), 5, terms::revoked()).await.unwrap();
    eventually("it waits", || site.text("said").contains("waiting for the ticket again")).await;
    client.arm(db(), 6, ahead(FAR_MS), 1).await.unwrap();
    eventually("it runs again", || site.text("tokens") == "5\n6\n").await;
    run.signal(Signal::TERM);
    assert_eq!(run.code().await, Some(128 + 15));
}

/// A tenure goes on after a renewal that came late, and after a restart of the resource.
#[tokio::test]
async fn runs_again_under_the_same_tenure() {
    let site = FenceSite::new("30s");
    let client = site.connect().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    let script = "trap 'exit 0' TERM; echo $SITEGATE_TOKEN >> $D/tokens; while :; do sleep 0.05; done";
    let _run = Run::start(&site, &["--again"], script);
    eventually("it runs", || site.text("tokens") == "5\n").await;
    let waits = |times| site.text("said").matches("waiting for the ticket again").count() == times;
    site.extend(&client, 5, ahead(8_000)).await;
    eventually("it has ended ahead of the deadline", || waits(1)).await;
    site.extend(&client, 5, ahead(FAR_MS)).await;
    eventually("it runs again", || site.text("tokens") == "5\n5\n").await;

    client.stop(db(), 5).await.unwrap().unwrap();
    eventually("it has ended", || waits(2)).await;
    site.extend(&client, 5, ahead(FAR_MS)).await;
    client.start(db(), 5).await.unwrap().unwrap();
    site.extend(&client, 5, ahead(FAR_MS)).await;
    eventually("it runs once more", || site.text("tokens") == "5\n5\n5\n").await;
}

#[tokio::test]
async fn says_why_nothing_can_run() {
    let site = FenceSite::new("10s");
    let client = site.connect().await;
    client.arm(db(), 5, ahead(FAR_MS), 1).await.unwrap();
    client.arm(terms::name("others"), 5, ahead(FAR_MS), 1).await.unwrap();
    fs::write(site.path("text"), "x").unwrap();
    let text = site.path("text").display().to_string();
    for (options, command, code, why) in [
        (&["--ticket", "none"][..], "/bin/true", 1, "no such resource"),
        (&["--ticket", "web"], "/bin/true", 6, "nobody may join web"),
        (&["--ticket", "others"], "/bin/true", 6, "list the user in `join`"),
        (&[], "/nonexistent/command", 127, "cannot run /nonexistent/command"),
        (&[], text.as_str(), 126, "cannot run"),
    ] {
        assert_eq!(
            Run::command(&site, options, &[command]).code().await,
            Some(code),
            "{}",
            site.text("said")
        );
        assert!(site.text("said").contains(why), "{why}: {}", site.text("said"));
    }
    drop(client);
    let site = FenceSite::down();
    assert_eq!(Run::command(&site, &[], &["/bin/true"]).code().await, Some(3));
}
