//! What may be typed: verbs, flags and their help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use client::Number;
use protocol::{Sequence, SessionId};

use crate::examples;

/// How keys and values may be typed.
const KEY: &str =
    "Text, - (standard input), @FILE, hex:.., b64:.., or text:.. to escape those; 1 byte to 4 KiB, or less where key-bytes-max says so";
const VALUE: &str =
    "Text, - (standard input), @FILE, hex:.., b64:.., or text:.. to escape those; at most 1 MiB, or less where value-bytes-max says so";

/// Where the help shows the flags of every client command.
const CLIENT_OPTIONS: &str = "Client options";

/// Flags of every client command.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Client addresses of nodes, host:port, separated by commas [default: the local cluster of `raftkv dev`]
    #[arg(long, global = true, help_heading = CLIENT_OPTIONS, env = "RAFTKV_ENDPOINTS", value_delimiter = ',', value_name = "HOST:PORT,...")]
    pub endpoints: Vec<String>,
    /// How long one operation may take [default: 5s; each record of an import 1m, so that it outlives elections]
    #[arg(long, global = true, help_heading = CLIENT_OPTIONS, env = "RAFTKV_TIMEOUT", value_parser = parse_timeout, value_name = "TIME")]
    pub timeout: Option<Duration>,
    /// Form of results and errors: text, or json (one object, or one per line; errors too, on standard error)
    #[arg(short, long, global = true, help_heading = CLIENT_OPTIONS, value_enum, default_value = "text", hide_possible_values = true, value_name = "FORM")]
    pub output: Output,
    /// Show a redirect (302 with the leader's address) instead of following it
    #[arg(long, global = true, help_heading = CLIENT_OPTIONS)]
    pub no_redirect: bool,
}

/// How long one operation may take where nobody says so.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Globals {
    /// How long one operation may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }
}

/// Form of results and errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people, and plain enough for pipes
    #[default]
    Text,
    /// One JSON object, or one per line for streams; errors too, on standard error
    Json,
}

/// The client's verbs.
#[derive(Subcommand, Clone, Debug)]
pub enum ClientCommand {
    /// Create a key; an existing one is refused
    #[command(before_help = examples::PUT)]
    Put {
        /// Key
        #[arg(help = KEY)]
        key: String,
        /// Value
        #[arg(help = VALUE)]
        value: String,
    },
    /// Create or replace a key
    #[command(before_help = examples::UPDATE)]
    Update {
        /// Key
        #[arg(help = KEY)]
        key: String,
        /// Value
        #[arg(help = VALUE)]
        value: String,
    },
    /// Show a key's value
    #[command(before_help = examples::GET)]
    Get {
        /// Key
        #[arg(help = KEY)]
        key: String,
    },
    /// Remove a key
    #[command(before_help = examples::REMOVE)]
    Remove {
        /// Key
        #[arg(help = KEY)]
        key: String,
    },
    /// Set a key if its revision is the expected one
    #[command(before_help = examples::CAS)]
    Cas {
        /// Key
        #[arg(help = KEY)]
        key: String,
        /// The key's revision, as `get -o json` shows it; 0 = it must not exist
        revision: u64,
        /// Value
        #[arg(help = VALUE)]
        value: String,
    },
    /// Add to a number that is kept as decimal text, and show the sum
    #[command(before_help = examples::INCREMENT)]
    Increment {
        /// Key; a missing one counts as 0
        #[arg(help = KEY)]
        key: String,
        /// What to add
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Apply several operations at once: all of them, or none
    #[command(before_help = examples::BATCH)]
    Batch {
        /// File of JSON lines, one operation each; `-` or nothing = standard input
        file: Option<PathBuf>,
    },
    /// Ask what became of a write whose outcome is unknown
    #[command(before_help = examples::OUTCOME)]
    Outcome {
        /// Session and sequence, as the error showed them
        #[arg(value_name = "SESSION/SEQUENCE", value_parser = parse_number)]
        number: Number,
    },
    /// Do one request, and show where its time went
    #[command(before_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// List keys in bytewise order, as of one moment
    #[command(before_help = examples::SCAN)]
    Scan(ScanArgs),
    /// Load keys from JSON lines
    #[command(before_help = examples::IMPORT)]
    Import(ImportArgs),
    /// Write keys as JSON lines, sorted by key
    #[command(before_help = examples::EXPORT)]
    Export(ExportArgs),
    /// Show all nodes, and what is not as it should be
    #[command(before_help = examples::STATUS)]
    Status {
        /// Look again after this, until interrupted: redraws on a terminal, else prints one block after the other
        #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1s", value_parser = parse_timeout)]
        watch: Option<Duration>,
    },
    /// Show or change what the nodes log
    #[command(before_help = examples::LOG)]
    Log(LogArgs),
    /// Run a local cluster for development
    #[command(before_help = examples::DEV)]
    Dev(DevArgs),
    /// Print a completion script for a shell
    #[command(before_help = examples::COMPLETION)]
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: ExplainVerb,
}

/// What `explain` can do.
#[derive(Subcommand, Clone, Debug)]
pub enum ExplainVerb {
    /// Create a key; an existing one is refused
    #[command(before_help = examples::EXPLAIN)]
    Put {
        /// Key
        #[arg(help = KEY)]
        key: String,
        /// Value
        #[arg(help = VALUE)]
        value: String,
    },
    /// Create or replace a key
    #[command(before_help = examples::EXPLAIN)]
    Update {
        /// Key
        #[arg(help = KEY)]
        key: String,
        /// Value
        #[arg(help = VALUE)]
        value: String,
    },
    /// Read a key
    #[command(before_help = examples::EXPLAIN)]
    Get {
        /// Key
        #[arg(help = KEY)]
        key: String,
    },
    /// Remove a key
    #[command(before_help = examples::EXPLAIN)]
    Remove {
        /// Key
        #[arg(help = KEY)]
        key: String,
    },
}

impl ExplainVerb {
    pub(crate) fn key(&self) -> &str {
        let (Self::Put { key, .. } | Self::Update { key, .. } | Self::Get { key } | Self::Remove { key }) = self;
        key
    }

    pub(crate) fn value(&self) -> Option<&str> {
        match self {
            Self::Put { value, .. } | Self::Update { value, .. } => Some(value),
            Self::Get { .. } | Self::Remove { .. } => None,
        }
    }
}

/// Arguments of `scan`.
#[derive(Args, Clone, Debug)]
pub struct ScanArgs {
    /// Only keys that begin with this
    pub prefix: Option<String>,
    /// First key
    #[arg(long, value_name = "KEY")]
    pub from: Option<String>,
    /// First key that is not shown any more
    #[arg(long, value_name = "KEY")]
    pub to: Option<String>,
    /// At most so many keys
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Leave the values out
    #[arg(long)]
    pub keys_only: bool,
    /// Only show how many keys there are
    #[arg(long, conflicts_with = "keys_only")]
    pub count: bool,
}

/// Arguments of `import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// File of JSON lines {"key":..,"value":..}; `-` or nothing = standard input
    pub file: Option<PathBuf>,
    /// Create only (put): existing keys are reported and left alone
    #[arg(long)]
    pub create: bool,
}

/// Arguments of `export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Only keys that begin with this
    pub prefix: Option<String>,
    /// The asked node's own state, however old; its applied index goes to standard error
    #[arg(long)]
    pub local: bool,
}

/// Arguments of `log`.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: LogVerb,
}

/// Verbs of `log`.
#[derive(Subcommand, Clone, Debug, PartialEq, Eq)]
pub enum LogVerb {
    /// Show the levels in force, or change them until the node restarts or reads another `log` on SIGHUP
    #[command(before_help = examples::LOG)]
    Level {
        /// LEVEL or NAME=LEVEL, separated by commas; names that are not mentioned keep theirs
        filter: Option<String>,
        /// Only this node [default: all]
        #[arg(long, value_name = "N")]
        node: Option<u32>,
        /// Back to what the node's configuration says
        #[arg(long, conflicts_with = "filter")]
        reset: bool,
    },
}

/// Arguments of `dev`.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// What to do; nothing = run a cluster in the foreground
    #[command(subcommand)]
    pub verb: Option<DevVerb>,
    /// Number of nodes: 1, 3, 5, 7 or 9 [default: 3, or as the cluster was made]
    #[arg(long, global = true, value_name = "N")]
    pub nodes: Option<u32>,
    /// Directory of data and logs
    #[arg(long, global = true, default_value = "raftkv-dev", value_name = "DIR")]
    pub dir: PathBuf,
    /// Port of node 0 for clients; node i uses this + 10 i, its peers + 1 [default: 7400, or as the cluster was made]
    #[arg(long, global = true, value_name = "PORT")]
    pub base_port: Option<u16>,
}

/// Verbs of `dev`.
#[derive(Subcommand, Clone, Debug, PartialEq, Eq)]
pub enum DevVerb {
    /// Start a cluster in the background; returns when it serves
    Start,
    /// Stop it; its data stays
    Stop,
    /// Stop it and remove its data
    Wipe,
    /// Show its processes and its status
    Status,
    /// Kill a node with SIGKILL
    Kill {
        /// Node number
        node: u32,
    },
    /// Start a node again (and stop it cleanly before, if it runs)
    Restart {
        /// Node number
        node: u32,
    },
}

/// "40/7".
fn parse_number(text: &str) -> Result<Number, String> {
    let wrong = || format!("`{text}` is not SESSION/SEQUENCE, such as 40/7");
    let (session, sequence) = text.split_once('/').ok_or_else(wrong)?;
    let part = |digits: &str| digits.parse().ok().filter(|number| *number > 0).ok_or_else(wrong);
    Ok(Number { session: SessionId(part(session)?), sequence: Sequence(part(sequence)?) })
}

/// "5", "5s", "250ms", "2m".
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let (digits, unit_ms) = match text {
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 1),
        _ if text.ends_with('s') => (&text[..text.len() - 1], 1_000),
        _ if text.ends_with('m') => (&text[..text.len() - 1], 60_000),
        _ => (text, 1_000),
    };
    let wrong = || format!("`{text}` is not a time such as 250ms, 5s or 2m");
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let ms = number.checked_mul(unit_ms).filter(|ms| (1..=3_600_000).contains(ms)).ok_or_else(wrong)?;
    Ok(Duration::from_millis(ms))
}
