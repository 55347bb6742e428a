//! How much may be under way at once while a disk hangs: what the shell's queues rely on.

use super::*;

/// A small generator of its own: a test needs no better chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Whatever is asked for, in whatever order: three records of a resource at most wait for a disk that hangs (`store.rs`).
#[test]
fn at_most_three_records_of_a_resource_wait_for_the_disk() {
    let mut most = 0;
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let mut shell = Shell::new();
        shell.disk_works = false;
        for _ in 0..200 {
            let token = chance.below(6);
            // Refusals are what many of these are about.
            match chance.below(7) {
                0 => drop(shell.arm(token, 1 + chance.below(20))),
                1 => drop(shell.fence(token)),
                2 => drop(shell.extend(token, chance.below(20), 1)),
                3 if chance.below(2) == 0 => {
                    shell.deadman.stray(shell.now, &db());
                    shell.turn();
                }
                3 => shell.pass(SECOND * chance.below(20)),
                _ => succeed(&mut shell),
            }
            most = most.max(shell.waiting.len());
            assert!(shell.waiting.len() <= 3, "seed {seed}: {:?}", shell.waiting);
            if chance.below(60) == 0 {
                shell.write();
                shell.turn();
            }
        }
    }
    assert_eq!(most, 3, "the bound is reached");
}

/// The oldest order succeeds, if there is one.
fn succeed(shell: &mut Shell) {
    if shell.orders.is_empty() {
        return;
    }
    match shell.orders.remove(0) {
        Order::Kill { run, resource, .. } => {
            shell.deadman.kill_done(shell.now, &resource, run, Ok(proof("x")));
        }
        Order::Level { run, resource, .. } => {
            shell.deadman.level_done(shell.now, &resource, run, Ok(proof("x")));
        }
        Order::Start { .. } | Order::Stop { .. } | Order::Cancel { .. } => {}
    }
    shell.turn();
}
