//! The hardware watchdog in the daemon's hands: it counts as long as anything is armed or being fenced, and is petted only while
//! every fence is still in its time (docs/fencing.md, "The watchdog").

use std::time::Duration;

use sitegate_watchdog::{Watchdog as Device, cannot_be_stopped};
use tracing::{error, info, warn};

use crate::config::Watchdog;
use crate::store::with_causes;

/// It is petted so many times within its time-out, so that one turn of the daemon may be late.
const PETS_PER_TIMEOUT: u32 = 4;

/// The watchdog, if there is one.
#[derive(Debug)]
pub struct Guard {
    config: Option<Watchdog>,
    device: Option<Device>,
    /// Whether it was petted when it was last looked at.
    petted: bool,
}

impl Guard {
    /// Nothing counts yet.
    #[must_use]
    pub fn new(config: Option<Watchdog>) -> Self {
        Self { config, device: None, petted: true }
    }

    /// Sees whether the device can be used: starts it and stops it, unless it cannot be stopped.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn try_out(&self) -> Result<(), String> {
        let Some(Watchdog { device, timeout }) = &self.config else { return Ok(()) };
        if cannot_be_stopped(device) {
            info!(
                "{} cannot be stopped once it counts (nowayout): not tried before something is armed",
                device.display()
            );
            return Ok(());
        }
        let opened = Device::open(device, *timeout).map_err(|error| with_causes(&error))?;
        opened.disarm().map_err(|error| format!("cannot stop {}: {error}", device.display()))
    }

    /// How often [`keep`](Self::keep) is due, if at all.
    #[must_use]
    pub fn period(&self) -> Option<Duration> {
        self.config.as_ref().map(|watchdog| watchdog.timeout / PETS_PER_TIMEOUT)
    }

    /// Has it count, before anything is armed.
    ///
    /// # Errors
    /// Why it does not: then nothing may be armed that counts with it.
    pub fn count(&mut self) -> Result<(), String> {
        let Some(Watchdog { device, timeout }) = &self.config else { return Ok(()) };
        if self.device.is_none() {
            self.device = Some(Device::open(device, *timeout).map_err(|error| with_causes(&error))?);
            info!(device = %device.display(), timeout_s = timeout.as_secs(), "the watchdog counts");
        }
        Ok(())
    }

    /// Pets it if everything is `in_time`; stops it when nothing `needs` it.
    pub fn keep(&mut self, needs: bool, in_time: bool) {
        if needs && let Err(why) = self.count() {
            error!("NO WATCHDOG although something is armed: {why}");
        }
        if !needs {
            return self.stop();
        }
        let Some(device) = &self.device else { return };
        if !in_time {
            if self.petted {
                error!(
                    "THE WATCHDOG IS PETTED NO MORE: it resets the machine, as something should be fenced and is not"
                );
            }
            self.petted = false;
            return;
        }
        if !self.petted {
            warn!("the watchdog is petted again: everything is fenced");
        }
        self.petted = true;
        if let Err(error) = device.pet() {
            error!("the watchdog cannot be petted: {error}");
        }
    }

    fn stop(&mut self) {
        let Some(device) = &self.device else { return };
        let path = self.config.as_ref().map(|watchdog| watchdog.device.as_path());
        if path.is_some_and(cannot_be_stopped) {
            // It has to be petted for ever.
            if let Err(error) = device.pet() {
                error!("the watchdog cannot be petted: {error}");
            }
            return;
        }
        if let Some(Err(error)) = self.device.take().map(Device::disarm) {
            error!("the watchdog cannot be stopped, and resets the machine: {error}");
        }
        self.petted = true;
    }

    /// The daemon ends. What is armed stays so, and the watchdog with it: somebody has to be back in time.
    pub fn leave(&mut self, needed: bool) {
        if !needed {
            self.stop();
        }
        if let (Some(_), Some(Watchdog { timeout, .. })) = (&self.device, &self.config) {
            warn!(
                "THE WATCHDOG COUNTS ON: unless sitegate-fenced is back within {} s, it resets the machine",
                timeout.as_secs()
            );
        }
    }
}
