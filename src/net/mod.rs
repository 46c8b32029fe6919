//! Mechanism without policy: sockets, connections, frames in and out.

pub mod peer;
