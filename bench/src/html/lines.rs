//! A plot of lines over two axes.

use std::fmt::Write as _;

use super::escaped;
use super::scale::{short, Axis, Scale};

/// See the module.
pub(super) struct Lines {
    pub(super) title: String,
    /// What it shows, and how it spreads.
    pub(super) x: (String, Scale),
    pub(super) y: (String, Scale),
    pub(super) lines: Vec<Line>,
}

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;
/// Colours of the style sheet.
pub(super) const COLOURS: usize = 8;

impl Lines {
    pub(super) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::around(self.x.1, points().map(|point| point.0));
        let y = Axis::around(self.y.1, points().map(|point| point.1));
        let at_x = |figure: f64| LEFT + x.place(figure) * (WIDTH - LEFT - RIGHT);
        let at_y = |figure: f64| HEIGHT - BOTTOM - y.place(figure) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(&self.title),
            escaped(&self.title)
        );
        self.put_axes(&mut out, (&x, &y), at_x, at_y);
        let mut labels: Vec<(f64, usize)> = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            put_line(&mut out, line, number, at_x, at_y);
            labels.extend(line.points.last().map(|last| (at_y(last.1), number)));
        }
        self.put_labels(&mut out, labels);
        out + "</svg></figure>\n"
    }

    fn put_axes(&self, out: &mut String, (x, y): (&Axis, &Axis), at_x: impl Fn(f64) -> f64, at_y: impl Fn(f64) -> f64) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (figure, text) in y.marks() {
            let at = at_y(figure);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for (figure, text) in x.marks() {
            let at = at_x(figure);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                bottom + 18.0
            );
        }
        let (middle, below) = ((LEFT + right) / 2.0, HEIGHT - 6.0);
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {:.0}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(&self.x.0),
            (TOP + bottom) / 2.0,
            escaped(&self.y.0)
        );
    }

    /// Names at the ends of the lines, moved apart.
    fn put_labels(&self, out: &mut String, mut labels: Vec<(f64, usize)>) {
        const APART: f64 = 15.0;
        labels.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut lowest = f64::MIN;
        for (at, number) in labels {
            lowest = at.max(lowest + APART);
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{:.1}\" style=\"fill:var(--c{});font-weight:600\">{}</text>",
                WIDTH - RIGHT + 10.0,
                lowest + 4.0,
                number % COLOURS,
                escaped(&self.lines[number].name)
            );
        }
    }
}

fn put_line(out: &mut String, line: &Line, number: usize, at_x: impl Fn(f64) -> f64, at_y: impl Fn(f64) -> f64) {
    let colour = number % COLOURS;
    let places: Vec<String> = line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"var(--c{colour})\" stroke-width=\"2.2\" stroke-linejoin=\"round\"/>",
        places.join(" ")
    );
    for (x, y) in &line.points {
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"var(--c{colour})\"><title>{}: {} at {}</title></circle>",
            at_x(*x),
            at_y(*y),
            escaped(&line.name),
            short(*y),
            short(*x)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_and_named() {
        let line = |name: &str, factor: f64| Line {
            name: name.to_owned(),
            points: vec![(50.0, 10.0 * factor), (99.0, 300.0 * factor)],
        };
        let lines = Lines {
            title: "a < b".into(),
            x: ("x".into(), Scale::Percentile),
            y: ("y".into(), Scale::Log),
            lines: vec![line("one", 1.0), line("two", 3.0)],
        };
        let svg = lines.svg();
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 4));
        assert!(svg.contains(">one<") && svg.contains(">two<") && svg.contains("a &lt; b"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
