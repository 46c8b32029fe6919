//! A figure that was measured more than once.

/// Median, smallest and largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// How often it was measured.
    pub(crate) count: usize,
}

impl Figure {
    /// Of at least one figure.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Figure {
        let mut figures: Vec<f64> = figures.collect();
        assert!(!figures.is_empty(), "something was measured");
        figures.sort_by(f64::total_cmp);
        let (lower, upper) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
        let (min, max) = (figures[0], figures[figures.len() - 1]);
        Figure { median: (lower + upper) / 2.0, min, max, count: figures.len() }
    }

    /// `12 [10-15]`; one figure alone where there is but one.
    pub(crate) fn text(&self, digits: usize) -> String {
        let median = format!("{:>12.digits$}", self.median);
        match self.count {
            1 => median,
            _ => format!("{median} [{:.digits$}-{:.digits$}]", self.min, self.max),
        }
    }

    /// The same without leading blanks.
    pub(crate) fn short(&self, digits: usize) -> String {
        self.text(digits).trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let figure = Figure::of([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!((figure.median, figure.min, figure.max), (2.5, 1.0, 4.0));
        assert_eq!(figure.text(1).trim_start(), "2.5 [1.0-4.0]");
        assert_eq!(Figure::of([7.0].into_iter()).text(0).trim_start(), "7");
    }
}
