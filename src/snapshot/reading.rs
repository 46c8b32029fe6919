//! Reading a file piece by piece, with everything checked.

use std::path::PathBuf;

use crate::disk::{Disk, File};
use crate::kv::snapshot::{Damaged, Decoder, Header, Piece, Reason, FOOTER_BYTES};

use super::error::READ;
use super::{SnapshotError, Summary};

/// An open snapshot, of which a part was read.
#[derive(Debug)]
pub(super) struct Reading {
    path: PathBuf,
    file: File,
    bytes: u64,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Reading {
    pub(super) fn open(disk: &Disk, path: PathBuf) -> Result<Self, SnapshotError> {
        let file = disk.open_to_read(&path).map_err(SnapshotError::io("open", &path))?;
        Self::over(file, path)
    }

    /// From the beginning of `file`.
    pub(super) fn over(file: File, path: PathBuf) -> Result<Self, SnapshotError> {
        let bytes = file.size().map_err(SnapshotError::io(READ, &path))?;
        Ok(Self { path, file, bytes, decoder: Decoder::new(), buffer: Vec::new() })
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that were read.
    pub(super) fn offset(&self) -> u64 {
        self.decoder.offset()
    }

    /// Reads one piece. To be called until it is the end.
    pub(super) fn next(&mut self) -> Result<Piece<'_>, SnapshotError> {
        let (offset, wants) = (self.decoder.offset(), self.decoder.wants());
        if self.bytes - offset < wants as u64 {
            return Err(SnapshotError::damaged(&self.path, self.decoder.truncated()));
        }
        self.buffer.resize(wants, 0);
        self.file.read_at(offset, &mut self.buffer).map_err(SnapshotError::io(READ, &self.path))?;
        let piece = self.decoder.take(&self.buffer).map_err(|damaged| SnapshotError::damaged(&self.path, damaged))?;
        match piece {
            Piece::End(footer) if footer.bytes < self.bytes => {
                let damaged = Damaged { offset: footer.bytes, reason: Reason::Trailing };
                Err(SnapshotError::damaged(&self.path, damaged))
            }
            piece => Ok(piece),
        }
    }

    /// At the beginning: reads the header.
    pub(super) fn header(&mut self) -> Result<Header, SnapshotError> {
        loop {
            if let Piece::Header(header) = self.next()? {
                return Ok(header);
            }
        }
    }

    /// At the beginning: what header and footer say, without what is between.
    pub(super) fn summary(&mut self) -> Result<Summary, SnapshotError> {
        let header = self.header()?;
        let mut tail = [0; FOOTER_BYTES];
        let offset = self.bytes.checked_sub(FOOTER_BYTES as u64).filter(|&offset| offset >= self.decoder.offset());
        let offset = offset.ok_or_else(|| SnapshotError::damaged(&self.path, self.decoder.truncated()))?;
        self.file.read_at(offset, &mut tail).map_err(SnapshotError::io(READ, &self.path))?;
        let footer = self.decoder.footer_ahead(&tail).and_then(|footer| match footer.bytes == self.bytes {
            true => Ok(footer),
            false => Err(Reason::Footer),
        });
        let footer = footer.map_err(|reason| SnapshotError::damaged(&self.path, Damaged { offset, reason }))?;
        Ok(Summary::new(&header, &footer))
    }

    /// Gives file and decoder back, to go on writing where reading ended.
    pub(super) fn into_parts(self) -> (File, Decoder) {
        (self.file, self.decoder)
    }
}
