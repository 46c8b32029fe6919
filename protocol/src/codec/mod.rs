//! How the types look as bytes. Tables in `docs/protocol.md`.

mod command;
mod entry;
mod envelope;
mod format;
mod outcome;
mod receipt;
mod reply;
mod request;
mod snapshot;
mod status;
