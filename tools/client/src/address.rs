//! What an address of a node looks like.

/// Says what is wrong with what should be `host:port`, before anything is asked for there.
pub fn check_address(address: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("`{address}` is not host:port{why}"));
    if let Some((scheme, _)) = address.split_once("://") {
        return wrong(&format!(": leave `{scheme}://` away"));
    }
    let Some((host, port)) = address.rsplit_once(':') else { return wrong("") };
    let number: Option<u16> = port.parse().ok().filter(|number| *number > 0);
    if number.is_none() || port.starts_with('+') {
        return wrong(&format!(": `{port}` is not a port, which is a number from 1 to 65535"));
    }
    match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        _ if host.is_empty() => wrong(": the host is missing"),
        Some(Some(inner)) if inner.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        // With a zone, as the system reads it.
        Some(Some(inner)) if inner.contains('%') => Ok(()),
        None if host.contains(':') => wrong("; an IPv6 address stands in brackets, as in [::1]:7400"),
        None if !host.contains(|letter: char| "/@[]".contains(letter) || letter.is_whitespace()) => Ok(()),
        _ => wrong(&format!(": `{host}` is not a host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for address in
            ["127.0.0.1:7400", "node-0.example:1", "localhost:65535", "[::1]:7400", "[fe80::1%eth0]:7400", "a_b:5"]
        {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
        for (address, words) in [
            ("nonsense", "`nonsense` is not host:port"),
            ("", "`` is not host:port"),
            ("http://x:80", "leave `http://` away"),
            (":21000", "the host is missing"),
            ("127.0.0.1:99999", "`99999` is not a port"),
            ("127.0.0.1:0", "`0` is not a port"),
            ("h:", "`` is not a port"),
            ("h:+5", "`+5` is not a port"),
            ("::1:7400", "in brackets"),
            ("[h]:7400", "`[h]` is not a host"),
            ("h/x:80", "`h/x` is not a host"),
            ("a b:80", "`a b` is not a host"),
        ] {
            let error = check_address(address).expect_err(address);
            assert!(error.contains(words), "{error}");
        }
    }
}
