//! What can be said about when things happened, from clocks that agree about nothing but how fast they run.
//!
//! Each fact that orders two moments is a bound on their difference in true time: two readings of one clock, by its rate; a
//! message that one must have led to the other; enough of several messages; a time of day, if those are believed. The
//! tightest bound that follows is a shortest path (difference constraints; Cormen et al., Introduction to Algorithms,
//! "Difference constraints and shortest paths"), but for the rule about several messages, which is as monotonic as the
//! others, so that repeating all of them until nothing changes finds the tightest bound here as well.

use std::collections::BTreeMap;

use crate::fact::Stamp;

/// How often all rules are applied at most. Each round carries a bound across at least one more message; between two
/// tenures there are few.
const ROUNDS_MAX: usize = 200;
const MILLION: i128 = 1_000_000;

/// A moment.
pub(crate) type Node = usize;

/// Moments, and what is known about them.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The bound on how far any clock's rate lies from that of true time.
    drift_ppm: i128,
    stamps: Vec<Option<Stamp>>,
    /// The first led to the second.
    led: Vec<(Node, Node)>,
    enough: Vec<Enough>,
}

/// At least `least` of all members' moments came before `then`; those of `known` are known, of `unknown` more they are not.
#[derive(Clone, Debug)]
pub(crate) struct Enough {
    pub(crate) known: Vec<Node>,
    pub(crate) unknown: usize,
    pub(crate) least: usize,
    pub(crate) then: Node,
}

/// For a moment: by how much it is later than each other one, at most, in ns.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    later: Vec<Option<i128>>,
    /// The facts cannot all be true.
    pub(crate) contradicted: bool,
}

impl Bounds {
    /// By how much the moment is later than `node` at most; negative if it is certainly earlier.
    pub(crate) fn later_than(&self, node: Node) -> Option<i128> {
        self.later[node]
    }
}

impl Order {
    pub(crate) const fn new(drift_ppm: u64) -> Self {
        Self { drift_ppm: drift_ppm as i128, stamps: Vec::new(), led: Vec::new(), enough: Vec::new() }
    }

    /// A moment that a clock has read, or one of which only others are known.
    pub(crate) fn moment(&mut self, stamp: Option<Stamp>) -> Node {
        self.stamps.push(stamp);
        self.stamps.len() - 1
    }

    pub(crate) fn led(&mut self, first: Node, second: Node) {
        self.led.push((first, second));
    }

    pub(crate) fn enough(&mut self, enough: Enough) {
        self.enough.push(enough);
    }

    /// What follows about `from`. With `wall_within_ns`, each time of day is believed to be right to within that.
    pub(crate) fn bounds(&self, from: Node, wall_within_ns: Option<i128>) -> Bounds {
        let mut later = vec![None; self.stamps.len()];
        later[from] = Some(0);
        // True time itself, as the times of day have it: one more moment, at 0.
        let mut later_than_epoch = None;
        let clocks = self.by_clock();
        for _ in 0..ROUNDS_MAX {
            let mut changed = false;
            for nodes in &clocks {
                changed |= self.along(nodes, &mut later);
            }
            for &(first, second) in &self.led {
                let bound = later[first];
                changed |= tighten(&mut later, second, bound);
            }
            for enough in &self.enough {
                let bound = enough.bound(&later);
                changed |= tighten(&mut later, enough.then, bound);
            }
            if let Some(within) = wall_within_ns {
                changed |= self.by_wall(within, &mut later_than_epoch, &mut later);
            }
            if later[from].is_some_and(|bound| bound < 0) {
                return Bounds { later, contradicted: true };
            }
            if !changed {
                return Bounds { later, contradicted: false };
            }
        }
        Bounds { later, contradicted: true }
    }

    /// The readings of each clock, in its order.
    fn by_clock(&self) -> Vec<Vec<Node>> {
        let mut clocks: BTreeMap<usize, Vec<Node>> = BTreeMap::new();
        for (node, stamp) in self.stamps.iter().enumerate() {
            if let Some(stamp) = stamp {
                clocks.entry(stamp.clock).or_default().push(node);
            }
        }
        let mut clocks: Vec<Vec<Node>> = clocks.into_values().collect();
        for nodes in &mut clocks {
            nodes.sort_by_key(|&node| self.stamps[node].map(|stamp| stamp.boot_ns));
        }
        clocks
    }

    /// From reading to reading of one clock, there and back.
    fn along(&self, nodes: &[Node], later: &mut [Option<i128>]) -> bool {
        let read = |node: Node| self.stamps[node].map_or(0, |stamp| stamp.boot_ns);
        let mut changed = false;
        for pair in nodes.windows(2) {
            let passed = self.passed_at_least(read(pair[1]) - read(pair[0]));
            changed |= tighten(later, pair[1], later[pair[0]].map(|bound| bound - passed));
        }
        for pair in nodes.windows(2).rev() {
            let passed = self.passed_at_most(read(pair[1]) - read(pair[0]));
            changed |= tighten(later, pair[0], later[pair[1]].map(|bound| bound + passed));
        }
        changed
    }

    fn by_wall(&self, within: i128, epoch: &mut Option<i128>, later: &mut [Option<i128>]) -> bool {
        let walls =
            || self.stamps.iter().enumerate().filter_map(|(node, s)| Some((node, s.as_ref()?.wall_ns?)));
        let mut changed = false;
        for (node, wall) in walls() {
            if let Some(bound) = later[node].map(|bound| bound + wall + within)
                && epoch.is_none_or(|epoch| bound < epoch)
            {
                (*epoch, changed) = (Some(bound), true);
            }
        }
        for (node, wall) in walls() {
            changed |= tighten(later, node, epoch.map(|epoch| epoch - (wall - within)));
        }
        changed
    }

    /// The least true time in which a clock can go on by `ns`.
    pub(crate) const fn passed_at_least(&self, ns: i128) -> i128 {
        ns * MILLION / (MILLION + self.drift_ppm)
    }

    /// The most.
    const fn passed_at_most(&self, ns: i128) -> i128 {
        (ns * MILLION + MILLION - self.drift_ppm - 1) / (MILLION - self.drift_ppm)
    }
}

impl Enough {
    /// Whoever they were, the `least` of which least is known were among them at worst.
    fn bound(&self, later: &[Option<i128>]) -> Option<i128> {
        let mut bounds: Vec<Option<i128>> = self.known.iter().map(|&node| later[node]).collect();
        bounds.extend(std::iter::repeat_n(None, self.unknown));
        // Largest first, and what is not bounded at all before that.
        bounds.sort_by(|a, b| match (a, b) {
            (None, None) => std::cmp::Ordering::Equal,
            (None, Some(_)) => std::cmp::Ordering::Less,
            (Some(_), None) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => b.cmp(a),
        });
        bounds.get(self.least.checked_sub(1)?).copied().flatten()
    }
}

fn tighten(later: &mut [Option<i128>], node: Node, bound: Option<i128>) -> bool {
    match bound {
        Some(bound) if later[node].is_none_or(|before| bound < before) => {
            later[node] = Some(bound);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i128 = 1_000_000;

    fn at(clock: usize, ms: i128) -> Option<Stamp> {
        Some(Stamp { clock, boot_ns: ms * MS, raw_ns: ms * MS, wall_ns: Some(ms * MS) })
    }

    #[test]
    fn readings_of_one_clock_are_as_far_apart_as_its_rate_allows() {
        let mut order = Order::new(1000);
        let (a, b) = (order.moment(at(0, 0)), order.moment(at(0, 1001)));
        assert_eq!(order.bounds(a, None).later_than(b), Some(-1000 * MS));
        let later = order.bounds(b, None).later_than(a).unwrap();
        assert!(later > 1002 * MS && later < 1003 * MS);
    }

    #[test]
    fn messages_bound_how_clocks_lie_to_each_other() {
        let mut order = Order::new(0);
        // A question at 10 and an answer at 14, answered by a clock that read 505: it is 491 to 495 ahead.
        let (asked, answered) = (order.moment(at(0, 10)), order.moment(at(0, 14)));
        let there = order.moment(at(1, 505));
        let (early, late) = (order.moment(at(1, 400)), order.moment(at(0, 20)));
        order.led(asked, there);
        assert_eq!(order.bounds(late, None).later_than(there), Some(10 * MS));
        assert_eq!(order.bounds(there, None).later_than(late), None);
        order.led(there, answered);
        assert_eq!(order.bounds(early, None).later_than(late), Some((-105 - 6) * MS));
        assert!(!order.bounds(early, None).contradicted);
        order.led(late, early);
        assert!(order.bounds(early, None).contradicted);
    }

    #[test]
    fn of_several_messages_the_worst_that_were_enough_count() {
        let mut order = Order::new(0);
        let from = order.moment(at(0, 0));
        let known: Vec<Node> = [10, 20, 30].iter().map(|&ms| order.moment(at(0, ms))).collect();
        let then = order.moment(None);
        order.enough(Enough { known: known.clone(), unknown: 0, least: 2, then });
        assert_eq!(order.bounds(from, None).later_than(then), Some(-20 * MS));
        let more = order.moment(None);
        order.enough(Enough { known, unknown: 2, least: 2, then: more });
        assert_eq!(order.bounds(from, None).later_than(more), None);
    }

    #[test]
    fn times_of_day_count_only_if_they_are_believed() {
        let mut order = Order::new(0);
        let (a, b) = (order.moment(at(0, 0)), order.moment(at(1, 5000)));
        assert_eq!(order.bounds(a, None).later_than(b), None);
        assert_eq!(order.bounds(a, Some(1000 * MS)).later_than(b), Some(-3000 * MS));
    }
}
