//! What one seed does to its cluster: every fault class with its rate, drawn per seed (swarm testing: a seed without some
//! class reaches states that a seed with all of them never does).

use raftkv::time::Span;

use crate::random::Random;

/// Rates are per mille; spans are virtual time.
#[derive(Clone, Debug)]
pub struct Profile {
    pub seed: u64,
    /// A tenth of the usual time.
    pub is_short: bool,
    pub nodes: u32,
    pub clients: u32,
    pub keys: u64,
    /// Mean time between two operations of a client.
    pub think: Span,
    /// How long faults go on at least; longer if a seed does not have its dose by then.
    pub turmoil: Span,
    /// Mean one-way delay of a message.
    pub delay: Span,
    /// Messages of a connection may overtake each other, be lost and be doubled: harsher than TCP, and Raft must bear it.
    pub reorder: bool,
    pub loss: u64,
    pub duplicates: u64,
    /// Of 1,000 messages so many take up to two seconds longer, and hold up those behind them.
    pub stragglers: u64,
    /// Mean time of one sync.
    pub sync: Span,
    /// A sync takes fifty times as long.
    pub slow_sync: u64,
    /// Mean time between faults of the nemesis.
    pub fault_every: Span,
    pub kills: bool,
    pub power_cuts: bool,
    pub all_at_once: bool,
    pub partitions: bool,
    pub pauses: bool,
    pub resets: bool,
    /// Leaders are struck as soon as they are elected, some of them one after the other.
    pub chases: bool,
    pub clock_jumps: bool,
    pub failed_syncs: bool,
    pub hung_disks: bool,
    pub full_disks: bool,
    pub rot: bool,
    pub misdirected: bool,
    pub wipes: bool,
    pub old_disks: bool,
    /// Disks may be harmed from the beginning, while the cluster is formed; else in the second half.
    pub early_harm: bool,
    /// More may be harmed than the promise covers: nothing need work any more, but no answer may be wrong.
    pub beyond: bool,
    /// Clocks run wrong by up to so many millionths.
    pub drift_ppm: u64,
    /// Longest time of one step of the bulk worker: a slow one is overtaken by the writes.
    pub bulk_step: Span,
    pub segment_bytes: u64,
    /// Bytes of entries between two snapshots.
    pub snapshot_log_bytes: u64,
    pub value_bytes: u64,
    /// Bytes of old versions that a view may hold.
    pub view_bytes: usize,
    pub tail_bytes: usize,
    pub uncommitted_bytes: usize,
    pub append_bytes: usize,
    pub inflight_messages: usize,
    pub credits: u32,
    /// Longest time a client waits for an operation.
    pub patience: Span,
    /// Requests that are sent twice, or to another node as well.
    pub copies: u64,
    /// Operations that are given up about as soon as they are sent.
    pub abandons: u64,
    /// One client sleeps until its session has expired.
    pub sleeper: bool,
    /// Most operations are increments, all in sessions, and every unknown end is asked about.
    pub increments: bool,
}

/// A seed in which a client sleeps takes so much longer.
const SLEEPER: Span = Span::secs(480);

impl Profile {
    /// The same in a tenth of the time: for the tests of every build.
    pub fn short(seed: u64) -> Self {
        Self::draw(seed).shortened()
    }

    pub fn short_beyond(seed: u64) -> Self {
        Self::beyond(seed).shortened()
    }

    fn shortened(self) -> Self {
        let tenth = |span: Span| Span(span.0 / 10);
        let awake = if self.sleeper { Span(self.turmoil.0 - SLEEPER.0) } else { self.turmoil };
        Self {
            is_short: true,
            sleeper: false,
            turmoil: tenth(awake),
            think: Span(self.think.0 / 4),
            fault_every: Span(self.fault_every.0 / 3),
            ..self
        }
    }

    /// Beyond the promise: any disk may be harmed, and most are.
    pub fn beyond(seed: u64) -> Self {
        let mut random = Random::of(seed, "beyond");
        let mut harms = || random.chance(800);
        let (rot, misdirected, wipes, old_disks) = (harms(), harms(), harms(), harms());
        Self { beyond: true, rot, misdirected, wipes, old_disks, ..Self::draw(seed) }
    }

    /// The same with clients that count: each request in a session, about one in five copied and one in five given up.
    pub fn counting(seed: u64) -> Self {
        Self { increments: true, sleeper: false, copies: 200, abandons: 200, ..Self::draw(seed) }
    }

    #[cfg(test)]
    pub fn short_counting(seed: u64) -> Self {
        Self::counting(seed).shortened()
    }

    pub fn draw(seed: u64) -> Self {
        let mut random = Random::of(seed, "profile");
        let r = &mut random;
        let lossy = r.chance(300);
        let (clients, turmoil) = (r.between(2, 8), Span::secs(r.pick(&[120, 130, 160])));
        let sleeper = r.chance(40);
        let turmoil = if sleeper { turmoil + SLEEPER } else { turmoil };
        let delay = Span::micros(r.pick(&[100, 1_000, 5_000, 40_000]));
        // One small message per round trip would be all that a slow network carries.
        let is_slow = delay >= Span::millis(5);
        let think = Span(turmoil.0 * clients / r.between(5_000, 9_000));
        Self {
            seed,
            is_short: false,
            think,
            nodes: if r.chance(30) { 1 } else { r.pick(&[3, 3, 3, 3, 5, 5, 5, 7]) },
            clients: clients as u32,
            keys: r.pick(&[1, 5, 50]),
            turmoil,
            delay,
            reorder: r.chance(250),
            loss: if lossy { r.pick(&[10, 100, 300]) } else { 0 },
            duplicates: if lossy { r.pick(&[0, 50, 300]) } else { 0 },
            sync: Span::micros(r.pick(&[50, 500, 5_000])),
            slow_sync: r.pick(&[0, 0, 20]),
            fault_every: Span::millis(r.pick(&[500, 1_500, 3_500])),
            kills: r.chance(800),
            power_cuts: r.chance(980),
            all_at_once: r.chance(400),
            partitions: r.chance(950),
            pauses: r.chance(400),
            resets: r.chance(700),
            chases: r.chance(400),
            clock_jumps: r.chance(300),
            failed_syncs: r.chance(200),
            hung_disks: r.chance(300),
            full_disks: r.chance(200),
            drift_ppm: r.pick(&[0, 100, 50_000]),
            bulk_step: Span::micros(r.pick(&[3_000, 3_000, 3_000, 100_000])),
            snapshot_log_bytes: r.pick(&[2_000, 8_000, 15_000, 40_000]),
            segment_bytes: r.pick(&[16, 16, 32, 64]) * 1024,
            value_bytes: r.pick(&[10, 100, 100, 100, 1_000, 1_000]),
            view_bytes: r.pick(&[500, 5_000, 50_000, 1_000_000]),
            tail_bytes: r.pick(&[2_000, 20_000, 1_000_000]),
            uncommitted_bytes: r.pick(&[3_000, 30_000, 1_000_000]),
            append_bytes: r.pick(if is_slow { &[20_000, 100_000] } else { &[100, 500, 8_000, 100_000] }),
            inflight_messages: r.pick(if is_slow { &[8, 64] } else { &[1, 4, 64] }),
            credits: r.pick(&[8, 64]) as u32,
            patience: Span::millis(r.pick(&[100, 1_000, 5_000])).max(delay.times(32)),
            rot: r.chance(500),
            misdirected: r.chance(200),
            wipes: r.chance(150),
            old_disks: r.chance(200),
            early_harm: r.chance(200),
            beyond: false,
            stragglers: r.pick(&[0, 0, 2, 10]),
            copies: r.pick(&[0, 200, 200]),
            abandons: r.pick(&[0, 0, 200]),
            sleeper,
            increments: false,
        }
    }
}
