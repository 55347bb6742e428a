//! Asking a member: where it is, what it answers, and what that says.

pub(crate) mod client;
pub(crate) mod place;
pub(crate) mod view;
