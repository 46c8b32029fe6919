//! Mechanism without policy: sockets, connections, frames in and out.

pub mod connection;
pub mod connections;
pub mod peer;
