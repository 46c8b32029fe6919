//! A plot of a leader's stages: a bar for each, in a request's order, on one scale.

use std::fmt::Write as _;

use super::escaped;
use super::scale::short;
use crate::stages::Stage;

const WIDTH: f64 = 1000.0;
const ROW: f64 = 24.0;
const NAMES: f64 = 130.0;
const FIGURES: f64 = 120.0;

/// Empty if nothing was measured.
pub(super) fn svg(title: &str, stages: &[Stage]) -> String {
    if stages.is_empty() {
        return String::new();
    }
    let longest = stages.iter().map(|stage| stage.mean_us).fold(1e-9, f64::max);
    let (title, height) = (escaped(title), ROW * stages.len() as f64);
    let mut out = format!(
        "<figure><figcaption>{title}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n"
    );
    for (row, Stage { name, times, mean_us }) in stages.iter().enumerate() {
        let (top, width) = (row as f64 * ROW, (mean_us / longest * (WIDTH - NAMES - FIGURES)).max(1.0));
        let _ = writeln!(
            out,
            "<g><title>{name}: {mean_us:.1} us, {times:.0} times</title>\
             <text class=\"strong\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\" fill=\"var(--c2)\"/>\
             <text x=\"{:.1}\" y=\"{}\">{} us</text></g>",
            NAMES - 8.0,
            top + 16.0,
            escaped(name),
            top + 4.0,
            ROW - 8.0,
            NAMES + width + 6.0,
            top + 16.0,
            short(*mean_us)
        );
    }
    out + "</svg></figure>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_stage_takes_the_width() {
        let stage = |name, mean_us| Stage { name, times: 3.0, mean_us };
        let svg = svg("t", &[stage("decode", 5.0), stage("quorum", 500.0)]);
        assert!(svg.contains("width=\"750.0\"") && svg.contains("width=\"7.5\""), "{svg}");
        assert_eq!(super::svg("t", &[]), "");
    }
}
