//! Programs that start and fence misbehave.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::wishes::A_WHILE;
use crate::playground::daemon::Program;
use crate::playground::stage::{Played, Stage, Unmet};
use crate::playground::writer::HOOKS_FILE;

/// How long paris's start hook hangs before it would start the writer: longer than a failover takes.
pub(super) const HANG: Duration = Duration::from_millis(8500);
/// Until a hook must have begun after its order.
const HOOK_MAX: Duration = Duration::from_secs(5);

/// The first level of the fence plan fails, and the writer is out of reach of the containment: the second level kills it, in
/// time.
pub(super) async fn fence_fails(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    let failed = stage.signal("paris", Program::Sitegated, Signal::KILL)?;
    stage.failover("lyon", failed).await?;
    stage.steady("lyon", A_WHILE).await?;

    let first_level = hook_line(stage, "paris", "fail", "begin")?;
    let its_failure = hook_line(stage, "paris", "fail", "failed")?;
    let second_level = hook_line(stage, "paris", "kill", "begin")?;
    let its_success = hook_line(stage, "paris", "kill", "ok")?;
    let tenures = stage.tenures();
    let [paris, lyon] = &tenures[..] else {
        return Err(Unmet(format!("{} tenures wrote where two should", tenures.len())));
    };
    if paris.last_ns < first_level {
        return Err(Unmet(
            "the writer was gone before the first level failed, so nothing was shown".to_owned(),
        ));
    }
    let in_order = its_failure <= second_level && second_level < its_success && its_success < lyon.first_ns;
    if !in_order || paris.last_ns > its_success {
        return Err(Unmet("lyon did not wait for the level that works".to_owned()));
    }
    let ms = lyon.first_ns.saturating_sub(its_success) / 1_000_000;
    stage.timeline.note(&format!("the second level was done {ms} ms before lyon wrote"));
    Ok(())
}

/// Paris's start hook hangs, and sitegated is killed: the fence ends the hook, and it starts nothing after that.
pub(super) async fn start_hangs(stage: &mut Stage) -> Played {
    let ground = stage.ground.path().to_owned();
    stage.command("paris", &["grant", "db", "--site", "paris", "--no-wait"]).await?;
    let began = || hook_lines(&ground).into_iter().find(|line| line.is("paris", "start", "begin"));
    let began = stage.until("the start hook", HOOK_MAX, began).await?;
    stage.timeline.note_at(began.boot_ns, "paris: the start hook hangs");
    tokio::time::sleep(A_WHILE).await;
    let failed = stage.signal("paris", Program::Sitegated, Signal::KILL)?;
    stage.failover("lyon", failed).await?;

    // Past the moment at which the hook would have started the writer, had it lived.
    stage.steady("lyon", HANG).await?;
    if stage.tenures().iter().any(|tenure| tenure.site == "paris") {
        return Err(Unmet("the hook that hung has started a writer".to_owned()));
    }
    let ended = |line: &HookLine| line.site == "paris" && line.hook == "start" && line.outcome != "begin";
    match hook_lines(&ground).into_iter().find(ended) {
        None => Ok(()),
        Some(line) => {
            Err(Unmet(format!("the hook that hung ended with {} where it should be killed", line.outcome)))
        }
    }
}

/// What a hook wrote down.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HookLine {
    boot_ns: u64,
    site: String,
    hook: String,
    outcome: String,
}

impl HookLine {
    fn is(&self, site: &str, hook: &str, outcome: &str) -> bool {
        self.site == site && self.hook == hook && self.outcome == outcome
    }
}

fn hook_lines(ground: &std::path::Path) -> Vec<HookLine> {
    let text = fs::read_to_string(ground.join(HOOKS_FILE)).unwrap_or_default();
    let parse = |line: &str| {
        let [boot_ns, site, hook, _token, outcome] = line.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let [site, hook, outcome] = [site, hook, outcome].map(str::to_owned);
        Some(HookLine { boot_ns: boot_ns.parse().ok()?, site, hook, outcome })
    };
    text.lines().filter_map(parse).collect()
}

/// When a hook wrote this down last.
fn hook_line(stage: &Stage, site: &str, hook: &str, outcome: &str) -> Result<u64, Unmet> {
    let lines = hook_lines(stage.ground.path());
    let found = lines.iter().rev().find(|line| line.is(site, hook, outcome)).map(|line| line.boot_ns);
    found.ok_or_else(|| Unmet(format!("{site}: the hook `{hook}` has not written down `{outcome}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_hooks_write_down() {
        let ground = tempfile::tempdir().unwrap();
        assert!(hook_lines(ground.path()).is_empty());
        fs::write(ground.path().join(HOOKS_FILE), "12 paris start 257 begin\n15 paris start 257 ok\n17 par")
            .unwrap();
        let lines = hook_lines(ground.path());
        assert_eq!(lines.len(), 2);
        assert!(lines[1].is("paris", "start", "ok") && lines[1].boot_ns == 15);
    }
}
