//! The machine's clocks, and an alarm on the two that deadlines stand on.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::retry_on_intr;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::readiness::watch;

/// `CLOCK_BOOTTIME`, ns: goes on in suspend, is slewed by time synchronisation.
#[must_use]
pub fn boot_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// `CLOCK_MONOTONIC_RAW`, ns: is never slewed, stands still in suspend.
#[must_use]
pub fn raw_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::MonotonicRaw))
}

/// `CLOCK_MONOTONIC`, µs: for the service manager, which compares with its own. Never for a decision.
#[must_use]
pub fn monotonic_us() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic)) / 1000
}

/// The wall clock, milliseconds since 1970: for people, never for a decision. 0 if it is set before 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What tells this boot from every other one: a UUID as text.
///
/// # Errors
/// Those of reading `/proc/sys/kernel/random/boot_id`.
pub fn boot_id() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

/// What tells the clocks that this process reads from all others: the boot, and the time namespace, which shifts them. Two
/// processes with the same may compare their readings.
///
/// # Errors
/// As [`boot_id`].
pub fn clock_id() -> io::Result<String> {
    let boot = boot_id()?;
    // Kernels without time namespaces have no such link, and one namespace.
    let namespace = fs::read_link("/proc/self/ns/time").unwrap_or_default();
    Ok(format!("{boot}/{}", namespace.display()))
}

/// Nanoseconds of a duration; 584 years and more are as good as never.
#[must_use]
pub fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A moment on `CLOCK_BOOTTIME` as programs are told it: seconds with milliseconds, comparable with the first number in
/// `/proc/uptime`.
#[must_use]
pub fn uptime_seconds(boot_ns: u64) -> String {
    format!("{}.{:03}", boot_ns / NS_PER_S, boot_ns % NS_PER_S / 1_000_000)
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(NS_PER_S).saturating_add(rest)
}

const NS_PER_S: u64 = 1_000_000_000;

/// The kernel has timers on `CLOCK_BOOTTIME` only. The raw clock may run faster than that by what time
/// synchronisation slews (far less than this share), so the alarm wakes up this much of the rest too early, looks again,
/// and only aims at the very moment when the rest is below [`RAW_AIM_NS`].
const RAW_EARLY_SHARE: u64 = 16;
/// A rest of a millisecond is off by less than the timer itself.
const RAW_AIM_NS: u64 = 1_000_000;

/// Wakes up one waiting task no later than at a moment on either of two clocks; perhaps earlier, which says nothing.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// An alarm that is not set. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// Those of `timerfd_create(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { timer: watch(timer(TimerfdFlags::NONBLOCK)?)? })
    }

    /// Sets it to the earlier of a moment on `CLOCK_BOOTTIME` and one on `CLOCK_MONOTONIC_RAW` (ns both); `None`
    /// turns it off. Replaces what was set before.
    ///
    /// # Errors
    /// Those of `timerfd_settime(2)`.
    pub fn set(&self, when: Option<(u64, u64)>) -> io::Result<()> {
        set(self.timer.get_ref(), when)
    }

    /// Waits until it rings. Safe to cancel.
    ///
    /// # Errors
    /// Those of `read(2)` on the timer.
    pub async fn ring(&self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let read = ready.try_io(|timer| {
                let mut expirations = [0_u8; 8];
                rustix::io::read(timer.get_ref(), &mut expirations).map_err(io::Error::from)
            });
            match read {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// Wakes up one waiting thread likewise.
#[derive(Debug)]
pub struct ThreadAlarm {
    timer: OwnedFd,
}

impl ThreadAlarm {
    /// As [`Alarm::new`], without a runtime.
    ///
    /// # Errors
    /// Those of `timerfd_create(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { timer: timer(TimerfdFlags::empty())? })
    }

    /// As [`Alarm::set`], while another thread waits.
    ///
    /// # Errors
    /// Those of `timerfd_settime(2)`.
    pub fn set(&self, when: Option<(u64, u64)>) -> io::Result<()> {
        set(&self.timer, when)
    }

    /// Waits until it rings. Allocates nothing.
    ///
    /// # Errors
    /// Those of `read(2)` on the timer.
    pub fn ring(&self) -> io::Result<()> {
        let mut expirations = [0_u8; 8];
        retry_on_intr(|| rustix::io::read(&self.timer, &mut expirations))?;
        Ok(())
    }
}

fn timer(flags: TimerfdFlags) -> io::Result<OwnedFd> {
    Ok(timerfd_create(TimerfdClockId::Boottime, flags | TimerfdFlags::CLOEXEC)?)
}

fn set(timer: &OwnedFd, when: Option<(u64, u64)>) -> io::Result<()> {
    // Zero would disarm the timer; the first nanosecond of the boot is long past.
    let at = when.map_or(0, |(boot, raw)| boot.min(boot_estimate(raw)).max(1));
    let it_value = Timespec {
        tv_sec: i64::try_from(at / NS_PER_S).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at % NS_PER_S).unwrap_or(0),
    };
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let spec = Itimerspec { it_interval: zero, it_value };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &spec)?;
    Ok(())
}

/// When on `CLOCK_BOOTTIME` to look whether the raw clock has got there.
fn boot_estimate(raw: u64) -> u64 {
    // First: whoever is interrupted between the two rings too early, not too late.
    let boot = boot_ns();
    let rest = raw.saturating_sub(raw_ns());
    let sleep = if rest > RAW_AIM_NS { rest - rest / RAW_EARLY_SHARE } else { rest };
    boot.saturating_add(sleep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_for_either_clock() {
        let alarm = Alarm::new().unwrap();
        for on_raw in [false, true] {
            let (mut boot, mut raw) = (boot_ns() + 5_000_000, raw_ns() + 5_000_000);
            if on_raw {
                boot += 3600 * NS_PER_S;
            } else {
                raw += 3600 * NS_PER_S;
            }
            while boot_ns() < boot && raw_ns() < raw {
                alarm.set(Some((boot, raw))).unwrap();
                alarm.ring().await.unwrap();
            }
        }
    }

    #[test]
    fn rings_for_a_thread_whose_alarm_is_set_meanwhile() {
        let alarm = std::sync::Arc::new(ThreadAlarm::new().unwrap());
        let waits = std::thread::spawn({
            let alarm = std::sync::Arc::clone(&alarm);
            move || alarm.ring().unwrap()
        });
        let boot = boot_ns() + 5_000_000;
        alarm.set(Some((boot, u64::MAX))).unwrap();
        waits.join().unwrap();
        assert!(boot_ns() >= boot);
    }

    #[tokio::test]
    async fn can_be_turned_off() {
        let alarm = Alarm::new().unwrap();
        alarm.set(Some((1, 1))).unwrap();
        alarm.ring().await.unwrap();
        alarm.set(Some((1, 1))).unwrap();
        alarm.set(None).unwrap();
        let rang = tokio::time::timeout(Duration::from_millis(20), alarm.ring()).await;
        assert!(rang.is_err(), "an alarm that is off has rung");
    }

    #[test]
    fn uptime_is_in_seconds() {
        assert_eq!(uptime_seconds(12_003_999_999), "12.003");
        assert!(!uptime_seconds(boot_ns()).starts_with("0.000"));
    }

    #[test]
    fn a_boot_has_an_id() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(clock_id().unwrap().split_once('/').unwrap().0, boot_id().unwrap());
    }
}
