//! Whether the watchdog is petted.

use sitegate_fence_client::status::FencePhase;
use sitegate_host::clock::duration_ns;

use super::core::Core;
use crate::deadman::State;
use crate::leases;

impl Core {
    /// Pets the watchdog, unless something should be fenced by now and is not.
    pub(super) fn keep_watchdog(&mut self) {
        let over_within_ns = duration_ns(self.config.over_within());
        let now = leases::now();
        let overdue = |state: &State| match state {
            // What is being recorded is fenced.
            State::Fencing { began, phase, .. } if *phase != FencePhase::Recording => {
                began.after(over_within_ns).passed(now)
            }
            _ => false,
        };
        let overdue = self.deadman.views().any(|(_, view)| overdue(&view.state));
        let in_time = !overdue && self.left_to_watchdog.is_empty();
        self.watchdog.keep(!self.is_idle(), in_time);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
    use sitegate_fence_client::wire::Reason;

    use sitegate_fence_client::wire::Name;

    use super::super::fixture;
    use super::*;
    use crate::reboot::Restarter;

    #[tokio::test]
    async fn the_watchdog_is_petted_until_a_fence_should_be_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watchdog");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut device = File::options().read(true).custom_flags(flags).open(&path).unwrap();
        let mut pets = move || {
            let mut told = [0; 16];
            device.read(&mut told).unwrap_or(0)
        };
        let text = format!(
            "kill-within = \"200ms\"\n[watchdog]\ndevice = \"{}\"\ntimeout = \"10s\"\n[resource.db]\nfence = []\nunfenced = true\n",
            path.display()
        );
        let restarter = Restarter::start(|_| String::new()).unwrap();
        let (mut core, _ends) = fixture::core(dir.path(), &text, restarter);
        let db = Name::new("db").unwrap();
        core.deadman.fence(leases::now(), &db, 1, Reason::not_receipted()).unwrap();
        core.keep_watchdog();
        assert_eq!(pets(), 1);
        let State::Fencing { began, .. } = core.deadman.view(&db).unwrap().state else { panic!() };
        let over = began.after(duration_ns(core.config.over_within()));
        while !over.passed(leases::now()) {
            tokio::time::sleep(std::time::Duration::from_nanos(over.remaining_ns(leases::now()))).await;
        }
        core.keep_watchdog();
        assert_eq!(pets(), 0);
    }
}
