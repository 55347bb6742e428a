//! What is counted, in the text form of Prometheus (exposition format 0.0.4).

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::types::{Status, TicketStatus};
use super::{Api, ApiError};
use crate::metrics::{BUCKETS_US, Metrics, Times, Traffic};
use crate::wire::Lane;

pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Result<impl IntoResponse, ApiError> {
    let observed = api.look().await?;
    let mut page = Page::default();
    page.status(&api.status(&observed));
    page.counters(&api.shared.metrics);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0))
}

/// The text so far.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP sitegate_{name} {help}\n# TYPE sitegate_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        self.line(format_args!("sitegate_{name}{labels} {value}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, "", value);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a String cannot fail");
    }

    // Names of members and tickets have no character that a label would have to escape.

    fn status(&mut self, status: &Status) {
        self.family("info", "gauge", "Who this is.");
        let info = format!(
            "member=\"{}\",role=\"{}\",formation=\"{}\",version=\"{}\"",
            status.member, status.role, status.formation, status.version
        );
        self.sample("info", &info, 1);
        self.gauge("voting", "Whether this member votes.", u8::from(status.standing == "voting"));
        self.gauge("epoch", "The epoch of identities.", status.epoch);
        self.gauge("incarnation", "How often this member has started.", status.incarnation);
        self.gauge("warnings", "Things that an operator should look after.", status.warnings.len());
        self.gauge("barred", "Whether this site sends no heartbeats.", u8::from(status.bar.is_some()));
        if status.fence != "none" {
            self.gauge("fence_up", "Whether the fence daemon answers.", u8::from(status.fence == "up"));
        }
        self.members(status);
        self.tickets(&status.tickets);
    }

    fn members(&mut self, status: &Status) {
        self.family("member_reachable", "gauge", "Whether a member can be reached from here.");
        for member in &status.members {
            let labels = format!("peer=\"{}\"", member.name);
            self.sample("member_reachable", &labels, u8::from(member.reachable));
        }
        self.family("member_quarantined", "gauge", "Whether a member is in quarantine.");
        for member in &status.members {
            let labels = format!("peer=\"{}\"", member.name);
            self.sample("member_quarantined", &labels, u8::from(member.quarantined));
        }
        self.family("member_config_differs", "gauge", "Whether a member has another formation.toml.");
        for member in &status.members {
            let labels = format!("peer=\"{}\"", member.name);
            let differs = status.config_differs.contains(&member.name);
            self.sample("member_config_differs", &labels, u8::from(differs));
        }
        self.family("certificate_days_left", "gauge", "Whole days until a member's certificate ends.");
        for member in &status.members {
            if let Some(days) = member.certificate_days_left {
                self.sample("certificate_days_left", &format!("peer=\"{}\"", member.name), days);
            }
        }
    }

    fn tickets(&mut self, tickets: &[TicketStatus]) {
        self.family(
            "ticket_holder",
            "gauge",
            "1 for the site that holds a ticket, as far as this member knows.",
        );
        for ticket in tickets {
            if let Some(holder) = &ticket.holder {
                self.sample("ticket_holder", &format!("ticket=\"{}\",site=\"{holder}\"", ticket.ticket), 1);
            }
        }
        type Value = fn(&TicketStatus) -> Option<u64>;
        let families: [(&str, &str, Value); 6] = [
            ("ticket_token", "The fencing token of the tenure that runs, or ran last.", |t| Some(t.token)),
            ("ticket_wanted", "Whether somebody should hold a ticket.", |t| {
                Some(u64::from(t.wanted == "managed"))
            }),
            ("ticket_paused", "Whether new tenures are held off.", |t| Some(u64::from(t.paused))),
            ("ticket_takeovers", "Takeovers since the last command.", |t| Some(t.takeovers.into())),
            ("ticket_fence_failing", "Whether fencing a ticket fails here.", |t| {
                t.local.as_ref().map(|local| u64::from(local.fence_failing))
            }),
            ("ticket_remaining_milliseconds", "How long the fence daemon is armed yet.", |t| {
                t.local.as_ref().and_then(|local| local.remaining_ms)
            }),
        ];
        for (name, help, value) in families {
            self.family(name, "gauge", help);
            for ticket in tickets {
                if let Some(value) = value(ticket) {
                    self.sample(name, &format!("ticket=\"{}\"", ticket.ticket), value);
                }
            }
        }
    }

    fn counters(&mut self, metrics: &Metrics) {
        type Value = fn(&Traffic) -> u64;
        let families: [(&str, &str, Value); 6] = [
            ("messages_sent_total", "Messages queued for other members.", |t| t.messages_sent.get()),
            ("bytes_sent_total", "Their bytes.", |t| t.bytes_sent.get()),
            ("messages_dropped_total", "Messages dropped from a full queue.", |t| t.dropped.get()),
            ("messages_received_total", "Messages of other members.", |t| t.messages_received.get()),
            ("bytes_received_total", "Their bytes.", |t| t.bytes_received.get()),
            ("frames_refused_total", "Frames that broke the protocol.", |t| t.refused.get()),
        ];
        for (name, help, value) in families {
            self.family(name, "counter", help);
            for lane in Lane::ALL {
                self.sample(name, &format!("lane=\"{}\"", lane.name()), value(&metrics.lanes[lane]));
            }
        }
        self.histogram("commit_seconds", "How long commits took.", &metrics.commits);
        self.counter("events_total", "Events that the protocol has handled.", metrics.events.get());
        self.counter(
            "connections_refused_total",
            "Connections that were turned away.",
            metrics.turned_away.get(),
        );
        self.counter("requests_total", "Requests to this API.", metrics.requests.get());
        self.counter("commands_total", "Commands given here.", metrics.commands.get());
        self.counter(
            "journal_lost_total",
            "Entries that the journal could not take.",
            metrics.journal_lost.get(),
        );
    }

    fn histogram(&mut self, name: &str, help: &str, times: &Times) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for (most, in_bucket) in BUCKETS_US.iter().zip(&times.buckets) {
            count += in_bucket.get();
            self.sample(&bucket, &format!("le=\"{}\"", seconds(*most)), count);
        }
        self.sample(&bucket, "le=\"+Inf\"", times.count.get());
        self.sample(&format!("{name}_sum"), "", seconds(times.sum_us.get()));
        self.sample(&format!("{name}_count"), "", times.count.get());
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}
