//! The protocol's words in the fence daemon's, and back.

use sitegate_fence_client::status::{ResourceState, Status};
use sitegate_fence_client::wire;
use sitegate_protocol::{Boot, Deadline, FenceReason, FenceReport, Raw, TicketName, Token};

/// The resource of a ticket; `None` for tickets whose names no resource can have.
pub(super) fn resource(ticket: &TicketName) -> Option<wire::Name> {
    wire::Name::new(ticket.as_str()).ok()
}

/// The ticket of a resource; `None` for resources whose names no ticket can have.
pub(super) fn ticket(resource: &wire::Name) -> Option<TicketName> {
    TicketName::new(resource.as_str()).ok()
}

pub(super) const fn deadline_out(deadline: Deadline) -> wire::Deadline {
    wire::Deadline { boot_ns: deadline.boot.0, raw_ns: deadline.raw.0 }
}

pub(super) const fn deadline_in(deadline: wire::Deadline) -> Deadline {
    Deadline { boot: Boot(deadline.boot_ns), raw: Raw(deadline.raw_ns) }
}

pub(super) fn reason(reason: FenceReason) -> wire::Reason {
    let word = match reason {
        FenceReason::Release => "release",
        FenceReason::Lost => "lost",
        FenceReason::Unknown => "unknown",
        FenceReason::Attested => "attested",
        FenceReason::Unhealthy => "unhealthy",
    };
    wire::Reason::new(word).expect("these words are reasons")
}

/// What the fence daemon says of the resources that are tickets.
pub(super) fn reports(status: &Status) -> Vec<FenceReport> {
    let report = |resource: &sitegate_fence_client::status::ResourceStatus| {
        let (armed, fencing) = match &resource.state {
            ResourceState::Armed { token, deadline, .. } => {
                (Some((Token(*token), deadline_in(*deadline))), None)
            }
            ResourceState::Fencing { token, .. } => (None, Some(Token(*token))),
            ResourceState::Unarmed | ResourceState::Arming { .. } => (None, None),
        };
        let receipt = resource.receipt.as_ref().map(|receipt| Token(receipt.token));
        Some(FenceReport { ticket: ticket(&resource.name)?, armed, fencing, receipt })
    };
    status.resources.iter().filter_map(report).collect()
}

/// Whether an arming is being recorded: a moment later its deadline will be known.
pub(super) fn is_arming(status: &Status) -> bool {
    status.resources.iter().any(|resource| matches!(resource.state, ResourceState::Arming { .. }))
}
