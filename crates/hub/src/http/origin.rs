//! Addresses: what an origin is, where a redirect leads, and which names and numbers are of private networks.
//!
//! Stricter than the URL standard where that costs nothing: no user in an address, no other schemes than http and https.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

/// Scheme, host and port: the border that a secret does not cross.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    encrypted: bool,
    /// Lower case, IPv6 numbers without brackets.
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an absolute address.
    pub(crate) fn of(uri: &Uri) -> Option<Origin> {
        let encrypted = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        if host.is_empty() || authority.as_str().contains('@') {
            return None;
        }
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" if encrypted => 443,
            "" => 80,
            // A port that is none is not the usual one.
            _ => authority.port_u16()?,
        };
        Some(Origin { encrypted, host, port })
    }

    /// The origin of an address in words.
    pub(crate) fn parse(text: &str) -> Option<Origin> {
        Origin::of(&text.parse().ok()?)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The number that the host is written as, if it is one. Also as old libraries read them: `127.1`, `0x7f000001`.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok().or_else(|| old_style(&self.host).map(IpAddr::V4))
    }

    /// Whether `host`, with or without a port, names this.
    pub(crate) fn is_host(&self, host: &str) -> bool {
        let usual = if self.encrypted { 443 } else { 80 };
        let matches = |host: &str, port: u16| host.eq_ignore_ascii_case(&self.host) && port == self.port;
        match host.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                port.parse().is_ok_and(|port| matches(name.trim_matches(['[', ']']), port))
            }
            _ => matches(host, usual),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        let usual = if self.encrypted { 443 } else { 80 };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}", self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Where `location`, found in an answer from `base`, leads.
pub(crate) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?.as_str();
    let text = if location.contains("://") && !location.starts_with('/') && !location.starts_with('?') {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    text.parse().ok()
}

/// Text for one part of a path: everything that could mean something else is written by number.
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                use std::fmt::Write as _;
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

/// Whether an address is of the public internet: neither this machine nor its neighbourhood, nor anything reserved
/// (IANA's registries of special-purpose addresses).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let reserved = matches!(
        (a, b, c),
        (0 | 10 | 127 | 240..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=239, _, _)
    );
    !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [a, b, c, d, e, f, g, h] = segments;
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Addresses of version 4 in disguise: mapped, compatible, translated, 6to4.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => v4(g, h),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4(g, h),
        [0x2002, ..] => v4(b, c),
        // What is left of the global unicast space, less Teredo, documentation and benchmarks.
        [0x2001, 0, ..] | [0x2001, 0xdb8, ..] | [0x2001, 2, 0, ..] | [0x3fff, ..] => false,
        _ => {
            let _ = (d, e, f);
            a & 0xe000 == 0x2000
        }
    }
}

/// `inet_aton`: one to four numbers, decimal, octal or hexadecimal, the last filling what is left.
fn old_style(host: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, high) = parts.split_last()?;
    if high.len() > 3 || high.iter().any(|&part| part > 255) || *last >= 1 << (8 * (4 - high.len())) {
        return None;
    }
    let high = high.iter().enumerate().fold(0u64, |sum, (i, part)| sum | part << (24 - 8 * i));
    u32::try_from(high | last).ok().map(Ipv4Addr::from)
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text {
        hex if hex.starts_with("0x") => (&hex[2..], 16),
        octal if octal.len() > 1 && octal.starts_with('0') => (&octal[1..], 8),
        decimal => (decimal, 10),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for (text, expected) in [
            ("https://Host.Example/x?y", Some("https://host.example")),
            ("https://host.example.:443", Some("https://host.example")),
            ("http://host:80/", Some("http://host")),
            ("http://host:5000", Some("http://host:5000")),
            ("https://[::1]:8443/x", Some("https://[::1]:8443")),
            ("https://user@host/", None),
            ("https://user:word@host/", None),
            ("ftp://host/", None),
            ("file:///etc/passwd", None),
            ("/path", None),
            ("host:80", None),
            ("https://host:99999/", None),
        ] {
            assert_eq!(Origin::parse(text).map(|o| o.to_string()).as_deref(), expected, "{text}");
        }
        let origin = Origin::parse("https://reg:5000").expect("an origin");
        assert!(origin.is_host("REG:5000") && !origin.is_host("reg") && !origin.is_host("reg:443"));
        let origin = Origin::parse("https://[::1]").expect("an origin");
        assert!(origin.is_host("[::1]:443") && origin.is_host("::1"));
    }

    #[test]
    fn redirects_lead_somewhere() {
        // RFC 3986, 5.4, and what registries send.
        let base: Uri = "https://a.example:1/b/c/d?q=1".parse().expect("an address");
        for (location, expected) in [
            ("https://x.example/y?z#f", Some("https://x.example/y?z")),
            ("//x.example/y", Some("https://x.example/y")),
            ("/y?u=https://z", Some("https://a.example:1/y?u=https://z")),
            ("g", Some("https://a.example:1/b/c/g")),
            ("?y", Some("https://a.example:1/b/c/d?y")),
            ("https://", None),
            ("/a b", None),
        ] {
            assert_eq!(join(&base, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn parts_of_paths_are_encoded() {
        for (text, expected) in
            [("model-Q4_K_M.gguf", "model-Q4_K_M.gguf"), ("a b/c?#%é", "a%20b%2Fc%3F%23%25%C3%A9")]
        {
            assert_eq!(encode(text), expected);
        }
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for (text, public) in [
            ("8.8.8.8", true),
            ("1.1.1.1", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.168.1.1", false),
            ("192.0.0.192", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::7f00:1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::808:808", true),
            ("2002:c0a8:101::", false),
            ("2001:0:1::", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().expect("an address")), public, "{text}");
        }
    }

    #[test]
    fn numbers_in_disguise_are_seen() {
        for (host, expected) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.1", Some("127.0.0.1")),
            ("2130706433", Some("127.0.0.1")),
            ("0x7f000001", Some("127.0.0.1")),
            ("0177.0.0.1", Some("127.0.0.1")),
            ("[::1]", Some("::1")),
            ("256.1", None),
            ("1.2.3.4.5", None),
            ("example.com", None),
            ("0x", None),
        ] {
            let origin = Origin::parse(&format!("http://{host}/")).expect("an origin");
            assert_eq!(origin.literal().map(|ip| ip.to_string()).as_deref(), expected, "{host}");
        }
    }
}
