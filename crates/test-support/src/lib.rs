//! What the tests of several packages share. It panics where a test should fail, and is part of no program.

pub mod fence_site;
pub mod http;
pub mod programs;
pub mod terms;
pub mod wait;
