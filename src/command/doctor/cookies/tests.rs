//! Tables of settings, and what is said of them.

use super::*;
use crate::command::doctor::Level::{self, Ok, Problem, Warning};
use crate::config::{Origin, PublicUrl};

fn config(url: &str, origins: &[&str]) -> Config {
    let mut config = Config::defaults().unwrap();
    config.public_url = PublicUrl::parse(url).unwrap();
    config.allowed_origins = origins.iter().map(|o| Origin::parse(o).unwrap()).collect();
    config
}

fn lines(config: &Config) -> Vec<(Level, String)> {
    let findings = check(config).into_iter();
    findings.map(|finding| (finding.level, format!("{} {}", finding.what, finding.why))).collect()
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
        (Lax, "https://auth.example.com", "https://app.example.com", Ok, "one site, example.com"),
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
        (Lax, "https://auth.example.com", "http://localhost:5173", Problem, "on this machine too"),
        (Lax, "https://auth.example.com", "https://app.test", Problem, "SameSite=Lax keeps"),
        (Strict, "https://auth.example.com", "https://app.test", Problem, "SameSite=Strict keeps"),
        (Lax, "https://bob.co.uk", "https://alice.co.uk", Warning, "looks like a public suffix"),
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
        let finding =
            pages::from(&Place::new(&config.allowed_origins[0]).unwrap(), &service, &config);
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
    let expected = "__Host-portcullis, HttpOnly, Secure, SameSite=Lax, for auth.example.com alone";
    assert!(first(&config).contains(expected));
    config.cookie_domain = Some("example.com".to_owned());
    config.cookie_samesite = SameSite::Strict;
    let expected = "__Secure-portcullis, HttpOnly, Secure, SameSite=Strict, for example.com and";
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
