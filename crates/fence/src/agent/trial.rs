//! Whether a level would work, as far as can be told without fencing anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::off::{Case, Runs, all_plugs};
use super::{Action, Agent};
use crate::programs::{Exited, Programs, Role};

/// What the agent said of one plug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The plug; `None` where the options say what is fenced.
    pub plug: Option<String>,
    /// What it said, as a sentence, or why it has failed.
    pub outcome: Result<String, String>,
}

/// Asks the agent once for the `status` of each plug, all at once, or without plugs to `monitor` its device. Switches nothing.
/// Takes at most `within` and the time of a kill; nothing is left running then, nor when `cancel` is sent or dropped. Like
/// [`switch_off`](super::off::switch_off) it has to be run to its end.
///
/// # Errors
/// If nothing could be asked: the options file cannot be used, say.
pub async fn try_out(
    agent: Arc<Agent>,
    case: Case,
    within: Duration,
    programs: Programs,
    cancel: oneshot::Receiver<()>,
) -> Result<Vec<Told>, String> {
    let runs = Runs::new(agent, case, within, programs, Role::trial);
    all_plugs(runs, cancel, |runs, plug| async move {
        let outcome = ask(&runs, plug.as_deref()).await;
        Ok(Told { plug, outcome })
    })
    .await
}

async fn ask(runs: &Runs, plug: Option<&str>) -> Result<String, String> {
    let shown = runs.shown(plug);
    let action = if plug.is_some() { Action::Status } else { Action::Monitor };
    let failed = |why: String| format!("{shown}: {action} {why}");
    let exited = runs.run(action, plug, runs.left()).await.map_err(failed)?;
    match (action, exited) {
        (Action::Status, Exited { code: Action::IS_ON, .. }) => Ok(format!("{shown}: status says on")),
        (_, Exited { code: Action::IS_OFF, .. }) => Ok(format!("{shown}: {action} says off")),
        (_, Exited { code: 0, .. }) => Ok(format!("{shown}: the device answers")),
        (_, exited) => Err(failed(exited.to_string())),
    }
}
