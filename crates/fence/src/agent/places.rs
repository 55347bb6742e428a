//! Where in `fenced.toml` an agent's level stands, for what can be said of it only once the agent has been asked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use sitegate_fence_client::wire::Name;

use super::Agent;

/// A level with an agent, and the bytes of the file that say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Whose plan it is in.
    pub resource: Name,
    /// Which level, from 1.
    pub level: usize,
    /// The agent.
    pub agent: Arc<Agent>,
    /// The agent's name.
    pub name: Range<usize>,
    /// The options' names.
    pub options: BTreeMap<String, Range<usize>>,
    /// `options-file`.
    pub options_file: Option<Range<usize>>,
    /// `plugs`.
    pub plugs: Option<Range<usize>>,
    /// `plug-option`.
    pub plug_option: Option<Range<usize>>,
}
