//! Which node of the cluster this machine is, for a file that serves all nodes.

use std::net::{IpAddr, TcpListener, ToSocketAddrs};

use protocol::format::Member;

use super::{missing, ConfigError};

/// The only member whose address for peers belongs to this machine.
pub(super) fn own_id(members: &[Member]) -> Result<u32, ConfigError> {
    let own: Vec<u32> =
        members.iter().filter(|member| is_here(&member.peer_address)).map(|member| member.id.0).collect();
    match own.as_slice() {
        [id] => Ok(*id),
        [] => Err(missing("id", "this node's number; none of --peers has an address of this machine")),
        several => {
            let named: Vec<String> = several.iter().map(u32::to_string).collect();
            let what =
                format!("this node's number; nodes {} of --peers have addresses of this machine", named.join(", "));
            Err(missing("id", &what))
        }
    }
}

/// Whether the host is this machine: by its name, or because one can listen there.
fn is_here(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else { return false };
    let is_own_name = host_name().is_some_and(|own| own == host || own.split('.').next() == Some(host));
    is_own_name || address.to_socket_addrs().is_ok_and(|mut addresses| addresses.any(|address| is_local(address.ip())))
}

fn is_local(ip: IpAddr) -> bool {
    !ip.is_unspecified() && TcpListener::bind((ip, 0)).is_ok()
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
