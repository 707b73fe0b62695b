//! Whether the cookie goes along when pages of the allowed origins call.

use std::collections::BTreeSet;

use super::place::Place;
use super::{Finding, policy};
use crate::command::doctor::site::{self, Site, is_loopback};
use crate::config::{Config, SameSite};

/// A finding for each page, and what they rest on.
pub(super) fn check(config: &Config, service: &Place, pages: &[Place]) -> Vec<Finding> {
    let each = pages.iter().map(|page| from(page, service, config));
    each.chain(same_site(config, service, pages)).chain(registered(service, pages)).collect()
}

/// Whether the cookie goes along with a call from a page of the origin (§5.2, §5.8.3).
pub(super) fn from(page: &Place, service: &Place, config: &Config) -> Finding {
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
