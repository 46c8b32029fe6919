//! Mechanism without policy: sockets, connections, frames in and out.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is where sockets are")]

pub mod accept;
pub mod connection;
pub mod connections;
pub mod peer;
