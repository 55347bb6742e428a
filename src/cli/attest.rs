//! `sitegate attest-dead`: says what the operator vouches for, and asks twice.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;

/// What is asserted, in full.
fn assertion(site: &str, ticket: Option<&str>) -> String {
    let what = match ticket {
        Some(ticket) => format!("of the ticket {ticket}"),
        None => "of any ticket that it holds".to_owned(),
    };
    format!(
        "You are about to vouch that nothing {what} runs at {site} any more, and that nothing\n\
         will start there by itself: because the machines are off, say, or cut off from storage and network.\n\
         \n\
         The other members then hand its tickets on without waiting for it to fence.\n\
         If you are wrong, two sites run the same thing at once, and data may be lost.\n\
         sitegate cannot check this. Your name and your reason are kept in the history.\n"
    )
}

/// Lets only those through who mean it.
///
/// # Errors
/// They do not, or there is no terminal to ask on.
pub(crate) fn confirm(site: &str, ticket: Option<&str>, already: bool) -> Result<(), Failure> {
    if already {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::new(Exit::Usage, "attest-dead asks twice, and there is no terminal to ask on")
            .hint("see `sitegate attest-dead --help` for what you vouch for, then add --yes-i-have-seen-it-dead"));
    }
    ask(&mut io::stdin().lock(), &mut io::stderr().lock(), site, ticket)
}

fn ask(
    from: &mut impl BufRead,
    to: &mut impl Write,
    site: &str,
    ticket: Option<&str>,
) -> Result<(), Failure> {
    let lost = |error: io::Error| Failure::machine("ask", &error);
    writeln!(to, "{}", assertion(site, ticket)).map_err(lost)?;
    let questions = [
        ("Have you made certain of that yourself? Type `yes`: ", "yes"),
        ("Type the name of the dead site to go on: ", site),
    ];
    for (question, expected) in questions {
        write!(to, "{question}").and_then(|()| to.flush()).map_err(lost)?;
        let mut answer = String::new();
        from.read_line(&mut answer).map_err(lost)?;
        if answer.trim() != expected {
            return Err(Failure::new(Exit::Refused, "not confirmed; nothing was changed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answers: &str) -> (Result<(), Failure>, String) {
        let mut said = Vec::new();
        let result = ask(&mut answers.as_bytes(), &mut said, "lyon", Some("db"));
        (result, String::from_utf8(said).unwrap())
    }

    #[test]
    fn only_both_answers_let_it_through() {
        let (result, said) = asked("yes\nlyon\n");
        assert_eq!(result, Ok(()));
        assert!(said.contains("nothing of the ticket db runs at lyon any more"), "{said}");
        for answers in ["", "y\nlyon\n", "yes\n", "yes\nparis\n", "yes\nyes\n"] {
            assert_eq!(asked(answers).0.unwrap_err().exit, Exit::Refused, "{answers:?}");
        }
    }
}
