//! The fuzz targets of `fuzz/`, on random inputs and on the committed corpus: what libFuzzer found stays mended.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use proptest::prelude::*;

/// Inputs that look like something: runs of zeroes, ones and small numbers among noise.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => any::<u8>(), 3 => 0_u8..8, 1 => Just(0_u8), 1 => Just(0xff_u8)];
    proptest::collection::vec(byte, 0..400)
}

macro_rules! smoke {
    ($($target:ident: $cases:literal,)*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig { cases: $cases, failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn $target(data in inputs()) {
                targets::$target(&data);
            }
        }
    )*

        #[test]
        fn the_corpus() {
            let all: &[(&str, fn(&[u8]))] = &[$((stringify!($target), targets::$target),)*];
            for (name, target) in all {
                let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
                let mut inputs = 0;
                for item in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
                    let path = item.expect("the folder can be listed").path();
                    let mut data = Vec::new();
                    let mut file = std::fs::OpenOptions::new().read(true).open(&path).expect("it can be read");
                    std::io::Read::read_to_end(&mut file, &mut data).expect("it can be read");
                    target(&data);
                    inputs += 1;
                }
                assert!(inputs > 0, "{name} has a corpus");
                println!("{name}: {inputs} inputs");
            }
        }
    };
}

smoke! {
    client_frame: 20_000,
    peer_frame: 20_000,
    log_recovery: 300,
    meta: 300,
    snapshot: 20_000,
    raft_step: 20_000,
}
