//! The world of one seed: nodes, wires, clients, faults, one thread and virtual time.

use std::cell::Cell;

use client::machine::ConnectionId as ClientConnection;
use protocol::format::Hello;
use protocol::message::{AppendEntries, Envelope, Message};
use protocol::{split, Frame};
use raftkv::raft;
use raftkv::replica::Input;
use raftkv::time::{Span, Time};
use raftkv::wal::{ReadResult, WalError};

use crate::checks::whole_log;
use crate::clients::Client;
use crate::damage::Out;
use crate::io_loop::FRAME_BYTES_MAX;
use crate::nemesis::Nemesis;
use crate::network::Network;
use crate::node::Node;
use crate::oracle::{violated, Held, Oracle};
use crate::phases::{Phase, DOSE_LOOK_EVERY};
use crate::profile::Profile;
use crate::promises::Watch;
use crate::queue::Queue;
use crate::random::Random;
use crate::runs::Summary;
use crate::schedule::ScheduledFault;
use crate::trace::Trace;
use crate::wires::ClientWire;

/// Things that happen at a moment.
#[derive(Debug)]
pub enum Event {
    Boot {
        node: u32,
    },
    Run {
        node: u32,
        life: u32,
    },
    Synced {
        node: u32,
        life: u32,
    },
    LogRead {
        node: u32,
        life: u32,
        ask: raft::ReadLog,
    },
    /// The bulk worker takes a step.
    Bulk {
        node: u32,
        life: u32,
    },
    /// A frame from one bulk worker to another, about a fetch of one of them.
    Transfer {
        from: u32,
        to: u32,
        to_life: u32,
        fetch: u64,
        frame: Vec<u8>,
    },
    /// The connection of a fetch broke, or nothing came on it for too long.
    TransferCut {
        node: u32,
        life: u32,
        fetch: u64,
    },
    Dial {
        a: u32,
        b: u32,
    },
    Frame {
        from: u32,
        to: u32,
        to_life: u32,
        connection: u64,
        frame: Vec<u8>,
    },
    Lost {
        at: u32,
        peer: u32,
        connection: u64,
    },
    UserTimeout {
        from: u32,
        to: u32,
        connection: u64,
    },
    Fault,
    /// A leader that is chased is struck.
    StrikeElected {
        node: u32,
    },
    HealQuorum,
    ClientRun {
        client: u32,
    },
    ClientConnect {
        client: u32,
        connection: ClientConnection,
        node: u32,
    },
    ClientFrame {
        client: u32,
        connection: ClientConnection,
        frame: Vec<u8>,
    },
    ClientReply {
        client: u32,
        connection: ClientConnection,
        frame: Vec<u8>,
    },
    ClientClosed {
        client: u32,
        connection: ClientConnection,
    },
    Check,
}

pub struct World {
    pub profile: Profile,
    pub queue: Queue<Event>,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub clients: Vec<Client>,
    pub wires: Vec<ClientWire>,
    pub oracle: Oracle,
    nemesis: Option<Nemesis>,
    pub random: Random,
    pub phase: Phase,
    pub watch: Watch,
    /// How long faults went on, and what was answered meanwhile.
    pub safety: Span,
    pub completed_in_safety: u64,
    pub trace: Trace,
    pub events: u64,
}

thread_local! {
    /// Where a panic happened.
    pub static WHERE: Cell<Where> = const { Cell::new(Where { step: 0, ms: 0, node: u32::MAX }) };
}

/// An event of a run.
#[derive(Clone, Copy, Debug)]
pub struct Where {
    pub step: u64,
    /// Virtual milliseconds since the start.
    pub ms: u64,
    /// Whose step it was; `MAX` = nobody's.
    pub node: u32,
}

/// Time 0 stands for "never" in too many protocols to be trusted: start a day in.
pub const START: Time = Time(86_400_000_000_000);

impl World {
    /// Faults are drawn, or those of a schedule.
    pub fn new(profile: Profile, schedule: Option<Vec<ScheduledFault>>) -> Self {
        let mut queue = Queue::new(profile.seed);
        let mut random = Random::of(profile.seed, "world");
        for node in 0..profile.nodes {
            queue.after(Span::millis(random.below(300)), Event::Boot { node });
            for peer in 0..node {
                queue.after(Span::millis(random.below(300)), Event::Dial { a: peer, b: node });
            }
        }
        for client in 0..profile.clients {
            queue.after(Span::millis(random.below(500)), Event::ClientRun { client });
        }
        // The first while the cluster is being formed.
        queue.last_after(Span::millis(random.below(600)), Event::Fault);
        queue.after(profile.turmoil, Event::HealQuorum);
        Self {
            nodes: (0..profile.nodes).map(|id| Node::new(&profile, id)).collect(),
            network: Network::new(&profile),
            clients: (0..profile.clients).map(|number| Client::new(&profile, number)).collect(),
            wires: Vec::new(),
            oracle: Oracle::default(),
            nemesis: Some(match schedule {
                None => Nemesis::new(&profile),
                Some(schedule) => Nemesis::of_schedule(&profile, schedule),
            }),
            phase: Phase::Safety,
            watch: Watch::default(),
            safety: Span(0),
            completed_in_safety: 0,
            trace: Trace::default(),
            events: 0,
            queue,
            random,
            profile,
        }
    }

    /// Runs the seed to its end; panics where an invariant does not hold.
    pub fn run(mut self) -> Summary {
        while let Some(event) = self.queue.next() {
            WHERE.set(Where { step: self.events, ms: self.elapsed().as_millis(), node: u32::MAX });
            self.record(&event);
            if matches!(event, Event::Check) {
                if self.check() {
                    return self.summary();
                }
            } else {
                self.handle(event);
            }
        }
        unreachable!("the check of the end comes again and again")
    }

    fn handle(&mut self, event: Event) {
        let Some(event) = self.for_the_awake(event) else { return };
        match event {
            Event::Boot { node } => self.boot(node),
            Event::Run { node, life } => self.run_node(node, life),
            Event::Synced { node, life } => self.synced(node, life),
            Event::LogRead { node, life, ask } => self.log_read(node, life, ask),
            Event::Bulk { node, life } => self.bulk_step(node, life),
            Event::Transfer { from, to, to_life, fetch, frame } => self.transfer(from, to, to_life, fetch, &frame),
            Event::TransferCut { node, life, fetch } => self.transfer_cut(node, life, fetch),
            Event::Dial { a, b } => self.dial(a, b),
            Event::Frame { from, to, to_life, connection, frame } => self.frame(from, to, to_life, connection, &frame),
            Event::Lost { at, peer, connection } => self.lost(at, peer, connection),
            Event::UserTimeout { from, to, connection } => {
                self.network.time_out(&mut self.queue, from, to, connection);
            }
            Event::Fault => self.fault(),
            Event::StrikeElected { node } => self.strike_elected(node),
            Event::HealQuorum if self.has_its_dose() => self.heal_quorum(),
            Event::HealQuorum => self.queue.after(DOSE_LOOK_EVERY, event),
            Event::ClientRun { client: number } => {
                let client = &mut self.clients[number as usize];
                if client.next_run.0 <= self.queue.now().0 || client.next_run.0 == u64::MAX {
                    client.next_run = client::machine::Time(u64::MAX);
                    self.client(number, |_, _, _, _| {});
                }
            }
            Event::ClientConnect { client, connection, node } => self.client_connect(client, connection, node),
            Event::ClientFrame { client, connection, frame } => self.client_frame(client, connection, frame),
            Event::ClientReply { client, connection, frame } => {
                self.client(client, |client, now, oracle, wires| client.reply(now, connection, &frame, oracle, wires));
            }
            Event::ClientClosed { client, connection } => self.client_closed(client, connection),
            Event::Check => unreachable!("handled by the caller"),
        }
    }

    fn boot(&mut self, id: u32) {
        stepping(id);
        let (now, healed) = (self.queue.now(), self.is_healed(id));
        let node = &mut self.nodes[id as usize];
        if node.process.is_some() || node.damage.is_off() || (self.phase != Phase::Safety && !healed) {
            return;
        }
        self.examine(id);
        let node = &mut self.nodes[id as usize];
        if node.damage.is_off() {
            return;
        }
        // The power may go again while a log is recovered.
        let unlucky = !healed && self.profile.power_cuts && node.random.chance(150);
        if unlucky {
            node.disk.crash_at(node.disk.operations() + 1 + node.random.below(12));
        }
        match node.boot(now, &self.profile) {
            Ok(()) if unlucky => return self.crash(id, true, Span::millis(10)),
            Ok(()) => {}
            Err(error) if unlucky && error.is_io() => {
                raftkv::mark!("simulation: power lost during a start");
                return self.crash(id, true, Span::millis(10));
            }
            Err(error) if error.is_io() && node.disk_is_full => {
                raftkv::mark!("simulation: no space at a start");
                if healed || node.random.chance(300) {
                    node.empty_disk();
                }
                return self.queue.after(Span::millis(500), Event::Boot { node: id });
            }
            Err(error) if error.is_refusal() && node.damage.excuses_refusal() => return self.refused(id),
            Err(error) => violated("a node finds its disk as it left it", id, format!("{error:?}")),
        }
        let node = &mut self.nodes[id as usize];
        node.damage.started(&node.disk);
        self.note_written_pages(id);
        let process = self.nodes[id as usize].process.as_ref().expect("just booted");
        let hard_state = process.wal.meta().hard_state;
        let log = whole_log(&process.log_reader, process.log_base);
        let (base, applied) = (process.log_base.id, process.replica.store().applied());
        let held = Held { first: base.index.0 + 1, entries: log };
        self.oracle.booted(id, hard_state.term.0, hard_state.vote, base, held, applied);
        self.check_state(id);
        self.wake(id, now);
    }

    /// Makes sure that the node runs at a moment or before.
    pub fn wake(&mut self, id: u32, time: Time) {
        let node = &mut self.nodes[id as usize];
        let time = time.max(node.paused_until).max(self.queue.now());
        let Some(process) = &mut node.process else { return };
        if time < process.next_run && time != Time::NEVER {
            process.next_run = time;
            if !process.queued_runs.contains(&time) {
                process.queued_runs.push(time);
                self.queue.at(time, Event::Run { node: id, life: node.life });
            }
        }
    }

    pub fn input(&mut self, id: u32, input: Input) {
        if let Some(process) = &mut self.nodes[id as usize].process {
            process.inbox.push(input);
            let delay = Span(self.random.below(20_000));
            self.wake(id, self.queue.now() + delay);
        }
    }

    /// One turn of a raft thread: all input, then the timers, then the effects.
    fn run_node(&mut self, id: u32, life: u32) {
        stepping(id);
        let now = self.queue.now();
        let node = &mut self.nodes[id as usize];
        let wall_clock = node.wall_clock(now);
        if node.life != life || node.process.is_none() {
            return;
        }
        node.process.as_mut().expect("just seen").queued_runs.retain(|queued| *queued != now);
        if now < node.paused_until {
            node.process.as_mut().expect("just seen").next_run = Time::NEVER;
            return self.wake(id, node_paused_until(&self.nodes, id));
        }
        let local = node.local(now);
        let process = node.process.as_mut().expect("just seen");
        if process.next_run != now {
            return;
        }
        process.next_run = Time::NEVER;
        process.replica.set_wall_clock(wall_clock);
        let inbox = std::mem::take(&mut process.inbox);
        inbox.iter().for_each(|input| self.note_input(id, input));
        let process = self.nodes[id as usize].process.as_mut().expect("still there");
        for input in inbox {
            process.replica.step(local, input);
        }
        process.replica.step(local, Input::Tick);
        let mut outgoing = Vec::new();
        for request in process.io.requests(local, &process.replica.published(), &mut outgoing) {
            process.replica.step(local, Input::Request(request));
        }
        for outgoing in outgoing {
            self.send_reply(id, outgoing);
        }
        self.take_effects(id);
        let node = &self.nodes[id as usize];
        let Some(process) = &node.process else { return };
        let deadline = node.global(process.replica.next_deadline());
        self.wake(id, if deadline == Time::NEVER { deadline } else { deadline.max(now + Span(1)) });
    }

    fn take_effects(&mut self, id: u32) {
        let now = self.queue.now();
        let local = self.nodes[id as usize].local(now);
        for turn in 0.. {
            assert!(turn < 10_000, "effects come to an end");
            let process = self.nodes[id as usize].process.as_mut().expect("it runs");
            let mut effects = std::mem::take(&mut process.effects);
            process.replica.effects(local, &mut effects);
            if let (Some(_), true) = (&effects.stop, self.profile.beyond) {
                raftkv::mark!("simulation: stopped beyond the promise");
                self.crash(id, false, Span::ZERO);
                self.nodes[id as usize].damage.out = Some(Out::Off);
                return;
            }
            if let Some(stop) = &effects.stop {
                violated("no node reaches an impossible state", id, format!("exit {}: {}", stop.exit_code, stop.text));
            }
            if let Some(append) = effects.append.take() {
                self.nodes[id as usize].damage.is_covered_once |= append.base.is_some();
                self.oracle.appended(id, &append);
                self.append(id, append);
            }
            self.observe(id);
            for envelope in effects.messages.drain(..) {
                self.send(envelope);
            }
            let process = self.nodes[id as usize].process.as_mut().expect("it runs");
            let published = process.replica.published();
            let mut outgoing = Vec::new();
            for (io_loop, completion) in effects.completions.drain(..) {
                assert_eq!(io_loop, 0, "there is one io loop");
                process.io.complete(completion, &published, &mut outgoing);
            }
            for outgoing in outgoing {
                self.send_reply(id, outgoing);
            }
            for ask in effects.read_log.drain(..) {
                let delay = Span::micros(self.random.between(10, 2_000));
                let life = self.nodes[id as usize].life;
                self.queue.after(delay, Event::LogRead { node: id, life, ask });
            }
            self.hand_to_bulk(id, &mut effects);
            for peer in effects.disconnect.drain(..) {
                self.network.close(&mut self.queue, id, peer.0, false);
            }
            let more = effects.more;
            self.nodes[id as usize].process.as_mut().expect("it runs").effects = effects;
            if !more {
                break;
            }
        }
        // Credits that came back let more be read.
        let process = self.nodes[id as usize].process.as_mut().expect("it runs");
        if process.io.wants_to_run(&process.replica.published()) {
            self.wake(id, now + Span(1_000));
        }
    }

    fn observe(&mut self, id: u32) {
        let process = self.nodes[id as usize].process.as_ref().expect("it runs");
        let (before, leaders) = (self.oracle.commit_index(), self.oracle.leaders());
        if let Some(raft) = process.replica.raft() {
            self.oracle.observe(id, raft, process.replica.store().applied());
        }
        if self.oracle.leaders() > leaders {
            if let Some(delay) = self.nemesis.as_mut().and_then(Nemesis::elected) {
                self.queue.last_after(delay, Event::StrikeElected { node: id });
            }
        }
        let after = self.oracle.commit_index();
        if after > before {
            let process = self.nodes[id as usize].process.as_ref().expect("it runs");
            self.oracle.formed.get_or_insert_with(|| process.wal.meta().format.clone().expect("who commits has one"));
        }
        self.check_log_time(id, before, after);
        self.check_leadership(id);
        self.check_bounds(id);
        if after > before && self.random.chance(STATES_COMPARED) {
            self.check_state(id);
        }
        if after > before && self.random.chance(3) {
            self.check_durable(id, after);
        }
    }

    fn append(&mut self, id: u32, append: raft::Append) {
        let node = &mut self.nodes[id as usize];
        let process = node.process.as_mut().expect("it runs");
        process.appends.push_back(append);
        self.start_sync(id);
    }

    /// The wal thread takes all that is queued, unless it is busy.
    fn start_sync(&mut self, id: u32) {
        let healed = self.is_healed(id);
        let node = &mut self.nodes[id as usize];
        let time = node.sync_time(&self.profile, healed);
        let life = node.life;
        let Some(process) = &mut node.process else { return };
        if process.group.is_empty() && !process.appends.is_empty() {
            process.group.extend(process.appends.drain(..));
            self.queue.after(time, Event::Synced { node: id, life });
            self.note_writing(id);
        }
    }

    fn synced(&mut self, id: u32, life: u32) {
        stepping(id);
        let node = &mut self.nodes[id as usize];
        if node.life != life || node.process.is_none() {
            return;
        }
        let until = node.paused_until.max(node.disk_hangs_until);
        if self.queue.now() < until {
            return self.queue.at(until, Event::Synced { node: id, life });
        }
        if let Some(back_after) = node.power_goes_in_sync.take() {
            return self.crash(id, true, back_after);
        }
        let process = node.process.as_mut().expect("just seen");
        let quiet = process.appends.is_empty() && self.random.chance(300);
        let written = process.commit_group().and_then(|()| if quiet { process.wal.idle().map(drop) } else { Ok(()) });
        match written {
            Ok(()) => {}
            // C-6: a failed sync ends the process, and the next one must not believe the page cache.
            Err(WalError::Io { .. }) if node.disk_fails => {
                raftkv::mark!("simulation: sync failed");
                return self.crash(id, false, Span::millis(100));
            }
            Err(WalError::NoSpace { .. }) if node.disk_is_full => {
                raftkv::mark!("simulation: no space for the log");
                return self.crash(id, false, Span::millis(100));
            }
            // What it reads on the way is not what was written.
            Err(error) if node.damage.harmed && error.exit_code() == 78 => {
                return self.crash(id, false, Span::millis(100));
            }
            Err(error) => violated("a healthy disk takes what it is given", id, error),
        }
        let group = std::mem::take(&mut process.group);
        self.note_written_pages(id);
        self.note_written(id);
        for append in group {
            self.oracle.persisted(id, &append);
            for envelope in append.waiting {
                self.send(envelope);
            }
            self.input(id, Input::Persisted { sequence: append.sequence, queue_us: 0, sync_us: 0 });
        }
        self.start_sync(id);
    }

    fn log_read(&mut self, id: u32, life: u32, ask: raft::ReadLog) {
        stepping(id);
        let node = &self.nodes[id as usize];
        let Some(process) = node.process.as_ref().filter(|_| node.life == life) else { return };
        let found = process.log_reader.read(ask.from, ask.bytes_max, ask.previous, ask.previous_chain);
        let result = match found {
            Ok(ReadResult::Entries(entries)) => raft::LogReadResult::Entries(entries),
            Ok(ReadResult::Compacted) => raft::LogReadResult::Compacted,
            Ok(ReadResult::Mismatch) => raft::LogReadResult::Mismatch,
            Err(error) if node.damage.harmed && error.exit_code() == 78 => {
                raftkv::mark!("simulation: rot found by a read");
                return self.crash(id, false, Span::millis(100));
            }
            Err(error) => violated("a healthy disk can be read", id, error),
        };
        let read = raft::LogRead { purpose: ask.purpose, term: ask.term, from: ask.from, result };
        self.input(id, Input::LogRead(read));
    }

    fn send(&mut self, envelope: Envelope) {
        if crate::verbose() {
            let Envelope { from, to, term, message, .. } = &envelope;
            println!("             {from} -> {to} in term {term}: {}", brief(message));
        }
        self.oracle.sent(&envelope);
        self.check_promise(&envelope);
        if self.random.chance(PROMISES_ON_DISK) {
            self.check_promise_on_disk(&envelope);
        }
        let mut frame = Vec::new();
        envelope.encode(&mut frame);
        let (from, to) = (envelope.from.0, envelope.to.0);
        let life = self.nodes[to as usize].life;
        self.network.send(&mut self.queue, from, to, life, frame);
    }

    fn dial(&mut self, a: u32, b: u32) {
        let both = [a, b].iter().all(|id| {
            let node = &self.nodes[*id as usize];
            node.process.is_some() && node.paused_until <= self.queue.now()
        });
        let connection = if both { self.network.open(a, b) } else { None };
        if connection.is_none() {
            // Also while a connection is open: it is looked after for ever.
            self.queue.after(Span::millis(self.random.between(50, 200)), Event::Dial { a, b });
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            let process = self.nodes[from as usize].process.as_ref().expect("both run");
            let mut frame = Vec::new();
            process.replica.hello().encode(&mut frame);
            let life = self.nodes[to as usize].life;
            self.network.send_first(&mut self.queue, from, to, life, frame);
        }
    }

    fn frame(&mut self, from: u32, to: u32, to_life: u32, connection: u64, bytes: &[u8]) {
        let node = &self.nodes[to as usize];
        if node.life != to_life || node.process.is_none() || !self.network.may_deliver(from, to, connection) {
            return;
        }
        let (frame, _) = split(bytes, FRAME_BYTES_MAX).expect("undamaged").expect("whole");
        if let Ok(hello) = Hello::decode(&frame) {
            if self.network.is_current(from, to, connection) {
                self.hello(from, to, hello);
            }
            return;
        }
        let envelope = decode_envelope(&frame);
        self.input(to, Input::Peer(envelope));
    }

    fn hello(&mut self, from: u32, to: u32, hello: Hello) {
        let process = self.nodes[to as usize].process.as_ref().expect("the caller has seen it");
        match process.replica.admit(&hello) {
            Ok(()) => self.input(to, Input::Connected(hello)),
            Err(refusal) => {
                self.input(to, Input::Refused { node: hello.node, text: refusal.to_string() });
                self.network.close(&mut self.queue, from, to, false);
            }
        }
    }

    fn lost(&mut self, at: u32, peer: u32, connection: u64) {
        if self.network.is_current(at, peer, connection) {
            self.input(at, Input::Disconnected(protocol::NodeId(peer)));
        }
    }

    fn fault(&mut self) {
        if self.phase != Phase::Safety {
            return;
        }
        let mut nemesis = self.nemesis.take().expect("it is only away while it acts");
        let pause = nemesis.strike(self);
        self.nemesis = Some(nemesis);
        self.queue.last_after(pause, Event::Fault);
    }

    fn strike_elected(&mut self, node: u32) {
        if self.phase != Phase::Safety {
            return;
        }
        let mut nemesis = self.nemesis.take().expect("it is only away while it acts");
        nemesis.strike_elected(node, self);
        self.nemesis = Some(nemesis);
    }

    /// Ends a process; with its power, or only itself.
    pub fn crash(&mut self, id: u32, power: bool, back_after: Span) {
        self.note_written(id);
        let node = &mut self.nodes[id as usize];
        if power {
            node.cut_power();
        } else {
            node.kill();
        }
        if std::mem::take(&mut node.disk_fails) {
            node.disk.fail_sync(u64::MAX); // not in this run
        }
        (node.paused_until, node.disk_hangs_until) = (Time(0), Time(0));
        self.note_written_pages(id);
        self.network.close_all_of(&mut self.queue, id, power);
        let mut wires = std::mem::take(&mut self.wires);
        for wire in wires.iter().filter(|wire| wire.node == id) {
            let delay = Span(self.random.around(self.profile.delay.0) + if power { 1_500_000_000 } else { 0 });
            let (client, connection) = (wire.client, wire.connection);
            self.queue.after(delay, Event::ClientClosed { client, connection });
        }
        wires.retain(|wire| wire.node != id);
        self.wires = wires;
        self.queue.after(back_after, Event::Boot { node: id });
    }

    /// Ends the clients' connections to a node.
    pub fn reset_clients_of(&mut self, id: u32) {
        let wires: Vec<(u32, ClientConnection)> =
            self.wires.iter().filter(|wire| wire.node == id).map(|wire| (wire.client, wire.connection)).collect();
        for (client, connection) in wires {
            let delay = Span(self.random.around(self.profile.delay.0));
            self.queue.after(delay, Event::ClientClosed { client, connection });
        }
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Span {
        self.queue.now().since(START)
    }

    fn record(&mut self, event: &Event) {
        self.events += 1;
        self.check_rest();
        let now = self.queue.now().0;
        if crate::verbose() {
            let ms = now.saturating_sub(START.0) as f64 / 1e6;
            match event {
                Event::Frame { from, to, connection, .. } => {
                    println!("{ms:>12.3} ms {from} -> {to} arrives, connection {connection}")
                }
                other => println!("{ms:>12.3} ms {other:?}"),
            }
        }
        self.trace.fold(now);
        self.trace.event(event);
    }
}

/// A message without its entries' bodies.
fn brief(message: &Message) -> String {
    let Message::AppendEntries(append) = message else { return format!("{message:?}") };
    let last = append.entries.last().map(|entry| entry.header.id);
    let AppendEntries { round, heartbeat, previous, commit, .. } = append;
    format!("AppendEntries round {round} heartbeat {heartbeat} {previous:?}..{last:?} commit {commit}")
}

/// Of 1,000 messages so many are compared with what a power cut would leave.
const PROMISES_ON_DISK: u64 = 2;

/// After so many of 1,000 steps that committed something, the state of their node is compared with the log.
const STATES_COMPARED: u64 = 10;

/// What goes wrong now goes wrong at this node.
pub fn stepping(node: u32) {
    WHERE.set(Where { node, ..WHERE.get() });
}

fn node_paused_until(nodes: &[Node], id: u32) -> Time {
    nodes[id as usize].paused_until
}

fn decode_envelope(frame: &Frame<'_>) -> Envelope {
    Envelope::decode(frame, bytes::Bytes::copy_from_slice).expect("nodes understand each other")
}
