//! Identifiers. Each is its own type, so that a term cannot be passed for an index.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A Raft term. 0 is the term before the first election.
    Term(u64)
}
id! {
    /// A position in the Raft log. The first entry has index 1; 0 is the position before it. Also the *revision* of
    /// what the entry at that index wrote.
    Index(u64)
}
id! {
    /// A node of one cluster, numbered from 0.
    NodeId(u32)
}
id! {
    /// The random identity of a cluster, drawn once when it is formed. 0 means "not formed yet".
    ClusterId(u64)
}
id! {
    /// The random identity of one life of a node's disk; never 0 once drawn.
    Incarnation(u64)
}
id! {
    /// A client session. 0 means "no session".
    SessionId(u64)
}
id! {
    /// The number of a request within its session.
    Sequence(u64)
}
id! {
    /// Chosen by the client, echoed in the reply; unique among the connection's requests in flight.
    RequestId(u64)
}
id! {
    /// The number of an AppendEntries round: unique per term, never reused, rising.
    Round(u64)
}
id! {
    /// The cluster's own time in milliseconds since the Unix epoch, carried by entries (C-25). Never runs backwards.
    LogTime(u64)
}

impl Term {
    /// The term after this one. Panics at the end of the 64-bit space, which no honest cluster reaches.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("terms do not run out"))
    }
}

impl Index {
    /// The index after this one.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("indexes do not run out"))
    }

    /// The index before this one; 0 stays 0.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}
