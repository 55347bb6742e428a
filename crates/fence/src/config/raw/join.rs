//! Who may join a resource.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sitegate_fence_client::wire::Name;
use sitegate_host::diagnostic::{Period, Spanned};

use super::super::{DEFAULT_JOIN_WITHIN, Join, Resource};
use super::Check;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawJoin {
    uid: Vec<u32>,
    within: Option<Spanned<Period>>,
}

impl Check<'_> {
    pub(super) fn join(&mut self, raw: Spanned<RawJoin>) -> Join {
        let at = raw.span();
        let RawJoin { uid, within } = raw.into_inner();
        if uid.is_empty() {
            self.problem(at, "`join` that lets nobody join", "list user ids in `uid`, or remove it");
        }
        Join { uid, within: within.map_or(DEFAULT_JOIN_WITHIN, |within| self.limit(&within)) }
    }
}

/// All who may join something.
pub(super) fn users(resources: &BTreeMap<Name, Resource>) -> Vec<u32> {
    let joins = resources.values().filter_map(|resource| resource.join.as_ref());
    let users: BTreeSet<u32> = joins.flat_map(|join| join.uid.iter().copied()).collect();
    users.into_iter().collect()
}
