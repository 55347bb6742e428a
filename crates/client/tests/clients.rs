//! Clients against a real fence daemon: the library, and the examples of docs/clients.md as they are run.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sitegate_client::{NotHeld, Token, Watch, now};
use sitegate_test_support::fence_site::{FenceSite, ahead};
use sitegate_test_support::terms::{FAR_MS, db, eventually, revoked};

#[tokio::test]
async fn a_watch_follows_the_tenure_and_its_deadline() {
    let mut site = FenceSite::new("10s");
    let client = site.connect().await;
    let mut watch = Watch::connect(&site.socket(), db()).await.unwrap();
    assert_eq!((watch.tenure(), watch.join_within()), (None, Some(Duration::from_secs(10))));
    assert_eq!(watch.enter(Duration::ZERO).unwrap_err(), NotHeld::Elsewhere);
    let deadline = ahead(60_000);
    client.arm(db(), 5, deadline, 1).await.unwrap();
    let tenure = watch.held().await;
    assert_eq!((tenure.token, tenure.deadline), (5, deadline));
    assert!(tenure.is_valid(now()));
    assert!(matches!(watch.enter(Duration::from_secs(120)), Err(NotHeld::TooShort { .. })));

    let section = watch.enter(Duration::from_secs(1)).unwrap();
    let later = ahead(FAR_MS);
    site.extend(&client, 5, later).await;
    eventually("the new deadline arrives", || watch.tenure().is_some_and(|t| t.deadline == later)).await;
    assert_eq!((section.token(), section.leave()), (5, Ok(())));

    // A restart of the daemon is no loss, and is not noticed but by what comes after it.
    site.crash();
    assert_eq!(watch.tenure().unwrap().token, 5);
    site.start();
    let client = site.connect().await;
    let last = ahead(FAR_MS - 1);
    site.extend(&client, 5, last).await;
    eventually("it has connected again", || watch.tenure().is_some_and(|t| t.deadline == last)).await;

    let section = watch.enter(Duration::from_secs(1)).unwrap();
    client.fence(db(), 5, revoked()).await.unwrap();
    watch.lost(5).await;
    assert_eq!(section.leave().unwrap_err().token, 5);
    client.arm(db(), 6, ahead(FAR_MS), 1).await.unwrap();
    assert_eq!(watch.held().await.token, 6);
    // An old receipt, told once more, ends nothing.
    client.fence(db(), 5, revoked()).await.unwrap();
    site.extend(&client, 6, ahead(FAR_MS)).await;
    assert_eq!(watch.held().await.token, 6);
}

#[tokio::test]
async fn a_tenure_is_lost_at_its_deadline_though_nobody_says_so() {
    let mut site = FenceSite::new("10s");
    let client = site.connect().await;
    let mut watch = Watch::connect(&site.socket(), db()).await.unwrap();
    client.arm(db(), 5, ahead(2_000), 1).await.unwrap();
    let tenure = watch.held().await;
    site.crash();
    watch.lost(5).await;
    assert!(tenure.deadline.passed(now()));
    assert_eq!(watch.tenure(), None);
}

/// A program that is killed when the test ends.
struct Program(Child);

impl Program {
    fn start(command: &mut Command, output: &Path) -> Self {
        let output = File::options().create(true).append(true).open(output).unwrap();
        Self(command.stdin(Stdio::null()).stdout(output).spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_client_in_python_works_while_the_ticket_is_held() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3 here");
        return;
    }
    let site = FenceSite::new("10s");
    let client = site.connect().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/watch.py");
    let mut command = Command::new("python3");
    command.arg("-u").arg(script).arg(site.socket()).arg("db");
    let mut python = Program::start(&mut command, &site.path("output"));
    let lines = || site.text("output").lines().map(str::to_owned).collect::<Vec<_>>();
    for token in [5, 6] {
        client.arm(db(), token, ahead(60_000), 1).await.unwrap();
        let says = format!("at work under token {token}");
        eventually("it works", || lines().contains(&says)).await;
        // Not for as long as it needs: from now on it must not begin.
        let deadline = ahead(900);
        site.extend(&client, token, deadline).await;
        eventually("the deadline passes", || deadline.passed(now())).await;
        let so_far = lines().len();
        client.fence(db(), token, revoked()).await.unwrap();
        assert_eq!(lines().len(), so_far, "it works no more");
    }
    client.arm(db(), 7, ahead(60_000), 1).await.unwrap();
    eventually("it works", || lines().last().is_some_and(|line| line.ends_with(" 7"))).await;
    drop((client, site));
    eventually("it ends with the daemon", || python.0.try_wait().unwrap().is_some()).await;
}

#[test]
fn the_manual_shows_the_client_in_python_as_it_is_run() {
    let manual = include_str!("../../../docs/clients.md");
    let script = include_str!("../examples/watch.py");
    assert!(manual.contains(&format!("```python\n{script}```\n")), "docs/clients.md shows another watch.py");
    assert!(script.lines().count() <= 30);
}

/// The example, which cargo builds before it runs tests.
fn replicated() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().with_file_name("examples").join("replicated")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a replica has: token and value.
fn read(port: u16) -> (Token, u64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    numbers(&answer)
}

fn numbers(text: &str) -> (Token, u64) {
    let mut words = text.split_whitespace();
    let mut next = || words.next().unwrap().parse().unwrap();
    (next(), next())
}

#[tokio::test]
async fn the_replicated_service_counts_on_where_the_ticket_goes() {
    let sites = [FenceSite::new("10s"), FenceSite::new("10s")];
    let clients = [sites[0].connect().await, sites[1].connect().await];
    let ports = [free_port(), free_port()];
    let mut replicas = Vec::new();
    for (site, [own, peer]) in sites.iter().zip([ports, [ports[1], ports[0]]]) {
        let mut command = Command::new(replicated());
        command.arg(site.socket()).args(["db", &format!("127.0.0.1:{own}"), &format!("127.0.0.1:{peer}")]);
        replicas.push(Program::start(&mut command, &site.path("counted")));
    }
    let counted = |site: &FenceSite| site.text("counted").lines().map(numbers).collect::<Vec<_>>();
    clients[0].arm(db(), 257, ahead(FAR_MS), 1).await.unwrap();
    eventually("it counts", || counted(&sites[0]).len() > 5).await;
    eventually("with copies", || site_copies(&sites[0])).await;
    clients[0].fence(db(), 257, revoked()).await.unwrap();
    // The section that was under way may still end; then nothing more is counted.
    let (_, value) = read(ports[1]);
    clients[1].arm(db(), 514, ahead(FAR_MS), 1).await.unwrap();
    eventually("the other goes on", || counted(&sites[1]).len() > 5).await;
    let first = counted(&sites[1])[0];
    assert!(first.0 == 514 && first.1 > value, "{first:?} after {value}");
    eventually("its copies arrive", || read(ports[0]).0 == 514).await;
    assert!(counted(&sites[0]).iter().all(|(token, _)| *token == 257));

    // What a holder of yesterday still sends is refused.
    let mut stream = TcpStream::connect(("127.0.0.1", ports[1])).unwrap();
    stream.write_all(b"257 1000000\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "refused\n");
}

/// Whether a copy has been taken at last: the other replica may have come up later.
fn site_copies(site: &FenceSite) -> bool {
    site.text("counted").lines().last().is_some_and(|line| line.ends_with(" 1"))
}
