//! The socket: what stands in its way, and clients that ask too much.

use std::fs;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sitegate_fence::leases::now;
use sitegate_fence_client::request::LINE_BYTES_MAX;

use crate::site::{FAR_MS, SOON, Site, ahead, db, eventually, extend, is_alive, receipt, revoked};

const RUNS: &str = "setsid sleep 3600 & echo $! > $D/pid";

impl Site {
    /// Puts the socket elsewhere.
    fn move_socket(&self, path: &str) {
        let text = format!("socket = \"{path}\"\n{}", self.text("fenced.toml"));
        fs::write(self.path("fenced.toml"), text).unwrap();
    }
}

#[tokio::test]
async fn a_socket_that_cannot_be_made_does_not_keep_it_from_fencing() {
    let mut site = Site::new();
    site.configure_db(RUNS, "exit 0", "echo > $D/fenced");
    let (client, _events) = site.running(10).await;
    let deadline = ahead(500);
    extend(&client, 10, 500).await;
    site.crash();
    fs::remove_file(site.socket()).unwrap();
    fs::create_dir(site.socket()).unwrap();
    site.begin();
    eventually("it says so", || site.text("log").contains("NOBODY CAN CONNECT")).await;
    eventually("it is fenced all the same", || site.text("fenced") == "\n").await;
    assert!(deadline.passed(now()) && !is_alive(site.pid("pid").unwrap()));
    fs::remove_dir(site.socket()).unwrap();
    let (client, _events) = site.connect().await;
    assert_eq!(client.fence(db(), 10, revoked()).await.unwrap().token, 10);
}

#[tokio::test]
async fn nothing_but_a_left_over_socket_is_removed() {
    let site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    site.move_socket("fenced.toml");
    let text = site.text("fenced.toml");
    let (code, said) = site.fails();
    assert!(code == 1 && said.contains("which is no socket"), "{said}");
    assert_eq!(site.text("fenced.toml"), text, "a slip in the configuration must not delete it");

    let _other = UnixListener::bind(site.path("taken")).unwrap();
    fs::write(site.path("fenced.toml"), text.replace("socket = \"fenced.toml\"", "socket = \"taken\""))
        .unwrap();
    let (code, said) = site.fails();
    assert!(code == 1 && said.contains("another program listens there"), "{said}");
    assert!(UnixStream::connect(site.path("taken")).is_ok());
}

#[tokio::test]
async fn a_socket_left_over_is_replaced() {
    let mut site = Site::new();
    site.configure_db("exit 0", "exit 0", "exit 0");
    drop(site.up().await);
    site.crash();
    assert!(site.socket().exists());
    site.begin();
    site.connect().await;
}

#[tokio::test]
async fn control_groups_that_are_gone_do_not_keep_it_from_fencing() {
    let mut site = Site::new();
    site.configure_db(RUNS, "exit 0", "exit 0");
    drop(site.running(10).await);
    site.crash();
    let text = site.text("fenced.toml");
    let gone = format!("cgroup-parent = \"{}\"\n", site.path("none").display());
    fs::write(site.path("fenced.toml"), gone + &text.replace("\"tree\"", "\"cgroup\"")).unwrap();
    let (client, mut events) = site.up().await;
    assert!(site.text("log").contains("NO CONTROL GROUPS"));
    extend(&client, 10, 50).await;
    receipt(&mut events).await;
    assert!(!is_alive(site.pid("pid").unwrap()));
    assert!(site.terminate().success());
    let (code, said) = site.fails();
    assert!(
        code == 1 && said.contains("cannot use control groups"),
        "with nothing armed it says so:\n{said}"
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_is_told_by_the_end_of_its_connection() {
    let mut site = Site::new();
    site.configure_db(RUNS, "exit 0", "exit 0");
    drop(site.up().await);
    let stream = UnixStream::connect(site.socket()).unwrap();
    let asks = {
        let mut stream = stream.try_clone().unwrap();
        // Each line is answered at once, and more of them than may wait to be read.
        let lines = "{\"op\":\"start\",\"resource\":\"db\",\"token\":1}\n".repeat(1000);
        std::thread::spawn(move || while stream.write_all(lines.as_bytes()).is_ok() {})
    };
    eventually("it is cut off", || site.text("log").contains("it does not read what it is told")).await;
    stream.set_read_timeout(Some(SOON)).unwrap();
    // What was under way still comes, then the end: closed, or reset with what it asked unread.
    let ended = io::copy(&mut &stream, &mut io::sink());
    assert!(!matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "it stays connected");
    asks.join().unwrap();
}

/// How much time of a processor a thread of the daemon has used, by its name; in ticks of 10 ms.
fn used(site: &Site, thread: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", site.daemon_pid())).unwrap();
    let text = |file: PathBuf| fs::read_to_string(file).unwrap_or_default();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let task = tasks.find(|task| text(task.join("comm")).trim() == thread).unwrap();
    let stat = text(task.join("stat"));
    // proc_pid_stat(5): utime and stime are fields 14 and 15, the name in brackets is 2.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_client_that_floods_takes_nothing_from_another() {
    let mut site = Site::new();
    site.configure_db(RUNS, "exit 0", "exit 0");
    let (client, mut events) = site.running(4).await;
    let stream = UnixStream::connect(site.socket()).unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    // Long lines that take their time to be understood, if at all; what is answered is read, so that it is not cut off.
    let flood = {
        let (mut stream, sent) = (stream.try_clone().unwrap(), Arc::clone(&sent));
        let line = format!("{{\"op\":\"none\",\"of\":[{}[]]}}\n", "[],".repeat(LINE_BYTES_MAX / 4));
        std::thread::spawn(move || {
            while stream.write_all(line.as_bytes()).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let reads = {
        let stream = stream.try_clone().unwrap();
        std::thread::spawn(move || io::copy(&mut &stream, &mut io::sink()))
    };
    let sent = || sent.load(Ordering::Relaxed);
    eventually("the flood runs", || sent() > 3).await;
    for _ in 0..20 {
        extend(&client, 4, FAR_MS).await;
    }
    // It may take a while to be heard, beside such a neighbour; the deadline does not.
    extend(&client, 4, 5_000).await;
    receipt(&mut events).await;
    assert!(!is_alive(site.pid("pid").unwrap()));
    let at_the_receipt = sent();
    client.status().await.unwrap();
    eventually("the flood still runs", || sent() > at_the_receipt).await;
    // The thread that fences has nothing to do with it.
    eventually("the flood costs something", || used(&site, "clients") > 50).await;
    let fencing = used(&site, "sitegate-fenced");
    assert!(fencing < used(&site, "clients") / 2, "{fencing}");
    let _ = stream.shutdown(Shutdown::Both);
    flood.join().unwrap();
    let _ = reads.join().unwrap();
}
