//! What unit tests are about: the formation acme, as `tests/acme.toml` has it.

use sitegate_host::diagnostic::Source;
use sitegate_protocol::{Incarnation, MemberId, Span, Takeover, Takeovers, Tenancy, Token};

use crate::api::types::{LocalStatus, MemberStatus, TicketStatus};
use crate::config::{Configuration, Formation, Local};

/// Sites paris and lyon, arbitrator tiebreak; no tickets.
pub(crate) const MEMBERS: &str = include_str!("../tests/acme.toml");

/// Written after [`MEMBERS`].
const TICKETS: &str = r#"
[ticket-defaults]
acquire-after = "45s"
[ticket.db]
order = ["lyon", "paris"]
[ticket.web]
"#;

/// A formation file, which must be good.
pub(crate) fn formation(text: &str) -> Formation {
    Formation::parse(&Source::new("formation.toml", text)).unwrap()
}

/// Of member `me`, with tickets db and web, and `hooks` at the end of its member.toml.
pub(crate) fn configuration(me: &str, hooks: &str) -> Configuration {
    let formation = formation(&format!("{MEMBERS}{TICKETS}"));
    let local = format!("name = \"{me}\"\n[tls]\nca = \"ca\"\ncert = \"cert\"\nkey = \"key\"\n{hooks}");
    let local = Local::parse(&Source::new("member.toml", local), Some(&formation)).unwrap();
    Configuration { formation, local }
}

/// A site that is well.
pub(crate) fn member_status(name: &str) -> MemberStatus {
    MemberStatus {
        name: name.into(),
        id: 1,
        role: "site".into(),
        reachable: true,
        heard_ago_ms: None,
        quarantined: false,
        clock_off: false,
        config_digest: None,
        certificate_days_left: None,
        standby: Some("online".into()),
        problem: None,
    }
}

/// As lyon sees it: paris holds it.
pub(crate) fn ticket_status(name: &str) -> TicketStatus {
    let local = LocalStatus {
        state: "idle".into(),
        token: None,
        remaining_ms: None,
        refusal: None,
        check: "passed".into(),
        fence_failing: false,
        unfenced: false,
    };
    TicketStatus {
        ticket: name.into(),
        wanted: "managed".into(),
        preferred: Some("paris".into()),
        paused: false,
        intent_version: 3,
        intent_by: "alice".into(),
        intent_reason: String::new(),
        holder: Some("paris".into()),
        token: 257,
        proof: None,
        takeovers: 0,
        takeover: "timed".into(),
        expire_ms: 3000,
        acquire_after_ms: 2000,
        chosen: true,
        guard_remaining_ms: Some(4200),
        parked: Vec::new(),
        local: Some(local),
        round: None,
    }
}

/// A first tenure of paris.
pub(crate) fn tenancy() -> Tenancy {
    Tenancy {
        site: MemberId::new(1).unwrap(),
        incarnation: Incarnation(1),
        token: Token(257),
        expire: Span::from_secs(60),
        acquire_after: Span::from_secs(45),
        takeover: Takeover::Timed,
        takeovers: Takeovers::NONE,
    }
}
