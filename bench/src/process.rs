//! What the system counts of processes of this machine, from /proc: processor time, memory, bytes and flushes of their disk.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::stages::Stages;

/// Processes that are watched while a load runs.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pids: Vec<u32>,
    /// Device (major, minor) of the files that they write.
    device: Option<(u32, u32)>,
    /// Where one of them tells of its stages.
    admin: Option<SocketAddr>,
}

/// What the system had counted at one moment.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Processor time of each process, user and system.
    cpu: Vec<Duration>,
    /// Resident bytes of each process.
    resident: Vec<u64>,
    /// Flushes of the device, and bytes written to it; by the whole machine.
    flushes: u64,
    disk_bytes: u64,
    /// Processor time of this process.
    own_cpu: Duration,
    stages: Option<Stages>,
}

/// What was used between two moments.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// Processor time of each watched process.
    pub cpu: Vec<Duration>,
    /// Resident bytes of each process at the end.
    pub resident: Vec<u64>,
    /// Flushes of the servers' disk, by the whole machine; none if it is not known which that is.
    pub flushes: Option<u64>,
    /// Bytes written to it.
    pub disk_bytes: Option<u64>,
    /// Processor time of this process: the driver's.
    pub own_cpu: Duration,
    /// How long the leader's stages took, if it tells.
    pub stages: Option<Stages>,
}

impl Watched {
    /// These processes.
    pub fn processes(pids: Vec<u32>) -> Watched {
        let device = pids.iter().find_map(|pid| device_of(*pid));
        Watched { pids, device, admin: None }
    }

    /// Those of this machine that listen at these addresses; none for addresses elsewhere.
    pub fn listening(addresses: &[SocketAddr]) -> Watched {
        let inodes: BTreeSet<String> =
            addresses.iter().filter(|address| is_here(address.ip())).filter_map(inode).collect();
        let mut pids: Vec<u32> = if inodes.is_empty() { Vec::new() } else { all_pids().collect() };
        pids.retain(|pid| owns(*pid, &inodes));
        Watched::processes(pids)
    }

    /// Also reads the stages of the server whose admin port this is, if it is known.
    pub(crate) fn with_stages_of(self, admin: Option<SocketAddr>) -> Watched {
        Watched { admin, ..self }
    }

    /// Their ids.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// What the system has counted up to now.
    pub fn count(&self) -> Counted {
        let (flushes, disk_bytes) = self.device.and_then(disk).unwrap_or_default();
        Counted {
            cpu: self.pids.iter().map(|pid| cpu(*pid).unwrap_or_default()).collect(),
            resident: self.pids.iter().map(|pid| resident(*pid).unwrap_or_default()).collect(),
            flushes,
            disk_bytes,
            own_cpu: own_cpu(),
            stages: self.admin.and_then(Stages::read),
        }
    }

    /// What was used since `before`.
    pub fn used_since(&self, before: &Counted) -> Used {
        let now = self.count();
        let known = |count: u64, before: u64| self.device.map(|_| count.saturating_sub(before));
        Used {
            cpu: now.cpu.iter().zip(&before.cpu).map(|(now, before)| now.saturating_sub(*before)).collect(),
            resident: now.resident,
            flushes: known(now.flushes, before.flushes),
            disk_bytes: known(now.disk_bytes, before.disk_bytes),
            own_cpu: now.own_cpu.saturating_sub(before.own_cpu),
            stages: now.stages.zip(before.stages.as_ref()).map(|(now, before)| now.since(before)),
        }
    }
}

/// Processor time of this process.
pub(crate) fn own_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid structure that lives over the call; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// The inode of the socket that listens there.
fn inode(address: &SocketAddr) -> Option<String> {
    let port = format!(":{:04X}", address.port());
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        let listens = |line: &&str| {
            let mut fields = line.split_whitespace();
            fields.nth(1).is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("0A")
        };
        let line = text.lines().find(listens)?;
        line.split_whitespace().nth(9).map(|inode| format!("socket:[{inode}]"))
    })
}

fn all_pids() -> impl Iterator<Item = u32> {
    let listing = fs::read_dir("/proc").into_iter().flatten().flatten();
    listing.filter_map(|item| item.file_name().to_str()?.parse().ok())
}

fn owns(pid: u32, sockets: &BTreeSet<String>) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

/// The device of the first regular file that the process has open.
fn device_of(pid: u32) -> Option<(u32, u32)> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let mut files = files.filter_map(|file| fs::metadata(file.path()).ok());
    files.find(|file| file.is_file()).map(|file| numbers(file.dev()))
}

/// The device that a directory is on.
pub(crate) fn device_of_directory(dir: &Path) -> io::Result<(u32, u32)> {
    Ok(numbers(fs::metadata(dir)?.dev()))
}

fn numbers(device: u64) -> (u32, u32) {
    (libc::major(device), libc::minor(device))
}

/// Flushes and bytes written of a device, counted since the machine started.
pub(crate) fn disk(device: (u32, u32)) -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/diskstats").ok()?;
    disk_in(&text, device)
}

fn disk_in(diskstats: &str, (major, minor): (u32, u32)) -> Option<(u64, u64)> {
    const SECTOR_BYTES: u64 = 512;
    diskstats.lines().find_map(|line| {
        let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let is_it = fields.len() > 9 && fields[0] == u64::from(major) && fields[1] == u64::from(minor);
        is_it.then(|| (fields.get(18).copied().unwrap_or(0), fields[9] * SECTOR_BYTES))
    })
}

fn cpu(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // SAFETY: no pointers; this name always has a value.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    Some(Duration::from_secs_f64(ticks_in(&text)? as f64 / ticks_per_second))
}

/// User and system time in a process's `stat`. Its second field, the name, may hold anything.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident bytes of a process.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    bytes_in_status(pid, "VmRSS:")
}

/// The most that it ever had.
pub(crate) fn peak_resident(pid: u32) -> Option<u64> {
    bytes_in_status(pid, "VmHWM:")
}

fn bytes_in_status(pid: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_where_it_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let watched = Watched::listening(&[address]);
        assert_eq!(watched.pids, [std::process::id()]);
        let before = watched.count();
        let mut sum = 0_u64;
        while watched.used_since(&before).cpu[0].is_zero() {
            sum = (0..1_000_000).fold(sum, u64::wrapping_add);
        }
        let used = watched.used_since(&before);
        assert!(used.resident[0] > 100_000 && !used.own_cpu.is_zero(), "{used:?}");
        assert!(peak_resident(std::process::id()) >= resident(std::process::id()));
        drop(listener);
        assert!(Watched::listening(&[address]).pids.is_empty());
    }

    #[test]
    fn fields_are_counted_from_the_right_place() {
        let stat = "77 (a) b) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20 0 1 0 5 1000 200";
        assert_eq!(ticks_in(stat), Some(154));
        let disks = " 254 0 vda 1 2 3 4 5 6 70 8 9 10 11 12 13 14 15 160 17\n 254 1 vda1 1 2 3 4 5 6 7 8 9 10 11";
        assert_eq!(disk_in(disks, (254, 0)), Some((160, 70 * 512)));
        assert_eq!(disk_in(disks, (8, 0)), None);
    }
}
