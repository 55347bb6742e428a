//! Invariants that one member can see, as functions; asserted in release where they matter. The numbers are those of
//! docs/protocol.md; what takes more than one member to see is checked by the simulator.

use crate::durable::Durable;
use crate::ids::TicketName;
use crate::member::Member;
use crate::register::Register;
use crate::support::Support;
use crate::value::{Key, Ownership};

/// A broken invariant: a bug, or a disk that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number, as in docs/protocol.md.
    pub number: &'static str,
    /// What was seen.
    pub what: alloc::string::String,
}

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "invariant {} is broken: {}", self.number, self.what)
    }
}

/// I5: neither what was promised nor what was accepted ever goes back.
///
/// # Errors
/// If either does.
pub fn never_regresses(before: &Durable, after: &Durable) -> Result<(), Broken> {
    for (key, old) in &before.registers {
        let new = after.registers.get(key);
        let accepted = |r: &Register| r.accepted().map(|a| a.ballot);
        let fine = new.is_some_and(|new| new.promised() >= old.promised() && accepted(new) >= accepted(old));
        if !fine {
            let what = alloc::format!("{key:?} went from {old:?} to {new:?}");
            return Err(Broken { number: "I5", what });
        }
    }
    Ok(())
}

/// I6: a member never supports a site for a ticket and has promised it to another.
///
/// # Errors
/// If it does.
pub(crate) fn supports_whom_it_promised(
    support: &Support,
    ticket: &TicketName,
    register: &Register,
) -> Result<(), Broken> {
    let holder = register.accepted().and_then(|a| a.value.ownership()).and_then(Ownership::held);
    let wrong = support.all_of(ticket).any(|(site, ballot)| {
        !register.promised().is_of(site)
            || register.accepted().is_none_or(|a| a.ballot != ballot || a.adopted)
            || holder.is_none_or(|t| t.site != site)
    });
    if wrong {
        let what = alloc::format!("{ticket} is supported against {register:?}");
        return Err(Broken { number: "I6", what });
    }
    Ok(())
}

impl Member {
    /// All that one member can check of itself.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        for (key, register) in self.registers() {
            if let Key::Ownership(ticket) = key {
                supports_whom_it_promised(self.support(), ticket, register)?;
            }
        }
        Ok(())
    }

    pub(crate) fn assert_no_double_support(&self, ticket: &TicketName, register: &Register) {
        if let Err(broken) = supports_whom_it_promised(self.support(), ticket, register) {
            panic!("{broken}");
        }
    }
}
