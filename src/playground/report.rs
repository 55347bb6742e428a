//! What a scenario comes to.

use std::fmt;

use serde::Serialize;

/// The verdict on one scenario, with its figures. One line of `--json`; `docs/cli.md` lists the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) scenario: String,
    pub(super) ok: bool,
    pub(super) grant_ms: Option<u64>,
    pub(super) failover_ms: Option<u64>,
    pub(super) gap_ms: Option<i64>,
    pub(super) overlapping_writes: usize,
    pub(super) tokens: Vec<u64>,
    pub(super) why: Option<String>,
}

impl fmt::Display for Report {
    /// The figures and the verdict, each line with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ms: Option<String>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let tokens: Vec<String> = self.tokens.iter().map(ToString::to_string).collect();
        writeln!(
            f,
            "  grant to first write {}, failure to first write elsewhere {}, gap {}, overlapping writes {}, tokens {}",
            ms(self.grant_ms.map(|ms| ms.to_string())),
            ms(self.failover_ms.map(|ms| ms.to_string())),
            ms(self.gap_ms.map(|ms| ms.to_string())),
            self.overlapping_writes,
            if tokens.is_empty() { "-".to_owned() } else { tokens.join(" ") },
        )?;
        match &self.why {
            None => writeln!(f, "  {}: all held", self.scenario),
            Some(why) => writeln!(f, "  {}: FAILED: {why}", self.scenario),
        }
    }
}
