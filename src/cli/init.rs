//! `sitegate init`.
use clap::Args;
/// temporary
#[derive(Debug, Args)]
pub(crate) struct InitArgs {}
/// temporary
pub(crate) fn run(_: &InitArgs) -> Result<(), super::failure::Failure> {
    Ok(())
}
