//! Names of units, and which are nobody's to stop.

use std::fmt;

/// The longest name of a unit, in bytes: systemd's `UNIT_NAME_MAX` without its end.
const NAME_BYTES_MAX: usize = 255;
/// What a ticket may start and stop: all that can run, and what groups it.
const KINDS: [&str; 8] = ["service", "target", "socket", "timer", "path", "mount", "automount", "swap"];

/// Units that the machine itself rests on (systemd.special(7)), and sitegate's own. No ticket's loss stops them, whatever depends
/// on what.
const SPECIAL: [&str; 80] = [
    "-.mount",
    "-.slice",
    "basic.target",
    "blockdev@.target",
    "bluetooth.target",
    "boot-complete.target",
    "cryptsetup-pre.target",
    "cryptsetup.target",
    "ctrl-alt-del.target",
    "dbus-broker.service",
    "dbus.service",
    "dbus.socket",
    "default.target",
    "emergency.target",
    "exit.target",
    "factory-reset.target",
    "final.target",
    "first-boot-complete.target",
    "getty-pre.target",
    "getty.target",
    "graphical.target",
    "halt.target",
    "hibernate.target",
    "hybrid-sleep.target",
    "init.scope",
    "initrd-fs.target",
    "initrd-root-device.target",
    "initrd-root-fs.target",
    "initrd-switch-root.target",
    "initrd-usr-fs.target",
    "initrd.target",
    "integritysetup.target",
    "kbrequest.target",
    "kexec.target",
    "local-fs-pre.target",
    "local-fs.target",
    "machine.slice",
    "machines.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "nss-lookup.target",
    "nss-user-lookup.target",
    "paths.target",
    "poweroff.target",
    "printer.target",
    "reboot.target",
    "remote-cryptsetup.target",
    "remote-fs-pre.target",
    "remote-fs.target",
    "rescue.target",
    "rpcbind.target",
    "shutdown.target",
    "sigpwr.target",
    "sitegate-arbitrator.service",
    "sitegate-fenced.service",
    "sitegated.service",
    "sleep.target",
    "slices.target",
    "smartcard.target",
    "sockets.target",
    "soft-reboot.target",
    "sound.target",
    "storage-target-mode.target",
    "suspend-then-hibernate.target",
    "suspend.target",
    "swap.target",
    "sysinit.target",
    "system-update-pre.target",
    "system-update.target",
    "system.slice",
    "time-set.target",
    "time-sync.target",
    "timers.target",
    "umount.target",
    "usb-gadget.target",
    "user.slice",
    "veritysetup-pre.target",
    "veritysetup.target",
];

/// Whether a unit is nobody's to stop: one of the machine's own, or of systemd's.
pub(super) fn is_special(name: &str) -> bool {
    SPECIAL.binary_search(&name).is_ok() || name.starts_with("systemd-") || kind(name) == "device"
}

/// What stands behind the last dot.
pub(super) fn kind(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, kind)| kind)
}

/// The name of a unit that may stand in `fenced.toml`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitName(String);

impl UnitName {
    /// The name, checked.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn new(name: &str) -> Result<Self, String> {
        let shown = name.escape_debug();
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
        let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
        if name.len() > NAME_BYTES_MAX || stem.is_empty() || !name.bytes().all(good) {
            return Err(format!("\"{shown}\" is not the name of a unit"));
        }
        if !KINDS.contains(&kind(name)) {
            return Err(format!("\"{shown}\" is no unit that can be started and stopped with a ticket"));
        }
        if stem.ends_with('@') {
            return Err(format!("\"{shown}\" is a template, not a unit"));
        }
        if is_special(name) {
            return Err(format!("\"{shown}\" belongs to the machine, not to a ticket"));
        }
        Ok(Self(name.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_units_can_be_looked_up() {
        assert!(SPECIAL.is_sorted());
        for name in SPECIAL.into_iter().chain(["systemd-journald.service", "dev-sda.device"]) {
            assert!(is_special(name), "{name}");
        }
        assert!(!is_special("mydb.service"));
    }

    #[test]
    fn a_name_is_one_of_a_unit_that_may_be_stopped() {
        for name in ["mydb.service", "sitegate-ticket@my-db.target", "srv-my\\x2ddb.mount", "a.b.timer"] {
            assert_eq!(UnitName::new(name).unwrap().as_str(), name);
        }
        for (name, why) in [
            ("mydb", "not the name"),
            (".service", "not the name"),
            ("my db.service", "not the name"),
            ("../x.service", "not the name"),
            ("mydb.slice", "no unit that can be"),
            ("mydb@.service", "template"),
            ("multi-user.target", "belongs to the machine"),
            ("systemd-logind.service", "belongs to the machine"),
            ("sitegate-fenced.service", "belongs to the machine"),
        ] {
            let error = UnitName::new(name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert!(UnitName::new(&format!("{}.service", "x".repeat(NAME_BYTES_MAX))).is_err());
    }
}
