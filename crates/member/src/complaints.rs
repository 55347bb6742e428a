//! What is said in the log about connections that should not be: once a minute for each address, however often they
//! come, so that nobody can fill a disk from outside.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::config::MemberName;
use crate::wire::Lane;

/// How often the same one is complained about.
const EVERY: Duration = Duration::from_secs(60);
/// How many are remembered. When there are more, the one that was complained about longest ago is forgotten.
const REMEMBERED_MAX: usize = 256;

/// Who was complained about lately.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<BTreeMap<About, Said>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Address(IpAddr),
    Member(MemberName),
}

#[derive(Clone, Copy, Debug)]
struct Said {
    at: Instant,
    held_back: u64,
}

impl Complaints {
    /// Says what is wrong with a connection from `address`.
    pub fn about(&self, address: IpAddr, what: impl FnOnce() -> String) {
        // IPv4 is IPv4, whatever the socket that it came in on.
        let address = address.to_canonical();
        if let Some(held_back) = self.may_say(About::Address(address), Instant::now()) {
            warn!(%address, held_back, "{}", what());
        }
    }

    /// Says what is wrong with what a member sent.
    pub fn about_member(&self, member: &MemberName, what: impl FnOnce() -> String) {
        if let Some(held_back) = self.may_say(About::Member(member.clone()), Instant::now()) {
            warn!(%member, held_back, "{}", what());
        }
    }

    /// Says that a connection of a member has ended, as loudly as the reason deserves.
    pub fn note_end(&self, address: IpAddr, member: &MemberName, lane: Lane, why: Option<String>) {
        match why {
            None => info!(%member, lane = lane.name(), "is called no more"),
            Some(why) => self.about(address, || format!("the {} lane of {member} ended: {why}", lane.name())),
        }
    }

    /// Whether it is time to complain again; how often it was held back since.
    fn may_say(&self, about: About, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = said.get_mut(&about)
            && now.saturating_duration_since(before.at) < EVERY
        {
            before.held_back += 1;
            return None;
        }
        if said.len() >= REMEMBERED_MAX && !said.contains_key(&about) {
            let oldest = said.iter().min_by_key(|(_, said)| said.at).map(|(about, _)| about.clone());
            oldest.and_then(|oldest| said.remove(&oldest));
        }
        let before = said.insert(about, Said { at: now, held_back: 0 });
        Some(before.map_or(0, |before| before.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_it_once_a_minute() {
        let complaints = Complaints::default();
        let about = |last: u8| About::Address(IpAddr::from([192, 0, 2, last]));
        let began = Instant::now();
        assert_eq!(complaints.may_say(about(1), began), Some(0));
        assert_eq!(complaints.may_say(about(2), began), Some(0), "another address");
        for second in [1, 30, 59] {
            assert_eq!(complaints.may_say(about(1), began + Duration::from_secs(second)), None);
        }
        assert_eq!(complaints.may_say(about(1), began + EVERY), Some(3));
    }

    #[test]
    fn remembers_only_so_many() {
        let complaints = Complaints::default();
        let began = Instant::now();
        for i in 0..1000_u32 {
            let at = began + Duration::from_millis(u64::from(i));
            complaints.may_say(About::Address(IpAddr::from(i.to_be_bytes())), at);
        }
        assert_eq!(complaints.0.lock().unwrap().len(), REMEMBERED_MAX);
        let newest = About::Address(IpAddr::from(999_u32.to_be_bytes()));
        assert_eq!(complaints.may_say(newest, began + Duration::from_secs(1)), None);
    }
}
