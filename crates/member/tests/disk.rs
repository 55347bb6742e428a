//! A disk that fails: a commit that failed is final, and not a word leaves that rests on it (docs/architecture.md,
//! "Habits that hold everywhere").

mod support;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use sitegate_member::config::Configuration;
use sitegate_member::driver::{Driver, Ended, Parts};
use sitegate_member::journal::Journal;
use sitegate_member::peers::{Inbox, Peers};
use sitegate_member::service::Service;
use sitegate_member::shared::Shared;
use sitegate_member::store::{Loaded, Owner, Proof, Store};
use sitegate_member::tls::MemberTls;
use sitegate_member::wire::Lane;
use sitegate_protocol::{
    Ballot, Body, Epoch, Frame, Header, Identities, Identity, Incarnation, Key, Life, Lsn, MemberId, Nonce,
    Record, Start, Store as _, TicketName, ValidFrame,
};
use sitegate_test_support::wait::PATIENCE;
use support::formation::Formation;

const IDENTITY: Identity = Identity(7);

/// What is wrong with a disk.
const HEALTHY: u8 = 0;
const FULL: u8 = 1;
const UNSYNCED: u8 = 2;
const SLOW: u8 = 3;

/// How long a slow disk takes.
const SLOW_SYNC: Duration = Duration::from_secs(3);

/// A disk that can be made to fail.
#[derive(Debug)]
struct Faulty {
    memory: InMemoryBackend,
    fault: Arc<AtomicU8>,
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.memory.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.fault.load(Ordering::SeqCst) {
            UNSYNCED => Err(io::Error::other("the disk is gone")),
            SLOW => {
                std::thread::sleep(SLOW_SYNC);
                self.memory.sync_data()
            }
            _ => self.memory.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.fault.load(Ordering::SeqCst) {
            FULL => Err(io::ErrorKind::StorageFull.into()),
            _ => self.memory.write(offset, data),
        }
    }
}

/// A store on such a disk, and the switch.
fn store(owner: &Owner) -> (Loaded, Arc<AtomicU8>) {
    let fault = Arc::new(AtomicU8::new(HEALTHY));
    let disk = Faulty { memory: InMemoryBackend::new(), fault: Arc::clone(&fault) };
    (Store::in_backend(disk, owner, IDENTITY).unwrap(), fault)
}

#[test]
fn a_commit_that_failed_is_final() {
    for fault in [FULL, UNSYNCED] {
        let (Loaded { mut store, .. }, switch) = store(&Owner::new("acme", "paris"));
        let record = |i: u8| [Record::Met(MemberId::new(i).unwrap(), Identity(i.into()))];
        for i in 1..4 {
            assert_eq!(store.commit(record(i).iter()).unwrap(), Lsn(i.into()));
        }
        switch.store(fault, Ordering::SeqCst);
        store.commit(record(4).iter()).unwrap_err();
        // Also once the disk is well again: what it holds is not known any more.
        switch.store(HEALTHY, Ordering::SeqCst);
        store.commit(record(5).iter()).unwrap_err();
    }
}

/// Runs paris' loop on a disk with this fault, for at most a second; how it ended, and how many messages it had.
fn run(formation: &Formation, runtime_dir: &Path, fault: u8) -> (Option<Ended>, u64) {
    let configuration = formation.members[0].configuration();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Ready { parts, shared, fault: switch, .. } = ready(configuration, runtime_dir, None);
        switch.store(fault, Ordering::SeqCst);
        let (driver, _handle) = Driver::start(parts).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(1), driver.run()).await.ok();
        (ended, Lane::ALL.iter().map(|lane| shared.metrics.lanes[*lane].messages_sent.get()).sum())
    })
}

/// A loop that can be started, and what the test holds of it.
struct Ready {
    parts: Parts,
    shared: Arc<Shared>,
    inbox: Inbox,
    fault: Arc<AtomicU8>,
}

fn ready(configuration: Configuration, runtime_dir: &Path, born: Option<Identities>) -> Ready {
    let local = &configuration.local;
    let tls = MemberTls::load(&local.tls, &configuration.formation, &local.name).unwrap();
    let (Loaded { store, mut durable, lsn }, fault) = store(&Owner::of(&configuration));
    durable.own.formation = born;
    let journal = Journal::open(&local.state_dir.join("journal")).unwrap();
    let shared = Arc::new(Shared::new(configuration, tls, 1));
    let (inbox, frames) = Inbox::new();
    let parts = Parts {
        durable,
        store,
        proof: Proof::open(runtime_dir, "boot", IDENTITY).unwrap(),
        start: Start { nonce: Nonce(1), seed: 1, lsn, proven: true },
        shared: Arc::clone(&shared),
        peers: Arc::new(Peers::new(Arc::clone(&shared), inbox.clone())),
        frames,
        journal,
        site: None,
        service: Service::from_environment(),
    };
    Ready { parts, shared, inbox, fault }
}

#[test]
fn a_loop_on_a_disk_that_fails_ends_without_a_word() {
    let formation = Formation::new();
    let runtime_dir = tempfile::tempdir().unwrap();
    let proof = || Proof::open(runtime_dir.path(), "boot", IDENTITY).unwrap();
    let (ended, sent) = run(&formation, runtime_dir.path(), HEALTHY);
    assert!(
        ended.is_none() && sent > 0,
        "on a disk that is well it goes on, and introduces itself: {ended:?}"
    );
    assert!(proof().proves(Lsn(1)));
    for fault in [FULL, UNSYNCED] {
        let (ended, sent) = run(&formation, runtime_dir.path(), fault);
        assert!(matches!(ended, Some(Ended::Commit(_))), "{ended:?}");
        assert_eq!(sent, 0);
        assert!(!proof().proves(Lsn(u64::MAX)), "the next start has to look for witnesses");
    }
}

#[test]
fn a_slow_commit_does_not_hold_up_heartbeats() {
    let formation = Formation::new();
    let runtime_dir = tempfile::tempdir().unwrap();
    let (paris, me) = (MemberId::new(1).unwrap(), MemberId::new(3).unwrap());
    let of = [(paris, Identity(1)), (MemberId::new(2).unwrap(), Identity(2)), (me, IDENTITY)].into();
    let born = Some(Identities { epoch: Epoch(0), of });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Ready { parts, shared, inbox, fault } =
            ready(formation.members[2].configuration(), runtime_dir.path(), born);
        let (driver, handle) = Driver::start(parts).unwrap();
        let running = tokio::spawn(driver.run());
        let says = |body| {
            let life = Life { incarnation: Incarnation(1), nonce: Nonce(5) };
            let (epoch, identity) = (Epoch(0), Identity(1));
            let header = Header { epoch, from: paris, identity, life, lsn: Lsn(1), to: None, known: vec![] };
            let frame = Frame { header, bodies: vec![body] };
            ValidFrame::check(frame, paris, &shared.settings.get()).unwrap()
        };
        let acks = || shared.metrics.lanes[Lane::Pulse].messages_sent.get();
        let promises = || shared.metrics.lanes[Lane::Bulk].messages_sent.get();
        assert!(inbox.put(says(Body::Heartbeat { seq: 1 })).await);
        until(|| acks() == 1).await;
        handle.look().await.unwrap();

        // A promise has to be committed first, and that takes its time.
        fault.store(SLOW, Ordering::SeqCst);
        let began = Instant::now();
        let key = Key::Ownership(TicketName::new("db").unwrap());
        let (promises_before, ballot) = (promises(), Ballot { round: 1, member: 1 });
        assert!(inbox.put(says(Body::Prepare { key, ballot, rank: 0 })).await);
        for seq in 2..=5 {
            assert!(inbox.put(says(Body::Heartbeat { seq })).await);
            until(|| acks() == seq).await;
        }
        assert!(began.elapsed() < SLOW_SYNC / 2, "heartbeats waited for {:?}", began.elapsed());
        assert_eq!(promises(), promises_before, "nothing is promised before it is committed");
        until(|| promises() == promises_before + 1).await;
        assert!(began.elapsed() >= SLOW_SYNC);
        running.abort();
    });
}

/// Waits until it is so.
async fn until(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("waited in vain");
}
