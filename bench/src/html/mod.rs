//! A report as one page that needs nothing else: plots drawn here, light and dark.

mod bars;
mod lines;
mod scale;
mod stages;

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::compare::{ratio, Compared};
use crate::figure::Figure;
use crate::machine;
use crate::measured::percentile_us;
use crate::report::{Report, Run};
use crate::sweep::Swept;
use bars::{Bar, Bars, Group};
use lines::{Line, Lines};
use scale::Scale;

/// What the bars of stages are.
const STAGES_TITLE: &str = "the leader's stages, mean; of a turn or a batch, not of a request";

/// A page in the making.
pub(crate) struct Page {
    title: String,
    body: String,
}

impl Page {
    /// With nothing but its head.
    pub(crate) fn new(title: &str, dir: &Path) -> Page {
        let body = format!(
            "<h1>{}</h1>\n<p class=\"machine\">{}</p>\n",
            escaped(title),
            escaped(&machine::description_with_limits(dir)).replace('\n', "<br>")
        );
        Page { title: title.to_owned(), body }
    }

    /// One load.
    pub(crate) fn report(mut self, report: &Report) -> Page {
        let _ = writeln!(self.body, "<section><h2>{}</h2>", escaped(&report.load.to_string()));
        let line = |(number, run): (usize, &Run)| Line {
            name: if report.runs.len() == 1 { report.load.name.clone() } else { format!("run {}", number + 1) },
            points: percentile_points(run),
        };
        self.body += &percentile_plot("Latency by percentile", report.runs.iter().enumerate().map(line).collect());
        self.body += &stages::svg(STAGES_TITLE, &report.stages().each());
        let _ = writeln!(self.body, "<pre>{}</pre></section>", escaped(&report.text()));
        self
    }

    /// A sweep: latency against throughput.
    pub(crate) fn sweep(mut self, swept: &Swept) -> Page {
        let _ = writeln!(self.body, "<section><h2>{}: latency against load</h2>", escaped(&swept.peak.load.name));
        let line = |at: f64| Line {
            name: crate::report::percentile_name(at),
            points: swept.steps.iter().map(|step| (step.per_second(), step.percentile_us(at))).collect(),
        };
        self.body += &Lines {
            title: "Open loop: latency counts from when each request was due".into(),
            x: ("done per second".into(), Scale::Linear),
            y: ("latency, us".into(), Scale::Log),
            lines: [50.0, 90.0, 99.0, 99.9].map(line).into(),
        }
        .svg();
        self.body += "<table><tr><th>due /s</th><th>done /s</th><th>p50 us</th><th>p99 us</th><th>p99.9 us</th><th>max us</th></tr>\n";
        for step in &swept.steps {
            let figures = [50.0, 99.0, 99.9, 100.0].map(|at| format!("<td>{:.0}</td>", step.percentile_us(at)));
            let (due, done) = (step.load.rate.unwrap_or(0.0), step.per_second());
            let _ = writeln!(self.body, "<tr><td>{due:.0}</td><td>{done:.0}</td>{}</tr>", figures.concat());
        }
        self.body += "</table></section>\n";
        self
    }

    /// A comparison: bars for all loads, then each load by itself.
    pub(crate) fn comparison(mut self, compared: &[Compared]) -> Page {
        let mut versions: Vec<&str> = Vec::new();
        for (_, version, _) in compared.iter().flat_map(|compared| &compared.peers) {
            if !versions.contains(&version.as_str()) {
                versions.push(version);
            }
        }
        let _ = writeln!(self.body, "<p>{}</p>", escaped(&versions.join(" · ")));
        self.body += &all_bars(compared);
        for Compared { load, peers, left_out } in compared {
            let _ = writeln!(self.body, "<section><h2>{}</h2>", escaped(&load.to_string()));
            let line = |(peer, _, report): &(crate::peers::Peer, String, Report)| {
                let latencies = report.merged().latencies();
                let points = scale::PERCENTILES.iter().map(|at| (*at, percentile_us(&latencies, *at))).collect();
                Line { name: peer.name().to_owned(), points }
            };
            self.body += &percentile_plot("Latency by percentile, all runs", peers.iter().map(line).collect());
            self.body += &comparison_table(peers);
            for peer in left_out {
                let _ = writeln!(self.body, "<p>{}: left out, it does not take all that is asked for</p>", peer.name());
            }
            if let Some((peer, _, report)) = peers.iter().find(|(_, _, report)| !report.stages().each().is_empty()) {
                self.body += &stages::svg(&format!("{}: {STAGES_TITLE}", peer.name()), &report.stages().each());
            }
            self.body += "</section>\n";
        }
        self
    }

    /// Writes it.
    pub(crate) fn write(self, path: &Path) -> io::Result<()> {
        let title = escaped(&self.title);
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>{STYLE}</style></head>\n\
             <body><main>\n{}</main></body></html>\n",
            self.body
        );
        std::fs::write(path, page).map_err(|error| not_written(path, &error))
    }
}

/// Fails if no page can be written there, before anything is measured for it.
pub(crate) fn check_writable(path: &Path) -> io::Result<()> {
    let existed = path.exists();
    std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(|error| not_written(path, &error))?;
    if existed {
        return Ok(());
    }
    std::fs::remove_file(path)
}

fn not_written(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} cannot be written: {error}", path.display()))
}

fn percentile_points(run: &Run) -> Vec<(f64, f64)> {
    let latencies = run.measured.latencies();
    scale::PERCENTILES.iter().map(|at| (*at, percentile_us(&latencies, *at))).collect()
}

fn percentile_plot(title: &str, lines: Vec<Line>) -> String {
    let (x, y) = (("percentile".into(), Scale::Percentile), ("latency, us".into(), Scale::Log));
    Lines { title: title.into(), x, y, lines }.svg()
}

/// A figure of a run, its title, and how it is shown.
type Plotted = (&'static str, fn(&Run) -> f64);

/// Throughput, latency and processor time of all loads.
fn all_bars(compared: &[Compared]) -> String {
    let figures: [Plotted; 3] = [
        ("Throughput, per second", Run::per_second),
        ("Median latency, us", |run| run.measured.percentile_us(50.0)),
        ("Processor time of all servers, us for each operation", |run| run.server_cpu_us().unwrap_or(0.0)),
    ];
    let mut out = String::new();
    for (title, figure) in figures {
        let group = |compared: &Compared| {
            let bar = |(peer, _, report): &(crate::peers::Peer, String, Report)| Bar {
                series: peer.name().to_owned(),
                figure: report.figure(figure),
            };
            Group { name: compared.load.shape(), bars: compared.peers.iter().map(bar).collect() }
        };
        out += &Bars { title: title.into(), groups: compared.iter().map(group).collect() }.svg();
    }
    out
}

fn comparison_table(peers: &[(crate::peers::Peer, String, Report)]) -> String {
    let heads = ["", "per second", "p50 us", "p99 us", "p99.9 us", "CPU us/op", "RSS MB", "flushes/op"];
    let ratios = ["ours / theirs: throughput", "p50", "CPU"];
    let heads: String = heads.iter().chain(&ratios).map(|head| format!("<th>{head}</th>")).collect();
    let mut out = format!("<table><tr>{heads}</tr>\n");
    for (place, (peer, _, report)) in peers.iter().enumerate() {
        let cells = [
            cell(Some(report.figure(Run::per_second)), 0),
            cell(Some(report.figure(|run| run.measured.percentile_us(50.0))), 0),
            cell(Some(report.figure(|run| run.measured.percentile_us(99.0))), 0),
            cell(Some(report.figure(|run| run.measured.percentile_us(99.9))), 0),
            cell(report.figure_if_known(Run::server_cpu_us), 1),
            cell(report.figure_if_known(|run| Some(run.resident_bytes()? / 1e6)), 0),
            cell(report.figure_if_known(Run::flushes), 4),
        ];
        let against = |figure: fn(&Run) -> f64| (place > 0).then(|| ratio(&peers[0].2, report, figure));
        let ratios = [
            cell(against(Run::per_second), 2),
            cell(against(|run| run.measured.percentile_us(50.0)), 2),
            cell(against(|run| run.server_cpu_us().unwrap_or(0.0)), 2),
        ];
        let _ = writeln!(out, "<tr><td>{}</td>{}{}</tr>", peer.name(), cells.concat(), ratios.concat());
    }
    out + "</table>\n"
}

/// The median, and the range below it where there is one.
fn cell(figure: Option<Figure>, digits: usize) -> String {
    let Some(Figure { median, min, max, count }) = figure else { return "<td></td>".to_owned() };
    let range = if count > 1 { format!("<small>{min:.digits$}-{max:.digits$}</small>") } else { String::new() };
    format!("<td>{median:.digits$}{range}</td>")
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "\
:root{--paper:#fbfaf8;--card:#fff;--ink:#1d2127;--soft:#667080;--grid:#e4e2dd;--c0:#d9480f;--c1:#868e96;--c2:#1971c2;--c3:#2f9e44;\
--c4:#9c36b5;--c5:#e8590c;--c6:#0c8599;--c7:#f08c00}\
@media(prefers-color-scheme:dark){:root{--paper:#14171c;--card:#1c2027;--ink:#e8eaee;--soft:#98a2b3;--grid:#2f3540;--c0:#ff8a4c;\
--c1:#adb5bd;--c2:#6cb6ff;--c3:#69db7c;--c4:#da77f2;--c5:#ffa94d;--c6:#66d9e8;--c7:#ffd43b}}\
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:1080px;margin:0 auto;padding:32px 24px}h1{font-size:26px;margin:0}h2{font-size:17px;margin:0 0 12px}\
section figure{margin:22px 0 0}section figure:first-of-type{margin:0}.machine,p{color:var(--soft);margin:4px 0 20px}section,figure{background:var(--card);border:1px solid var(--grid);border-radius:10px;\
padding:20px;margin:0 0 22px}section figure{border:0;padding:0}figcaption{color:var(--soft);font-size:13px;margin-bottom:6px}\
svg{width:100%;height:auto;display:block;font:12px system-ui,sans-serif}svg text{fill:var(--soft)}svg .strong{fill:var(--ink)}\
.grid{stroke:var(--grid)}.axis{stroke:var(--soft)}pre{overflow:auto;font-size:12.5px;margin:12px 0 0}\
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums;margin-top:12px}\
th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--grid)}th{color:var(--soft);font-weight:500}\
th:first-child,td:first-child{text-align:left}td{white-space:nowrap}small{display:block;color:var(--soft);font-size:11px}";
