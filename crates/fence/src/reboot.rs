//! The driver `reboot`: the level that ends everything at this machine, this daemon included.

use std::fs;

use rustix::system::{RebootCommand, reboot};

use crate::plan::RebootMethod;

/// Restarts the machine at once: no sync, no stopping of services, which could hang on the very fault that led here.
/// Returns only if it failed.
#[must_use]
pub fn restart_machine(method: RebootMethod) -> String {
    match method {
        RebootMethod::Syscall => match reboot(RebootCommand::Restart) {
            Ok(()) => "reboot(2) returned".to_owned(),
            Err(error) => format!("reboot(2) failed: {error}; sitegate-fenced needs CAP_SYS_BOOT"),
        },
        RebootMethod::Sysrq => match fs::write("/proc/sysrq-trigger", "b") {
            Ok(()) => "/proc/sysrq-trigger took the order, but the machine still runs".to_owned(),
            Err(error) => {
                format!("cannot write /proc/sysrq-trigger: {error}; sitegate-fenced needs to be root")
            }
        },
    }
}
