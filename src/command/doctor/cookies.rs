//! Whether browsers keep the session's cookie and send it, and why not (RFC 6265bis).

use std::collections::BTreeSet;
use std::time::Duration;

use url::{Host, Url};

use super::Finding;
use super::site::{self, Site, is_loopback};
use crate::config::{Config, Origin, SameSite};
use crate::session::cookie::Cookies;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An origin, taken apart.
struct Place {
    url: Url,
    host: Host,
}

impl Place {
    fn new(origin: &Origin) -> Option<Self> {
        Some(Self { url: Url::parse(origin.as_str()).ok()?, host: origin.host()? })
    }

    fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    fn text(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The same place on another host.
    fn on(&self, host: &Host) -> String {
        let mut url = self.url.clone();
        let _ = url.set_host(Some(&host.to_string()));
        url.origin().ascii_serialization()
    }

    /// The same place by https, on the default port.
    fn by_https(&self) -> String {
        format!("https://{}", self.host)
    }
}

/// What browsers make of the cookie, for each origin that may call.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let Some(service) = Place::new(&config.public_url.origin()) else { return Vec::new() };
    let pages: Vec<_> = config.allowed_origins.iter().filter_map(Place::new).collect();
    let mut findings = vec![cookie(config, &service)];
    findings.extend(secure(config, &service));
    findings.extend(domain(config, &service, &pages));
    // Without Secure no browser keeps it, whatever the page.
    if config.cookie_samesite != SameSite::None || service.is_https() {
        findings.extend(pages.iter().map(|page| from(page, &service, config)));
        findings.extend(same_site(config, &service, &pages));
        findings.extend(registered(&service, &pages));
    }
    if pages.is_empty() {
        findings.push(Finding::note(
            format!("PORTCULLIS_ALLOWED_ORIGINS is empty: only pages of {} call", service.text()),
            "A single-page app on another host, or only on another port, is another origin: name it, \
             such as PORTCULLIS_ALLOWED_ORIGINS=http://localhost:5173.",
        ));
    }
    findings.extend(age(config, &service, &pages));
    findings
}

/// What is sent.
fn cookie(config: &Config, service: &Place) -> Finding {
    let secure = if service.is_https() { ", Secure" } else { "" };
    let same_site = policy(config);
    let scope = match &config.cookie_domain {
        Some(domain) => format!("{domain} and every host below it"),
        None => format!("{} alone", service.host),
    };
    let name = Cookies::new(config).name();
    Finding::ok(format!(
        "the cookie is {name}, HttpOnly{secure}, SameSite={same_site}, for {scope}"
    ))
}

/// Whether browsers keep a cookie that is Secure, or is not (§5.4, §5.7).
fn secure(config: &Config, service: &Place) -> Option<Finding> {
    if config.cookie_samesite == SameSite::None && !service.is_https() {
        return Some(Finding::problem(
            "no browser keeps the cookie: SameSite=None without https",
            format!(
                "Browsers drop a cookie with SameSite=None that is not Secure, and it is Secure only \
                 when PORTCULLIS_PUBLIC_URL, {}, is https. Serve by https and set \
                 PORTCULLIS_PUBLIC_URL={}; or set PORTCULLIS_COOKIE_SAMESITE=lax, which is enough when \
                 page and service are on one site.",
                service.text(),
                service.by_https()
            ),
        ));
    }
    if !service.is_https() || !is_loopback(&service.host) {
        return None;
    }
    // WebKit bug 281149; Chromium wants a real https for the prefixes (httpwg/http-extensions#2605).
    let plain = format!("http://{}:{}", service.host, config.listen.port());
    Some(Finding::warning(
        format!(
            "the cookie is Secure on this machine: it needs TLS in front of {plain}, for Safari and \
             Chrome too"
        ),
        format!(
            "PORTCULLIS_PUBLIC_URL is {}, and the service itself speaks plain http. If it is called by \
             {plain}, Safari drops every Secure cookie, on localhost too, and Chrome those whose name \
             begins with __Host- or __Secure-: the login is answered with 200, and the next call with \
             401. Without a proxy that speaks TLS, set PORTCULLIS_PUBLIC_URL={plain}.",
            service.text()
        ),
    ))
}

/// Whether the cookie's domain is taken, and reaches who needs it (§5.6.3, §5.7).
fn domain(config: &Config, service: &Place, pages: &[Place]) -> Vec<Finding> {
    let Some(domain) = &config.cookie_domain else { return Vec::new() };
    if !site::covers(domain, &service.host) {
        return vec![Finding::problem(
            format!("no browser keeps the cookie: {domain} does not cover {}", service.host),
            format!(
                "A host may set cookies only for itself and for domains above it. Leave \
                 PORTCULLIS_COOKIE_DOMAIN unset, which keeps the cookie to {}, or set it to a domain \
                 above that.",
                service.host
            ),
        )];
    }
    if site::looks_public(domain) && service.host != Host::Domain(domain.clone()) {
        return vec![Finding::warning(
            format!("PORTCULLIS_COOKIE_DOMAIN is {domain}, which looks like a public suffix"),
            format!(
                "If strangers can register names below {domain} (publicsuffix.org has the list), \
                 browsers drop the cookie. Set PORTCULLIS_COOKIE_DOMAIN to the name that you \
                 registered, or leave it unset."
            ),
        )];
    }
    let mut findings = vec![Finding::note(
        format!("PORTCULLIS_COOKIE_DOMAIN={domain} covers {}", service.host),
        format!(
            "Every host below {domain} is sent the cookie, so let nobody else run one. If {domain} is a \
             name that a provider shares out, browsers drop the cookie."
        ),
    )];
    for page in pages.iter().filter(|page| !site::covers(domain, &page.host)) {
        // Hosts that no domain could cover are told of as pages.
        let Site::Below(common) = site::compare(&service.host, &page.host) else { continue };
        findings.push(Finding::warning(
            format!("PORTCULLIS_COOKIE_DOMAIN={domain} does not cover {}", page.host),
            format!(
                "Calls from its pages to {} are not concerned, but a backend on {} is never sent the \
                 cookie and takes everybody for nobody. If it has one, set \
                 PORTCULLIS_COOKIE_DOMAIN={common}.",
                service.text(),
                page.host
            ),
        ));
    }
    findings
}

/// Whether the cookie goes along with a call from a page of the origin (§5.2, §5.8.3).
fn from(page: &Place, service: &Place, config: &Config) -> Finding {
    let (here, there) = (page.text(), service.text());
    if here == there {
        return Finding::ok(format!(
            "{here} is the service itself; PORTCULLIS_ALLOWED_ORIGINS need not name it"
        ));
    }
    if page.is_https() && !service.is_https() {
        return Finding::problem(
            format!("pages of {here} cannot call {there}: https calls http"),
            format!(
                "Browsers block calls from an https page to http (mixed content); where some let \
                 localhost pass, page and service are still two sites, since the schemes differ. Serve \
                 both by https, with PORTCULLIS_PUBLIC_URL={}, or for development open the page by http \
                 and name that in PORTCULLIS_ALLOWED_ORIGINS.",
                service.by_https()
            ),
        );
    }
    let site = site::compare(&service.host, &page.host);
    let is_cross = site == Site::Other || !page.is_https() && service.is_https();
    if config.cookie_samesite == SameSite::None && (is_cross || matches!(site, Site::Doubtful(_))) {
        return third_party_cookie(&here, &there);
    }
    if is_cross {
        return Finding::problem(
            format!("browsers keep and send no cookie when pages of {here} call"),
            cross_site(page, service, config, &site),
        );
    }
    match site {
        Site::Doubtful(common) => Finding::warning(
            format!("browsers may keep and send no cookie when pages of {here} call"),
            format!(
                "The cookie is sent only if {} and {} are on one site. They share {common}, which looks \
                 like a public suffix (publicsuffix.org has the list): below one, each name is a site of \
                 its own. If it is one, serve both below one name that you registered, or by https with \
                 PORTCULLIS_COOKIE_SAMESITE=none.",
                service.host, page.host
            ),
        ),
        Site::Below(common) => Finding::ok(format!(
            "browsers send the cookie when pages of {here} call: one site, {common}"
        )),
        Site::OneHost | Site::Other => {
            Finding::ok(format!("browsers send the cookie when pages of {here} call: one host"))
        }
    }
}

/// Why a Lax or Strict cookie does not travel, and what to do.
fn cross_site(page: &Place, service: &Place, config: &Config, site: &Site) -> String {
    let (there, policy) = (service.text(), policy(config));
    let why = if *site != Site::Other {
        format!(
            "The schemes differ, and to Chrome and Edge http and https are two sites, between which \
             SameSite={policy} keeps the cookie back."
        )
    } else if is_loopback(&page.host) && is_loopback(&service.host) {
        format!(
            "{} and {} are one machine, but to browsers two hosts and two sites, between which \
             SameSite={policy} keeps the cookie back: the login is answered with 200, and the next call \
             with 401.",
            page.host, service.host
        )
    } else {
        format!(
            "It is another site than {there}, and SameSite={policy} keeps the cookie back when one site \
             calls another: the login is answered with 200, and the next call with 401."
        )
    };
    let mend = match (page.is_https(), service.is_https()) {
        (false, true) if *site != Site::Other => format!(
            "Serve the page by https, and name {} in PORTCULLIS_ALLOWED_ORIGINS.",
            page.by_https()
        ),
        (false, false) if page.url.port() != service.url.port() => format!(
            "Reach both by one host: open the page at {} and name that in PORTCULLIS_ALLOWED_ORIGINS, or \
             set PORTCULLIS_PUBLIC_URL={}, have PORTCULLIS_LISTEN serve there, and call it so.",
            page.on(&service.host),
            service.on(&page.host)
        ),
        _ if is_loopback(&page.host) => format!(
            "For development run a service on this machine too, with \
             PORTCULLIS_PUBLIC_URL=http://{}:8080, and leave {} to the app that is deployed.",
            page.host,
            service.text()
        ),
        _ => "Serve both below one name that you registered, as app.example.com and auth.example.com. Or \
              serve both by https and set PORTCULLIS_COOKIE_SAMESITE=none; browsers that block \
              third-party cookies, such as Safari, will still keep people logged out."
            .to_owned(),
    };
    format!("{why} {mend}")
}

/// SameSite=None between two sites: up to the browser.
fn third_party_cookie(here: &str, there: &str) -> Finding {
    Finding::warning(
        format!("some browsers keep and send no cookie when pages of {here} call"),
        format!(
            "It is another site than {there}, so to browsers this is a third-party cookie. Safari blocks \
             those; Firefox keeps one apart for each site that calls, so a login on one does not count \
             on another; Chrome blocks them where its user says so, and in Incognito. To have all of \
             them send it, serve both below one name that you registered, as app.example.com and \
             auth.example.com, with PORTCULLIS_COOKIE_SAMESITE=lax."
        ),
    )
}

/// Policies other than Lax, and what they bring (§5.6.7).
fn same_site(config: &Config, service: &Place, pages: &[Place]) -> Option<Finding> {
    let other = |page: &Place| {
        let site = site::compare(&service.host, &page.host);
        matches!(site, Site::Other | Site::Doubtful(_)) || !page.is_https()
    };
    match config.cookie_samesite {
        SameSite::None if !pages.iter().any(other) => Some(Finding::warning(
            "PORTCULLIS_COOKIE_SAMESITE=none is not needed",
            "No allowed origin is on another site, and the cookie goes along with requests that any page \
             in the world makes; only the rule for cross-origin requests stands before it. Set \
             PORTCULLIS_COOKIE_SAMESITE=lax, unless pages of other sites show the service in a frame.",
        )),
        SameSite::Strict => Some(Finding::note(
            "PORTCULLIS_COOKIE_SAMESITE=strict: links from other sites arrive without the cookie",
            "Calls that pages of this site make are not concerned. But who follows a link from a mail or \
             another site to a page that a backend makes is taken for nobody there, until the next \
             click. Set PORTCULLIS_COOKIE_SAMESITE=lax if that is not wanted.",
        )),
        SameSite::Lax | SameSite::None => None,
    }
}

/// What the judgement of [`site`] rests on.
fn registered(service: &Place, pages: &[Place]) -> Option<Finding> {
    let common = pages.iter().filter_map(|page| match site::compare(&service.host, &page.host) {
        Site::Below(common) => Some(common),
        _ => None,
    });
    let common = common.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    (!common.is_empty()).then(|| {
        Finding::note(
            format!("{common} is taken for a name that you registered"),
            "If it is a provider's, below which each customer gets a name (publicsuffix.org has the \
             list), each of those is a site of its own, and the cookie is not sent between them. Then \
             use a domain of your own.",
        )
    })
}

/// How long browsers keep it.
fn age(config: &Config, service: &Place, pages: &[Place]) -> Vec<Finding> {
    let mut findings = Vec::new();
    // §5.6.2: Max-Age is cut to 400 days.
    if config.remember_for > 400 * DAY {
        findings.push(Finding::warning(
            format!(
                "PORTCULLIS_REMEMBER_FOR is {}, and browsers keep no cookie longer than 400 days",
                humantime::format_duration(config.remember_for)
            ),
            "People are logged out after 400 days; only tokens last longer. Set \
             PORTCULLIS_REMEMBER_FOR=400d or less.",
        ));
    }
    // WebKit's Tracking Prevention, since Safari 16.4.
    let apart = |page: &&Place| {
        matches!(site::compare(&service.host, &page.host), Site::Below(_)) && page.is_https()
    };
    if config.remember_for > 7 * DAY
        && service.is_https()
        && let Some(page) = pages.iter().find(apart)
    {
        findings.push(Finding::note(
            format!(
                "browsers keep a remembered session for {}, Safari perhaps for seven days",
                humantime::format_duration(config.remember_for.min(400 * DAY))
            ),
            format!(
                "Safari does so where {} and {} have addresses in different networks, or one is a CNAME of \
                 somebody else's name: it takes the cookie for a tracker's. Serving both from one \
                 address, behind one proxy, avoids it.",
                page.host, service.host
            ),
        ));
    }
    findings
}

fn policy(config: &Config) -> &'static str {
    match config.cookie_samesite {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level::{self, Ok, Problem, Warning};
    use super::*;
    use crate::config::PublicUrl;

    fn config(url: &str, origins: &[&str]) -> Config {
        let mut config = Config::defaults().unwrap();
        config.public_url = PublicUrl::parse(url).unwrap();
        config.allowed_origins = origins.iter().map(|o| Origin::parse(o).unwrap()).collect();
        config
    }

    fn lines(config: &Config) -> Vec<(Level, String)> {
        let findings = check(config).into_iter();
        findings
            .map(|finding| (finding.level, format!("{} {}", finding.what, finding.why)))
            .collect()
    }

    /// What is not fine must be these, in this order.
    #[track_caller]
    fn told(config: &Config, expected: &[(Level, &str)]) {
        let lines = lines(config);
        let told: Vec<_> = lines.iter().filter(|(level, _)| *level != Ok).collect();
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for ((level, text), (expected, part)) in told.iter().zip(expected) {
            assert_eq!(level, expected, "{text}");
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    /// `SameSite`, where the service is, where the page is, and what comes of it.
    #[test]
    fn each_pair_of_page_and_service_is_judged_as_browsers_do() {
        use SameSite::{Lax, None, Strict};
        let table: &[(SameSite, &str, &str, Level, &str)] = &[
            (Lax, "http://localhost:8080", "http://localhost:5173", Ok, "one host"),
            (Lax, "http://127.0.0.1:8080", "http://127.0.0.1:5173", Ok, "one host"),
            (Lax, "http://localhost:8080", "http://localhost:8080", Ok, "the service itself"),
            (
                Lax,
                "http://localhost:8080",
                "http://127.0.0.1:5173",
                Problem,
                "open the page at http://localhost:5173",
            ),
            (
                Lax,
                "http://127.0.0.1:8080",
                "http://localhost:5173",
                Problem,
                "PORTCULLIS_PUBLIC_URL=http://localhost:8080",
            ),
            (Lax, "http://localhost:8080", "http://[::1]:5173", Problem, "one machine"),
            (Lax, "http://localhost:8080", "http://app.localhost:5173", Problem, "two hosts"),
            (
                Lax,
                "http://localhost:8080",
                "http://192.168.1.5:5173",
                Problem,
                "PORTCULLIS_PUBLIC_URL=http://192.168.1.5:8080",
            ),
            (Lax, "http://auth.test", "http://app.example", Problem, "serve both by https"),
            (Lax, "http://localhost:8080", "https://app.example.com", Problem, "mixed content"),
            (Lax, "http://localhost:8080", "https://localhost:5173", Problem, "mixed content"),
            (
                Lax,
                "https://auth.example.com",
                "https://app.example.com",
                Ok,
                "one site, example.com",
            ),
            (Lax, "https://auth.example.com", "https://example.com", Ok, "one site, example.com"),
            (Lax, "https://auth.example.com", "https://auth.example.com:8443", Ok, "one host"),
            (Strict, "https://auth.example.com", "https://app.example.com", Ok, "one site"),
            (
                Lax,
                "https://auth.example.com",
                "http://app.example.com:3000",
                Problem,
                "name https://app.example.com in",
            ),
            (
                Lax,
                "https://auth.example.com",
                "http://localhost:5173",
                Problem,
                "on this machine too",
            ),
            (Lax, "https://auth.example.com", "https://app.test", Problem, "SameSite=Lax keeps"),
            (
                Strict,
                "https://auth.example.com",
                "https://app.test",
                Problem,
                "SameSite=Strict keeps",
            ),
            (
                Lax,
                "https://bob.co.uk",
                "https://alice.co.uk",
                Warning,
                "looks like a public suffix",
            ),
            (None, "https://auth.example.com", "https://app.test", Warning, "Safari blocks"),
            (None, "https://auth.example.com", "http://app.example.com", Warning, "third-party"),
            (None, "https://auth.example.com", "http://localhost:5173", Warning, "Firefox"),
            (None, "https://auth.example.com", "https://app.example.com", Ok, "one site"),
            (None, "https://bob.co.uk", "https://alice.co.uk", Warning, "third-party"),
        ];
        for (same_site, url, page, level, part) in table {
            let mut config = config(url, &[page]);
            config.cookie_samesite = *same_site;
            let service = Place::new(&config.public_url.origin()).unwrap();
            let finding = from(&Place::new(&config.allowed_origins[0]).unwrap(), &service, &config);
            let text = format!("{} {}", finding.what, finding.why);
            assert_eq!(finding.level, *level, "{url} {page}: {text}");
            assert!(text.contains(part), "{url} {page}: {text}");
        }
    }

    #[test]
    fn what_is_usual_gives_no_warning() {
        told(&config("http://localhost:8080", &[]), &[]);
        told(&config("http://localhost:8080", &["http://localhost:5173"]), &[]);
        told(&config("https://auth.example.com", &["https://app.example.com"]), &[]);
    }

    #[test]
    fn the_cookie_is_told_as_it_is_sent() {
        let mut config = config("https://auth.example.com", &[]);
        let first = |config: &Config| lines(config).remove(0).1;
        let expected =
            "__Host-portcullis, HttpOnly, Secure, SameSite=Lax, for auth.example.com alone";
        assert!(first(&config).contains(expected));
        config.cookie_domain = Some("example.com".to_owned());
        config.cookie_samesite = SameSite::Strict;
        let expected =
            "__Secure-portcullis, HttpOnly, Secure, SameSite=Strict, for example.com and";
        assert!(first(&config).contains(expected));
    }

    #[test]
    fn same_site_none_without_https_is_kept_by_no_browser() {
        let mut config = config("http://auth.example.com", &["http://app.test"]);
        config.cookie_samesite = SameSite::None;
        told(&config, &[(Problem, "PORTCULLIS_PUBLIC_URL=https://auth.example.com")]);
    }

    #[test]
    fn same_site_none_that_no_page_needs_is_told() {
        let mut config = config("https://auth.example.com", &["https://app.example.com"]);
        config.cookie_samesite = SameSite::None;
        told(&config, &[(Warning, "PORTCULLIS_COOKIE_SAMESITE=lax")]);
    }

    #[test]
    fn a_secure_cookie_on_localhost_needs_tls() {
        let expected = (Warning, "PORTCULLIS_PUBLIC_URL=http://localhost:8080");
        told(&config("https://localhost:8443", &[]), &[expected]);
        told(&config("https://auth.example.com", &[]), &[]);
    }

    #[test]
    fn a_domain_must_cover_the_service_and_the_backends() {
        let domain = |domain: &str, origins: &[&str]| {
            let mut config = config("https://auth.example.com", origins);
            config.cookie_domain = Some(domain.to_owned());
            config
        };
        told(&domain("example.com", &["https://app.example.com"]), &[]);
        told(&domain("example.org", &[]), &[(Problem, "does not cover auth.example.com")]);
        told(
            &domain("auth.example.com", &["https://app.example.com"]),
            &[(Warning, "PORTCULLIS_COOKIE_DOMAIN=example.com.")],
        );
        told(&domain("example.com", &["https://app.test"]), &[(Problem, "another site")]);
        let mut suffix = config("https://alice.co.uk", &[]);
        suffix.cookie_domain = Some("co.uk".to_owned());
        told(&suffix, &[(Warning, "public suffix")]);
        let mut address = config("http://127.0.0.1:8080", &[]);
        address.cookie_domain = Some("example.com".to_owned());
        told(&address, &[(Problem, "does not cover 127.0.0.1")]);
    }

    #[test]
    fn browsers_forget_sooner_than_the_service() {
        let mut config = config("https://auth.example.com", &["https://app.example.com"]);
        let safari = |config: &Config| lines(config).iter().any(|(_, text)| text.contains("seven"));
        assert!(safari(&config));
        config.remember_for = 7 * DAY;
        assert!(!safari(&config));
        config.remember_for = 401 * DAY;
        told(&config, &[(Warning, "PORTCULLIS_REMEMBER_FOR=400d")]);
    }
}
