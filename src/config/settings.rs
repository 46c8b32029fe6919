//! The table of settings: one line serves the flag, the variable, the key of the file, and their help.

use std::path::PathBuf;

use super::logging::LogSinks;
use super::value::{read, reader, Listen, Millis, Peers, Setting, Size};

/// Declares the settings, and the operations that need to name them all.
macro_rules! settings {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)*) => {
        /// The settings of one source, as typed; what is missing is `None`.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Settings {
            $($(#[$attribute])* pub $name: Option<$type>,)*
        }

        impl Settings {
            /// These settings, and `other`'s where these say nothing.
            pub fn or(self, other: Settings) -> Settings {
                Settings { $($name: self.$name.or(other.$name),)* }
            }

            /// Every key, in order.
            pub fn keys() -> Vec<String> {
                vec![$(key(stringify!($name)),)*]
            }

            /// Reads one value. Err: why it cannot be; `None`: there is no such key.
            pub(super) fn read(&mut self, name: &str, text: &str) -> Option<Result<(), String>> {
                $(if name == key(stringify!($name)) {
                    return Some(read(name, text).map(|value| self.$name = Some(value)));
                })*
                None
            }

            /// Whether the file may write this key's value as a list.
            pub(super) fn is_list(name: &str) -> bool {
                $(if name == key(stringify!($name)) {
                    return <$type as Setting>::IS_LIST;
                })*
                false
            }

            /// Every key with its value as it can be typed.
            pub(super) fn shown(&self) -> Vec<(String, Option<String>)> {
                vec![$((key(stringify!($name)), self.$name.as_ref().map(Setting::show)),)*]
            }
        }
    };
}

/// A field's name as people write it.
fn key(field: &str) -> String {
    field.replace('_', "-")
}

settings! {
    /// This node's number in the cluster, from 0 [default: the only entry of --peers that is an address of this machine]
    #[arg(long, env = "RAFTKV_ID", value_parser = reader::<u32>("id"), value_name = "N")]
    id: u32,
    /// Directory of this node's files; created if missing. {id} stands for the node's number
    #[arg(long, env = "RAFTKV_DATA", value_name = "DIR")]
    data: PathBuf,
    /// A name for people, shown by `status`
    #[arg(long, env = "RAFTKV_NAME", value_name = "TEXT")]
    name: String,
    /// All first members of the cluster, this node included; the same on every node [default: a cluster of this node]
    #[arg(long, env = "RAFTKV_PEERS", value_name = "ID=CLIENT/PEER,...")]
    peers: Peers,
    /// Where to listen for clients [default: this node's entry in --peers]
    #[arg(long, env = "RAFTKV_LISTEN_CLIENT", value_name = "HOST:PORT")]
    listen_client: String,
    /// Where to listen for peers [default: this node's entry in --peers]
    #[arg(long, env = "RAFTKV_LISTEN_PEER", value_name = "HOST:PORT")]
    listen_peer: String,
    /// Where to serve /metrics, /livez, /readyz and /status over HTTP, or `off` [default: 127.0.0.1, two above the port for clients]
    #[arg(long, env = "RAFTKV_LISTEN_ADMIN", value_name = "HOST:PORT")]
    listen_admin: Listen,
    /// Address for clients that the cluster tells others [default: this node's entry in --peers]
    #[arg(long, env = "RAFTKV_ADVERTISE_CLIENT", value_name = "HOST:PORT")]
    advertise_client: String,
    /// Address for peers that the cluster tells others [default: this node's entry in --peers]
    #[arg(long, env = "RAFTKV_ADVERTISE_PEER", value_name = "HOST:PORT")]
    advertise_peer: String,
    /// Threads that serve clients [default: 1]
    #[arg(long, env = "RAFTKV_IO_THREADS", value_parser = reader::<u16>("io-threads"), value_name = "N")]
    io_threads: u16,
    /// A silent leader is replaced after one to two of these [default: 1s]
    #[arg(long, env = "RAFTKV_ELECTION_TIMEOUT", value_parser = reader::<Millis>("election-timeout"), value_name = "TIME")]
    election_timeout: Millis,
    /// Time between two signs of life of a leader [default: 100ms]
    #[arg(long, env = "RAFTKV_HEARTBEAT", value_parser = reader::<Millis>("heartbeat"), value_name = "TIME")]
    heartbeat: Millis,
    /// Listen on other than loopback addresses although nothing is encrypted or authenticated [default: false]
    #[arg(long, env = "RAFTKV_INSECURE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    insecure: bool,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,raft=debug` [default: info]
    #[arg(long, env = "RAFTKV_LOG", value_name = "FILTER")]
    log: String,
    /// Log to this file instead of standard error. {id} stands for the node's number
    #[arg(long, env = "RAFTKV_LOG_FILE", value_name = "FILE")]
    log_file: PathBuf,
    /// Where to log, each with options: console,level=L,json and file=FILE,level=L,json,rotate=64MiB (or hour, or day),keep=8,gzip [default: console]
    #[arg(long, env = "RAFTKV_LOG_SINKS", value_name = "SINK,...")]
    log_sinks: LogSinks,
    /// A line's layout: strftime's codes, %{level} %{thread} %{file} %{line} %{module} %{logger} %{message} [default: time, level, thread, logger, message]
    #[arg(long, env = "RAFTKV_LOG_PATTERN", value_name = "TEXT")]
    log_pattern: String,
    /// Write the log in the thread that logs, and let it wait [default: false]
    #[arg(long, env = "RAFTKV_LOG_SYNC", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    log_sync: bool,
    /// Size of one file of the log [default: 16MiB]
    #[arg(long, env = "RAFTKV_SEGMENT_BYTES", value_parser = reader::<Size>("segment-bytes"), value_name = "SIZE")]
    segment_bytes: Size,
    /// Longest key [default: 4KiB]
    #[arg(long, env = "RAFTKV_KEY_BYTES_MAX", value_parser = reader::<Size>("key-bytes-max"), value_name = "SIZE")]
    key_bytes_max: Size,
    /// Longest value [default: 1MiB]
    #[arg(long, env = "RAFTKV_VALUE_BYTES_MAX", value_parser = reader::<Size>("value-bytes-max"), value_name = "SIZE")]
    value_bytes_max: Size,
    /// Requests in progress per io thread; beyond, sockets wait [default: 16384]
    #[arg(long, env = "RAFTKV_CREDITS", value_parser = reader::<u32>("credits"), value_name = "N")]
    credits: u32,
    /// Memory for the clients' read buffers, all io threads together [default: 64MiB]
    #[arg(long, env = "RAFTKV_POOL_BYTES", value_parser = reader::<Size>("pool-bytes"), value_name = "SIZE")]
    pool_bytes: Size,
    /// A snapshot is taken when the log has grown by so much since the last one, or by the state's size if that is more [default: 64MiB]
    #[arg(long, env = "RAFTKV_SNAPSHOT_LOG_BYTES", value_parser = reader::<Size>("snapshot-log-bytes"), value_name = "SIZE")]
    snapshot_log_bytes: Size,
    /// Bytes of snapshots written in a second, and as many sent to other nodes [default: 16MiB]
    #[arg(long, env = "RAFTKV_SNAPSHOT_BYTES_PER_SECOND", value_parser = reader::<Size>("snapshot-bytes-per-second"), value_name = "SIZE")]
    snapshot_bytes_per_second: Size,
}
