//! What a site keeps about its tickets, and for which of them the last event may have changed it.

use alloc::collections::{BTreeMap, btree_map};
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::ticket::Local;
use crate::ids::TicketName;

/// A map that remembers what was changed: checkers of invariants need not look at the rest.
#[derive(Debug, Default)]
pub(super) struct Locals {
    of: BTreeMap<TicketName, Local>,
    /// No part of the state: it says how that came about.
    touched: Vec<TicketName>,
}

impl Locals {
    /// From here on everything that may change is remembered.
    pub(super) fn begin_event(&mut self) {
        self.touched.clear();
    }

    /// What may have changed since then; some of it more than once.
    pub(super) fn touched(&self) -> impl Iterator<Item = &TicketName> {
        self.touched.iter()
    }

    fn touch(&mut self, ticket: &TicketName) {
        if self.touched.last() != Some(ticket) {
            self.touched.push(ticket.clone());
        }
    }

    pub(super) fn get(&self, ticket: &TicketName) -> Option<&Local> {
        self.of.get(ticket)
    }

    pub(super) fn get_mut(&mut self, ticket: &TicketName) -> Option<&mut Local> {
        self.touch(ticket);
        self.of.get_mut(ticket)
    }

    pub(super) fn or_default(&mut self, ticket: &TicketName) -> &mut Local {
        self.touch(ticket);
        self.of.entry(ticket.clone()).or_default()
    }

    pub(super) fn remove(&mut self, ticket: &TicketName) -> Option<Local> {
        self.touch(ticket);
        self.of.remove(ticket)
    }

    pub(super) fn insert(&mut self, ticket: TicketName, local: Local) {
        self.touch(&ticket);
        self.of.insert(ticket, local);
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, TicketName, Local> {
        self.of.iter()
    }

    pub(super) fn values(&self) -> btree_map::Values<'_, TicketName, Local> {
        self.of.values()
    }
}

impl Clone for Locals {
    fn clone(&self) -> Self {
        Self { of: self.of.clone(), touched: Vec::new() }
    }
}

impl PartialEq for Locals {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of
    }
}

impl Eq for Locals {}

impl Hash for Locals {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.hash(state);
    }
}
