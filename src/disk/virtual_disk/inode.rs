//! One file: what the page cache shows, and what the disk holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::memory::Memory;
use super::{PAGE, SECTOR};
use crate::random::SplitMix64;

/// A file: the cache image is `memory[..size]`, the durable one is `durable` with zeroes where a page is missing.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) memory: Arc<Memory>,
    pub(super) size: usize,
    pub(super) dirty: BTreeSet<usize>,
    /// Pages that are called clean and differ from the disk: their sync failed.
    pub(super) stale: BTreeSet<usize>,
    pub(super) durable: BTreeMap<usize, Box<[u8]>>,
    pub(super) durable_size: usize,
    /// Pages that the last sync wrote.
    pub(super) last_synced: BTreeSet<usize>,
    /// Shared with every handle: who has the file open can go on reading when its name is gone.
    pub(super) opened: Arc<()>,
}

impl Inode {
    pub(super) fn new() -> Inode {
        Inode {
            memory: Arc::new(Memory::new(0)),
            size: 0,
            dirty: BTreeSet::new(),
            stale: BTreeSet::new(),
            durable: BTreeMap::new(),
            durable_size: 0,
            last_synced: BTreeSet::new(),
            opened: Arc::default(),
        }
    }

    pub(super) fn grow(&mut self, size: usize) {
        if size > self.memory.capacity() {
            assert_eq!(Arc::strong_count(&self.memory), 1, "a mapped file does not grow");
            let larger = Memory::new(size.max(2 * self.memory.capacity()));
            let mut bytes = vec![0; self.size];
            self.memory.read(0, &mut bytes);
            larger.write(0, &bytes);
            self.memory = Arc::new(larger);
        }
        self.size = self.size.max(size);
    }

    pub(super) fn cached_page(&self, page: usize) -> Box<[u8]> {
        let mut bytes = vec![0; PAGE];
        self.memory.read(page * PAGE, &mut bytes);
        bytes.into()
    }

    pub(super) fn durable_page(&mut self, page: usize) -> &mut [u8] {
        self.durable.entry(page).or_insert_with(|| vec![0; PAGE].into())
    }

    /// Whether every page of the cache, and the length, is the durable one.
    pub(super) fn is_what_the_disk_holds(&self) -> bool {
        let same = |page: &usize| {
            let cached = self.cached_page(*page);
            self.durable.get(page).map_or(cached.iter().all(|byte| *byte == 0), |durable| *durable == cached)
        };
        self.size == self.durable_size && self.dirty.iter().chain(&self.stale).all(same)
    }

    /// Rot around a byte; tells whether the last sync had written there. None: no such byte is durable.
    pub(super) fn rot(&mut self, offset: usize, random: &mut SplitMix64) -> Option<bool> {
        if offset >= self.durable_size {
            return None;
        }
        let (page, at) = (offset / PAGE, offset % PAGE);
        let sector = at / SECTOR * SECTOR;
        let bytes = &mut self.durable_page(page)[sector..sector + SECTOR];
        match random.below(4) {
            0 => bytes.fill(0),
            1 => bytes.iter_mut().for_each(|byte| *byte = random.draw() as u8),
            2 => bytes[at - sector] ^= 1 << random.below(8),
            _ => {
                (0..random.below(64)).for_each(|_| bytes[random.below(SECTOR as u64) as usize] ^= 1 << random.below(8))
            }
        }
        if random.below(2) == 0 && !self.dirty.contains(&page) {
            let bytes = self.durable_page(page).to_vec();
            self.memory.write(page * PAGE, &bytes);
            self.stale.remove(&page);
        } else {
            self.stale.insert(page);
        }
        Some(self.last_synced.contains(&page))
    }

    /// A page that is about to be written, and another place in the file.
    pub(super) fn draw_misdirection(&self, random: &mut SplitMix64) -> Option<(usize, usize)> {
        let pages = self.size.div_ceil(PAGE) as u64;
        let page = *self.dirty.iter().nth(random.below(self.dirty.len().max(1) as u64) as usize)?;
        let wrong = random.below(pages.saturating_sub(1).max(1)) as usize;
        let wrong = if wrong >= page { wrong + 1 } else { wrong };
        (wrong < pages as usize).then_some((page, wrong))
    }

    /// What was just written to `page` is in the wrong place; where it belongs is what was there.
    pub(super) fn put_astray(&mut self, page: usize, wrong: usize, kept: &[u8]) {
        let written = self.durable_page(page).to_vec();
        self.durable_page(wrong).copy_from_slice(&written);
        self.durable_page(page).copy_from_slice(kept);
        self.stale.extend([page, wrong]);
    }

    pub(super) fn write_back(&mut self) {
        if !self.dirty.is_empty() {
            self.last_synced = self.dirty.clone(); // a sync that writes nothing is not the last one that did
        }
        for page in std::mem::take(&mut self.dirty) {
            let bytes = self.cached_page(page);
            self.durable.insert(page, bytes);
            self.stale.remove(&page);
        }
        self.durable_size = self.size;
    }

    /// The cache is what the disk holds; slices of a process that is gone keep what they show.
    pub(super) fn forget_cache(&mut self) {
        if Arc::strong_count(&self.memory) > 1 {
            self.memory = Arc::new(self.copied_memory());
        }
        self.durable.split_off(&self.durable_size.div_ceil(PAGE));
        let mut differing = std::mem::take(&mut self.stale);
        differing.append(&mut self.dirty);
        let end = self.memory.capacity() / PAGE;
        // Behind the durable end there are zeroes, should the file grow again.
        differing.extend(self.durable_size / PAGE..self.size.div_ceil(PAGE));
        for page in differing.into_iter().filter(|page| *page < end) {
            let there = self.durable_size.saturating_sub(page * PAGE).min(PAGE);
            match self.durable.get_mut(&page) {
                Some(durable) => {
                    durable[there..].fill(0);
                    self.memory.write(page * PAGE, durable);
                }
                None => self.memory.write(page * PAGE, &[0; PAGE]),
            }
        }
        self.size = self.durable_size;
        assert!(self.size <= self.memory.capacity(), "the disk holds no more than was once written");
    }

    pub(super) fn copied_memory(&self) -> Memory {
        let memory = Memory::new(self.memory.capacity());
        let mut bytes = vec![0; self.size];
        self.memory.read(0, &mut bytes);
        memory.write(0, &bytes);
        memory
    }

    pub(super) fn cut(&mut self, random: &mut SplitMix64) {
        let survival_percent = [0, 25, 50, 75, 100][random.below(5) as usize];
        for page in self.dirty.clone() {
            if random.below(100) >= survival_percent {
                continue;
            }
            let cached = self.cached_page(page);
            let sectors = if random.below(2) == 0 { u64::MAX } else { random.draw() };
            let durable = self.durable_page(page);
            for sector in (0..PAGE / SECTOR).filter(|sector| sectors >> sector & 1 == 1) {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                durable[range.clone()].copy_from_slice(&cached[range]);
            }
            self.durable_size = self.durable_size.max(self.size.min((page + 1) * PAGE));
        }
        if random.below(2) == 0 {
            self.durable_size = self.size.max(self.durable_size); // the length alone may reach the disk
        }
        self.forget_cache();
    }

    pub(super) fn duplicate(&self) -> Inode {
        Inode {
            memory: Arc::new(self.copied_memory()),
            size: self.size,
            dirty: self.dirty.clone(),
            stale: self.stale.clone(),
            durable: self.durable.clone(),
            durable_size: self.durable_size,
            last_synced: self.last_synced.clone(),
            opened: Arc::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        Arc::strong_count(&self.opened) > 1
    }
}
