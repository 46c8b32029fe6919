//! `/metrics`: everything that is counted and measured, in Prometheus's text format.

use std::fmt::{Display, Write as _};

use protocol::reply::Role;

use super::pages::{behind, Pages};
use crate::logging;
use crate::metrics::{Counter, Measure, Metrics, Unit};
#[cfg(not(feature = "global-memory"))]
use crate::pool::SpansAhead;
use crate::time::Time;

/// What [`logging::counters`] are, in their order.
const TEXT_LOG: [&str; 4] = [
    "Lines of the text log.",
    "Lines of the text log that were dropped, because more was logged than could be written.",
    "Lines of the text log that a sink could not write.",
    "Operations on the text log's sinks that failed: writing, opening, rotating, compressing.",
];

/// The whole page.
pub(super) fn text(pages: &Pages, now: Time) -> String {
    let mut page = Page { text: String::with_capacity(32 * 1024) };
    node(&mut page, pages, now);
    peers(&mut page, pages);
    resources(&mut page, pages);
    let metrics = &pages.source.metrics;
    for counter in Counter::ALL {
        page.counter(counter.name(), counter.help(), metrics.total(*counter));
    }
    for ((name, count), help) in logging::counters().into_iter().zip(TEXT_LOG) {
        page.counter(name, help, count);
    }
    page.counter(
        "refused_messages",
        "Peer messages dropped because they named another cluster, incarnation or node.",
        pages.source.published.refused_messages(),
    );
    let state = pages.source.published.state();
    page.gauge("state_bytes", "Keys, values and what waits to be freed.", state.bytes);
    page.gauge("snapshot_index", "Where the newest snapshot ends; 0 = there is none.", state.snapshot.0);
    page.gauge("log_bytes_since_snapshot", "Entries applied since the newest snapshot was begun.", state.log_bytes);
    let sessions = pages.source.published.sessions();
    page.gauge("sessions_open", "Open sessions of clients.", sessions.open);
    page.counter("sessions_expired", "Sessions that expired for want of use.", sessions.expired);
    page.counter("requests_repeated", "Copies of requests that were answered from their session.", sessions.repeated);
    Measure::ALL.iter().for_each(|measure| page.histogram(metrics, *measure));
    page.text
}

/// What the node is in its cluster.
fn node(page: &mut Page, pages: &Pages, now: Time) {
    let published = &pages.source.published;
    page.head("build_info", "gauge", "Always 1; the label names the version.");
    page.value("build_info", Some(("version", &env!("CARGO_PKG_VERSION"))), 1);
    let uptime = now.since(pages.source.started).as_millis() as f64 / 1e3;
    page.gauge("uptime_seconds", "Since the process started.", uptime);
    page.gauge(
        "ready",
        "1 = /readyz says yes: a leader is known and this node has caught up.",
        pages.ready().is_ok() as u64,
    );
    page.gauge("is_leader", "1 = this node leads.", (published.role() == Role::Leader) as u64);
    page.gauge("has_leader", "1 = this node knows a leader.", published.leader().is_some() as u64);
    page.gauge("term", "The node's term.", published.term().0);
    page.gauge("commit_index", "The last entry that this node knows to be committed.", published.commit().0);
    page.gauge("applied_index", "The last entry that this node has applied.", published.applied().0);
    page.gauge("durable_index", "The last entry that is synced on this node.", published.durable().0);
    let behind = behind(published);
    page.gauge("behind_entries", "Entries that the leader has committed and this node has not applied.", behind);
    page.gauge("keys", "Keys that exist.", published.keys());
    let paused = published.paused() as u64;
    page.gauge("uncommitted_full", "1 = the bound of uncommitted bytes is reached; clients are not read.", paused);
}

fn peers(page: &mut Page, pages: &Pages) {
    let last = pages.source.published.durable().0.max(pages.source.published.commit().0);
    let peers = pages.gauges.peers();
    page.head("peer_connected", "gauge", "1 = there is a connection to this peer.");
    for peer in &peers {
        page.value("peer_connected", Some(("peer", &peer.node)), peer.queued.is_some() as u64);
    }
    page.head("peer_queued_bytes", "gauge", "Bytes that wait to be sent to this peer.");
    for peer in &peers {
        page.value("peer_queued_bytes", Some(("peer", &peer.node)), peer.queued.unwrap_or(0));
    }
    page.head("peer_lag_entries", "gauge", "On a leader: entries that are not known to be durable on this peer.");
    for peer in &peers {
        if let Some(matched) = peer.matched {
            page.value("peer_lag_entries", Some(("peer", &peer.node)), last.saturating_sub(matched.0));
        }
    }
}

/// What is used of what is bounded.
fn resources(page: &mut Page, pages: &Pages) {
    page.gauge("client_connections_open", "Open connections of clients.", pages.open_clients());
    page.gauge("client_connections_limit", "Clients that may be connected.", pages.clients_max);
    page.head("credits_free", "gauge", "Requests that this io thread may still take.");
    for (number, free) in pages.gauges.credits().enumerate() {
        page.value("credits_free", Some(("thread", &format_args!("io-{number}"))), free);
    }
    page.gauge("credits_limit", "Requests that each io thread may take.", pages.source.config.credits);
    page.gauge("pool_used_bytes", "Bytes of read buffers in use.", pages.pool.used());
    page.gauge("pool_allocated_bytes", "Bytes of read buffers that exist, in use or kept.", pages.pool.allocated());
    page.gauge("pool_mapped_bytes", "Bytes that the system has given for read buffers.", pages.pool.mapped());
    page.gauge("pool_limit_bytes", "Bytes of read buffers that may exist.", pages.pool.budget());
    #[cfg(not(feature = "global-memory"))]
    {
        let SpansAhead { ready, late } = crate::pool::spans_ahead();
        page.counter("spans_ready", "Spans of memory that were touched before the state grew into them.", ready);
        page.counter("spans_late", "Spans of memory that the state grew into before they were touched.", late);
    }
    let metrics = &pages.source.metrics;
    let written = metrics.total(Counter::BytesWritten) as f64 / metrics.total(Counter::BytesAppended).max(1) as f64;
    page.gauge(
        "bytes_written_per_byte_appended",
        "What the disk writes for each byte of the log, since the start.",
        written,
    );
}

struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP raftkv_{name} {help}\n# TYPE raftkv_{name} {kind}");
    }

    fn value(&mut self, name: &str, label: Option<(&str, &dyn Display)>, value: impl Display) {
        let _ = match label {
            Some((key, label)) => writeln!(self.text, "raftkv_{name}{{{key}=\"{label}\"}} {value}"),
            None => writeln!(self.text, "raftkv_{name} {value}"),
        };
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.value(name, None, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let name = format!("{name}_total");
        self.head(&name, "counter", help);
        self.value(&name, None, value);
    }

    fn histogram(&mut self, metrics: &Metrics, measure: Measure) {
        let (name, scale) = match measure.unit() {
            Unit::Micros => (format!("{}_seconds", measure.name().trim_end_matches("_us")), 1e-6),
            Unit::Number => (measure.name().to_owned(), 1.0),
        };
        self.head(&name, "histogram", measure.help());
        let peers = if measure.is_per_peer() { metrics.peers().into_iter().map(Some).collect() } else { vec![None] };
        for peer in peers {
            let (first, only) = match peer {
                Some(peer) => (format!("peer=\"{peer}\","), format!("{{peer=\"{peer}\"}}")),
                None => (String::new(), String::new()),
            };
            let histogram = metrics.histogram(measure, peer);
            let bounds = histogram.buckets.iter().map(|(bound, count)| ((*bound as f64 * scale).to_string(), *count));
            for (bound, count) in bounds.chain([("+Inf".to_owned(), histogram.count)]) {
                let _ = writeln!(self.text, "raftkv_{name}_bucket{{{first}le=\"{bound}\"}} {count}");
            }
            let sum = histogram.sum as f64 * scale;
            let _ = writeln!(self.text, "raftkv_{name}_sum{only} {sum}\nraftkv_{name}_count{only} {}", histogram.count);
        }
    }
}
