//! The speed of light: a leader and two followers, three single-threaded processes that only move and sync bytes. The leader
//! takes what all clients have sent, hands it to the followers in one write each, makes it durable itself, and answers what two of
//! three have made durable. No Raft, no checksums, no store: what a replicated store can at best come near to on this machine.

mod follower;
mod journal;
mod leader;

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::ValueEnum;

use crate::child::{tied_to_this_process, Children};
use crate::load::Target;
use crate::process::Watched;
use journal::Journal;

/// How the skeleton makes bytes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sync {
    /// pwrite and fdatasync, as the servers' log does
    Fdatasync,
    /// pwrite into a file opened with O_DSYNC
    Dsync,
    /// Not at all: the price of moving bytes alone
    None,
}

/// One process of a skeleton; only the parent that starts it knows what to say.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct NodeArgs {
    /// Its file
    #[arg(long)]
    journal: PathBuf,
    /// How bytes are made durable
    #[arg(long)]
    sync: Sync,
    /// Where the followers listen; a node without any is one
    #[arg(long, value_delimiter = ',')]
    followers: Vec<SocketAddr>,
}

/// Runs one process of it: says where it listens, and serves until it is killed.
pub(crate) fn run_node(args: &NodeArgs) -> io::Result<()> {
    let journal = Journal::new(&args.journal, args.sync)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let served = match args.followers.is_empty() {
        true => follower::serve(&listener, journal),
        false => leader::serve(listener, &args.followers, journal),
    };
    // The other processes are ended one by one, by the same parent.
    served.or_else(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

/// A running skeleton; its processes are killed when it is dropped.
pub(crate) struct Skeleton {
    pub(crate) target: Target,
    _children: Children,
}

impl Skeleton {
    /// Starts the three processes with files in `dir`.
    pub(crate) fn start(dir: &Path, sync: Sync) -> io::Result<Skeleton> {
        let mut children = Children::default();
        let mut followers = Vec::new();
        for number in 1..=2 {
            let (child, address) = spawn(dir, number, sync, &[])?;
            children.push(child);
            followers.push(address);
        }
        let (child, leader) = spawn(dir, 0, sync, &followers)?;
        children.push(child);
        let watched = Watched::processes(children.pids());
        Ok(Skeleton { target: Target { addresses: vec![leader], watched }, _children: children })
    }
}

fn spawn(dir: &Path, number: u32, sync: Sync, followers: &[SocketAddr]) -> io::Result<(Child, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    let sync = sync.to_possible_value().expect("no mode is skipped");
    command.args(["bench", "skeleton-node", "--sync", sync.get_name(), "--journal"]);
    command.arg(dir.join(format!("journal-{number}")));
    if !followers.is_empty() {
        let list: Vec<String> = followers.iter().map(SocketAddr::to_string).collect();
        command.args(["--followers", &list.join(",")]);
    }
    let mut child = tied_to_this_process(&mut command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it was piped")).read_line(&mut line)?;
    match line.trim().parse() {
        Ok(address) => Ok((child, address)),
        Err(_) => {
            let _ = child.kill(); // it may have ended by itself
            let _ = child.wait();
            Err(io::Error::other("a process of the skeleton did not start"))
        }
    }
}
