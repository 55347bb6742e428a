//! The real daemon, as an ordinary user, in temporary directories. Every test that kills or keeps processes runs twice: with
//! process trees, and with control groups where this machine lets us use them.

mod agents;
mod bad_input;
mod disk;
mod fencing;
mod joins;
mod programs;
mod reload;
mod restart;
mod site;
mod socket;
mod strays;
mod trial;
mod units;
mod watchdog;

/// Makes two tests of an async function: `tree` and `cgroup`.
macro_rules! contained {
    ($($(#[$attribute:meta])* async fn $name:ident($site:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports, reason = "not every test uses all of its parent's imports")]
            use super::*;

            async fn run(containment: &str) {
                let Some($site) = crate::site::Site::with(containment) else { return };
                $body
            }

            $(#[$attribute])*
            #[tokio::test]
            async fn tree() {
                run("tree").await;
            }

            $(#[$attribute])*
            #[tokio::test]
            async fn cgroup() {
                run("cgroup").await;
            }
        }
    )*};
}
pub(crate) use contained;
