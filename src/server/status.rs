//! A node's status, the same for clients and for the admin endpoints.

use std::sync::Arc;

use protocol::reply::NodeStatus;

use super::settings::Config;
use crate::logging;
use crate::metrics::Metrics;
use crate::replica::Published;
use crate::time::Time;

/// Where a status comes from: what the threads publish.
#[derive(Clone)]
pub(super) struct StatusSource {
    pub(super) config: Arc<Config>,
    pub(super) published: Arc<Published>,
    pub(super) metrics: Metrics,
    /// When the process started.
    pub(super) started: Time,
}

impl StatusSource {
    /// As of about now.
    pub(super) fn status(&self, now: Time) -> NodeStatus {
        let published = &self.published;
        let mut counters = self.metrics.named();
        counters.extend(logging::counters().map(|(name, count)| (name.to_owned(), count)));
        counters.push(("refused_messages".to_owned(), published.refused_messages()));
        let sessions = published.sessions();
        counters.push(("sessions".to_owned(), sessions.open));
        counters.push(("sessions_expired".to_owned(), sessions.expired));
        counters.push(("requests_repeated".to_owned(), sessions.repeated));
        let state = published.state();
        counters.push(("state_bytes".to_owned(), state.bytes));
        counters.push(("snapshot_index".to_owned(), state.snapshot.0));
        counters.push(("log_bytes_since_snapshot".to_owned(), state.log_bytes));
        NodeStatus {
            id: self.config.id,
            name: self.config.name.clone(),
            cluster: published.cluster(),
            role: published.role(),
            term: published.term(),
            leader: published.leader(),
            commit_index: published.commit(),
            applied_index: published.applied(),
            durable_index: published.durable(),
            uptime_ms: now.since(self.started).as_millis(),
            keys: published.keys(),
            members: published.members(),
            notes: published.notes(now),
            counters,
        }
    }
}
