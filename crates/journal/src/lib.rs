//! The journal: what a member decided, and why, with both clocks and the time of day. Members write it, and `sitegate verify`
//! proves from it that no two tenures overlapped; both by the types of this crate.
//!
//! The journal is a directory of files with one JSON object a line. [`content`] has every kind of entry with what it says:
//! nothing else can be written, and readers are told apart what they do not know. Each line ends with a SHA-256 over the line
//! before it and all of its own bytes up to there ([`chain`]), so nothing can be changed or left out in the middle without
//! everything after it showing it. It is bounded ([`files`]): the oldest file goes when there are too many. Entries are not
//! synced one by one: a power failure may take the last of them, and nothing but this record is lost with them.

pub mod chain;
pub mod content;
mod entry;
pub mod files;
mod writer;

pub use chain::{Broken, Chain, ChainHash, verify};
pub use content::{Content, Unread};
pub use entry::{Draft, Entry, History, Moment};
pub use files::{FILE_BYTES_MAX, FILES_MAX, read_all, read_newest};
pub use writer::Journal;
