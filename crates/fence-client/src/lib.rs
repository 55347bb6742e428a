//! The client of `sitegate-fenced`, and the types that the two share: all that `sitegated` sees of fencing.
//!
//! The fence daemon fences a resource at its deadline unless the client extends it. A client arms a resource with a
//! token and a deadline, extends it, has it started and stopped, orders fences and gets receipts. Nothing is undone by
//! closing the connection. The protocol is JSON lines over a Unix socket, see [`request`].

pub mod client;
pub mod gate;
pub mod name;
pub mod request;
pub mod status;
pub mod time;
pub mod wire;

pub use client::{Client, ClientError, Events};
pub use request::Event;
