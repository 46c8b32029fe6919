//! Redis: one node whose append-only file is synced before each answer.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{spawn, version_of, wait_until_served};
use crate::child::Children;
use crate::load::Target;
use crate::process::Watched;
use crate::servers::free_addresses;

const PACKAGE: &str = "redis-server";

/// Its name and version.
pub(super) fn version() -> io::Result<String> {
    let version = version_of("redis-server", PACKAGE)?;
    let number = version.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("");
    Ok(format!("Redis {number}"))
}

/// Starts it with its files in `dir`.
pub(super) fn start(dir: &Path) -> io::Result<(Target, Children)> {
    let address = free_addresses(1)?[0];
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    command.args(["--auto-aof-rewrite-percentage", "0", "--daemonize", "no", "--dir"]).arg(dir);
    command.stdin(Stdio::null()).stdout(File::create(dir.join("said"))?).stderr(Stdio::null());
    let mut children = Children::default();
    children.push(spawn(&mut command, PACKAGE)?);
    wait_until_served("redis-server", dir, &mut children, || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"PING\r\n").ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).ok()?;
        (&answer == b"+PONG\r\n").then_some(())
    })?;
    let watched = Watched::processes(children.pids());
    Ok((Target { addresses: vec![address], watched }, children))
}
