//! `sitegate verify`: the journals that were given, judged and shown.

use clap::Args;
use sitegate_host::diagnostic::Period;
use sitegate_member::config::TicketName;
use sitegate_verify::{SourceError, Verdict, Verification, read, verify};

use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;
use crate::terminal::output::{print, print_json};
use crate::terminal::style::Style;

mod render;

/// The default of `--clock-uncertainty`.
const UNCERTAINTY_DEFAULT: Period = Period::from_secs(sitegate_verify::UNCERTAINTY_DEFAULT.as_secs());

/// `sitegate verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The members' journals: directories or files, each as PATH or NAME=PATH
    #[arg(required = true, value_name = "JOURNAL")]
    journals: Vec<String>,
    /// Only this ticket
    #[arg(long)]
    ticket: Option<TicketName>,
    /// How wrong a member's time of day may be, where nothing better orders its entries; 0s: do not use them
    #[arg(long, value_name = "TIME", default_value_t = UNCERTAINTY_DEFAULT)]
    clock_uncertainty: Period,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads, judges and shows.
///
/// # Errors
/// A journal cannot be used, or something is violated.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let journals = read(&args.journals)?;
    let ticket = args.ticket.as_ref().map(TicketName::as_str);
    let found = verify(&journals, args.clock_uncertainty.get(), ticket);
    if args.json {
        print_json(&found)?;
    } else {
        print(&render::text(&found, Style::of_stdout()))?;
    }
    outcome(&found)
}

/// How the program ends.
fn outcome(found: &Verification) -> Result<(), Failure> {
    if found.verdict == Verdict::Violated {
        return Err(Failure::new(Exit::Violated, "something that sitegate promises did not hold, see above")
            .hint("keep these journals, and report it: this must never happen"));
    }
    if let Some(broken) = found.journals.iter().find(|about| about.chain == "broken") {
        let why = broken.why.as_deref().unwrap_or_default();
        return Err(Failure::new(
            Exit::Unusable,
            format!("the journal of {} cannot be used {why}", broken.member),
        )
        .hint(
            "fetch it again from its member; if it is still broken, somebody or some disk has changed it",
        ));
    }
    Ok(())
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let hint = match &error {
            SourceError::Unreadable { .. } => return Self::new(Exit::Failed, error.to_string()),
            SourceError::NoJournal(_) => "a member keeps its journal in `journal` below its state-dir",
            SourceError::TooLarge(_) => "give it in parts, each a file",
            SourceError::NotALine(..) => {
                "give what lies in a member's `journal` directory, or what /v1/journal or \
                 `sitegate history --json` gave"
            }
        };
        Self::new(Exit::Unusable, error.to_string()).hint(hint)
    }
}
