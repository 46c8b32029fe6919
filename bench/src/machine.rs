//! The machine underneath, in one line.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::limits::beside;

/// Kernel, processor, cores, and the file system of this directory.
pub(crate) fn description(dir: &Path) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let file_system = file_system(dir).unwrap_or_else(|_| "unknown".into());
    format!("Linux {}, {cores} cores ({}), {file_system}", kernel.trim(), processor())
}

/// The same, and what it can do at best, measured now: for the foot of a report.
pub(crate) fn description_with_limits(dir: &Path) -> String {
    match beside::beside(dir) {
        Some(beside) => format!("{}\n{beside}", description(dir)),
        None => description(dir),
    }
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    line.map_or("unknown".to_owned(), |(_, name)| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn file_system(dir: &Path) -> io::Result<String> {
    let dir = File::open(dir)?;
    // SAFETY: zeroes are a valid value of this plain structure.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor and a structure that lives over the call.
    if unsafe { libc::fstatfs(dir.as_raw_fd(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match stat.f_type as u64 {
        0xEF53 => "ext4".into(),
        0x5846_5342 => "XFS".into(),
        0x9123_683E => "Btrfs".into(),
        0x0102_1994 => "tmpfs".into(),
        0x794C_7630 => "overlayfs".into(),
        other => format!("file system {other:#x}"),
    })
}
