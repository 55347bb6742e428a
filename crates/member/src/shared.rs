//! What all parts of one process look at.

use std::sync::{Mutex, PoisonError};

use sitegate_protocol::Settings;

use crate::complaints::Complaints;
use crate::config::Configuration;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::settings::{Names, settings};
use crate::site::SiteFacts;
use crate::suspicion::Suspicion;
use crate::tls::{LiveTls, MemberTls};

/// What all parts of one process look at.
#[derive(Debug)]
pub struct Shared {
    /// Who is who.
    pub names: Names,
    /// Both files, as of the last reload.
    pub configuration: Live<Configuration>,
    /// What the protocol was told.
    pub settings: Live<Settings>,
    /// Certificates, as of the last reload.
    pub tls: LiveTls,
    /// What is counted.
    pub metrics: Metrics,
    /// What is said about strangers.
    pub complaints: Complaints,
    /// Whether this machine was put back in time.
    pub suspicion: Suspicion,
    /// What tells this boot from others.
    pub boot: u128,
    site: Mutex<SiteFacts>,
}

impl Shared {
    /// At the start of a process, in the boot that `boot` tells from others.
    #[must_use]
    pub fn new(configuration: Configuration, tls: MemberTls, boot: u128) -> Self {
        Self {
            names: Names::of(&configuration),
            settings: Live::new(settings(&configuration, None)),
            suspicion: Suspicion::new(configuration.formation.rtt_max),
            configuration: Live::new(configuration),
            tls: LiveTls::new(tls),
            metrics: Metrics::default(),
            complaints: Complaints::default(),
            boot,
            site: Mutex::default(),
        }
    }

    /// What the site tells about itself.
    #[must_use]
    pub fn site(&self) -> SiteFacts {
        self.site.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The site tells something new about itself.
    pub fn set_site(&self, facts: SiteFacts) {
        *self.site.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    /// Makes the settings anew from the configuration and what the site can run; the protocol has to be told. Returns
    /// whether they have changed.
    pub fn renew_settings(&self) -> bool {
        let renewed = settings(&self.configuration.get(), self.site().runnable.as_ref());
        let changed = *self.settings.get() != renewed;
        self.settings.swap(renewed);
        changed
    }
}
