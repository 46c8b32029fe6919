#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "configurations are files")]
use clap::{Args, CommandFactory, Parser};

use super::*;

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
        let error = toml::from_str::<Settings>(&format!("{key} = {{ wrong = 1 }}")).expect_err("a table fits nowhere");
        assert!(!error.to_string().contains("unknown field"), "{key}: {error}");
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

#[test]
fn an_unknown_key_is_an_error() {
    let error = toml::from_str::<Settings>("hartbeat = 50").expect_err("unknown");
    assert!(error.to_string().contains("hartbeat"), "{error}");
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
    assert!(refused(three(&["--segment-bytes", "1MiB"])).contains("largest entry"));
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

#[test]
fn sizes_and_times_say_what_they_expect() {
    assert_eq!("4KiB".parse::<Size>(), Ok(Size(4096)));
    assert_eq!("17".parse::<Size>(), Ok(Size(17)));
    assert!("4kb".parse::<Size>().expect_err("unknown unit").contains("4KiB"));
    assert!("99999999999GiB".parse::<Size>().is_err(), "overflow");
    assert_eq!("2s".parse::<Millis>(), Ok(Millis(2000)));
    assert!("-1".parse::<Millis>().is_err());
    assert!("0=a:1".parse::<Peers>().expect_err("no peer address").contains("ID=CLIENT/PEER"));
    assert!("".parse::<Peers>().is_err());
}
