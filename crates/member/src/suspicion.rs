//! Whether this machine was put back in time: resumed from a snapshot, or stopped as a whole for a while.
//!
//! Such a machine sees nothing: all its clocks go on from where they were, and its memory says that no time has passed.
//! But the world has moved on, and two kinds of witnesses tell:
//!
//! - each other member puts its boot clock into what it sends. If that runs *ahead* of ours by a leap, ours stood still.
//!   A late message only ever makes it seem *behind*, so the network does not look like a leap, unless it was slow for
//!   a minute (`WINDOW`) and is quick again;
//! - the wall clock, once somebody inside sets it right (a guest agent, NTP), leaps ahead of our boot clock.
//!
//! One witness alone proves nothing: an administrator sets the wall clock, NTP steps it, a clock of another member
//! goes wild. Nobody is harmed by any of these: they move one witness, and never a second one by the same leap at the same
//! time. Two that agree on the leap are believed, and the member starts again and looks for what it has missed.
//! A suspended host is no case of this: `CLOCK_BOOTTIME` counts its sleep.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sitegate_host::clock::{boot_ns, duration_ns, unix_ms};
use sitegate_protocol::{Boot, MemberId};

/// The shortest leap that counts, where the network is quick; else eight of its longest round trips.
const LEAP_MIN: Duration = Duration::from_secs(2);
/// How long a witness is remembered, in ns: leaps of two that are further apart are two different things. Also how far back a
/// clock is compared: over so long, a drift of 0.1 % is far below any leap.
const WINDOW: u64 = 60 * 1_000_000_000;
/// Readings of one clock that are kept: the best of each so long within the window.
const SLICE_NS: u64 = WINDOW / 16;
/// How much two witnesses may differ, as a share of the leap: their messages were on their way for some time.
const AGREE_SHARE: u64 = 4;

/// Watches over the clocks.
#[derive(Debug)]
pub struct Suspicion {
    leap_min_ns: u64,
    clocks: Mutex<BTreeMap<Witness, Clock>>,
}

/// A clock that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Witness {
    /// That of a member.
    Member(MemberId),
    /// The wall clock.
    Wall,
}

/// How one clock stood against ours lately.
#[derive(Clone, Debug, Default)]
struct Clock {
    /// What tells one continuous run of it from the next; a clock that began anew says nothing of the old.
    run: u128,
    /// By slice of our time: the furthest that it was ahead, in ns, since some common zero.
    ahead: VecDeque<(u64, i128)>,
    /// The leap that it saw last: when by our clock, and how far.
    leapt: Option<(u64, u64)>,
}

impl Suspicion {
    /// Knows nothing yet. `rtt_max` is the longest round trip of a healthy network.
    #[must_use]
    pub fn new(rtt_max: Duration) -> Self {
        Self { leap_min_ns: duration_ns(LEAP_MIN.max(rtt_max * 8)), clocks: Mutex::default() }
    }

    /// A message of `member` has arrived that was made at `sent` by its boot clock, in its boot `run`.
    pub fn heard(&self, member: MemberId, run: u128, sent: Boot) {
        self.look(Witness::Member(member), run, sent.0, boot_ns());
    }

    /// Looks at the wall clock.
    pub fn look_at_wall(&self) {
        self.look(Witness::Wall, 0, unix_ms().saturating_mul(1_000_000), boot_ns());
    }

    /// How far this machine was put back, if two witnesses agree that it was. Said once.
    pub fn verdict(&self) -> Option<Duration> {
        self.judge(boot_ns()).map(Duration::from_nanos)
    }

    fn look(&self, witness: Witness, run: u128, theirs: u64, ours: u64) {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = clocks.entry(witness).or_default();
        if clock.run != run {
            *clock = Clock { run, ..Clock::default() };
        }
        clock.look(i128::from(theirs) - i128::from(ours), ours, self.leap_min_ns);
    }

    fn judge(&self, now: u64) -> Option<u64> {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: u64| now.abs_diff(at) <= WINDOW;
        let leaps: Vec<u64> = clocks
            .values()
            .filter_map(|clock| clock.leapt)
            .filter(|(at, _)| fresh(*at))
            .map(|(_, far)| far)
            .collect();
        let agree = |a: u64, b: u64| a.abs_diff(b) <= a.max(b) / AGREE_SHARE;
        let found = leaps.iter().enumerate().find(|(i, a)| leaps[i + 1..].iter().any(|b| agree(**a, *b)));
        let far = found.map(|(_, far)| *far)?;
        clocks.clear();
        Some(far)
    }
}

impl Clock {
    fn look(&mut self, ahead: i128, ours: u64, leap_min_ns: u64) {
        // Ours may have gone back with the memory; what lies ahead of it now is as good as fresh.
        self.ahead.retain(|(at, _)| ours.abs_diff(*at) <= WINDOW);
        let furthest = self.ahead.iter().map(|(_, ahead)| *ahead).max();
        if let Some(leap) = furthest.and_then(|furthest| u64::try_from(ahead - furthest).ok())
            && leap >= leap_min_ns
        {
            self.leapt = Some((ours, leap));
            self.ahead.clear();
        }
        match self.ahead.back_mut() {
            Some((at, best)) if ours.abs_diff(*at) < SLICE_NS => *best = ahead.max(*best),
            _ => self.ahead.push_back((ours, ahead)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Clocks of a small world, in seconds.
    struct World {
        suspicion: Suspicion,
        ours: u64,
        wall_ahead: u64,
        others_ahead: u64,
    }

    impl World {
        fn new() -> Self {
            let suspicion = Suspicion::new(Duration::from_millis(250));
            Self { suspicion, ours: 1000, wall_ahead: 1_700_000_000, others_ahead: 5000 }
        }

        /// Time passes while all goes on as it should, with messages that take up to `delay_ms`.
        fn live(&mut self, seconds: u64, delay_ms: u64) -> Option<u64> {
            let mut verdict = None;
            for second in 0..seconds {
                self.ours += 1;
                let now = self.ours * SECOND;
                self.suspicion.look(Witness::Wall, 0, now + self.wall_ahead * SECOND, now);
                for id in [2, 3] {
                    let member = Witness::Member(MemberId::new(id).unwrap());
                    let late = delay_ms * (second % 7) / 7 * 1_000_000;
                    let sent = now + self.others_ahead * SECOND * u64::from(id) - late;
                    self.suspicion.look(member, u128::from(id), sent, now);
                }
                verdict = verdict.or(self.suspicion.judge(now));
            }
            verdict
        }
    }

    #[test]
    fn a_machine_that_stood_still_is_found_out() {
        let mut world = World::new();
        assert_eq!(world.live(300, 1500), None);
        // For two minutes everybody else goes on: all other clocks leap by as much.
        for id in [2, 3] {
            let member = Witness::Member(MemberId::new(id).unwrap());
            let ahead = world.others_ahead * u64::from(id) + 120;
            world.suspicion.look(member, u128::from(id), (world.ours + ahead) * SECOND, world.ours * SECOND);
        }
        assert_eq!(world.suspicion.judge(world.ours * SECOND), Some(120 * SECOND));
        assert_eq!(world.suspicion.judge(world.ours * SECOND), None, "said once");
    }

    #[test]
    fn a_snapshot_is_found_out_by_wall_and_one_member() {
        let mut world = World::new();
        world.live(100, 0);
        world.ours -= 50; // resumed with the memory of 50 seconds ago, half an hour later
        let now = world.ours * SECOND;
        let leap = 1800 * SECOND;
        let member = Witness::Member(MemberId::new(2).unwrap());
        world.suspicion.look(member, 2, now + world.others_ahead * SECOND * 2 + leap, now);
        assert_eq!(world.suspicion.judge(now), None, "one witness");
        world.suspicion.look(Witness::Wall, 0, now + world.wall_ahead * SECOND + leap + SECOND, now);
        assert!(world.suspicion.judge(now).is_some());
    }

    #[test]
    fn setting_the_clock_harms_nobody() {
        let mut world = World::new();
        assert_eq!(world.live(100, 200), None);
        world.wall_ahead += 3600; // by an administrator, or NTP's first step
        assert_eq!(world.live(100, 200), None);
        world.wall_ahead -= 7200; // and back
        assert_eq!(world.live(100, 200), None);
    }

    #[test]
    fn neither_does_a_slow_network_nor_another_boot() {
        let mut world = World::new();
        assert_eq!(world.live(50, 10_000), None, "late messages");
        assert_eq!(world.live(50, 0), None, "and quick ones again");
        let now = world.ours * SECOND;
        let member = Witness::Member(MemberId::new(2).unwrap());
        world.wall_ahead += 9000;
        world.suspicion.look(member, 77, now + 30_000 * SECOND, now);
        assert_eq!(world.live(100, 0), None, "its host was restarted");
    }

    #[test]
    fn drift_is_no_leap() {
        let clock = &mut Clock::default();
        for second in 0..100_000_i128 {
            let ours = u64::try_from(second).unwrap() * SECOND;
            clock.look(second * 1_000_000, ours, duration_ns(LEAP_MIN)); // 0.1 % fast
        }
        assert_eq!(clock.leapt, None);
    }
}
