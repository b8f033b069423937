//! Whom a request is for.

use http::{HeaderValue, Uri, Version, uri::Authority};

/// The `Host` headers of a request.
pub(super) enum Hosts<'a> {
    None,
    One(&'a HeaderValue),
    Several,
}

// === impl Hosts ===

impl<'a> Hosts<'a> {
    pub(super) fn and(self, value: &'a HeaderValue) -> Self {
        match self {
            Self::None => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
        }
    }

    /// Whether a head says whom it is for, and nothing else in another place. Where heads are read
    /// differently on the way, a second host, or one that is none, is how a request passes for another
    /// one (RFC 9112, 3.2; RFC 9113, 8.3.1). Clients older than the header need not say it.
    pub(super) fn name_one(self, uri: &Uri, version: Version) -> bool {
        let authority = uri.authority().map(Authority::as_str);
        match (authority.map(str::as_bytes), self) {
            (_, Self::Several) => false,
            // The parts of a target are valid, but may begin with a user.
            (Some(authority), _) if authority.contains(&b'@') => false,
            (Some(authority), Self::One(host)) => authority.eq_ignore_ascii_case(host.as_bytes()),
            (None, Self::None) => version < Version::HTTP_11,
            // HTTP/1.1 demands the header, HTTP/2 replaces it.
            (Some(_), Self::None) => version != Version::HTTP_11,
            (None, Self::One(host)) => is_host(host.as_bytes()),
        }
    }
}

/// Whether `value` is a host, which may be nothing, with or without a port (RFC 3986, 3.2).
fn is_host(value: &[u8]) -> bool {
    let is_name = |name: &[u8]| name.iter().copied().all(is_name_byte);
    let (is_valid, port) = if let Some(literal) = value.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|byte| *byte == b']') else {
            return false;
        };
        // Of addresses only the letters are looked at: nobody here goes there.
        let mut parts = literal[..end].split(|byte| *byte == b':');
        (parts.all(is_name), &literal[end + 1..])
    } else {
        let end = value.iter().position(|byte| *byte == b':');
        let (name, port) = value.split_at(end.unwrap_or(value.len()));
        (is_name(name), port)
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_valid && is_port
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "",
            "a",
            "a.example:80",
            "a_b-c.%C3%A4:",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b", "a, b", "a/b", "u@a", "a?b", "a#b", "a\\b", "a:b", "a:80:80", "[::1", "[::1]a",
            "[a]:b", "::1", "ä", "\0",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
