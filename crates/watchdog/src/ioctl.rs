//! The one thing about a watchdog that cannot be done by writing to it (Linux, Documentation/watchdog/watchdog-api.rst).
//!
//! This is the only `unsafe` code of the project.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::AsFd;

use rustix::io;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `WDIOC_SETTIMEOUT`, `_IOWR('W', 6, int)`.
const SET_TIMEOUT: Opcode = opcode::read_write::<c_int>(b'W', 6);

/// Asks the device for a time-out, in seconds; gives the one that it took, which may be another.
pub(crate) fn set_timeout(device: impl AsFd, seconds: c_int) -> io::Result<c_int> {
    let mut seconds = seconds;
    // SAFETY: the opcode is that of linux/watchdog.h, whose argument is one int that the kernel reads and writes. It is
    // borrowed for the call alone.
    let request = unsafe { Updater::<{ SET_TIMEOUT }, c_int>::new(&mut seconds) };
    // SAFETY: the request is sound for every descriptor: one that is no watchdog answers ENOTTY, or takes the int for its own
    // request of that number, which is an int as well wherever 'W' is used.
    unsafe { ioctl(device, request) }?;
    Ok(seconds)
}
