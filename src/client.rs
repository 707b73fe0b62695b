//! The client behind a request.

use std::net::IpAddr;

use ipnet::IpNet;
use secrecy::SecretString;

use crate::token::{Device, DeviceSecret, HeldSecrets};

/// The client behind a request.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address, as far as trusted proxies tell it; never IPv4 written as IPv6.
    pub ip: Option<IpAddr>,
    /// Its `User-Agent`, cut to 512 characters.
    pub user_agent: Option<String>,
    /// The id of its request.
    pub request_id: Option<String>,
    /// The device secrets in its cookie: one for each account that it has logged in to.
    pub device_cookie: HeldSecrets,
    /// The hash of the device secret that an app sent in the body instead.
    pub device_token: Option<Vec<u8>>,
    /// Whether the address and the user agent are those of a backend that hands on what its own
    /// client sent: a trusted address that forwards for nobody.
    pub is_backend: bool,
}

impl Client {
    /// No client: an operator at the command line.
    #[must_use]
    pub fn operator() -> Self {
        Self {
            ip: None,
            user_agent: None,
            request_id: None,
            device_cookie: HeldSecrets::default(),
            device_token: None,
            is_backend: false,
        }
    }

    /// The hashes of its device secrets. Hashes them anew with each call.
    #[must_use]
    pub fn device_hashes(&self) -> Vec<Vec<u8>> {
        match &self.device_token {
            Some(hash) => vec![hash.clone()],
            None => self.device_cookie.hashes::<Device>(),
        }
    }

    /// A new device secret for this client.
    #[must_use]
    pub fn new_device(&self) -> NewDevice {
        let secret = DeviceSecret::generate();
        let cookie = self.device_cookie.with(&secret);
        NewDevice { secret, cookie }
    }

    /// The network that the address is in, /24 or /56: what a moving client usually stays in.
    #[must_use]
    pub fn network(&self) -> Option<String> {
        network_of(self.ip?).map(|network| network.to_string())
    }

    /// The IPv6 site that the address is in, a /48. It holds 256 networks, and one person may have it.
    #[must_use]
    pub fn site(&self) -> Option<String> {
        let ip = self.ip.filter(IpAddr::is_ipv6)?;
        site_of(ip).map(|site| site.to_string())
    }

    /// A label such as `Firefox on Linux` for the list of a person's sessions.
    #[must_use]
    pub fn device(&self) -> Option<String> {
        let parsed = woothee::parser::Parser::new().parse(self.user_agent.as_deref()?)?;
        if parsed.category == "misc" {
            return None;
        }
        let known = |text: &str| (text != woothee::woothee::VALUE_UNKNOWN).then(|| text.to_owned());
        match (known(parsed.name), known(parsed.os)) {
            (Some(name), Some(os)) => Some(format!("{name} on {os}")),
            (name, os) => name.or(os),
        }
    }
}

/// A device secret that a client is to keep.
#[derive(Debug)]
pub struct NewDevice {
    /// The secret, for an app.
    pub secret: DeviceSecret,
    /// The value of a browser's cookie: the secret beside those that the cookie holds already.
    pub cookie: SecretString,
}

/// The network that an address is in, /24 or /56.
fn network_of(ip: IpAddr) -> Option<IpNet> {
    around(ip, if ip.is_ipv4() { 24 } else { 56 })
}

/// What one person may have at most: a /24, or an IPv6 site, which is a /48.
pub(crate) fn site_of(ip: IpAddr) -> Option<IpNet> {
    around(ip, if ip.is_ipv4() { 24 } else { 48 })
}

fn around(ip: IpAddr, prefix: u8) -> Option<IpNet> {
    IpNet::new(ip, prefix).ok().map(|network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_its_network() {
        let network = |ip: &str| Client { ip: ip.parse().ok(), ..Client::operator() }.network();
        assert_eq!(network("203.0.113.9").as_deref(), Some("203.0.113.0/24"));
        assert_eq!(network("2001:db8:1:2ff::1").as_deref(), Some("2001:db8:1:200::/56"));
        let site = |ip: &str| Client { ip: ip.parse().ok(), ..Client::operator() }.site();
        assert_eq!(site("203.0.113.9"), None);
        assert_eq!(site("2001:db8:1:2ff::1").as_deref(), Some("2001:db8:1::/48"));
    }

    #[test]
    fn a_browser_gets_a_label_and_nonsense_none() {
        let client = |text: &str| {
            Client { user_agent: Some(text.to_owned()), ..Client::operator() }.device()
        };
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        assert_eq!(client(firefox).as_deref(), Some("Firefox on Linux"));
        assert_eq!(client("xyzzy"), None);
        assert_eq!(client("curl/8.5.0"), None);
    }
}
