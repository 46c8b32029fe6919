//! The client's decisions without sessions, step by step: no socket, no clock. Above all: what is "not applied" and what is
//! "unknown".

use protocol::reply::{Effect, Reason, Status};
use protocol::RequestId;
use raftkv_client::machine::{
    Action, ConnectionId, End, EndpointId, Failure, Input, Kind, Machine, Settings, Span, Time, Token,
};
use raftkv_client::Cause;

const MS: u64 = 1_000_000;

/// A machine with three endpoints, and a clock that the test moves.
struct Rig {
    machine: Machine,
    now: Time,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(|settings| settings)
    }

    fn with(change: impl FnOnce(Settings) -> Settings) -> Rig {
        let settings = Settings {
            endpoints: vec!["a:1".to_owned(), "b:1".to_owned(), "c:1".to_owned()],
            follow_redirects: true,
            sessions: false,
            connect_timeout: Span(500 * MS),
            read_attempt_timeout: Span(1000 * MS),
            unreachable_patience: None,
            seed: 7,
        };
        Rig { machine: Machine::new(change(settings)), now: Time(MS) }
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Action> {
        self.machine.step(self.now, input);
        std::iter::from_fn(|| self.machine.next_action()).collect()
    }

    fn submit(&mut self, token: u64, kind: Kind) -> Vec<Action> {
        let deadline = Time(self.now.0 + 5000 * MS);
        self.step(Input::Submit { token: Token(token), kind, deadline, only: None })
    }

    /// Moves the clock to the next deadline, until something is to be done.
    fn wait(&mut self) -> Vec<Action> {
        for _ in 0..1000 {
            self.now = self.machine.next_deadline().expect("something is due").max(self.now);
            let actions = self.step(Input::Tick);
            if !actions.is_empty() {
                return actions;
            }
        }
        panic!("nothing happens any more");
    }

    /// Submits a write and brings it onto a connection.
    fn sent(&mut self, kind: Kind) -> (ConnectionId, RequestId) {
        let connection = connect(&self.submit(1, kind));
        send(&self.step(Input::Connected(connection)))
    }

    fn reply(
        &mut self,
        sent: (ConnectionId, RequestId),
        status: Status,
        reason: Reason,
        leader: Option<&str>,
    ) -> Vec<Action> {
        let effect = if status == Status::Unknown { Effect::Unknown } else { Effect::None };
        self.step(Input::Reply { connection: sent.0, request: sent.1, status, reason, effect, leader, session: None })
    }

    fn close(&mut self, connection: ConnectionId, sent: RequestId) -> Vec<Action> {
        self.step(Input::Closed { connection, sent, incompatible: false })
    }
}

fn connect(actions: &[Action]) -> ConnectionId {
    match actions {
        [Action::Connect(connection)] => *connection,
        other => panic!("not one connect: {other:?}"),
    }
}

fn send(actions: &[Action]) -> (ConnectionId, RequestId) {
    match actions {
        [Action::Send { connection, request, .. }] => (*connection, *request),
        other => panic!("not one send: {other:?}"),
    }
}

fn failure(actions: &[Action]) -> Failure {
    match actions {
        [.., Action::Done { end: End::Failed(failure), .. }] | [Action::Done { end: End::Failed(failure), .. }, ..] => {
            *failure
        }
        other => panic!("no failure: {other:?}"),
    }
}

fn answered(actions: &[Action]) -> bool {
    matches!(actions, [Action::Done { end: End::Answered { .. }, .. }])
}

#[test]
fn a_write_goes_to_the_first_endpoint_and_its_answer_ends_it() {
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Write);
    assert_eq!(sent.0.endpoint, EndpointId(0));
    assert!(answered(&rig.reply(sent, Status::Created, Reason::None, None)));
    assert_eq!(rig.machine.pending(), 0);
}

#[test]
fn a_redirect_is_followed_to_the_leader_also_to_a_new_address() {
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Write);
    let connection = connect(&rig.reply(sent, Status::Redirect, Reason::NotLeader, Some("d:9")));
    assert_eq!(rig.machine.address(connection.endpoint), "d:9");
    let sent = send(&rig.step(Input::Connected(connection)));
    assert!(answered(&rig.reply(sent, Status::Ok, Reason::None, None)));
    // The next operation goes to the leader at once.
    let (again, _) = send(&rig.submit(2, Kind::Write));
    assert_eq!(rig.machine.address(again.endpoint), "d:9");
}

#[test]
fn a_redirect_is_the_end_where_it_is_not_to_be_followed() {
    let mut rig = Rig::with(|settings| Settings { follow_redirects: false, ..settings });
    let sent = rig.sent(Kind::Write);
    assert!(answered(&rig.reply(sent, Status::Redirect, Reason::NotLeader, Some("b:1"))));
}

#[test]
fn nodes_that_point_at_each_other_are_asked_ever_more_slowly_until_the_deadline() {
    let mut rig = Rig::new();
    let (mut sent, mut redirects) = (rig.sent(Kind::Write), 0);
    let end = loop {
        let other = if rig.machine.address(sent.0.endpoint) == "a:1" { "b:1" } else { "a:1" };
        let mut actions = rig.reply(sent, Status::Redirect, Reason::NotLeader, Some(other));
        redirects += 1;
        while let [] | [Action::Connect(_)] = actions.as_slice() {
            actions = match actions.as_slice() {
                [Action::Connect(connection)] => rig.step(Input::Connected(*connection)),
                _ => rig.wait(),
            };
        }
        match actions.as_slice() {
            [Action::Send { connection, request, .. }] => sent = (*connection, *request),
            done => break failure(done),
        }
    };
    assert_eq!((end.status, end.effect), (Status::NotExecuted, Effect::None));
    assert!(redirects < 200, "{redirects} redirects in five seconds");
}

/// Each way in which a write's attempt can end without an answer, and what may be said of it.
/// However the clock falls, what is said in the end is what the last node said: no attempt begins that the deadline would cut
/// off.
#[test]
fn an_operation_that_is_refused_until_its_deadline_ends_with_the_last_answer() {
    for (kind, patience) in (300..340).flat_map(|ms| [(Kind::Write, ms), (Kind::Read, ms)]) {
        let mut rig = Rig::with(|settings| Settings { endpoints: vec!["a:1".to_owned()], ..settings });
        let deadline = Time(rig.now.0 + patience * MS);
        let mut actions = rig.step(Input::Submit { token: Token(1), kind, deadline, only: None });
        let opened = connect(&actions);
        actions = rig.step(Input::Connected(opened));
        while !actions.iter().any(|action| matches!(action, Action::Done { .. })) {
            let sent = send(&actions);
            assert!(rig.now.0 + 50 * MS <= deadline.0 || rig.now.0 < 2 * MS, "an attempt has time for its answer");
            rig.now = Time(rig.now.0 + MS);
            actions = rig.reply(sent, Status::NotExecuted, Reason::NoLeader, None);
            if actions.is_empty() {
                actions = rig.wait();
            }
        }
        let failure = failure(&actions);
        assert_eq!((failure.reason, failure.cause), (Reason::NoLeader, Cause::Answered), "{patience} ms");
        assert_eq!(rig.now, deadline);
    }
}

#[test]
fn what_may_have_been_executed_is_unknown_and_is_never_sent_again() {
    // The connection ends after the request was handed to the kernel.
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Write);
    let end = failure(&rig.close(sent.0, sent.1));
    assert_eq!((end.status, end.effect, end.cause), (Status::Unknown, Effect::Unknown, Cause::ConnectionLost));
    assert_eq!(rig.machine.pending(), 0);

    // The deadline passes.
    let mut rig = Rig::new();
    rig.sent(Kind::Write);
    let end = failure(&rig.wait());
    assert_eq!((end.status, end.effect, end.cause), (Status::Unknown, Effect::Unknown, Cause::Deadline));

    // The node says that it does not know.
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Write);
    assert!(answered(&rig.reply(sent, Status::Unknown, Reason::LeaderChanged, None)));
}

#[test]
fn what_certainly_was_not_executed_is_sent_elsewhere() {
    // The connection ended before the frame was handed over whole.
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Write);
    let before = RequestId(sent.1 .0 - 1);
    let connection = connect(&rig.close(sent.0, before));
    assert_ne!(connection.endpoint, sent.0.endpoint);

    // A node without a leader.
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Write);
    assert_eq!(rig.reply(sent, Status::NotExecuted, Reason::NoLeader, None), []);
    let connection = connect(&rig.wait());
    let sent = send(&rig.step(Input::Connected(connection)));
    assert!(answered(&rig.reply(sent, Status::Created, Reason::None, None)));

    // Nobody can be reached until the deadline: not applied.
    let mut rig = Rig::new();
    let mut actions = rig.submit(1, Kind::Write);
    let end = loop {
        actions = match actions.as_slice() {
            [Action::Connect(connection)] => rig.close(*connection, RequestId(0)),
            [] => rig.wait(),
            done => break failure(done),
        };
    };
    assert_eq!((end.status, end.effect), (Status::NotExecuted, Effect::None));
    assert_eq!(end.attempts, 0);
}

#[test]
fn a_refusal_that_will_not_pass_is_the_answer() {
    for reason in [Reason::NoSpace, Reason::Unsupported, Reason::Deadline] {
        let mut rig = Rig::new();
        let sent = rig.sent(Kind::Write);
        assert!(answered(&rig.reply(sent, Status::NotExecuted, reason, None)), "{reason:?}");
    }
}

#[test]
fn reads_and_repeatable_writes_are_asked_again() {
    for kind in [Kind::Read, Kind::Repeatable] {
        let mut rig = Rig::new();
        let sent = rig.sent(kind);
        let connection = connect(&rig.close(sent.0, sent.1));
        let sent = send(&rig.step(Input::Connected(connection)));
        assert_eq!(rig.reply(sent, Status::Unknown, Reason::LeaderChanged, None), []);
        let sent = send(&rig.wait());
        assert!(answered(&rig.reply(sent, Status::Ok, Reason::None, None)), "{kind:?}");
    }
}

/// An update whose first attempt was lost and that could not be repeated in time may have been executed.
#[test]
fn a_repeated_write_that_is_refused_in_the_end_stays_unknown() {
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Repeatable);
    let mut actions = rig.close(sent.0, sent.1);
    let end = loop {
        actions = match actions.as_slice() {
            [Action::Connect(connection)] => rig.close(*connection, RequestId(0)),
            [] => rig.wait(),
            done => break failure(done),
        };
    };
    assert_eq!((end.status, end.effect), (Status::Unknown, Effect::Unknown));
}

/// The last attempt's "not executed" says nothing of an earlier attempt whose outcome is not known (C-24).
#[test]
fn c24_a_refused_attempt_does_not_make_an_uncertain_write_certain() {
    let refusals = [(Status::NotExecuted, Reason::Deadline), (Status::Redirect, Reason::NotLeader)];
    for (status, reason) in refusals {
        let mut rig = Rig::with(|settings| Settings { follow_redirects: status != Status::Redirect, ..settings });
        let sent = rig.sent(Kind::Repeatable);
        let connection = connect(&rig.close(sent.0, sent.1));
        let sent = send(&rig.step(Input::Connected(connection)));
        let end = failure(&rig.reply(sent, status, reason, None));
        assert_eq!((end.status, end.effect, end.attempts), (Status::Unknown, Effect::Unknown, 2), "{status:?}");
    }
}

#[test]
fn a_read_of_a_node_that_says_nothing_goes_to_another() {
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Read);
    let connection = connect(&rig.wait());
    assert_ne!(connection.endpoint, sent.0.endpoint);
    let again = send(&rig.step(Input::Connected(connection)));
    // The first node answers after all: too late, and not an end.
    assert_eq!(rig.reply(sent, Status::NotFound, Reason::None, None), []);
    assert!(answered(&rig.reply(again, Status::Ok, Reason::None, None)));
}

#[test]
fn late_doubled_and_invented_replies_are_ignored() {
    let mut rig = Rig::new();
    let sent = rig.sent(Kind::Write);
    let stranger = ConnectionId { endpoint: EndpointId(2), life: 9 };
    assert_eq!(rig.reply((stranger, sent.1), Status::Ok, Reason::None, None), [], "from another connection");
    assert_eq!(rig.reply((sent.0, RequestId(99)), Status::Ok, Reason::None, None), [], "to another request");
    assert!(answered(&rig.reply(sent, Status::Ok, Reason::None, None)));
    assert_eq!(rig.reply(sent, Status::Ok, Reason::None, None), [], "a second time");
}

#[test]
fn an_operation_for_one_endpoint_alone_goes_nowhere_else() {
    let mut rig = Rig::new();
    let deadline = Time(rig.now.0 + 5000 * MS);
    let only = Some(EndpointId(1));
    let connection = connect(&rig.step(Input::Submit { token: Token(1), kind: Kind::Read, deadline, only }));
    assert_eq!(connection.endpoint, EndpointId(1));
    let end = failure(&rig.close(connection, RequestId(0)));
    assert_eq!((end.cause, end.endpoint), (Cause::Unreachable, only));
}

#[test]
fn patience_with_a_cluster_that_is_not_there_ends_early() {
    let mut rig = Rig::with(|settings| Settings { unreachable_patience: Some(Span(200 * MS)), ..settings });
    let start = rig.now;
    let mut actions = rig.submit(1, Kind::Write);
    let end = loop {
        actions = match actions.as_slice() {
            [Action::Connect(connection)] => rig.close(*connection, RequestId(0)),
            [] => rig.wait(),
            done => break failure(done),
        };
    };
    assert_eq!((end.status, end.cause), (Status::NotExecuted, Cause::Unreachable));
    assert!(rig.now.0 - start.0 < 1000 * MS);
}

#[test]
fn a_connection_that_does_not_open_is_given_up() {
    let mut rig = Rig::new();
    let connection = connect(&rig.submit(1, Kind::Write));
    let actions = rig.wait();
    assert!(actions.contains(&Action::Disconnect(connection)), "{actions:?}");
    assert!(actions
        .iter()
        .any(|action| matches!(action, Action::Connect(next) if next.endpoint != connection.endpoint)));
}

/// A long-lived client: an outage that it did not use says nothing about the next operation.
#[test]
fn patience_begins_anew_with_the_first_operation_after_an_idle_time() {
    let mut rig = Rig::with(|settings| Settings { unreachable_patience: Some(Span(200 * MS)), ..settings });
    let sent = rig.sent(Kind::Write);
    assert!(answered(&rig.reply(sent, Status::Ok, Reason::None, None)));
    rig.close(sent.0, sent.1);
    rig.now = Time(rig.now.0 + 60_000 * MS);
    let connection = connect(&rig.submit(2, Kind::Write));
    let sent = send(&rig.step(Input::Connected(connection)));
    assert!(answered(&rig.reply(sent, Status::Ok, Reason::None, None)));
}
