//! The host that a request names: its target's, else that of its `Host` header (RFC 9112 §3.2).

use std::net::Ipv6Addr;

use axum::extract::Request;
use axum::http::{HeaderMap, Uri, Version, header};

use crate::error::{Error, Result};

/// Checks what RFC 9112 §3.2 leaves to the server: HTTP/1.1 needs one valid `Host`, HTTP/1.0 may have one.
pub(crate) fn check(request: &Request) -> Result<()> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_valid_header = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(is_valid),
        (Some(_), Some(_)) => false,
    };
    let target = request.uri().authority();
    let is_valid_target = target.is_none_or(|authority| is_valid(authority.as_str()));
    if is_valid_header && is_valid_target { Ok(()) } else { Err(Error::InvalidHost) }
}

/// The host and port that a checked request was sent to.
pub(crate) fn of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    match uri.authority() {
        // The target of the absolute form overrides the header (RFC 9112 §3.2.2).
        Some(authority) => Some(authority.as_str()),
        None => headers.get(header::HOST)?.to_str().ok(),
    }
}

/// Whether a text is `uri-host [ ":" port ]` (RFC 9110 §7.2) and not empty, as http URIs require (§4.2.1).
fn is_valid(text: &str) -> bool {
    let (is_valid_host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (!name.is_empty() && is_name(name.as_bytes()), port)
        }
    };
    let is_valid_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.is_empty() || digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    is_valid_host && is_valid_port
}

/// Whether a text is a `reg-name` (RFC 3986 §3.2.2), as IPv4 addresses are, too.
fn is_name(mut name: &[u8]) -> bool {
    while let [byte, rest @ ..] = name {
        name = match (byte, rest) {
            (b'%', [high, low, rest @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => rest,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for valid in [
            "auth.example.com",
            "auth.example.com:8443",
            "my_service:8080",
            "127.0.0.1",
            "[::1]",
            "[2001:db8::1]:8080",
            "a:",
            "a%20b",
        ] {
            assert!(is_valid(valid), "{valid}");
        }
        for invalid in [
            "", ":80", "a b", "a/b", "user@a", "a:80:81", "a:http", "a:65536", "a:+1", "::1",
            "[::1", "[::1]80", "[x]", "[]", "a%2", "a%zz", "http://a", "a?b", "a#b", "a\\b", "<a>",
        ] {
            assert!(!is_valid(invalid), "{invalid}");
        }
    }
}
