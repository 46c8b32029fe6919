//! A plot of bars in groups, each with the range of its runs. Every group has a scale of its own: what is compared stands side by
//! side, and a group of small figures can be read beside one of large ones.

use std::fmt::Write as _;

use super::escaped;
use super::lines::COLOURS;
use super::scale::short;
use crate::figure::Figure;

/// See the module.
pub(super) struct Bars {
    pub(super) title: String,
    pub(super) groups: Vec<Group>,
}

/// Bars side by side.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
}

/// One bar.
pub(super) struct Bar {
    pub(super) series: String,
    pub(super) figure: Figure,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 28.0;

impl Bars {
    pub(super) fn svg(&self) -> String {
        let mut series: Vec<&str> = Vec::new();
        for bar in self.groups.iter().flat_map(|group| &group.bars) {
            if !series.contains(&bar.series.as_str()) {
                series.push(&bar.series);
            }
        }
        let title = escaped(&self.title);
        let mut out = format!(
            "<figure><figcaption>{title}; each group has its own scale</figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n"
        );
        for (number, name) in series.iter().enumerate() {
            let x = number as f64 * 110.0;
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"2\" width=\"11\" height=\"11\" rx=\"2\" fill=\"var(--c{})\"/><text x=\"{}\" y=\"12\">{}</text>",
                number % COLOURS,
                x + 16.0,
                escaped(name)
            );
        }
        let width = WIDTH / self.groups.len().max(1) as f64;
        for (place, group) in self.groups.iter().enumerate() {
            put_group(&mut out, group, place as f64 * width, width, &series);
        }
        out + "</svg></figure>\n"
    }
}

fn put_group(out: &mut String, group: &Group, left: f64, width: f64, series: &[&str]) {
    let highest = group.bars.iter().map(|bar| bar.figure.max).fold(1e-9, f64::max);
    let bottom = HEIGHT - BOTTOM;
    let height = |figure: f64| figure / highest * (bottom - TOP - 16.0);
    let room = (width * 0.86) / group.bars.len().max(1) as f64;
    let _ = writeln!(
        out,
        "<line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
         <text class=\"strong\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        left + width * 0.05,
        left + width * 0.95,
        left + width / 2.0,
        bottom + 18.0,
        escaped(&group.name)
    );
    for (number, bar) in group.bars.iter().enumerate() {
        let colour = series.iter().position(|name| *name == bar.series).unwrap_or(0) % COLOURS;
        let x = left + width * 0.07 + number as f64 * room;
        let Figure { median, min, max, .. } = bar.figure;
        let (thick, middle, top) = (room * 0.78, x + room * 0.39, bottom - height(median));
        let _ = writeln!(
            out,
            "<g><title>{}: {} [{}-{}]</title><rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{thick:.1}\" height=\"{:.1}\" rx=\"2\" \
             fill=\"var(--c{colour})\"/><line class=\"axis\" x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{}</text></g>",
            escaped(&bar.series),
            short(median),
            short(min),
            short(max),
            height(median).max(1.0),
            bottom - height(min),
            bottom - height(max),
            bottom - height(max) - 4.0,
            short(median)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_drawn_in_the_colour_of_its_series() {
        let bar = |series: &str, median: f64| Bar {
            series: series.to_owned(),
            figure: Figure::of([median, median * 1.5].into_iter()),
        };
        let groups = vec![
            Group { name: "put".into(), bars: vec![bar("us", 10.0), bar("them", 1.0)] },
            Group { name: "get".into(), bars: vec![bar("them", 3.0)] },
        ];
        let svg = Bars { title: "t".into(), groups }.svg();
        assert_eq!((svg.matches("<g>").count(), svg.matches("--c1").count()), (3, 3));
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
