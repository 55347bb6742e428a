//! How everything stands, for clients.

use std::time::Duration;

use sitegate_fence_client::request::PROTOCOL_VERSION;
use sitegate_fence_client::status::{PlanStatus, ResourceStatus, Status, Watched};
use sitegate_fence_client::wire::Name;

use super::core::Core;
use crate::config::Resource;
use crate::deadman::View;
use crate::leases;

impl Core {
    pub(super) fn status(&self) -> Status {
        let all = self.config.all_fenced_within(None);
        let resources = self.deadman.views().map(|(name, view)| self.resource(name, view, all));
        Status {
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            now: leases::now(),
            site: self.site.clone(),
            containment: self.programs.containment.name().to_owned(),
            concurrency: self.config.concurrency.get(),
            store_failed: self.store_failed.clone(),
            resources: resources.collect(),
        }
    }

    /// One resource, if there is such.
    pub(super) fn watched(&self, name: &Name) -> Option<Watched> {
        let resource = self.resource(name, self.deadman.view(name)?, self.config.all_fenced_within(None));
        let join = self.config.resources[name].join.as_ref();
        Some(Watched {
            now: leases::now(),
            resource,
            join_within_ms: join.map(|join| milliseconds(join.within)),
        })
    }

    fn resource(&self, name: &Name, view: View<'_>, all: Duration) -> ResourceStatus {
        ResourceStatus {
            name: name.clone(),
            state: view.state,
            receipt: view.receipt.cloned(),
            plan: plan(&self.config.resources[name], self.config.kill_within, all),
        }
    }
}

fn plan(resource: &Resource, kill_within: Duration, all: Duration) -> PlanStatus {
    PlanStatus {
        levels: resource.plan.levels.iter().map(|level| level.driver.name().to_owned()).collect(),
        within_ms: milliseconds(resource.plan.within(kill_within)),
        within_all_ms: milliseconds(all),
        certain: resource.plan.certain(),
        starts: resource.start.is_some(),
        stops: resource.stop.is_some(),
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
