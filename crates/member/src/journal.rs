//! What is written down of what the protocol did, in words. The journal itself is `sitegate-journal`.

mod commands;
mod notes;
mod votes;

pub use commands::describe_command;
pub(crate) use notes::barred;
pub use notes::describe;
pub use sitegate_journal::{
    Broken, Chain, ChainHash, Content, Draft, Entry, FILE_BYTES_MAX, FILES_MAX, Journal, Moment, content,
    read_all, read_newest, verify,
};
pub use votes::describe_vote;
