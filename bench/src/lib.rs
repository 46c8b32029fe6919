//! Load generator, latency harness and storage measurements.

pub mod storage;
