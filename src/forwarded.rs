//! Where a request comes from, as far as trusted proxies tell it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use ipnet::IpNet;

use crate::client::{self, Client};
use crate::request_id::RequestId;
use crate::state::App;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// Characters of a user agent that are kept.
const USER_AGENT_MAX: usize = 512;

impl FromRequestParts<App> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let (ip, is_backend) = source(&parts.extensions, &parts.headers, app);
        let user_agent = parts.headers.get(header::USER_AGENT).map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.chars().filter(|c| !c.is_control()).take(USER_AGENT_MAX).collect()
        });
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.as_str().to_owned());
        let device_cookie = app.cookies.read_devices(&parts.headers);
        Ok(Self { ip, user_agent, request_id, device_cookie, device_token: None, is_backend })
    }
}

/// Whether the peer of the connection is a trusted proxy, so that its forwarding headers count.
pub(crate) fn is_from_trusted_proxy(extensions: &Extensions, app: &App) -> bool {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    peer.is_some_and(|peer| is_trusted(&peer.0.ip().to_canonical(), &app.config.trusted_proxies))
}

/// The address of the client.
pub(crate) fn client_address(request: &Request, app: &App) -> Option<IpAddr> {
    source(request.extensions(), request.headers(), app).0
}

/// The /24 or the IPv6 site (/48) of the client; none for a backend, which may call for many.
pub(crate) fn site(request: &Request, app: &App) -> Option<IpNet> {
    let (ip, is_backend) = source(request.extensions(), request.headers(), app);
    ip.filter(|_| !is_backend).and_then(client::site_of)
}

/// The address of the client, and whether it is a trusted one that forwards for nobody.
fn source(extensions: &Extensions, headers: &HeaderMap, app: &App) -> (Option<IpAddr>, bool) {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let trusted = &app.config.trusted_proxies;
    let ip = peer.map(|peer| origin(peer, headers, trusted));
    let forwards = forwarded(headers).next().is_some();
    let is_backend = !forwards && ip.is_some_and(|ip| is_trusted(&ip, trusted));
    (ip, is_backend)
}

fn is_trusted(ip: &IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(ip))
}

/// The last hop that is not a trusted proxy. Only what a trusted proxy appended to
/// `X-Forwarded-For` is believed, so the list is read from its end.
fn origin(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut hop = peer.to_canonical();
    let forwarded: Vec<&str> = forwarded(headers).collect();
    for entry in forwarded.iter().rev() {
        if !is_trusted(&hop, trusted) {
            break;
        }
        let Some(ip) = address(entry) else { break };
        hop = ip.to_canonical();
    }
    hop
}

/// The entries of `X-Forwarded-For`, one by one: what a client wrote before must not spoil what a proxy appended.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(X_FORWARDED_FOR).iter();
    let entries = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    let entries = entries.map(|entry| str::from_utf8(entry).unwrap_or("?").trim());
    // Recipients ignore empty elements of lists (RFC 9110 §5.6.1.2).
    entries.filter(|entry| !entry.is_empty())
}

/// An address, with a port or without: some proxies append it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            let value = axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append("x-forwarded-for", value);
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|n| n.parse().unwrap()).collect();
        origin(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_is_believed_by_default() {
        assert_eq!(from("203.0.113.9", &["1.2.3.4"], &[]), "203.0.113.9");
        assert_eq!(from("::ffff:203.0.113.9", &[], &[]), "203.0.113.9");
    }

    #[test]
    fn only_what_trusted_proxies_appended_is_believed() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(from("10.0.0.1", &["6.6.6.6, 203.0.113.9"], &trusted), "203.0.113.9");
        assert_eq!(
            from("10.0.0.1", &["6.6.6.6", "203.0.113.9, 10.0.0.2"], &trusted),
            "203.0.113.9"
        );
        assert_eq!(from("fd00::1", &["[2001:db8::1]:443"], &trusted), "2001:db8::1");
        assert_eq!(from("::ffff:10.0.0.1", &["203.0.113.9:1234"], &trusted), "203.0.113.9");
        assert_eq!(from("10.0.0.1", &["203.0.113.9, nonsense"], &trusted), "10.0.0.1");
        assert_eq!(from("203.0.113.9", &["1.2.3.4"], &trusted), "203.0.113.9");
        for with_empty in ["203.0.113.9,", ",203.0.113.9", "6.6.6.6, 203.0.113.9 , ,\t,10.0.0.2,"] {
            assert_eq!(from("10.0.0.1", &[with_empty], &trusted), "203.0.113.9", "{with_empty}");
        }
        assert_eq!(from("10.0.0.1", &["203.0.113.9", ""], &trusted), "203.0.113.9");
        assert_eq!(from("10.0.0.1", &[", ,"], &trusted), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn nobody_who_is_not_trusted_speaks_for_another(entries in prop::collection::vec("[ -~]{0,40}", 0..5)) {
            let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
            prop_assert_eq!(from("203.0.113.9", &entries, &["10.0.0.0/8"]), "203.0.113.9");
            let behind = [&entries[..], &["é, 198.51.100.7"]].concat();
            prop_assert_eq!(from("10.0.0.1", &behind, &["10.0.0.0/8"]), "198.51.100.7");
        }
    }
}
