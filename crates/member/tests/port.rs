//! Bad input on the port: it is turned away, said once, and harms nobody else.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::json;
use sitegate_member::config::{Formation as FormationFile, MemberName, TlsFiles};
use sitegate_member::tls::{Credentials, Service, server_name};
use sitegate_member::wire::{Answer, Hello, Lane, PACKET_BYTES_MAX, Packet, Refused, encode};
use sitegate_protocol::{
    Body, Boot, Epoch, Frame, Header, Identity, Incarnation, Life, Lsn, MemberId, Nonce,
};
use sitegate_test_support::wait::PATIENCE;
use support::authority::Authority;
use support::formation::{Daemon, Formation, MemberFiles, enter, formation_toml, free_port};
use support::http::{ask, get, post};
use support::wait_for;

/// Not a test: the daemons of the tests enter here.
#[test]
#[ignore = "only for the daemons that the tests start"]
fn daemon() {
    enter();
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn tls(port: u16, config: Arc<ClientConfig>) -> Tls {
    StreamOwned::new(ClientConnection::new(config, server_name()).unwrap(), connect(port))
}

fn client(files: &TlsFiles, service: Service) -> Arc<ClientConfig> {
    Credentials::load(files).unwrap().client_to_any(service)
}

/// What became of a connection: true if the other side has closed it, with or without a word.
fn is_closed(stream: &mut impl Read) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

/// A started formation in which paris holds `db`, which it must hold until the end.
struct Held {
    formation: Formation,
    daemons: Vec<Daemon>,
    token: serde_json::Value,
}

impl Held {
    fn new() -> Self {
        let (formation, daemons) = Formation::started();
        let lines = daemons[0].give(&json!({ "command": "grant", "ticket": "db", "site": "paris" }));
        let token = lines.last().unwrap()["token"].clone();
        assert!(token.is_u64(), "{lines:?}");
        Self { formation, daemons, token }
    }

    fn port(&self) -> u16 {
        self.formation.members[0].port
    }

    fn is_unharmed(&self) {
        for daemon in &self.daemons {
            let ticket = daemon.ticket("db");
            assert_eq!((&ticket["holder"], &ticket["token"]), (&json!("paris"), &self.token));
        }
        assert_eq!(self.daemons[0].ticket("db")["local"]["state"], "held");
        assert_eq!(self.daemons[0].get("/healthz").status, 200);
    }
}

#[test]
fn garbage_and_silence_are_turned_away() {
    let held = Held::new();
    // Garbage, half a greeting, plain HTTP: closed at once.
    for bytes in [&[0xff; 4096][..], b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = connect(held.port());
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(is_closed(&mut stream));
    }
    // One byte after the other, and none at all: closed after a while, however many there are.
    let mut silent: Vec<TcpStream> = (0..40).map(|_| connect(held.port())).collect();
    let mut slow = connect(held.port());
    let began = Instant::now();
    while slow.write_all(&[0x16]).is_ok() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
        held.is_unharmed();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "a slow one was not cut off");
    assert!(silent.iter_mut().all(is_closed));
    held.is_unharmed();
    let log = held.formation.members[0].log();
    let complaints = log.lines().filter(|line| line.contains("WARN") && line.contains("address=127.0.0.1"));
    assert_eq!(complaints.count(), 1, "said once a minute:\n{log}");
    let metrics = held.daemons[0].get("/metrics").body;
    let refused =
        metrics.lines().find_map(|line| line.strip_prefix("sitegate_connections_refused_total ")).unwrap();
    assert_eq!(refused, "44");
}

#[test]
fn certificates_decide_who_may_what() {
    let mut held = Held::new();
    let port = held.port();
    let mut other_ca = Authority::new(&held.formation.directory.path().join("other-pki"));
    let ours = &mut held.formation.authority;
    let stranger = TlsFiles {
        ca: ours.issue("sitegate://acme/viewer/x", -1..9).ca,
        ..other_ca.issue("sitegate://acme/operator/eve", -1..9)
    };
    // Our own side would not let us show a wrong certificate, so it is told to trust that CA.
    let lenient = |files: &TlsFiles, ca: &TlsFiles, service| {
        let show = Credentials::load(&TlsFiles { ca: ca.ca.clone(), ..files.clone() }).unwrap();
        show.client_to_any(service)
    };
    let foreign_ca = lenient(&stranger, &other_ca.issue("sitegate://acme/viewer/y", -1..9), Service::Api);
    let mut stream = tls(port, foreign_ca);
    assert!(stream.write_all(get("/v1/status").as_bytes()).is_err() || is_closed(&mut stream));

    let refused = |uri: &str, service: Service, ours: &mut Authority| {
        let files = ours.issue(uri, -1..9);
        ask(tls(port, client(&files, service)), &get("/v1/status"))
    };
    assert!(refused("sitegate://other/operator/eve", Service::Api, ours).is_err(), "another formation");
    assert!(
        refused("sitegate://acme/member/nice", Service::Api, ours).is_err(),
        "no member of this formation"
    );
    assert!(refused("sitegate://acme/operator/alice", Service::Peer, ours).is_err(), "no peer");

    let operator = ours.issue("sitegate://acme/operator/alice", -1..9);
    let status = ask(tls(port, client(&operator, Service::Api)), &get("/v1/status")).unwrap();
    assert_eq!((status.status, &status.json()["member"]), (200, &json!("paris")));
    let pause = post("/v1/commands", &json!({ "command": "pause", "ticket": "db" }));
    let viewer = ours.issue("sitegate://acme/viewer/grafana", -1..9);
    assert_eq!(ask(tls(port, client(&viewer, Service::Api)), &get("/metrics")).unwrap().status, 200);
    assert_eq!(ask(tls(port, client(&viewer, Service::Api)), &pause).unwrap().status, 403);
    let done = ask(tls(port, client(&operator, Service::Api)), &pause).unwrap();
    assert_eq!(done.lines().last().unwrap()["event"], "done", "{}", done.body);
    assert_eq!(held.daemons[0].ticket("db")["intent_by"], "operator alice");
    held.is_unharmed();
}

/// A connection with the certificate of lyon, past the handshake.
fn as_lyon(held: &mut Held) -> (Tls, FormationFile) {
    let files = held.formation.authority.issue("sitegate://acme/member/lyon", -1..9);
    let paris: MemberName = "paris".parse().unwrap();
    let config = Credentials::load(&files).unwrap().client_to(&paris, Service::Peer);
    (tls(held.port(), config), held.formation.members[0].configuration().formation)
}

fn write_message(stream: &mut Tls, message: &[u8]) {
    stream.write_all(&u32::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(message).unwrap();
    stream.flush().unwrap();
}

fn greet(stream: &mut Tls, hello: &Hello) -> Answer {
    write_message(stream, &hello.encode());
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    Answer::decode(&answer).unwrap()
}

#[test]
fn a_member_that_talks_nonsense_is_cut_off_or_passed_over() {
    let mut held = Held::new();
    let oversized = (u32::try_from(PACKET_BYTES_MAX).unwrap() + 1).to_be_bytes().to_vec();
    let garbage = [&8_u32.to_be_bytes()[..], &[0xff; 8]].concat();
    for bytes in [oversized, garbage] {
        let (mut stream, formation) = as_lyon(&mut held);
        assert!(matches!(greet(&mut stream, &Hello::new(&formation, Lane::Bulk, 1)), Answer::Welcome { .. }));
        stream.write_all(&bytes).unwrap();
        assert!(is_closed(&mut stream));
    }
    // A hello that is none.
    let (mut stream, _) = as_lyon(&mut held);
    write_message(&mut stream, &[0xff; 9]);
    assert!(is_closed(&mut stream));

    // Whoever speaks for somebody else is not heard, but the connection stays.
    let (mut stream, formation) = as_lyon(&mut held);
    greet(&mut stream, &Hello::new(&formation, Lane::Pulse, 1));
    write_message(&mut stream, &encode(&frame_of(1)));
    wait_for("the frame to be counted", || {
        let metrics = held.daemons[0].get("/metrics").body;
        metrics.contains("sitegate_frames_refused_total{lane=\"pulse\"} 1").then_some(())
    });
    write_message(&mut stream, &encode(&frame_of(1)));
    held.formation.members[0].wait_for_log(&["a frame was dropped", "member 2 speaks for member 1"]);
    held.is_unharmed();
}

fn frame_of(id: u8) -> Packet {
    let from = MemberId::new(id).unwrap();
    let life = Life { incarnation: Incarnation(1), nonce: Nonce(1) };
    let header =
        Header { epoch: Epoch(0), from, identity: Identity(1), life, lsn: Lsn(1), to: None, known: vec![] };
    Packet { sent: Boot(1), frame: Frame { header, bodies: vec![Body::Ping { seq: 1 }] } }
}

#[test]
fn versions_and_id_maps_that_do_not_fit_are_refused() {
    let mut held = Held::new();
    let (mut stream, formation) = as_lyon(&mut held);
    let newer = Hello { oldest: 7, newest: 9, ..Hello::new(&formation, Lane::Bulk, 1) };
    assert_eq!(greet(&mut stream, &newer), Answer::Refused(Refused::Version { oldest: 1, newest: 1 }));
    let (mut stream, formation) = as_lyon(&mut held);
    let other = Hello { id_map: [7; 32], ..Hello::new(&formation, Lane::Bulk, 1) };
    assert_eq!(greet(&mut stream, &other), Answer::Refused(Refused::IdMap));
    held.formation.members[0].wait_for_log(&["ERROR", "refused a member", "member=lyon"]);
    held.is_unharmed();
}

#[test]
fn members_with_other_id_maps_refuse_each_other_loudly() {
    let mut held = Held::new();
    let lyon = held.daemons.remove(1);
    assert!(lyon.stop().success());
    let files = &held.formation.members[1];
    let renumbered = formation_toml(&held.formation.members, "100ms").replace("id = 3", "id = 4");
    std::fs::write(files.directory.join("formation.toml"), renumbered).unwrap();
    let lyon = files.start();
    for (who, other) in [(&held.daemons[0], "lyon"), (&lyon, "paris")] {
        wait_for("a warning", || {
            let warnings = who.get("/v1/status").json()["warnings"].to_string();
            warnings.contains(&format!("{other} and this member refuse each other")).then_some(())
        });
    }
    held.is_unharmed();
}

#[test]
fn two_hosts_with_one_name_are_told_apart() {
    let mut held = Held::new();
    // Another host with the name and a certificate of paris, and a store of its own.
    let tls = held.formation.authority.issue("sitegate://acme/member/paris", -1..9);
    let impostor = MemberFiles {
        directory: held.formation.directory.path().join("impostor"),
        port: free_port(),
        ..held.formation.members[0].clone()
    };
    impostor.write(&formation_toml(&held.formation.members, "100ms"), &tls);
    assert!(impostor.run(&["init"]).0.success());
    let _running = impostor.start();
    wait_for("lyon to notice", || {
        let warnings = held.daemons[1].get("/v1/status").json()["warnings"].to_string();
        warnings.contains("paris is in quarantine: it speaks with another identity").then_some(())
    });
    // Longer than the lease: were the right one not heard any more, it would lose the ticket.
    std::thread::sleep(Duration::from_secs(4));
    held.is_unharmed();
}

#[test]
fn an_expired_operator_is_out_and_an_expired_member_is_not() {
    let (mut formation, mut daemons) = Formation::started();
    let (validity, second) = (Duration::from_secs(2), Duration::from_secs(1));
    let operator =
        formation.authority.issue_until("sitegate://acme/operator/alice", SystemTime::now() + validity);
    let config = client(&operator, Service::Api);
    let port = formation.members[0].port;
    assert_eq!(ask(tls(port, config.clone()), &get("/healthz")).unwrap().status, 200);
    std::thread::sleep(validity + second);
    assert!(ask(tls(port, config), &get("/healthz")).is_err());
    formation.members[0].wait_for_log(&["the certificate of operator alice expired"]);

    let expired = formation.authority.issue("sitegate://acme/member/lyon", -9..-1);
    assert!(daemons.remove(1).stop().success());
    let lyon = &formation.members[1];
    lyon.write(&formation_toml(&formation.members, "100ms"), &expired);
    let _lyon = lyon.start();
    wait_for("a warning about lyon's certificate", || {
        let status = daemons[0].get("/v1/status").json();
        let member = status["members"][1].clone();
        let warned = status["warnings"].to_string().contains("the certificate of lyon has ended");
        (warned && member["reachable"] == true).then_some(())
    });
}
