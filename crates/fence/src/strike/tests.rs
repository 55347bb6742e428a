use std::fs;
use std::path::Path;
use std::time::Duration;

use sitegate_host::cgroup::Cgroup;

use super::*;

/// How long a busy machine may take.
const SOON: Duration = Duration::from_secs(30);
const FAR_NS: u64 = 3600 * 1_000_000_000;

fn name(i: usize) -> Name {
    Name::new(&format!("r{i}")).unwrap()
}

/// An ordinary file plays the kernel's: what was struck is written into it.
fn killers(dir: &Path, i: usize) -> Arc<[Killer]> {
    let group = dir.join(name(i).as_str());
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("cgroup.kill"), "").unwrap();
    [Cgroup::at(group).killer().unwrap()].into()
}

fn is_struck(dir: &Path, i: usize) -> bool {
    fs::read(dir.join(name(i).as_str()).join("cgroup.kill")).unwrap() == b"1"
}

#[test]
fn from_a_deadline_to_the_strike_nothing_is_allocated() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Shared::new().unwrap();
    let now = leases::now();
    for i in 0..100 {
        let deadline = if i % 10 == 7 { now.after(FAR_NS) } else { now.after(0) };
        shared.aim(&name(i), deadline, || killers(dir.path(), i));
    }
    let allocations = allocation_counter::measure(|| {
        shared.alarm.ring().unwrap();
        shared.strike_all();
    });
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
    for i in 0..100 {
        assert_eq!(is_struck(dir.path(), i), i % 10 != 7, "r{i}");
    }
}

#[test]
fn what_is_extended_in_time_is_not_struck() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Shared::new().unwrap();
    let struck = || {
        shared.strike_all();
        [0, 1, 2].map(|i| is_struck(dir.path(), i))
    };
    let soon = leases::now().after(1_000_000);
    (0..3).for_each(|i| shared.aim(&name(i), soon, || killers(dir.path(), i)));
    // The client of the first two extends them in the last moment.
    (0..2).for_each(|i| shared.aims.hold(&name(i)));
    while !soon.passed(leases::now()) {
        thread::yield_now();
    }
    assert_eq!(struck(), [false, false, true]);
    shared.aim(&name(0), leases::now().after(FAR_NS), || unreachable!("it is known"));
    assert_eq!(struck(), [false, false, true]);
    // The second was refused.
    shared.release();
    assert_eq!(struck(), [false, true, true]);
}

#[test]
fn the_thread_strikes_at_the_deadline_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let striker = Striker::start().unwrap();
    let began = std::time::Instant::now();
    striker.aim(&name(0), leases::now().after(FAR_NS), || killers(dir.path(), 0));
    let soon = leases::now().after(2_000_000);
    striker.aim(&name(1), soon, || killers(dir.path(), 1));
    while !is_struck(dir.path(), 1) {
        assert!(began.elapsed() < SOON);
        thread::yield_now();
    }
    assert!(soon.passed(leases::now()) && !is_struck(dir.path(), 0));
    // The loop tells of the lease once more before it notices.
    fs::write(dir.path().join("r1/cgroup.kill"), "").unwrap();
    striker.aim(&name(1), soon, || unreachable!("it is known"));
    striker.shared.strike_all();
    assert!(!is_struck(dir.path(), 1));
    // Its thread may have written and not said so yet.
    let late = loop {
        match striker.settle(&name(1)) {
            Ok(late) => break late,
            Err(Striking) => {
                assert!(began.elapsed() < SOON);
                thread::yield_now();
            }
        }
    };
    assert!(late.is_some_and(|late| late > 0), "{late:?}");
    assert_eq!(striker.settle(&name(1)), Ok(None), "it is forgotten");
    assert_eq!(striker.settle(&name(0)), Ok(None));
    striker.strike(&name(0));
    while !is_struck(dir.path(), 0) {
        assert!(began.elapsed() < SOON, "an aim ahead was another tenure's, and had to stay");
        thread::yield_now();
    }
}

#[test]
fn a_strike_is_called_off_or_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Shared::new().unwrap();
    let far = leases::now().after(FAR_NS);
    (0..2).for_each(|i| shared.aim(&name(i), far, || killers(dir.path(), i)));
    shared.strike(&name(0));
    assert_eq!(shared.aims.settle(&name(0)), Ok(None));
    shared.strike_all();
    assert!(!is_struck(dir.path(), 0), "all was dead before");

    shared.strike(&name(1));
    let (slot, _) = shared.aims.table().take_due(0, leases::now()).unwrap();
    assert_eq!(shared.aims.settle(&name(1)), Err(Striking));
    shared.aims.table().over(slot);
    assert_eq!(shared.aims.settle(&name(1)), Ok(Some(0)));
}

/// Fences come in any order, also while the thread is in the middle of striking at what comes after.
#[test]
fn what_becomes_due_during_a_strike_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Shared::new().unwrap();
    let (far, past) = (leases::now().after(FAR_NS), leases::now().after(0));
    shared.aim(&name(0), far, || killers(dir.path(), 0));
    shared.aim(&name(1), past, || killers(dir.path(), 1));
    shared.alarm.ring().unwrap();
    let (slot, _) = shared.aims.table().take_due(0, leases::now()).unwrap();
    assert_eq!(slot, 1);
    shared.strike(&name(0));
    assert!(shared.aims.table().take_due(slot, leases::now()).is_none());
    shared.sleep_until_next();
    shared.alarm.ring().unwrap();
    shared.strike_all();
    assert!(is_struck(dir.path(), 0));
}

#[test]
fn slots_are_used_again_and_grow_with_what_is_armed() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Shared::new().unwrap();
    let far = leases::now().after(FAR_NS);
    let nobody = killers(dir.path(), 0);
    for round in 0..3 {
        (0..200).for_each(|i| shared.aim(&name(i), far, || Arc::clone(&nobody)));
        (0..200).filter(|i| i % 3 == round).for_each(|i| {
            shared.strike(&name(i));
            assert_eq!(shared.aims.settle(&name(i)), Ok(None));
        });
    }
    assert!((0..200).filter(|i| i % 3 == 2).all(|i| shared.aims.strike(&name(i)).is_none()));
    assert!((0..200).filter(|i| i % 3 != 2).all(|i| shared.aims.strike(&name(i)).is_some()));
}
