//! Scans in pages. A range that fits one page costs no view; otherwise a view is pinned, and all pages show it (C-21).

use bytes::Bytes;
use protocol::reply::{Item, Page};
use protocol::request::{Scan, ViewId};

use crate::limits;

/// A scan that waits for a permission or a view.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) view: Option<ViewId>,
    pub(super) from: Bytes,
    /// Empty: to the end.
    pub(super) to: Bytes,
    limit: u32,
    keys_only: bool,
    count_only: bool,
}

/// A page, and whether the range ends with it.
pub(super) struct Built<'a> {
    items: Vec<Item<'a>>,
    count: u64,
    /// The first key that was not looked at.
    resume: Option<&'a [u8]>,
}

impl Wanted {
    /// `keep` copies a key out of the frame.
    pub(super) fn new(scan: &Scan<'_>, mut keep: impl FnMut(&[u8]) -> Bytes) -> Wanted {
        let Scan { view, from, to, limit, keys_only, count_only } = *scan;
        Wanted { view, from: keep(from), to: keep(to), limit, keys_only, count_only }
    }

    /// Where the range ends, as the store wants it.
    pub(super) fn end(&self) -> Option<&[u8]> {
        (!self.to.is_empty()).then_some(&self.to[..])
    }

    /// Walks the range until the page is full.
    pub(super) fn build<'a>(&self, range: impl Iterator<Item = Item<'a>>) -> Built<'a> {
        let keys_max = match (self.limit, self.count_only) {
            (0, true) => limits::PAGE_COUNTED_KEYS_MAX,
            (limit, true) => u64::from(limit).min(limits::PAGE_COUNTED_KEYS_MAX),
            (0, false) => u64::MAX,
            (limit, false) => u64::from(limit),
        };
        let mut built = Built { items: Vec::new(), count: 0, resume: None };
        let mut bytes = 0;
        for mut item in range {
            if self.keys_only {
                item.versioned.value = &[];
            }
            bytes += item.encoded_len();
            let full = !self.count_only && bytes > limits::PAGE_BYTES_MAX && built.count > 0;
            if built.count >= keys_max || full {
                built.resume = Some(item.key);
                break;
            }
            built.count += 1;
            if !self.count_only {
                built.items.push(item);
            }
        }
        built
    }
}

impl<'a> Built<'a> {
    /// The walk ended here, though the page is not full: it looked at too many keys that are no part of the range's state.
    pub(super) fn ends_at(self, rest: Option<&'a [u8]>) -> Built<'a> {
        Built { resume: self.resume.or(rest), ..self }
    }

    /// Nothing of the range is left.
    pub(super) fn is_last(&self) -> bool {
        self.resume.is_none()
    }

    /// For the reply; `view` shows the next page, if there is one.
    pub(super) fn into_page(self, view: Option<ViewId>) -> Page<'a> {
        let Built { items, count, resume } = self;
        Page { view: view.filter(|_| resume.is_some()), count, items, resume: resume.unwrap_or(&[]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::reply::Versioned;
    use protocol::Index;

    fn wanted(limit: u32, count_only: bool) -> Wanted {
        let scan = Scan { view: None, from: b"", to: b"", limit, keys_only: false, count_only };
        Wanted::new(&scan, Bytes::copy_from_slice)
    }

    fn items<'a>(keys: &'a [&'a str], value: &'a [u8]) -> impl Iterator<Item = Item<'a>> {
        let versioned = Versioned { value, revision: Index(1), create_revision: Index(1), version: 1 };
        keys.iter().map(move |key| Item { key: key.as_bytes(), versioned })
    }

    #[test]
    fn a_page_ends_at_its_limit_and_names_the_next_key() {
        let page = wanted(2, false).build(items(&["a", "b", "c"], b"v"));
        assert_eq!((page.count, page.resume), (2, Some(&b"c"[..])));
        let page = wanted(3, false).build(items(&["a", "b", "c"], b"v"));
        assert!(page.is_last());
        assert_eq!(page.into_page(None).items.len(), 3);
    }

    #[test]
    fn a_counted_page_is_bounded_whatever_the_limit() {
        let keys: Vec<String> = (0..=limits::PAGE_COUNTED_KEYS_MAX).map(|key| format!("{key:09}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for limit in [0, u32::MAX] {
            let page = wanted(limit, true).build(items(&keys, b"v"));
            assert_eq!(page.count, limits::PAGE_COUNTED_KEYS_MAX, "limit {limit}");
            assert!(!page.is_last());
        }
    }

    #[test]
    fn a_page_ends_when_it_is_full_but_has_one_key_at_least() {
        let large = vec![0; limits::PAGE_BYTES_MAX];
        let page = wanted(0, false).build(items(&["a", "b"], &large));
        assert_eq!((page.count, page.resume), (1, Some(&b"b"[..])));
        let counted = wanted(0, true).build(items(&["a", "b"], &large));
        assert_eq!((counted.count, counted.items.len()), (2, 0));
    }
}
