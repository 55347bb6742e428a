//! What the API tells, for people. `--json` passes on what came, with all fields; `docs/cli.md` lists them.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;

/// Reads an answer.
///
/// # Errors
/// It lacks what every version of the API has.
pub(crate) fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        Failure::new(Exit::Failed, format!("the member gave an answer that is not understood: {error}"))
            .hint("check that daemon and command line are of the same version")
    })
}

/// A length of time for people: `0.3 s`, `12 s`, `5 min`, `3 h`.
#[must_use]
pub(crate) fn length(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short() {
        for (ms, shown) in
            [(340, "0.3 s"), (9_999, "9.9 s"), (61_000, "61 s"), (600_000, "10 min"), (7_200_000, "2 h")]
        {
            assert_eq!(length(ms), shown);
        }
    }
}
