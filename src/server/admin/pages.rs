//! What each page says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use protocol::reply::{NodeStatus, Role};

use super::super::gauges::Gauges;
use super::super::status::StatusSource;
use super::http::{Answer, Page, Status};
use super::metrics;
use crate::limits;
use crate::pool::Pool;
use crate::replica::Published;
use crate::time::{Span, Time};

/// Everything the pages read.
pub(in super::super) struct Pages {
    pub(in super::super) source: StatusSource,
    pub(in super::super) gauges: Arc<Gauges>,
    pub(in super::super) pool: Pool,
    /// Open client connections, by io thread.
    pub(in super::super) clients: Arc<[AtomicUsize]>,
    pub(in super::super) clients_max: usize,
    /// The command line's words for a status.
    pub(in super::super) status_as_json: fn(&NodeStatus) -> String,
}

impl Pages {
    pub(super) fn answer(&self, now: Time, page: Option<Page>) -> Answer {
        match page {
            None => Answer::refusal(Status::NotFound),
            Some(Page::Metrics) => {
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                Answer { status: Status::Ok, content_type, body: metrics::text(self, now) }
            }
            Some(Page::Live) => verdict(live(&self.gauges, now)),
            Some(Page::Ready) => verdict(self.ready()),
            Some(Page::Status) => {
                let body = format!("{}\n", (self.status_as_json)(&self.source.status(now)));
                Answer { status: Status::Ok, content_type: "application/json", body }
            }
        }
    }

    pub(super) fn ready(&self) -> Result<(), String> {
        ready(&self.source.published, &self.gauges)
    }

    pub(super) fn open_clients(&self) -> usize {
        self.clients.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

fn verdict(verdict: Result<(), String>) -> Answer {
    match verdict {
        Ok(()) => Answer::text(Status::Ok, "ok\n".to_owned()),
        Err(why) => Answer::text(Status::Unavailable, format!("{why}\n")),
    }
}

/// A panic in any thread ends the process, so what is left to notice is a raft thread that hangs: it never sleeps for long.
fn live(gauges: &Gauges, now: Time) -> Result<(), String> {
    let silent = now.since(gauges.raft_turned());
    if silent > Span::millis(limits::RAFT_SILENT_MS) {
        return Err(format!("the raft thread has not turned for {} s", silent.as_millis() / 1000));
    }
    Ok(())
}

/// Ready: it serves reads and knows where writes go. A leader is known, and this node has applied about all that the leader
/// has committed.
fn ready(published: &Published, gauges: &Gauges) -> Result<(), String> {
    if gauges.is_stopping() {
        return Err("stopping".to_owned());
    }
    if published.cluster().0 == 0 {
        return Err("the cluster is not formed yet".to_owned());
    }
    if published.leader().is_none() {
        return Err("no leader is known".to_owned());
    }
    let committed = match published.role() {
        Role::Leader => published.commit(),
        _ => gauges.leader_commit().ok_or("nothing was heard of the leader's log yet")?,
    };
    let behind = committed.0.saturating_sub(published.applied().0);
    if behind > limits::READY_BEHIND_ENTRIES_MAX {
        return Err(format!("catching up: {behind} entries behind the leader"));
    }
    Ok(())
}

/// How far this node is behind what its leader has committed; 0 while that is not known.
pub(super) fn behind(published: &Published, gauges: &Gauges) -> u64 {
    let committed = match published.role() {
        Role::Leader => Some(published.commit()),
        _ => gauges.leader_commit(),
    };
    committed.map_or(0, |index| index.0.saturating_sub(published.applied().0))
}
