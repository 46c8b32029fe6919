//! The client's decisions with sessions, step by step: each write is sent as often as it takes, under one number, and what
//! is said of it is certain or "unknown", never a guess (C-24).

use protocol::reply::{Effect, Reason, SessionTerms, Status};
use protocol::{RequestId, Sequence, SessionId};
use raftkv_client::machine::{
    Action, ConnectionId, End, EndpointId, Failure, Input, Kind, Machine, Number, Own, Settings, Span, Time, Token,
};
use raftkv_client::Cause;

const MS: u64 = 1_000_000;
const WINDOW: u32 = 4;

/// A machine with two endpoints, a clock that the test moves, and a connection to the first.
struct Rig {
    machine: Machine,
    now: Time,
    connection: ConnectionId,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    connection: ConnectionId,
    request: RequestId,
    number: Option<Number>,
}

impl Rig {
    /// Connected, with nothing sent.
    fn new() -> Rig {
        let settings = Settings {
            endpoints: vec!["a:1".to_owned(), "b:1".to_owned()],
            follow_redirects: true,
            sessions: true,
            connect_timeout: Span(500 * MS),
            read_attempt_timeout: Span(1000 * MS),
            unreachable_patience: None,
            seed: 7,
        };
        let connection = ConnectionId { endpoint: EndpointId(0), life: 1 };
        let mut rig = Rig { machine: Machine::new(settings), now: Time(MS), connection };
        let read = rig.submit(0, Kind::Read);
        assert_eq!(read, [Action::Connect(connection)]);
        let sent = one(&rig.step(Input::Connected(connection)));
        assert!(answered(&rig.reply(sent, Status::Ok, Reason::None)));
        rig
    }

    /// With session 40 open, and its first write sent.
    fn open() -> (Rig, Sent) {
        let mut rig = Rig::new();
        let asked = own(&rig.submit(1, Kind::Write), Own::OpenSession);
        let sent = one(&rig.opened(asked, 40));
        assert_eq!(sent.number, number(40, 1));
        (rig, sent)
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

    fn opened(&mut self, asked: Sent, id: u64) -> Vec<Action> {
        let terms = SessionTerms { id: SessionId(id), ttl_ms: 300_000, window: WINDOW };
        self.input(asked, Status::Created, Reason::None, None, Some(terms))
    }

    fn reply(&mut self, sent: Sent, status: Status, reason: Reason) -> Vec<Action> {
        self.input(sent, status, reason, None, None)
    }

    fn input(
        &mut self,
        sent: Sent,
        status: Status,
        reason: Reason,
        leader: Option<&str>,
        session: Option<SessionTerms>,
    ) -> Vec<Action> {
        let Sent { connection, request, .. } = sent;
        self.step(Input::Reply { connection, request, status, reason, effect: Effect::None, leader, session })
    }

    /// The connection ends, and the next one opens: what is sent there at once.
    fn reconnect(&mut self, sent: RequestId) -> Vec<Action> {
        let mut actions = self.step(Input::Closed { connection: self.connection, sent, incompatible: false });
        while actions.is_empty() {
            actions = self.wait();
        }
        let [Action::Connect(connection)] = actions.as_slice() else { panic!("no connect: {actions:?}") };
        self.connection = *connection;
        self.step(Input::Connected(*connection))
    }
}

fn number(session: u64, sequence: u64) -> Option<Number> {
    Some(Number { session: SessionId(session), sequence: Sequence(sequence) })
}

fn sends(actions: &[Action]) -> Vec<Sent> {
    let send = |action: &Action| match *action {
        Action::Send { connection, request, number, .. } => Some(Sent { connection, request, number }),
        _ => None,
    };
    actions.iter().filter_map(send).collect()
}

fn one(actions: &[Action]) -> Sent {
    match sends(actions).as_slice() {
        [sent] => *sent,
        _ => panic!("not one send: {actions:?}"),
    }
}

fn own(actions: &[Action], expected: Own) -> Sent {
    match actions {
        [Action::SendOwn { connection, request, own, .. }] if *own == expected => {
            Sent { connection: *connection, request: *request, number: None }
        }
        other => panic!("no {expected:?}: {other:?}"),
    }
}

fn answered(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Done { end: End::Answered { .. }, .. }))
}

fn failure(actions: &[Action]) -> Failure {
    let failed = |action: &Action| match action {
        Action::Done { end: End::Failed(failure), .. } => Some(*failure),
        _ => None,
    };
    actions.iter().find_map(failed).unwrap_or_else(|| panic!("no failure: {actions:?}"))
}

#[test]
fn the_first_write_opens_a_session_and_the_others_are_numbered_in_it() {
    let mut rig = Rig::new();
    let asked = own(&rig.submit(1, Kind::Write), Own::OpenSession);
    assert_eq!(rig.submit(2, Kind::Write), [], "it waits for the same session");
    let both = sends(&rig.opened(asked, 40));
    assert_eq!(both.iter().map(|sent| sent.number).collect::<Vec<_>>(), [number(40, 1), number(40, 2)]);
    assert_eq!(one(&rig.submit(3, Kind::Read)).number, None, "reads need no number");
    assert_eq!(one(&rig.submit(4, Kind::Write)).number, number(40, 3));
    assert!(answered(&rig.reply(both[1], Status::Created, Reason::None)));
}

#[test]
fn a_lost_reply_is_asked_for_again_under_the_same_number() {
    let (mut rig, sent) = Rig::open();
    let again = one(&rig.reconnect(sent.request));
    assert_eq!(again.number, sent.number);
    assert_ne!(again.connection.endpoint, sent.connection.endpoint);
    assert!(answered(&rig.reply(again, Status::Created, Reason::None)));
    assert_eq!(rig.machine.pending(), 0);
}

#[test]
fn a_redirect_an_unknown_outcome_and_a_silent_node_keep_the_number() {
    let (mut rig, sent) = Rig::open();
    let actions = rig.input(sent, Status::Redirect, Reason::NotLeader, Some("b:1"), None);
    let [Action::Connect(connection)] = actions.as_slice() else { panic!("{actions:?}") };
    let redirected = one(&rig.step(Input::Connected(*connection)));
    assert_eq!(redirected.number, sent.number);
    assert_eq!(rig.reply(redirected, Status::Unknown, Reason::LeaderChanged), [], "after a pause");
    let repeated = one(&rig.wait());
    assert_eq!(repeated.number, sent.number);
    // Nobody answers: another node is asked, and then less and less often.
    let before = rig.now;
    let elsewhere = one(&rig.wait());
    assert_eq!(elsewhere.number, sent.number);
    assert_ne!(elsewhere.connection.endpoint, repeated.connection.endpoint);
    assert!(rig.now.0 - before.0 >= 2000 * MS, "patience grows with each attempt");
    // The first answer to come in ends it, the other one is late.
    assert!(answered(&rig.reply(elsewhere, Status::Created, Reason::None)));
    assert_eq!(rig.reply(repeated, Status::Created, Reason::None), []);
}

#[test]
fn at_its_deadline_a_write_is_unknown_and_its_number_is_told() {
    let (mut rig, sent) = Rig::open();
    let end = loop {
        let actions = rig.wait();
        if !actions.iter().any(|action| matches!(action, Action::Send { .. } | Action::Connect(_))) {
            break failure(&actions);
        }
    };
    assert_eq!((end.status, end.effect, end.number), (Status::Unknown, Effect::Unknown, sent.number));
    assert_eq!(rig.machine.close_session(), None, "somebody may want to ask");
}

/// After expiry: a write of which no attempt may have been executed begins anew, any other is unknown.
#[test]
fn c24_an_expired_session_is_an_answer_only_for_a_first_attempt() {
    for reason in [Reason::SessionExpired, Reason::Forgotten] {
        let (mut rig, sent) = Rig::open();
        let asked = own(&rig.reply(sent, Status::NotExecuted, reason), Own::OpenSession);
        let anew = one(&rig.opened(asked, 50));
        assert_eq!(anew.number, number(50, 1));
        assert!(answered(&rig.reply(anew, Status::Created, Reason::None)));

        let (mut rig, sent) = Rig::open();
        let again = one(&rig.reconnect(sent.request));
        let end = failure(&rig.reply(again, Status::NotExecuted, reason));
        assert_eq!((end.status, end.effect, end.cause), (Status::Unknown, Effect::Unknown, Cause::Answered));
        assert_eq!((end.reason, end.number), (reason, sent.number));
        // The next write has a session of its own.
        own(&rig.submit(2, Kind::Write), Own::OpenSession);
    }
}

#[test]
fn c24_an_attempt_that_never_left_does_not_make_a_write_uncertain() {
    let (mut rig, sent) = Rig::open();
    let again = one(&rig.reconnect(RequestId(sent.request.0 - 1)));
    assert_eq!(again.number, sent.number);
    own(&rig.reply(again, Status::NotExecuted, Reason::SessionExpired), Own::OpenSession);
}

#[test]
fn c24_a_refused_attempt_does_not_make_an_uncertain_write_certain_but_never_does() {
    let (mut rig, sent) = Rig::open();
    let again = one(&rig.reconnect(sent.request));
    let end = failure(&rig.reply(again, Status::NotExecuted, Reason::Deadline));
    assert_eq!((end.status, end.effect), (Status::Unknown, Effect::Unknown));

    // Another node may have smaller limits or an older version: it says so before anybody looks at the session.
    for (status, reason) in [
        (Status::TooLarge, Reason::ValueTooLarge),
        (Status::BadRequest, Reason::UnknownKind),
        (Status::Internal, Reason::None),
    ] {
        let (mut rig, sent) = Rig::open();
        let again = one(&rig.reconnect(sent.request));
        let end = failure(&rig.reply(again, status, reason));
        assert_eq!((end.status, end.effect, end.reason), (Status::Unknown, Effect::Unknown, reason));
        let (mut rig, sent) = Rig::open();
        assert!(answered(&rig.reply(sent, status, reason)), "the only attempt: certain");
    }

    let (mut rig, sent) = Rig::open();
    let again = one(&rig.reconnect(sent.request));
    assert!(answered(&rig.reply(again, Status::NotExecuted, Reason::Never)), "somebody asked, and it never was");
}

#[test]
fn a_full_window_waits_for_its_oldest_write() {
    let (mut rig, first) = Rig::open();
    let others: Vec<Sent> = (2..=u64::from(WINDOW)).map(|token| one(&rig.submit(token, Kind::Write))).collect();
    assert_eq!(rig.submit(8, Kind::Write), []);
    let last = others[others.len() - 1];
    let actions = rig.reply(last, Status::Created, Reason::None);
    assert!(answered(&actions) && sends(&actions).is_empty(), "the oldest has not ended");
    let actions = rig.reply(first, Status::Created, Reason::None);
    assert_eq!(one(&actions).number, number(40, u64::from(WINDOW) + 1));
}

#[test]
fn while_no_session_can_be_had_writes_wait_and_say_why() {
    let mut rig = Rig::new();
    let mut asked = own(&rig.submit(1, Kind::Write), Own::OpenSession);
    let end = loop {
        let mut actions = rig.reply(asked, Status::NotExecuted, Reason::NoLeader);
        while let [] | [Action::Connect(_)] = actions.as_slice() {
            actions = match actions.as_slice() {
                [Action::Connect(connection)] => rig.step(Input::Connected(*connection)),
                _ => rig.wait(),
            };
        }
        match actions.as_slice() {
            [Action::SendOwn { connection, request, .. }] => {
                asked = Sent { connection: *connection, request: *request, number: None };
            }
            done => break failure(done),
        }
    };
    assert_eq!((end.status, end.effect, end.reason), (Status::NotExecuted, Effect::None, Reason::NoLeader));
    assert_eq!(rig.machine.pending(), 0, "nothing is left behind");
}

#[test]
fn a_node_without_sessions_is_written_to_without() {
    let mut rig = Rig::new();
    let asked = own(&rig.submit(1, Kind::Write), Own::OpenSession);
    let sent = one(&rig.reply(asked, Status::BadRequest, Reason::UnknownKind));
    assert_eq!(sent.number, None);
    let end =
        failure(&rig.step(Input::Closed { connection: sent.connection, sent: sent.request, incompatible: false }));
    assert_eq!((end.status, end.cause), (Status::Unknown, Cause::ConnectionLost), "today's rules");
}

#[test]
fn a_session_is_kept_alive_while_it_is_waited_for_and_not_used() {
    let (mut rig, sent) = Rig::open();
    assert!(answered(&rig.reply(sent, Status::Created, Reason::None)));
    let kept = own(&rig.wait(), Own::KeepAlive(SessionId(40)));
    assert!(rig.now.0 < 300_000 * MS, "in time");
    assert_eq!(rig.reply(kept, Status::Ok, Reason::None), []);
    assert_eq!(one(&rig.submit(2, Kind::Write)).number, number(40, 2));
    let kept = own(&rig.wait_for_own(), Own::KeepAlive(SessionId(40)));
    assert_eq!(rig.reply(kept, Status::NotExecuted, Reason::SessionExpired), []);
    own(&rig.submit(3, Kind::Write), Own::OpenSession);
}

impl Rig {
    /// Lets writes pass until the machine asks something on its own.
    fn wait_for_own(&mut self) -> Vec<Action> {
        loop {
            let actions = self.wait();
            match actions.as_slice() {
                [Action::Connect(connection)] => drop(self.step(Input::Connected(*connection))),
                [Action::SendOwn { .. }] => return actions,
                _ => {}
            }
        }
    }
}

#[test]
fn a_session_is_given_back_once_nothing_is_open() {
    let (mut rig, sent) = Rig::open();
    assert_eq!(rig.machine.close_session(), None, "a write is under way");
    assert!(answered(&rig.reply(sent, Status::Created, Reason::None)));
    let (connection, request, session) = rig.machine.close_session().expect("it is at rest");
    assert_eq!((connection, session), (sent.connection, SessionId(40)));
    assert!(request > sent.request);
    assert_eq!(rig.machine.close_session(), None, "once");
}
