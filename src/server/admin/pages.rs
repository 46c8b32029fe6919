//! What each page says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use protocol::reply::NodeStatus;

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
    if published.needs_snapshot() {
        return Err("catching up: this node needs a snapshot of the leader".to_owned());
    }
    let committed = published.leader_commit().ok_or("catching up: nothing was heard of the leader's log yet")?;
    let behind = committed.0.saturating_sub(published.applied().0);
    if behind > limits::READY_BEHIND_ENTRIES_MAX {
        return Err(format!("catching up: {behind} entries behind the leader"));
    }
    Ok(())
}

/// How far this node is behind what its leader has committed; 0 while that is not known.
pub(super) fn behind(published: &Published) -> u64 {
    published.leader_commit().map_or(0, |index| index.0.saturating_sub(published.applied().0))
}

#[cfg(test)]
mod tests {
    use protocol::reply::Role;
    use protocol::{ClusterId, Index, NodeId};

    use super::*;
    use crate::replica::Numbers;

    #[test]
    fn alive_until_the_raft_thread_is_silent_for_too_long() {
        let gauges = Gauges::new(Time(0), 1, 16);
        let silent = Time(0) + Span::millis(limits::RAFT_SILENT_MS);
        assert_eq!(live(&gauges, silent), Ok(()));
        let why = live(&gauges, silent + Span::millis(1)).expect_err("hangs");
        assert!(why.starts_with("the raft thread has not turned for "), "{why}");
        gauges.set_raft_turned(silent);
        assert_eq!(live(&gauges, silent + Span::millis(1)), Ok(()));
    }

    /// What a formed node says that published these numbers.
    fn said(numbers: &Numbers) -> Result<(), String> {
        let published = Published::new(Time(0));
        published.set_names(ClusterId(1), Vec::new(), Vec::new(), Vec::new());
        published.set_numbers(Time(0), numbers);
        ready(&published, &Gauges::new(Time(0), 1, 16))
    }

    #[test]
    fn ready_with_a_leader_and_about_all_that_it_has_committed() {
        let most = limits::READY_BEHIND_ENTRIES_MAX;
        let good = Numbers {
            leader: Some(NodeId(1)),
            leader_commit: Some(Index(most + 7)),
            applied: Index(7),
            ..Numbers::default()
        };
        assert_eq!(said(&good), Ok(()));
        let refused = |numbers: Numbers| said(&numbers).expect_err("not ready");
        assert_eq!(refused(Numbers { leader: None, ..good }), "no leader is known");
        let why = refused(Numbers { applied: Index(6), ..good });
        assert_eq!(why, format!("catching up: {} entries behind the leader", most + 1));
        let why = refused(Numbers { leader_commit: None, ..good });
        assert_eq!(why, "catching up: nothing was heard of the leader's log yet");
        let why = refused(Numbers { needs_snapshot: true, applied: Index(most + 7), ..good });
        assert_eq!(why, "catching up: this node needs a snapshot of the leader");
        let leader = Numbers { role: Role::Leader, leader_commit: Some(Index(most + 8)), ..good };
        assert!(refused(leader).starts_with("catching up"), "a leader that restores is no exception");
    }

    #[test]
    fn not_ready_before_the_cluster_is_formed_and_while_stopping() {
        let (published, gauges) = (Published::new(Time(0)), Gauges::new(Time(0), 1, 16));
        assert_eq!(ready(&published, &gauges), Err("the cluster is not formed yet".to_owned()));
        gauges.set_stopping();
        assert_eq!(ready(&published, &gauges), Err("stopping".to_owned()));
        let answer = verdict(Err("stopping".to_owned()));
        assert!(matches!(answer.status, Status::Unavailable));
        assert_eq!(answer.body, "stopping\n");
        assert!(matches!(verdict(Ok(())).status, Status::Ok));
    }
}
