//! For applications that do something only where a ticket is held, and know of that themselves: a cluster of its own that is told
//! which site may write, a job that must run at one site, a service that hands its token to its storage.
//!
//! [`Watch`] follows one ticket on the socket of this site's `sitegate-fenced`, which is who knows until when the site may go on
//! ([`Tenure`]), and who fences at that deadline whatever becomes of anybody. A [`Section`] is entered only with enough time left,
//! and says at its end whether the tenure still stood. The user has to be allowed to connect: see `allow-uid` and `join` in
//! `docs/fencing.md`.
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//!
//! use sitegate_client::{Name, Watch};
//!
//! # async fn store(token: u64) -> std::io::Result<()> { Ok(()) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ticket = Watch::connect(Path::new("/run/sitegate-fenced/fenced.sock"), Name::new("db")?).await?;
//! loop {
//!     let tenure = ticket.held().await;
//!     println!("this site holds db, with token {}", tenure.token);
//!     while let Ok(section) = ticket.enter(Duration::from_secs(2)) {
//!         // Storage that knows a larger token refuses this one.
//!         store(section.token()).await?;
//!         section.leave()?;
//!     }
//! }
//! # }
//! ```
//!
//! What this cannot do is stop the application. A process that is frozen after it has entered a section wakes up in it. Only
//! storage that compares tokens is safe from that, or an application that the fence daemon kills: one that `start` has started,
//! that runs under `sitegate run`, or that has joined (`docs/fencing.md`, "Joining").

mod section;
mod tenure;
mod watch;

pub use section::{Lost, NotHeld, Section};
pub use sitegate_fence_client::wire::{Deadline, Instant, Name, NameError, Token};
pub use tenure::{Tenure, now};
pub use watch::{Watch, WatchError};
