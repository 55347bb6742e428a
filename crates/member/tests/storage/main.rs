//! The store on disks that fail, tear, lose and rot (docs/testing.md, "Disks"): whatever happens, a store that opens holds
//! exactly what some commit left, under that commit's number, and what was acknowledged is lost only where that number, with
//! the proof in the runtime directory or the witnesses, gives it away.

mod disk;
mod faults;
mod kill;
mod rot;
mod workload;
