//! How many connections may be open that have not proven yet who they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// From one address: members open two each, and reconnect all at once after a cut.
const PER_ADDRESS_MAX: usize = 16;
/// From all: each costs some 20 kB until it has proven itself or its time is up.
const TOTAL_MAX: usize = 128;

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct Gate(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// The right to prove oneself; given back when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    open: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Gate {
    /// A pass for a connection from `address`, if there is one left.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Pass> {
        let address = address.to_canonical();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = open.values().sum();
        let from_there = open.entry(address).or_default();
        if *from_there >= PER_ADDRESS_MAX || total >= TOTAL_MAX {
            if *from_there == 0 {
                open.remove(&address);
            }
            return None;
        }
        *from_there += 1;
        drop(open);
        Some(Pass { open: Arc::clone(&self.0), address })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_by_address_and_in_all() {
        let gate = Gate::default();
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut passes: Vec<Pass> = (0..PER_ADDRESS_MAX).map(|_| gate.admit(address(1)).unwrap()).collect();
        assert!(gate.admit(address(1)).is_none());
        for last in 2..=8 {
            passes.extend((0..PER_ADDRESS_MAX).map(|_| gate.admit(address(last)).unwrap()));
        }
        assert!(gate.admit(address(9)).is_none(), "all are taken");
        passes.truncate(3);
        assert!(gate.admit(address(9)).is_some());
        drop(passes);
        assert!(gate.0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_address_is_one_in_whatever_form() {
        let gate = Gate::default();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let _passes: Vec<Pass> = (0..PER_ADDRESS_MAX).map(|_| gate.admit(mapped).unwrap()).collect();
        assert!(gate.admit(IpAddr::from([192, 0, 2, 1])).is_none());
    }
}
