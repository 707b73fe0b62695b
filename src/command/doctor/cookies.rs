//! Whether browsers keep the session's cookie and send it, and why not (RFC 6265bis).

mod pages;
mod place;
#[cfg(test)]
mod tests;

use std::time::Duration;

use url::Host;

use self::place::Place;
use super::Finding;
use super::site::{self, Site, is_loopback};
use crate::config::{Config, SameSite};
use crate::session::cookie::Cookies;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What browsers make of the cookie, for each origin that may call.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let Some(service) = Place::new(&config.public_url.origin()) else { return Vec::new() };
    let pages = config.allowed_origins.iter().filter(|origin| !origin.is_app());
    let pages: Vec<_> = pages.filter_map(Place::new).collect();
    let mut findings = vec![cookie(config, &service)];
    findings.extend(secure(config, &service));
    findings.extend(domain(config, &service, &pages));
    findings.extend(config.allowed_origins.iter().filter(|origin| origin.is_app()).map(|origin| {
        Finding::note(
            format!("apps at {} can log in by token alone", origin.as_str()),
            "A web view sends no cookie to another site. Log in with \"transport\": \"token\".",
        )
    }));
    // Without Secure no browser keeps it, whatever the page.
    if config.cookie_samesite != SameSite::None || service.is_https() {
        findings.extend(pages::check(config, &service, &pages));
    }
    if config.allowed_origins.is_empty() {
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
