//! How the host of a page stands to the host of the service, as browsers see it (RFC 6265bis §5.2).
//!
//! A site is a registrable domain: a name below a public suffix, such as `com` or `co.uk`. The list of
//! those (publicsuffix.org) would make the binary a megabyte larger, so a shared name of two labels is
//! taken for registrable, unless it looks like a suffix.

use url::Host;

/// What two hosts have in common. Their schemes must agree too.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// They are the same. Ports make no difference.
    OneHost,
    /// Both are below this domain, or are it.
    Below(String),
    /// Both are below this domain, which looks like a public suffix.
    Doubtful(String),
    /// Nothing that would make them one site.
    Other,
}

/// What two hosts have in common.
pub(super) fn compare(one: &Host, other: &Host) -> Site {
    if one == other {
        return Site::OneHost;
    }
    let (Host::Domain(one), Host::Domain(other)) = (one, other) else { return Site::Other };
    let pairs = one.rsplit('.').zip(other.rsplit('.'));
    let mut labels: Vec<_> = pairs.take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    labels.reverse();
    let common = labels.join(".");
    match labels.len() {
        // The last label alone is a public suffix, listed or not.
        0 | 1 => Site::Other,
        // A host that serves something is hardly one.
        _ if looks_public(&common) && common != *one && common != *other => Site::Doubtful(common),
        _ => Site::Below(common),
    }
}

/// Whether a domain is of the form of `co.uk`, `com.au`, `or.at`: a short name below a country.
pub(super) fn looks_public(domain: &str) -> bool {
    let labels: Vec<_> = domain.split('.').collect();
    matches!(labels[..], [name, country] if country.len() == 2 && name.len() <= 3)
}

/// Whether a cookie of this domain is sent to the host (RFC 6265bis §5.1.3).
pub(super) fn covers(domain: &str, host: &Host) -> bool {
    let Host::Domain(host) = host else { return false };
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether the host is this machine, for whoever names it.
pub(super) fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn a_site_is_a_domain_that_somebody_can_register() {
        let below = |domain: &str| Site::Below(domain.to_owned());
        let doubtful = |domain: &str| Site::Doubtful(domain.to_owned());
        for (one, other, site) in [
            ("localhost", "localhost", Site::OneHost),
            ("127.0.0.1", "127.0.0.1", Site::OneHost),
            ("localhost", "127.0.0.1", Site::Other),
            ("127.0.0.1", "[::1]", Site::Other),
            ("127.0.0.1", "127.0.0.2", Site::Other),
            // Below `localhost` every host is a site of its own.
            ("app.localhost", "localhost", Site::Other),
            ("app.localhost", "auth.localhost", Site::Other),
            ("app", "auth", Site::Other),
            ("app.example.com", "auth.example.com", below("example.com")),
            ("example.com", "auth.example.com", below("example.com")),
            ("a.b.example.com", "c.b.example.com", below("b.example.com")),
            ("app.example.com", "auth.example.org", Site::Other),
            ("app.test.com", "auth.example.com", Site::Other),
            ("badexample.com", "auth.example.com", Site::Other),
            ("bob.co.uk", "alice.co.uk", doubtful("co.uk")),
            ("app.alice.co.uk", "auth.alice.co.uk", below("alice.co.uk")),
            ("abc.de", "auth.abc.de", below("abc.de")),
        ] {
            assert_eq!(compare(&host(one), &host(other)), site, "{one} {other}");
            assert_eq!(compare(&host(other), &host(one)), site, "{other} {one}");
        }
    }

    #[test]
    fn a_domain_covers_itself_and_what_is_below() {
        for (domain, name, covered) in [
            ("example.com", "example.com", true),
            ("example.com", "a.b.example.com", true),
            ("example.com", "badexample.com", false),
            ("auth.example.com", "example.com", false),
            ("0.0.1", "127.0.0.1", false),
        ] {
            assert_eq!(covers(domain, &host(name)), covered, "{domain} {name}");
        }
    }
}
