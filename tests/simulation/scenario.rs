//! A run as a text file: every number of its profile and every fault, so that nothing of it depends on what a later version
//! would draw for them. `scenarios/*.txt` are replayed with the tests.
//!
//! Blank lines and those that begin with `#` are for the reader; `set NAME NUMBER` is a number of the profile (spans in
//! nanoseconds, yes = 1); `bug NAME` is the promise that has to be broken to see it fail; all others are faults.

use std::fmt;

use raftkv::time::Span;

use crate::profile::Profile;
use crate::schedule::ScheduledFault;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub profile: Profile,
    pub schedule: Vec<ScheduledFault>,
    pub bug: Option<String>,
}

/// A number of a profile.
trait Number {
    fn number(&self) -> u64;
    fn set(&mut self, number: u64);
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            fn number(&self) -> u64 {
                *self as u64
            }

            fn set(&mut self, number: u64) {
                *self = number as $kind;
            }
        }
    )*};
}

numbers!(u64, u32, usize);

impl Number for bool {
    fn number(&self) -> u64 {
        u64::from(*self)
    }

    fn set(&mut self, number: u64) {
        *self = number != 0;
    }
}

impl Number for Span {
    fn number(&self) -> u64 {
        self.0
    }

    fn set(&mut self, number: u64) {
        self.0 = number;
    }
}

macro_rules! profile {
    ($($name:ident)*) => {
        /// The numbers of a profile, by name; all of them, or it does not compile.
        pub fn numbers(profile: &Profile) -> Vec<(&'static str, u64)> {
            let Profile { $($name),* } = profile;
            vec![$((stringify!($name), $name.number())),*]
        }

        /// Whether there is such a number; then it is set.
        pub fn set(profile: &mut Profile, name: &str, number: u64) -> bool {
            match name {
                $(stringify!($name) => profile.$name.set(number),)*
                _ => return false,
            }
            true
        }
    };
}

profile! {
    seed is_short nodes clients keys think turmoil delay reorder loss duplicates stragglers sync slow_sync fault_every kills power_cuts
    all_at_once partitions pauses resets chases clock_jumps failed_syncs hung_disks full_disks rot misdirected wipes
    old_disks early_harm beyond drift_ppm bulk_step segment_bytes snapshot_log_bytes value_bytes view_bytes tail_bytes uncommitted_bytes append_bytes
    inflight_messages credits patience copies abandons sleeper increments
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bug) = &self.bug {
            writeln!(f, "bug {bug}")?;
        }
        numbers(&self.profile).iter().try_for_each(|(name, number)| writeln!(f, "set {name} {number}"))?;
        self.schedule.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

impl Scenario {
    /// Reads what was written. Err: the line that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut scenario = Scenario { profile: Profile::draw(0), schedule: Vec::new(), bug: None };
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["bug", name] => scenario.bug = Some(name.to_owned()),
                ["set", name, number] => {
                    let number = number.parse().map_err(|_| line.to_owned())?;
                    if !set(&mut scenario.profile, name, number) {
                        return Err(line.to_owned());
                    }
                }
                _ => scenario.schedule.push(ScheduledFault::parse(line).ok_or(line)?),
            }
        }
        Ok(scenario)
    }
}
