//! Whether agents can do what `fenced.toml` asks of them, by what they say of themselves.
//!
//! What an agent says is wrong is an error. An agent that says nothing (it hangs, or lacks something just now) is a warning: its
//! options are unchecked then, which is no reason to keep a daemon from a configuration that is right in everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sitegate_host::diagnostic::{Diagnostic, Source};

use super::here::Here;
use super::metadata::{self, Metadata};
use super::{Options, Places};
use crate::config::Config;
use crate::store::with_causes;

mod options;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What cannot work.
    pub errors: Vec<Diagnostic>,
    /// What may be meant, or could not be found out.
    pub warnings: Vec<Diagnostic>,
}

/// Checks all levels with agents of a configuration that was read from `file`: runs each agent once for its metadata, all at
/// once, and reads options files. Blocks, at most some ten seconds where no file system hangs. An agent that is not there is
/// among [`Config::unusable_programs`], and not found here again.
#[must_use]
pub fn check(config: &Config, file: &Path) -> Findings {
    check_on(config, file, &Here::look(), metadata::WITHIN)
}

fn check_on(config: &Config, file: &Path, here: &Here, within: Duration) -> Findings {
    let programs: BTreeSet<PathBuf> = config
        .agents
        .iter()
        .map(|places| places.agent.program())
        .filter(|program| program.exists())
        .collect();
    let described = ask_all(programs, within);
    let source = Source::new(file, config.text.as_str());
    let mut findings = Findings::default();
    for places in &config.agents {
        let mut of_level = OfLevel { places, source: &source, findings: &mut findings };
        of_level.check(described.get(&places.agent.program()), here);
    }
    findings
}

type Described = BTreeMap<PathBuf, Result<Metadata, String>>;

fn ask_all(programs: BTreeSet<PathBuf>, within: Duration) -> Described {
    thread::scope(|scope| {
        let asked: Vec<_> = programs
            .into_iter()
            .map(|program| {
                let asking = program.clone();
                let ask = move || Metadata::ask(&asking, within);
                (program, thread::Builder::new().name("metadata".to_owned()).spawn_scoped(scope, ask))
            })
            .collect();
        let answer = |thread: std::io::Result<thread::ScopedJoinHandle<'_, _>>| match thread {
            Ok(thread) => {
                thread.join().unwrap_or_else(|_| Err("could not be understood: this is a bug".to_owned()))
            }
            Err(error) => Err(format!("cannot be asked: {error}")),
        };
        asked.into_iter().map(|(program, thread)| (program, answer(thread))).collect()
    })
}

/// One level while it is checked.
struct OfLevel<'a> {
    places: &'a Places,
    source: &'a Source,
    findings: &'a mut Findings,
}

impl OfLevel<'_> {
    fn check(&mut self, described: Option<&Result<Metadata, String>>, here: &Here) {
        let secrets = self.secrets();
        match described {
            Some(Ok(metadata)) => self.options(metadata, secrets.as_ref()),
            Some(Err(why)) => {
                let cause = format!("{} {why}; its options are not checked", self.places.agent.name);
                let hint =
                    format!("try it: echo action=metadata | {}", self.places.agent.program().display());
                self.warn(self.places.name.clone(), &cause, &hint);
            }
            None => {}
        }
        self.aimed_here(here, secrets.as_ref());
    }

    /// What is in the options file, or nothing if it cannot be used, which is an error.
    fn secrets(&mut self) -> Option<Options> {
        let Some(path) = &self.places.agent.options_file else { return Some(Options::default()) };
        match Options::read(path) {
            Ok(options) => Some(options),
            Err(error) => {
                let at = self.places.options_file.clone().unwrap_or_default();
                self.refuse(
                    at,
                    &with_causes(&error),
                    "make it a file of key=value lines that only its owner can read",
                );
                None
            }
        }
    }

    /// An agent that switches off this very host kills the daemon that would give the receipt.
    fn aimed_here(&mut self, here: &Here, secrets: Option<&Options>) {
        let agent = &self.places.agent;
        let plugs = agent.plugs.iter().map(|plug| ("plugs", plug.as_str()));
        let options = agent.options.iter().chain(secrets.into_iter().flat_map(Options::iter));
        let options: Vec<_> = options.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let named =
            |names: &'static [&str]| options.iter().copied().filter(move |(name, _)| names.contains(name));
        let mut targets: Vec<_> = plugs.chain(named(&["plug", "port", "nodename"])).collect();
        if targets.is_empty() {
            // Without a plug the device switches itself, or what it is a part of.
            targets.extend(named(&["ip", "ipaddr"]));
        }
        let Some((name, value)) = targets.into_iter().find(|(_, value)| here.is(value)) else { return };
        let cause = format!(
            "{} is aimed at this very host ({name} says \"{value}\"): it kills the host before a receipt can be given, and with \
             takeover = \"confirmed\" none ever comes",
            agent.name
        );
        let at =
            if name == "plugs" { self.places.plugs.clone() } else { self.places.options.get(name).cloned() };
        let hint = "aim it at what the other sites cannot wait for, or let a level with driver \"reboot\" end this host";
        self.warn(at.unwrap_or_else(|| self.places.name.clone()), &cause, hint);
    }

    fn refuse(&mut self, at: Range<usize>, cause: &str, hint: &str) {
        let diagnostic = self.diagnostic(at, cause, hint);
        self.findings.errors.push(diagnostic);
    }

    fn warn(&mut self, at: Range<usize>, cause: &str, hint: &str) {
        let diagnostic = self.diagnostic(at, cause, hint).warning();
        self.findings.warnings.push(diagnostic);
    }

    fn diagnostic(&self, at: Range<usize>, cause: &str, hint: &str) -> Diagnostic {
        let Places { resource, level, .. } = self.places;
        Diagnostic::at(self.source, at, format!("resource {resource}, level {level}: {cause}")).hint(hint)
    }
}

#[cfg(test)]
mod tests;
