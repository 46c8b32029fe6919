//! A follower: what has arrived is made durable in one piece, and acknowledged by how many bytes that makes in all.

use std::io::{self, Read, Write};
use std::net::TcpListener;

use super::journal::Journal;

/// Largest piece.
const PIECE_BYTES: usize = 1024 * 1024;

/// Serves the leader, until it is gone.
pub(super) fn serve(listener: &TcpListener, mut journal: Journal) -> io::Result<()> {
    let (mut leader, _) = listener.accept()?;
    leader.set_nodelay(true)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = leader.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        journal.append(&piece[..length])?;
        leader.write_all(&journal.durable.to_le_bytes())?;
    }
}
