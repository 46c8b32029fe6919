//! Edges that are loads and nothing else.

use std::io;

use super::found::Found;
use super::{Bench, Edge};
use crate::distribution::Spread;
use crate::load::Load;
use crate::workload::{Kind, Mix};

/// Files that a process has open besides its connections: the log, sockets between nodes, and room.
const OTHER_FILES: u64 = 200;

/// Measures all loads of an edge on one cluster.
pub(super) fn run(bench: &Bench<'_>, found: &mut Found) -> io::Result<()> {
    let cluster = bench.start(&[])?;
    for load in loads(bench, found.edge) {
        if u64::from(load.connections) + OTHER_FILES > bench.files {
            let (shape, files) = (load.shape(), bench.files);
            found.notes.push(format!("{shape}: {files} files may be open here (`ulimit -Hn`)"));
            continue;
        }
        found.rows.push(bench.measure(&load, &cluster)?);
    }
    Ok(())
}

fn loads(bench: &Bench<'_>, edge: Edge) -> Vec<Load> {
    let (put, update, get) = (Mix::only(Kind::Create), Mix::only(Kind::Update), Mix::only(Kind::Read));
    let both = |width: (u32, u32)| [bench.load("put", put, width), bench.load("get", get, width)];
    match edge {
        Edge::Connections => bench.args.connections.iter().flat_map(|count| both((*count, 1))).collect(),
        Edge::Pipelines => bench.args.pipelines.iter().flat_map(|to| both((to.connections, to.depth))).collect(),
        Edge::Values => {
            let of = |(size, bytes, width, keys): (&str, u32, (u32, u32), u64)| {
                let sized = |load: Load| Load { value_bytes: bytes.into(), keys, ..load };
                [
                    sized(bench.load(&format!("update, {size}"), update, width)),
                    sized(bench.load(&format!("get, {size}"), get, width)),
                ]
            };
            SIZES.into_iter().flat_map(of).collect()
        }
        Edge::HotKeys => {
            let mixed = |name, spread| Load { spread, ..bench.load(name, Mix::reads(0.5), (64, 16)) };
            vec![
                Load { keys: 1, ..bench.load("update, one key", update, (64, 16)) },
                Load { keys: 1, ..bench.load("get, one key", get, (64, 16)) },
                mixed("mix, 90 % to 1 % of keys", Spread::Hot),
                mixed("mix, Zipf", Spread::Zipfian),
            ]
        }
        _ => both((1, 1)).into(),
    }
}

/// Sizes of values with connections and depth (some megabytes in flight at most), and keys (some ten megabytes).
const SIZES: [(&str, u32, (u32, u32), u64); 5] = [
    ("16 B", 16, (64, 4), 10_000),
    ("1 KiB", 1 << 10, (64, 4), 10_000),
    ("16 KiB", 16 << 10, (64, 2), 4_000),
    ("128 KiB", 128 << 10, (16, 1), 500),
    ("1 MiB", 1 << 20, (4, 1), 64),
];
