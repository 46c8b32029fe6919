//! Sets of messages.

/// A message, by its number.
pub type Letter = u16;

const WORDS: usize = 8;

/// Different messages in one search.
pub const LETTERS_MAX: usize = WORDS * 64;

/// Which messages there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letters([u64; WORDS]);

impl Letters {
    pub fn insert(&mut self, letter: Letter) {
        self.0[usize::from(letter / 64)] |= 1 << (letter % 64);
    }

    pub fn remove(&mut self, letter: Letter) {
        self.0[usize::from(letter / 64)] &= !(1 << (letter % 64));
    }

    pub fn contains(&self, letter: Letter) -> bool {
        self.0[usize::from(letter / 64)] & 1 << (letter % 64) != 0
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own & !other == 0)
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = Letter> + '_ {
        self.0.iter().enumerate().flat_map(|(position, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.checked_sub(1)?;
                Some((position * 64) as Letter + bit as Letter)
            })
        })
    }

    pub fn retain(&mut self, keeps: impl Fn(Letter) -> bool) {
        let all = *self;
        all.iter().filter(|letter| !keeps(*letter)).for_each(|letter| self.remove(letter));
    }
}

impl FromIterator<Letter> for Letters {
    fn from_iter<I: IntoIterator<Item = Letter>>(letters: I) -> Self {
        let mut all = Self::default();
        letters.into_iter().for_each(|letter| all.insert(letter));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_there_in_order() {
        let mut letters: Letters = [200, 3, 64, 63].into_iter().collect();
        assert_eq!(letters.iter().collect::<Vec<_>>(), [3, 63, 64, 200]);
        let more: Letters = [0, 3, 63, 64, 200].into_iter().collect();
        assert!(letters.is_within(&more) && !more.is_within(&letters) && letters.len() == 4);
        letters.retain(|letter| letter > 63);
        assert!(letters.contains(64) && !letters.contains(63));
    }
}
