//! raftkv's client: a pure machine that decides, and a blocking, pipelined driver that carries out.
//!
//! * [`machine`] follows redirects, tries other endpoints, keeps deadlines, and tells "not applied" from "outcome
//!   unknown". It has no socket, clock or random source of its own, so the simulator drives the same code.
//! * [`Pipeline`] drives the machine over sockets: many requests in flight, replies in any order, one write for many
//!   requests. Load generators and bulk work use it directly.
//! * [`Client`] is the simple face: one call, one answer.
//!
//! Every error says whether the operation can have taken effect ([`Error::effect`]).
#![forbid(unsafe_code)]

mod address;
mod client;
mod driver;
mod error;
mod link;
pub mod machine;
#[cfg(feature = "sabotage")]
pub mod sabotage;

pub use address::check_address;
pub use client::{Client, Entry, Explained, NodeReport, Scan, ScanItem, ScanOptions, Written};
pub use driver::{Completion, Pipeline, Settings, Submission};
pub use error::{Cause, Error, More};
pub use machine::{EndpointId, Number, Token};
