#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "configurations are files")]
use clap::{Args, CommandFactory, Parser};

use super::value::{Misread, Setting as _};
use super::*;
use crate::logging::Sink;

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: ServeArgs,
}

const THREE: &str = "0=127.0.0.1:7400/127.0.0.1:7401,1=127.0.0.1:7410/127.0.0.1:7411,2=127.0.0.1:7420/127.0.0.1:7421";

fn typed(flags: &[&str]) -> Result<Config, ConfigError> {
    let line = ["serve"].iter().chain(flags).copied();
    load(Serve::try_parse_from(line).expect("flags parse").args)
}

fn three(flags: &[&str]) -> Result<Config, ConfigError> {
    let common = ["--id", "1", "--data", "d", "--peers", THREE];
    typed(&[&common, flags].concat())
}

fn refused(result: Result<Config, ConfigError>) -> String {
    match result.expect_err("refused") {
        ConfigError::Refused(text) => text,
        ConfigError::Usage(text) => panic!("usage: {text}"),
    }
}

#[test]
fn every_setting_has_one_name_as_flag_variable_and_key() {
    let command = Settings::augment_args(clap::Command::new("serve"));
    for argument in command.get_arguments() {
        let key = argument.get_long().expect("long only");
        assert_eq!(argument.get_id().as_str().replace('_', "-"), key);
        let variable = format!("RAFTKV_{}", key.to_uppercase().replace('-', "_"));
        assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "{key}");
        let error =
            source::parse(Path::new("f"), &format!("{key} = {{ wrong = 1 }}")).expect_err("a table fits nowhere");
        assert_eq!(error, format!("f:1: {key}: a table fits nowhere here"));
    }
    Serve::command().debug_assert();
}

#[test]
fn listen_addresses_default_to_the_own_entry() {
    let config = three(&[]).expect("valid");
    assert_eq!(config.listen_client, "127.0.0.1:7410".parse().expect("literal"));
    assert_eq!(config.listen_peer, "127.0.0.1:7411".parse().expect("literal"));
    assert_eq!(config.members.len(), 3);
    assert!(config.warnings.is_empty());
}

#[test]
fn flags_win_over_the_file() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("raftkv.toml");
    let text =
        "id = 1\ndata = \"d\"\nname = \"file\"\nheartbeat = 50\nelection-timeout = \"2s\"\nsegment-bytes = \"4MiB\"\n\
                peers = [\"1=127.0.0.1:1/127.0.0.1:2\"]\ninsecure = true\n";
    std::fs::write(&file, text).expect("write");
    let config = typed(&["--config", file.to_str().expect("UTF-8"), "--name", "flag"]).expect("valid");
    assert_eq!(config.name, "flag");
    assert_eq!(config.heartbeat, Span::millis(50));
    assert_eq!(config.election_timeout_min, Span::secs(2));
    assert_eq!(config.segment_bytes, 4 << 20);
}

/// Settings of a file named `f`.
fn in_file(text: &str) -> Result<Config, String> {
    check(&source::parse(Path::new("f"), text)?).map_err(|error| error.to_string())
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    for (key, nearest) in [
        ("hartbeat", "heartbeat"),
        ("election_timeout", "election-timeout"),
        ("Data", "data"),
        ("listen_clients", "listen-client"),
        ("segment-size", "segment-bytes"),
    ] {
        let error = in_file(&format!("id = 0\n\n{key} = 50")).expect_err("unknown");
        assert_eq!(error, format!("f:3: there is no setting `{key}`; did you mean `{nearest}`?"));
    }
    let error = in_file("[storage]\nx = 1").expect_err("unknown");
    assert_eq!(error, "f:1: there is no setting `storage`; `raftkv config template` lists them all");
}

#[test]
fn an_error_names_file_line_and_what_would_do() {
    let error = |text: &str| in_file(text).expect_err("refused");
    assert_eq!(error("id = 0\nheartbeat = \"fast\""), "f:2: heartbeat: `fast` is not a time; write 250ms, 2s or 5m");
    assert_eq!(error("credits = -1"), "f:1: credits: -1 is out of bounds; it must be from 16 to 1048576 requests");
    assert_eq!(error("io-threads = 70000"), "f:1: io-threads: 70000 is out of bounds; it must be from 1 to 48 threads");
    assert_eq!(error("id = 9999999999"), "f:1: id: 9999999999 is out of bounds; it must be from 0 to 1023");
    assert_eq!(error("heartbeat = -1"), "f:1: heartbeat: -1 is out of bounds; it must be from 1ms to 600s");
    assert_eq!(
        error("pool-bytes = \"99999999999GiB\""),
        "f:1: pool-bytes: 99999999999GiB is out of bounds; it must be from 8MiB to 64GiB"
    );
    assert_eq!(error("credits = \"many\""), "f:1: credits: `many` is not a whole number");
    assert_eq!(error("insecure = \"yes\""), "f:1: insecure: `yes` is not true or false");
    for text in ["heartbeat = [50]", "data = [\"d\"]", "log = [\"info\", \"raft=debug\"]", "peers = [[\"0=a:1/a:2\"]]"]
    {
        assert!(error(text).ends_with("a list fits nowhere here; write one value"), "{text}");
    }
    assert!(error("id = 0\nid = 1").starts_with("f:2: this is not TOML: "));
    assert!(error("id = ").starts_with("f:1: this is not TOML: "));
    let node = "id = 0\ndata = \"d\"\n";
    assert_eq!(error(&format!("{node}io-threads = 99")), "io-threads (f:3) is 99; it must be from 1 to 48 threads");
    assert_eq!(
        error(&format!("{node}value-bytes-max = \"2MiB\"")),
        "value-bytes-max (f:3) is 2MiB; it must be from 1B to 1MiB"
    );
    assert_eq!(error(&format!("{node}heartbeat = 0")), "heartbeat (f:3) is 0ms; it must be from 1ms to 600s");
}

#[test]
fn a_long_election_timeout_is_warned_about() {
    assert!(three(&["--election-timeout", "30s"]).expect("allowed").warnings.is_empty());
    let warnings = three(&["--election-timeout", "31s"]).expect("allowed").warnings;
    assert!(warnings[0].contains("longer than any request waits (60s)"), "{warnings:?}");
    assert!(refused(three(&["--election-timeout", "11m"])).contains("from 1ms to 600s"));
}

#[test]
fn the_template_is_valid_and_shows_the_defaults() {
    let text = template::template();
    let config = in_file(&text.replace("#id = 0", "id = 1")).expect("valid as it is");
    assert_eq!(config.data, Path::new("/var/lib/raftkv/node-1"));
    assert_eq!(config.members.len(), 3);
    // Every setting is in it, and can be commented in; where it shows a default, that changes nothing.
    let mut typed = source::parse(Path::new("f"), &text).expect("valid");
    for description in template::descriptions() {
        assert!(
            text.contains(&format!("\n#{} = ", description.key)) || text.contains(&format!("\n{} = ", description.key))
        );
        if let Some(default) = description.default_value() {
            typed.settings.read(&description.key, default).expect("a key").expect("a value");
        }
    }
    typed.settings.id = Some(1);
    assert_eq!(format!("{:?}", check(&typed).expect("valid")), format!("{config:?}"));
    for line in text.lines().filter(|line| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ")) {
        source::parse(Path::new("f"), &line[1..]).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn the_page_of_settings_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (begin, end) = ("<!-- settings -->\n", "<!-- end of settings -->");
    let (before, rest) = page.split_once(begin).expect("a mark");
    let (table, after) = rest.split_once(end).expect("a mark");
    let wanted = template::markdown();
    if std::env::var_os("RAFTKV_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).expect("written");
    } else {
        assert_eq!(table, wanted, "RAFTKV_BLESS=1 rewrites the page");
    }
}

#[test]
fn the_same_file_serves_all_nodes() {
    // 127.0.0.1 is every machine's; 192.0.2.0/24 is nobody's.
    let list = "0=192.0.2.1:7400/192.0.2.1:7401,1=127.0.0.1:7410/127.0.0.1:7411,2=192.0.2.3:7420/192.0.2.3:7421";
    let config = in_file(&format!("peers = \"{list}\"\ndata = \"d/{{id}}\"\nlog-file = \"l-{{id}}\"")).expect("node 1");
    assert_eq!((config.id, config.data.as_path()), (NodeId(1), Path::new("d/1")));
    assert_eq!(config.logging.sinks, [Sink::file("l-1".into())]);
    let several = in_file(&format!("peers = \"{THREE}\"\ndata = \"d\"")).expect_err("which one?");
    assert!(several.contains("nodes 0, 1, 2 of --peers have addresses of this machine"), "{several}");
    let nobody = in_file("peers = \"0=192.0.2.1:1/192.0.2.1:2\"\ndata = \"d\"").expect_err("none");
    assert!(nobody.contains("none of --peers has an address of this machine"), "{nobody}");
}

#[test]
fn admin_is_two_above_the_clients_unless_that_is_somebody_elses() {
    let admin = |flags: &[&str]| three(flags).expect("valid").listen_admin.map(|admin| admin.address.to_string());
    assert_eq!(admin(&[]).as_deref(), Some("127.0.0.1:7412"));
    assert_eq!(admin(&["--listen-admin", "off"]), None);
    assert_eq!(admin(&["--listen-admin", "127.0.0.1:9"]).as_deref(), Some("127.0.0.1:9"));
    assert!(refused(three(&["--listen-admin", "0.0.0.0:9"])).contains("--insecure"));
    let dense = "0=127.0.0.1:1000/127.0.0.1:1001,1=127.0.0.1:1002/127.0.0.1:1003";
    let config = typed(&["--id", "0", "--data", "d", "--peers", dense]).expect("valid");
    assert_eq!(config.listen_admin, None, "1002 is node 1's");
}

#[test]
fn missing_essentials_are_usage_errors() {
    for flags in [&["--id", "0"][..], &["--data", "d"][..]] {
        assert_eq!(typed(flags).expect_err("incomplete").exit_code(), exit::USAGE);
    }
}

#[test]
fn refusals_name_the_setting() {
    assert!(refused(three(&["--heartbeat", "400"])).contains("three times"));
    assert!(refused(three(&["--heartbeat", "0"])).contains("--heartbeat"));
    assert!(refused(three(&["--listen-client", "0.0.0.0:7400"])).contains("--insecure"));
    assert!(refused(three(&["--advertise-peer", "127.0.0.1:9"])).contains("--advertise-peer"));
    assert!(refused(three(&["--io-threads", "0"])).contains("--io-threads"));
    assert!(refused(three(&["--segment-bytes", "1B"])).contains("--segment-bytes"));
    let small = refused(three(&["--segment-bytes", "1MiB"]));
    assert!(small.contains("largest entry; it must be at least 1092KiB"), "{small}");
    assert!(three(&["--segment-bytes", "1MiB", "--value-bytes-max", "4KiB"]).is_ok());
    assert!(refused(typed(&["--id", "3", "--data", "d", "--peers", THREE])).contains("--id 3"));
    let twice = "0=127.0.0.1:1/127.0.0.1:2,0=127.0.0.1:3/127.0.0.1:4";
    assert!(refused(typed(&["--id", "0", "--data", "d", "--peers", twice])).contains("twice"));
    let shared = "0=127.0.0.1:1/127.0.0.1:2,1=127.0.0.1:2/127.0.0.1:4";
    assert!(refused(typed(&["--id", "0", "--data", "d", "--peers", shared])).contains("127.0.0.1:2 twice"));
}

#[test]
fn other_than_loopback_is_allowed_when_asked_for() {
    let config = three(&["--listen-client", "0.0.0.0:7410", "--insecure"]).expect("allowed");
    assert!(config.listen_client.ip().is_unspecified());
    assert!(three(&["--listen-client", "0.0.0.0:7410", "--insecure=false"]).is_err());
}

#[test]
fn an_even_number_of_members_is_warned_about() {
    let two = "0=127.0.0.1:1/127.0.0.1:2,1=127.0.0.1:3/127.0.0.1:4";
    let config = typed(&["--id", "0", "--data", "d", "--peers", two]).expect("allowed");
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn one_node_needs_no_peers() {
    let config = typed(&["--id", "2", "--data", "d"]).expect("valid");
    assert_eq!(config.members.len(), 1);
    assert_eq!(config.listen_client.port(), limits::BASE_PORT + 20);
    assert_eq!(config.listen_peer.port(), limits::BASE_PORT + 21);
}

/// Whatever has bounds says them, however far beyond them it is, in whichever source.
#[test]
fn every_number_out_of_bounds_names_its_bounds() {
    let mut bounded = 0;
    for key in Settings::keys() {
        let Some(bounds) = Bounds::of(&key) else { continue };
        bounded += 1;
        for text in ["-1", "18446744073709551615", "99999999999999999999999999"] {
            let wanted = format!("it must be {bounds}");
            let id = if key == "id" { "" } else { "id = 0\n" };
            let error = in_file(&format!("{id}data = \"d\"\n{key} = \"{text}\""));
            let error = error.expect_err("out of bounds");
            assert!(error.contains(&wanted), "{key} = {text}: {error}");
            let flag = format!("--{key}={text}");
            let line = ["serve", "--id=0", "--data=d", &flag];
            let error = match Serve::try_parse_from(line.iter().filter(|word| key != "id" || **word != "--id=0")) {
                Err(error) => error.to_string(),
                Ok(serve) => refused(load(serve.args)),
            };
            assert!(error.contains(&wanted), "{flag}: {error}");
        }
    }
    assert!(bounded >= 11, "{bounded}");
}

#[test]
fn sizes_and_times_say_what_they_expect() {
    assert_eq!(Size::read("4KiB"), Ok(Size(4096)));
    assert_eq!(Size::read("17"), Ok(Size(17)));
    let Err(Misread::Shape(words)) = Size::read("4kb") else { panic!("an unknown unit") };
    assert!(words.contains("4KiB"), "{words}");
    assert_eq!(Size::read("99999999999GiB"), Err(Misread::Range));
    assert_eq!(Millis::read("2s"), Ok(Millis(2000)));
    assert_eq!(Millis::read("5m"), Ok(Millis(300_000)));
    for text in ["1B", "1023B", "4KiB", "5MiB", "1GiB", "1025B"] {
        assert_eq!(Size::read(text).expect("a size").show(), text);
    }
    for text in ["0ms", "999ms", "1s", "1500ms"] {
        assert_eq!(Millis::read(text).expect("a time").show(), text);
    }
    assert_eq!(Millis::read("-1"), Err(Misread::Range));
    assert!("0=a:1".parse::<Peers>().expect_err("no peer address").contains("ID=CLIENT/PEER"));
    assert!("".parse::<Peers>().is_err());
}
