//! From figures to places on a plot.

/// How an axis spreads its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By factors.
    Log,
    /// Percentiles: each nine has the same room.
    Percentile,
}

/// Percentiles of a curve. The last one stands for the slowest.
pub(super) const PERCENTILES: [f64; 13] =
    [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999];

/// An axis: what its ends are, and where its marks stand.
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// Around these figures.
    pub(super) fn around(scale: Scale, figures: impl Iterator<Item = f64>) -> Axis {
        let (mut low, mut high) = (f64::MAX, 0.0_f64);
        for figure in figures.filter(|figure| figure.is_finite()) {
            (low, high) = (low.min(figure), high.max(figure));
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, nice_above(high.max(1e-9))),
            Scale::Log => (low.max(1e-3).min(high.max(1e-3)).log10().floor(), high.max(2e-3).log10().ceil()),
            Scale::Percentile => (0.0, nines(PERCENTILES[PERCENTILES.len() - 1])),
        };
        Axis { scale, low, high: if high > low { high } else { low + 1.0 } }
    }

    /// Its place, from 0 to 1.
    pub(super) fn place(&self, figure: f64) -> f64 {
        let on_axis = match self.scale {
            Scale::Linear => figure,
            Scale::Log => figure.max(1e-3).log10(),
            Scale::Percentile => nines(figure),
        };
        ((on_axis - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Marks: figures with what is written there.
    pub(super) fn marks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                (0..=5).map(|n| self.high * f64::from(n) / 5.0).map(|figure| (figure, short(figure))).collect()
            }
            Scale::Log => {
                let powers = self.low as i32..=self.high as i32;
                powers.map(|power| 10_f64.powi(power)).map(|figure| (figure, short(figure))).collect()
            }
            Scale::Percentile => {
                let marks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
                marks.map(|figure| (figure, format!("{figure}"))).into()
            }
        }
    }
}

/// 90 -> 1, 99 -> 2, 99.9 -> 3.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile.min(99.9999) / 100.0).log10()
}

/// The next figure that reads well, with one digit or 2.5 in front.
fn nice_above(figure: f64) -> f64 {
    let power = 10_f64.powf(figure.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|nice| *nice >= figure).unwrap_or(10.0 * power)
}

/// `1.5M`, `20k`, `7.5`.
pub(super) fn short(figure: f64) -> String {
    let (scaled, unit) = match figure.abs() {
        size if size >= 1e6 => (figure / 1e6, "M"),
        size if size >= 1e3 => (figure / 1e3, "k"),
        _ => (figure, ""),
    };
    let text = format!("{scaled:.2}");
    let text = if scaled.abs() >= 100.0 { format!("{scaled:.0}") } else { text };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_their_figures() {
        for scale in [Scale::Linear, Scale::Log, Scale::Percentile] {
            let figures = [3.0, 47.0, 90.0];
            let axis = Axis::around(scale, figures.into_iter());
            let places = figures.map(|figure| axis.place(figure));
            assert!(
                places[0] >= 0.0 && places[0] < places[1] && places[1] < places[2] && places[2] <= 1.0,
                "{places:?}"
            );
            assert!(axis.marks().len() > 1);
        }
        assert!(Axis::around(Scale::Log, std::iter::empty()).place(1.0).is_finite());
        let nines = Axis::around(Scale::Percentile, std::iter::empty());
        let step = nines.place(99.0) - nines.place(90.0);
        assert!((nines.place(99.9) - nines.place(99.0) - step).abs() < 1e-9);
    }

    #[test]
    fn figures_are_written_shortly() {
        assert_eq!([0.0, 7.5, 120.0, 20_000.0, 1_500_000.0].map(short), ["0", "7.5", "120", "20k", "1.5M"]);
        assert_eq!([nice_above(47.0), nice_above(101.0), nice_above(0.2)], [50.0, 150.0, 0.2]);
    }
}
