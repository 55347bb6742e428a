//! The options of a level against those that its agent knows.

use std::collections::BTreeSet;

use sitegate_host::diagnostic::nearest;

use super::OfLevel;
use crate::agent::metadata::Metadata;
use crate::agent::{Action, Options};

impl OfLevel<'_> {
    /// `secrets` is nothing if the file that holds them cannot be used: then nothing is known to be missing.
    pub(super) fn options(&mut self, metadata: &Metadata, secrets: Option<&Options>) {
        self.actions(metadata);
        self.plug(metadata);
        let agent = self.places.agent.clone();
        for name in agent.options.keys() {
            if !metadata.parameters.contains_key(name) {
                let at = self.places.options.get(name).cloned().unwrap_or_default();
                self.unknown(metadata, at, name, "");
            }
        }
        for (name, _) in secrets.into_iter().flat_map(Options::iter) {
            if !metadata.parameters.contains_key(name) {
                let at = self.places.options_file.clone().unwrap_or_default();
                self.unknown(metadata, at, name, " in the options file");
            }
        }
        if let Some(secrets) = secrets {
            let file = secrets.iter().map(|(name, _)| name.as_str());
            let plug = (!agent.plugs.is_empty()).then_some(agent.plug_option.as_str());
            let given = agent.options.keys().map(String::as_str).chain(file).chain(plug).collect();
            self.missing(metadata, &given);
        }
    }

    fn actions(&mut self, metadata: &Metadata) {
        for action in [Action::Off, Action::Status] {
            if !metadata.actions.contains(action.name()) {
                let cause = format!("{} does not offer the action `{action}`", self.places.agent.name);
                let hint = "take an agent that switches off and can tell whether it is off, or a level with driver \"command\"";
                self.refuse(self.places.name.clone(), &cause, hint);
            }
        }
    }

    fn plug(&mut self, metadata: &Metadata) {
        let agent = self.places.agent.clone();
        if agent.plugs.is_empty() || metadata.parameters.contains_key(&agent.plug_option) {
            return;
        }
        let cause = format!("{} has no option `{}` to name a plug with", agent.name, agent.plug_option);
        let other =
            ["plug", "port", "nodename"].into_iter().find(|name| metadata.parameters.contains_key(*name));
        let hint = other.map_or_else(
            || "leave `plugs` out: the agent switches what its options name".to_owned(),
            |other| format!("write plug-option = \"{other}\""),
        );
        let at = self.places.plug_option.clone().or_else(|| self.places.plugs.clone());
        self.refuse(at.unwrap_or_default(), &cause, &hint);
    }

    fn unknown(&mut self, metadata: &Metadata, at: std::ops::Range<usize>, name: &str, place: &str) {
        let cause = format!("{} does not know the option `{name}`{place}", self.places.agent.name);
        let hint = if name.starts_with("pcmk_") {
            "remove it: it is for Pacemaker, not for the agent".to_owned()
        } else if let Some(meant) = nearest(name, metadata.parameters.keys().map(String::as_str)) {
            format!("did you mean `{meant}`?")
        } else {
            format!("its manual page lists them: man {}", self.places.agent.name)
        };
        self.refuse(at, &cause, &hint);
    }

    fn missing(&mut self, metadata: &Metadata, given: &BTreeSet<&str>) {
        // The level says it.
        let required = metadata.parameters.iter().filter(|(name, p)| p.required && *name != "action");
        let missing: Vec<&str> = required
            .map(|(name, _)| name.as_str())
            .filter(|name| metadata.names(name).is_disjoint(given))
            .collect();
        for name in missing {
            let cause = format!("{} needs the option `{name}`", self.places.agent.name);
            let hint = if name == self.places.agent.plug_option {
                "write plugs = [\"…\"] with what it is to switch off".to_owned()
            } else {
                format!("write options = {{ {name} = \"…\" }}, or {name}=… into the options file")
            };
            self.refuse(self.places.name.clone(), &cause, &hint);
        }
    }
}
