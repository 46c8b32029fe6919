//! The picture: a rectangle for each function, as wide as its share of the samples, above those that called it. A click enlarges
//! one, a search marks names; without scripts it is a picture still.

use std::fmt::Write as _;

use super::stacks::{Node, Place, Stacks};

const WIDTH: f64 = 1200.0;
const ROW: f64 = 18.0;
const TOP: f64 = 54.0;
const MARGIN: f64 = 10.0;
/// What is narrower is left out, in pixels.
const NARROWEST: f64 = 0.15;
/// Width of a letter, roughly.
const LETTER: f64 = 6.6;

/// An SVG.
pub(super) fn svg(title: &str, stacks: &Stacks) -> String {
    let height = TOP + ROW * stacks.root.depth() as f64 + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\" \
         font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"11\">\n\
         <style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{}\" y=\"22\" text-anchor=\"middle\">{}</text>\n\
         <text class=\"button\" id=\"reset\" x=\"{MARGIN}\" y=\"42\" visibility=\"hidden\">show all</text>\n\
         <text class=\"button\" id=\"search\" x=\"{}\" y=\"42\" text-anchor=\"end\">search</text>\n\
         <text id=\"found\" x=\"{}\" y=\"42\" text-anchor=\"end\"></text>\n",
        WIDTH / 2.0,
        escaped(title),
        WIDTH - MARGIN,
        WIDTH - MARGIN - 60.0,
    );
    let all = stacks.samples().max(1) as f64;
    put(&mut out, "all", &stacks.root, Box { left: 0.0, level: 0, all, height });
    let _ = write!(out, "<script><![CDATA[{SCRIPT}]]></script>\n</svg>\n");
    out
}

/// Where a function goes.
#[derive(Clone, Copy)]
struct Box {
    /// In samples.
    left: f64,
    level: usize,
    /// All samples.
    all: f64,
    /// Of the picture.
    height: f64,
}

fn put(out: &mut String, name: &str, node: &Node, at: Box) {
    let inner = WIDTH - 2.0 * MARGIN;
    let (left, share) = (at.left / at.all, node.samples as f64 / at.all);
    let width = share * inner;
    if width < NARROWEST {
        return;
    }
    let x = MARGIN + left * inner;
    let y = at.height - MARGIN - ROW * (at.level + 1) as f64;
    let letters = (width / LETTER) as usize;
    let shown: String = if letters < 4 { String::new() } else { short(name).chars().take(letters).collect() };
    let _ = writeln!(
        out,
        "<g class=\"{}\" data-x=\"{left:.6}\" data-w=\"{share:.6}\"><title>{} ({} samples, {:.2} %)</title>\
         <rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{:.1}\" fill=\"{}\" rx=\"2\"/>\
         <text x=\"{:.2}\" y=\"{:.1}\">{}</text></g>",
        class(node.place),
        escaped(name),
        node.samples,
        share * 100.0,
        ROW - 1.0,
        colour(name, node.place),
        x + 3.0,
        y + 12.5,
        escaped(&shown),
    );
    let mut left = at.left;
    for (name, callee) in &node.callees {
        put(out, name, callee, Box { left, level: at.level + 1, ..at });
        left += callee.samples as f64;
    }
}

/// A path without what stands before the last two names.
fn short(name: &str) -> &str {
    if name.contains('<') {
        return name;
    }
    let starts: Vec<usize> = name.rmatch_indices("::").map(|(at, _)| at + 2).collect();
    starts.get(1).map_or(name, |start| &name[*start..])
}

fn class(place: Place) -> &'static str {
    match place {
        Place::Thread => "thread",
        Place::Ours => "ours",
        Place::Library => "library",
        Place::Kernel => "kernel",
    }
}

/// Ours warm, libraries yellow, the system blue; a little different for each name, always the same.
fn colour(name: &str, place: Place) -> String {
    let hash = name.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let (hue, spread, saturation, light) = match place {
        Place::Thread => (0, 1, 0, 78),
        Place::Ours => (8, 24, 82, 66),
        Place::Library => (42, 14, 75, 70),
        Place::Kernel => (205, 20, 52, 72),
    };
    format!("hsl({} {saturation}% {}%)", hue + hash % spread, light + (hash >> 8) % 7)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "\
.paper{fill:#fff}text{fill:#1b1f24;pointer-events:none}.title{font-size:15px}.button{pointer-events:all;cursor:pointer;\
text-decoration:underline}g{cursor:pointer}g:hover rect{stroke:#1b1f24}g.found rect{fill:#c026d3}g.found text{fill:#fff}g.below rect\
{opacity:.45}@media(prefers-color-scheme:dark){.paper{fill:#15181d}.title,.button,#found{fill:#e6e9ee}g:hover rect{stroke:#fff}}";

const SCRIPT: &str = r#"
const W = 1200, M = 10, inner = W - 2 * M, letter = 6.6, byId = id => document.getElementById(id);
const frames = [...document.querySelectorAll('g')].map(g => ({
  g, x: +g.dataset.x, w: +g.dataset.w, rect: g.querySelector('rect'), text: g.querySelector('text'),
  name: g.querySelector('title').textContent, y: +g.querySelector('rect').getAttribute('y'),
}));
const short = name => {
  name = name.replace(/ \(\d+ samples.*$/, '');
  return name.includes('<') ? name : name.split('::').slice(-2).join('::');
};
function show(to) {
  for (const f of frames) {
    const above = f.y <= to.y;
    const inside = above && f.x >= to.x - 1e-7 && f.x + f.w <= to.x + to.w + 1e-7;
    const below = !above && f.x <= to.x + 1e-7 && f.x + f.w >= to.x + to.w - 1e-7;
    f.g.style.display = inside || below ? '' : 'none';
    f.g.classList.toggle('below', below);
    const x = below ? M : M + (f.x - to.x) / to.w * inner, w = below ? inner : f.w / to.w * inner;
    f.rect.setAttribute('x', x); f.rect.setAttribute('width', Math.max(w, 0));
    f.text.setAttribute('x', x + 3);
    const letters = Math.floor(w / letter);
    f.text.textContent = letters < 4 ? '' : short(f.name).slice(0, letters);
  }
  byId('reset').setAttribute('visibility', to.w < 1 ? 'visible' : 'hidden');
}
function search() {
  const wanted = prompt('Mark functions whose names hold:');
  if (wanted === null) return;
  const marked = [];
  for (const f of frames) {
    const is = wanted !== '' && f.name.toLowerCase().includes(wanted.toLowerCase());
    f.g.classList.toggle('found', is);
    if (is && !marked.some(m => f.x >= m.x - 1e-7 && f.x + f.w <= m.x + m.w + 1e-7)) marked.push(f);
  }
  const share = marked.reduce((sum, f) => sum + f.w, 0) * 100;
  byId('found').textContent = wanted === '' ? '' : `"${wanted}": ${share.toFixed(1)} %`;
}
frames.forEach(f => f.g.addEventListener('click', () => show(f)));
byId('reset').addEventListener('click', () => show({ x: 0, w: 1, y: Infinity }));
byId('search').addEventListener('click', search);
addEventListener('keydown', e => { if ((e.ctrlKey || e.metaKey) && e.key === 'f') { e.preventDefault(); search(); } });
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_shares_and_names_are_escaped() {
        let script = "\
a 1\n\t1 <x as y>::z (/bin/raftkv)\n\na 1\n\t2 other (/bin/raftkv)\n\na 1\n\t2 other (/bin/raftkv)\n\na 1\n\t2 other (/bin/raftkv)\n";
        let svg = svg("t & u", &Stacks::parse(script));
        assert!(svg.contains("t &amp; u") && svg.contains("&lt;x as y&gt;::z (1 samples, 25.00 %)"), "{svg}");
        assert!(svg.contains("data-x=\"0.250000\" data-w=\"0.750000\""), "{svg}");
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }

    #[test]
    fn long_paths_show_their_end() {
        assert_eq!(short("raftkv::server::raft_loop::run"), "raft_loop::run");
        assert_eq!((short("main"), short("a::b")), ("main", "a::b"));
    }
}
