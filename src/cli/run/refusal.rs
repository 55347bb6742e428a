//! What the fence daemon says to those who want to join, in words.

use std::time::Duration;

use sitegate_fence_client::wire::Refusal;

use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;

/// How long sitegate-fenced may take to answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

pub(super) fn refused(refusal: &Refusal, text: String) -> Failure {
    match refusal {
        Refusal::NotAllowed { .. } => Failure::new(Exit::Forbidden, text),
        _ => Failure::new(Exit::Refused, text),
    }
}
