//! Scenarios of consensus: scripts and tables over the pure core. No threads, no clock, no disk: a [`net::Net`] holds nodes,
//! their links and their disks in virtual time, and checks the safety of all of them after each step.
#![allow(missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "scripts hand messages over as they are")]

#[path = "raft_scenarios/check.rs"]
mod check;
#[path = "raft_scenarios/contracts.rs"]
mod contracts;
#[path = "raft_scenarios/convergence.rs"]
mod convergence;
#[path = "raft_scenarios/disturbances.rs"]
mod disturbances;
#[path = "raft_scenarios/elections.rs"]
mod elections;
#[path = "raft_scenarios/net.rs"]
mod net;
#[path = "raft_scenarios/node.rs"]
mod node;
#[path = "raft_scenarios/persistence.rs"]
mod persistence;
#[path = "raft_scenarios/random.rs"]
mod random;
#[path = "raft_scenarios/reads.rs"]
mod reads;
#[path = "raft_scenarios/replication.rs"]
mod replication;
#[path = "raft_scenarios/snapshots.rs"]
mod snapshots;
