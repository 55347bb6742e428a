//! A disk that fails: a commit that failed is final, and not a word leaves that rests on it (issue 2 §6, design §4.5).

mod support;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

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
use sitegate_protocol::{Identity, Lsn, MemberId, Nonce, Record, Start, Store as _};
use support::formation::Formation;

const IDENTITY: Identity = Identity(7);

/// What is wrong with a disk.
const HEALTHY: u8 = 0;
const FULL: u8 = 1;
const UNSYNCED: u8 = 2;

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
        let (parts, shared) = parts(configuration, runtime_dir, fault);
        let (driver, _handle) = Driver::start(parts).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(1), driver.run()).await.ok();
        (ended, Lane::ALL.iter().map(|lane| shared.metrics.lanes[*lane].messages_sent.get()).sum())
    })
}

fn parts(configuration: Configuration, runtime_dir: &Path, fault: u8) -> (Parts, Arc<Shared>) {
    let local = &configuration.local;
    let tls = MemberTls::load(&local.tls, &configuration.formation, &local.name).unwrap();
    let (Loaded { store, durable, lsn }, switch) = store(&Owner::of(&configuration));
    switch.store(fault, Ordering::SeqCst);
    let journal = Journal::open(&local.state_dir.join("journal")).unwrap();
    let shared = Arc::new(Shared::new(configuration, tls, 1));
    let (inbox, frames) = Inbox::new();
    let parts = Parts {
        durable,
        store,
        proof: Proof::open(runtime_dir, "boot", IDENTITY).unwrap(),
        start: Start { nonce: Nonce(1), seed: 1, lsn, proven: true },
        shared: Arc::clone(&shared),
        peers: Arc::new(Peers::new(Arc::clone(&shared), inbox)),
        frames,
        journal,
        site: None,
        service: Service::from_environment(),
    };
    (parts, shared)
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
