//! A level with a fence agent as it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use sitegate_fence_client::wire::Name;
use sitegate_host::diagnostic::{Diagnostic, Spanned};

use super::Check;
use super::level::RawLevel;
use crate::agent::{Agent, PLUGS_MAX, Places, secret, usable_name, usable_value};
use crate::plan::{Driver, Level};

/// How long to wait after a failure: long enough for a management controller that is busy, short enough for several tries.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// The shortest such pause. Without one, an agent that fails at once would be run thousands of times.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
/// Into how many attempts a level's limit is cut, unless it says itself how long one may take: two more after one that hangs.
const ATTEMPTS: u32 = 3;
const DEFAULT_PLUG_OPTION: &str = "plug";

/// The value of an option: agents see text.
pub(super) struct RawOption(String);

impl<'de> Deserialize<'de> for RawOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OptionVisitor).map(Self)
    }
}

struct OptionVisitor;

impl Visitor<'_> for OptionVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an integer or a boolean")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_bool<E: de::Error>(self, yes: bool) -> Result<String, E> {
        // Agents take 1 and 0 everywhere, and words in newer versions only.
        Ok(u8::from(yes).to_string())
    }
}

/// All options of a level.
pub(super) type RawOptions = BTreeMap<Spanned<String>, Spanned<RawOption>>;

impl Check<'_> {
    /// `whose`: the resource and which of its levels it is, from 1.
    pub(super) fn agent_level(
        &mut self,
        whose: (&Name, usize),
        at: Range<usize>,
        raw: &mut RawLevel,
        within: Option<Duration>,
    ) -> Option<Level> {
        let (Some(name), Some(within)) = (raw.agent.take(), within) else {
            let hint =
                "write { driver = \"agent\", agent = \"fence_ipmilan\", options = { … }, within = \"20s\" }";
            self.problem(at, "driver \"agent\" needs `agent` and `within`", hint);
            return None;
        };
        let (plugs_at, file_at) = (span(raw.plugs.as_ref()), span(raw.options_file.as_ref()));
        let plug_option_at = span(raw.plug_option.as_ref());
        let plug_option = raw.plug_option.take();
        if let (Some(at), None) = (&plug_option_at, &plugs_at) {
            self.problem(at.clone(), "`plug-option` without `plugs`", "write plugs = [\"…\"], or remove it");
        }
        if let Some(Err(why)) = plug_option.as_ref().map(|name| usable_name(name.get_ref())) {
            self.problem(
                plug_option_at.clone().unwrap_or_default(),
                why,
                "write \"plug\", \"port\" or \"nodename\"",
            );
        }
        let plug_option = plug_option.map_or_else(|| DEFAULT_PLUG_OPTION.to_owned(), Spanned::into_inner);
        let (options, options_at) = self.agent_options(raw);
        let plugs = self.plugs(raw);
        if let Some(at) = options_at.get(&plug_option).filter(|_| !plugs.is_empty()) {
            self.problem(at.clone(), format!("`{plug_option}` beside `plugs`"), "remove one of the two");
        }
        let base = self.source.file().parent().unwrap_or(Path::new(""));
        let agent = Arc::new(Agent {
            name: self.agent_name(&name),
            options,
            options_file: raw.options_file.take().map(|path| base.join(path.into_inner())),
            plugs,
            plug_option,
            retry_after: self.retry_after(raw),
            attempt_within: self.attempt_within(raw, within),
        });
        self.agents.push(Places {
            resource: whose.0.clone(),
            level: whose.1,
            agent: Arc::clone(&agent),
            name: name.span(),
            options: options_at,
            options_file: file_at,
            plugs: plugs_at,
            plug_option: plug_option_at,
        });
        Some(Level { driver: Driver::Agent(agent), within })
    }

    fn agent_name(&mut self, name: &Spanned<String>) -> String {
        let text = name.get_ref();
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !text.starts_with('/') && (text.is_empty() || !text.chars().all(bare)) || text.contains('\0') {
            let cause =
                format!("\"{}\" is neither the name of an agent nor an absolute path", text.escape_debug());
            self.problem(
                name.span(),
                cause,
                "write a bare name, as in \"fence_ipmilan\", or the path from / on",
            );
        }
        text.clone()
    }

    fn agent_options(
        &mut self,
        raw: &mut RawLevel,
    ) -> (BTreeMap<String, String>, BTreeMap<String, Range<usize>>) {
        let (mut values, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in raw.options.take().map(Spanned::into_inner).into_iter().flatten() {
            let (at, name) = (name.span(), name.into_inner());
            if secret(&name) {
                let cause =
                    format!("`{name}` is a secret, and fenced.toml is shown by diagnostics and copied");
                let hint = "put the line `key=value` into a file that only its owner can read, and name that as options-file";
                self.problems.add(Diagnostic::at(self.source, at.clone(), cause).hint(hint).without_text());
            }
            if let Err(why) = usable_name(&name) {
                self.problem(at.clone(), why, "remove it");
            }
            if let Err(why) = usable_value(&value.get_ref().0) {
                self.problem(value.span(), why, "write it without");
            }
            places.insert(name.clone(), at);
            values.insert(name, value.into_inner().0);
        }
        (values, places)
    }

    fn plugs(&mut self, raw: &mut RawLevel) -> Vec<String> {
        let Some(plugs) = raw.plugs.take() else { return Vec::new() };
        let at = plugs.span();
        let plugs = plugs.into_inner();
        if plugs.is_empty() || plugs.len() > PLUGS_MAX {
            let cause = format!("{} plugs: there are 1 to {PLUGS_MAX}", plugs.len());
            self.problem(at, cause, "leave `plugs` out where the options name what is to be switched off");
        }
        let mut seen: Vec<String> = Vec::new();
        for plug in plugs {
            let (at, plug) = (plug.span(), plug.into_inner());
            if plug.is_empty() || seen.contains(&plug) {
                self.problem(
                    at.clone(),
                    format!("a plug \"{plug}\" that is empty or a repetition"),
                    "remove it",
                );
            }
            if let Err(why) = usable_value(&plug) {
                self.problem(at, why, "write it without");
            }
            seen.push(plug);
        }
        seen
    }

    fn retry_after(&mut self, raw: &mut RawLevel) -> Duration {
        let Some(written) = raw.retry_after.take() else { return DEFAULT_RETRY_AFTER };
        let pause = written.get_ref().get();
        if pause < RETRY_AFTER_MIN {
            let cause = format!("a pause of {} ms between attempts", pause.as_millis());
            self.problem(
                written.span(),
                cause,
                format!("write at least \"{}ms\"", RETRY_AFTER_MIN.as_millis()),
            );
        }
        pause
    }

    fn attempt_within(&mut self, raw: &mut RawLevel, within: Duration) -> Duration {
        let Some(written) = raw.attempt_within.take() else { return within / ATTEMPTS };
        let attempt = self.limit(&written);
        if attempt > within {
            let cause = format!("one attempt may take longer than its level, {} ms", within.as_millis());
            self.problem(written.span(), cause, "make it so short that `within` has room for another one");
        }
        attempt
    }
}

fn span<T>(written: Option<&Spanned<T>>) -> Option<Range<usize>> {
    written.map(Spanned::span)
}
