//! What a scenario comes to.

use std::fmt;

use serde::Serialize;

use sitegate_verify::{UNCERTAINTY_DEFAULT, read, verify};

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
    /// What the members' journals show; none if that could not be looked at.
    pub(super) journals: Option<&'static str>,
    pub(super) why: Option<String>,
}

impl Report {
    /// Adds what the journals of these members show, now that nobody writes them any more. A scenario whose journals show an
    /// overlap, or cannot be used, has not held.
    pub(super) fn add_journals(&mut self, journals: &[String]) {
        let problem = match read(journals) {
            Ok(journals) => {
                let found = verify(&journals, UNCERTAINTY_DEFAULT, None);
                self.journals = Some(found.word());
                found.problem()
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            self.ok = false;
            let before = self.why.take().map(|why| format!("{why}; ")).unwrap_or_default();
            self.why = Some(format!("{before}the journals: {problem}"));
        }
    }
}

impl fmt::Display for Report {
    /// The figures and the verdict, each line with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ms: Option<String>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let tokens: Vec<String> = self.tokens.iter().map(ToString::to_string).collect();
        writeln!(
            f,
            "  grant to first write {}, failure to first write elsewhere {}, gap {}, overlapping writes {}, tokens {}, journals {}",
            ms(self.grant_ms.map(|ms| ms.to_string())),
            ms(self.failover_ms.map(|ms| ms.to_string())),
            ms(self.gap_ms.map(|ms| ms.to_string())),
            self.overlapping_writes,
            if tokens.is_empty() { "-".to_owned() } else { tokens.join(" ") },
            self.journals.unwrap_or("-"),
        )?;
        match &self.why {
            None => writeln!(f, "  {}: all held", self.scenario),
            Some(why) => writeln!(f, "  {}: FAILED: {why}", self.scenario),
        }
    }
}
