//! The worlds of the deadman that are explored, and how large each is.

use super::world::{DeadmanWorld, Planted, Start};
use crate::explore::Case;
use crate::explore::Size::{self, Large, Small};
use Start::{Running, Starting, Unarmed};

/// All worlds, the small ones first.
#[must_use]
pub fn worlds() -> Vec<Case<DeadmanWorld>> {
    small().into_iter().chain(large()).collect()
}

fn small() -> Vec<Case<DeadmanWorld>> {
    vec![
        case(
            Small,
            (31_269, 106_732),
            DeadmanWorld {
                levels: 0,
                requests: 1,
                faults: 1,
                deaths: 1,
                ..named("deadman-kill", "no levels; a request, a fault and a death")
            },
        ),
        case(
            Small,
            (20_055, 74_666),
            DeadmanWorld {
                levels: 2,
                ticks: 14,
                faults: 3,
                ..named("deadman-levels", "two levels; three faults")
            },
        ),
        case(
            Small,
            (37_939, 278_502),
            DeadmanWorld {
                start: Unarmed,
                ticks: 6,
                requests: 3,
                ..named("deadman-asked", "three requests, nothing armed")
            },
        ),
        case(
            Small,
            (44_122, 153_333),
            DeadmanWorld {
                ticks: 7,
                requests: 1,
                deaths: 2,
                ..named("deadman-deaths", "a request and two deaths")
            },
        ),
        case(
            Small,
            (42_588, 139_362),
            DeadmanWorld {
                start: Starting,
                ticks: 7,
                requests: 1,
                deaths: 1,
                ..named("deadman-late", "a start hook is late; a request and a death")
            },
        ),
        case(
            Small,
            (60_615, 179_507),
            DeadmanWorld {
                resources: 2,
                ticks: 10,
                faults: 2,
                ..named("deadman-two", "two resources, whose plans take turns; two faults")
            },
        ),
    ]
}

fn large() -> Vec<Case<DeadmanWorld>> {
    vec![
        case(
            Large,
            (449_306, 1_545_163),
            DeadmanWorld {
                levels: 2,
                ticks: 12,
                requests: 1,
                faults: 2,
                ..named("deadman-joined", "two levels; a request and two faults")
            },
        ),
        case(
            Large,
            (93_459, 238_080),
            DeadmanWorld {
                resources: 2,
                ticks: 8,
                faults: 1,
                deaths: 1,
                ..named("deadman-turns", "the same; a death and a fault")
            },
        ),
        case(
            Large,
            (840_655, 6_435_267),
            DeadmanWorld {
                start: Starting,
                ticks: 7,
                requests: 3,
                deaths: 1,
                ..named("deadman-tenures", "a start hook is late; three requests and a death")
            },
        ),
        case(
            Large,
            (978_809, 7_099_174),
            DeadmanWorld {
                ticks: 9,
                requests: 2,
                faults: 1,
                deaths: 1,
                ..named("deadman-all", "two requests, a fault and a death")
            },
        ),
    ]
}

const fn case(size: Size, (states, transitions): (u64, u64), world: DeadmanWorld) -> Case<DeadmanWorld> {
    Case { world, size, states, transitions }
}

/// One resource with one level that runs, and nothing that can happen to it but its deadline.
const fn named(name: &'static str, about: &'static str) -> DeadmanWorld {
    DeadmanWorld {
        name,
        about,
        resources: 1,
        levels: 1,
        start: Running,
        ticks: 8,
        requests: 0,
        faults: 0,
        deaths: 0,
        planted: None,
    }
}

/// Worlds in which something that the deadman rests on is broken on purpose, each with the promise that it must be seen to break.
#[must_use]
pub fn planted() -> Vec<(DeadmanWorld, &'static str)> {
    let late = named("planted-late-timer", "the deadman is called a tick late");
    let blind = named("planted-blind-exec", "programs do not look at their lease");
    let idle = named("planted-idle-kill", "kills report success and end nothing");
    vec![
        (DeadmanWorld { planted: Some(Planted::LateTimer), ..late }, "promise 1"),
        (DeadmanWorld { planted: Some(Planted::BlindExec), start: Starting, ..blind }, "promise 2"),
        (DeadmanWorld { planted: Some(Planted::IdleKill), faults: 1, ..idle }, "promise 3"),
    ]
}
