//! Three members, driven by bytes: which frames arrive and when, who dies, what is asked for. The observer of the simulator
//! looks on.

use sitegate_simulator::drive;

/// No invariant is broken.
pub fn run(input: &[u8]) {
    let driven = drive(input, false);
    if let Some(violation) = driven.violation {
        panic!("{violation:?} after {} events", driven.events);
    }
}

/// A few lives in short: the head (kind of formation, seed, three rates), then steps of two bytes each.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    const GRANT: [u8; 2] = [7, 0];
    const REVOKE: [u8; 2] = [7, 6];
    const MOVE: [u8; 2] = [7, 39];
    const WAIT: [u8; 2] = [1, 150];
    const MOMENT: [u8; 2] = [0, 40];
    const HOLD_ALL: [u8; 2] = [2, 0x3f];
    const HOLD_SOME: [u8; 2] = [2, 0x15];
    const AGAIN: [u8; 2] = [4, 1];
    const ONCE: [u8; 2] = [3, 1];
    const RELEASE: [u8; 2] = [6, 0];
    let seeds: [(&str, u8, &[[u8; 2]]); 10] = [
        ("nothing", 0, &[]),
        ("grant", 0, &[GRANT, WAIT]),
        ("revoke", 0x80, &[GRANT, WAIT, REVOKE, WAIT]),
        ("move", 1, &[GRANT, WAIT, MOVE, WAIT]),
        ("failover", 0, &[GRANT, WAIT, [11, 0], WAIT, WAIT, [12, 0], WAIT]),
        ("restart", 0, &[GRANT, WAIT, [9, 0], MOMENT, [10, 0], WAIT]),
        ("reordered", 0, &[HOLD_ALL, GRANT, MOMENT, ONCE, ONCE, AGAIN, AGAIN, MOMENT, ONCE, RELEASE, WAIT]),
        ("one-way", 1, &[GRANT, WAIT, HOLD_SOME, WAIT, WAIT, AGAIN, RELEASE, MOMENT]),
        ("faults", 0x80, &[GRANT, WAIT, [14, 3], WAIT, [14, 21], WAIT, [14, 33], MOMENT, [14, 39], WAIT]),
        ("lost-disk", 0x82, &[GRANT, WAIT, [14, 48], WAIT, [14, 51], WAIT, [14, 54], WAIT, [8, 84], WAIT]),
    ];
    let bytes = |kind, steps: &[[u8; 2]]| [&[kind, 3, 5, 10, 6][..], &steps.concat()].concat();
    seeds.map(|(name, kind, steps)| (name.to_owned(), bytes(kind, steps))).into()
}
