//! Settings that are not allowed, do not fit each other, or are risky.

use super::Finding;
use super::site::is_loopback;
use crate::command::known_passwords;
use crate::config::{self, Config, Origin, Registration};

/// A finding for each setting whose value is not allowed.
pub(super) fn wrong(lines: &[String]) -> Vec<Finding> {
    let why = "The service does not start with this. Whether the settings fit each other, and whether \
               browsers keep the cookie, is looked at once every value is allowed.";
    lines.iter().map(|line| Finding::problem(line, why)).collect()
}

/// Looks at settings whose values are allowed; `unfit` is what keeps the service from starting.
pub(super) fn check(config: &Config, unfit: Option<&str>) -> Vec<Finding> {
    let mut findings = vec![match unfit {
        Some(line) => Finding::problem(line, "The service does not start with this."),
        None => Finding::ok("every setting has a value that is allowed"),
    }];
    let unknown = config::unknown_variables();
    findings.extend(unknown.iter().map(|line| Finding::warning(line, "It has no effect.")));
    let risks = risks(config);
    if risks.is_empty() {
        findings.push(Finding::ok("the settings fit each other, and none is risky"));
    }
    findings.extend(risks);
    findings
}

/// What is risky about settings that are allowed.
pub(super) fn risks(config: &Config) -> Vec<Finding> {
    let risks =
        [passwords(config), network(config), pages(config), proxies(config), durations(config)];
    risks.into_iter().flatten().collect()
}

/// Who passes a reverse proxy, and whether pages that the service leads to can call it.
fn pages(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.login_url.is_some() && config.registration == Registration::Open {
        findings.push(Finding::problem(
            "PORTCULLIS_LOGIN_URL is set and PORTCULLIS_REGISTRATION is open: strangers can reach the app",
            "A reverse proxy lets everybody with an account pass, and everybody may register. Set \
             PORTCULLIS_REGISTRATION=closed. Leave it open only if strangers may use the app, and unset \
             PORTCULLIS_LOGIN_URL if no proxy asks /forward-auth.",
        ));
    }
    for (name, page) in [
        ("PORTCULLIS_LOGIN_URL", &config.login_url),
        ("PORTCULLIS_RESET_URL", &config.reset_url),
        ("PORTCULLIS_VERIFY_URL", &config.verify_url),
    ] {
        let Some(page) = page else { continue };
        let origin = page.origin().ascii_serialization();
        let is_own = origin == config.public_url.origin().as_str();
        if !is_own && !config.allowed_origins.iter().any(|allowed| allowed.as_str() == origin) {
            findings.push(Finding::problem(
                format!("{name} is on {origin}, which PORTCULLIS_ALLOWED_ORIGINS does not have"),
                format!(
                    "The page there cannot call the service. Add {origin} to PORTCULLIS_ALLOWED_ORIGINS."
                ),
            ));
        }
    }
    findings
}

/// How hard it is to guess, and what ends up where it should not.
fn passwords(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.bcrypt_cost < 10 {
        findings.push(Finding::warning(
            format!("PORTCULLIS_BCRYPT_COST is {}", config.bcrypt_cost),
            "That is for tests: whoever gets a copy of the database tries passwords many times faster \
             than they should. Leave PORTCULLIS_BCRYPT_COST unset, which means 12; passwords are hashed \
             anew when their owners log in.",
        ));
    }
    if !config.throttle.is_on() {
        findings.push(Finding::warning(
            "PORTCULLIS_THROTTLE is off",
            "Wrong passwords are not counted, so strangers may guess for as long as they like. Set \
             PORTCULLIS_THROTTLE=on, unless something before the service limits logins for each account.",
        ));
    }
    if config.basic_auth.is_on() {
        findings.push(Finding::warning(
            "PORTCULLIS_BASIC_AUTH is on",
            "Clients that use it send the password with every request, and each request costs a hash. \
             Set PORTCULLIS_BASIC_AUTH=off and give programs API tokens (POST /me/tokens), unless you \
             have clients that know nothing else.",
        ));
    }
    if config.api_key_query.is_on() {
        findings.push(Finding::warning(
            "PORTCULLIS_API_KEY_QUERY is on",
            "API tokens in URLs end up in the logs of proxies and in browsers' histories. Set \
             PORTCULLIS_API_KEY_QUERY=off and have clients send X-API-Key, unless some cannot.",
        ));
    }
    if config.admin_password.as_ref().is_some_and(known_passwords::is_known) {
        findings.push(known(
            config,
            "PORTCULLIS_ADMIN_PASSWORD is a password that everybody knows",
            "It is in the documentation, and the first admin is created with it. Unset \
             PORTCULLIS_ADMIN_PASSWORD, so that the start generates one; if the admin exists already, change \
             its password with `portcullis user set-password`.",
        ));
    }
    if known_passwords::of_database(config) {
        findings.push(known(
            config,
            "the password in DATABASE_URL is one that everybody knows",
            "Whoever reaches PostgreSQL can read and change every account. Change it with `alter role … \
             password '…'`, and in DATABASE_URL.",
        ));
    }
    findings
}

/// A password that everybody knows: a problem where others can reach the service.
pub(super) fn known(config: &Config, what: &str, why: &str) -> Finding {
    match is_local(config) {
        true => Finding::warning(what, why),
        false => Finding::problem(what, why),
    }
}

/// What travels in clear, and whether clients are told the right address.
fn network(config: &Config) -> Vec<Finding> {
    let (mut findings, url) = (Vec::new(), &config.public_url);
    let listen = config.listen;
    if !url.is_https() && !is_local(config) {
        findings.push(Finding::warning(
            format!("PORTCULLIS_PUBLIC_URL is {url}: not https, and not this machine"),
            format!(
                "Passwords and cookies cross the network in clear, and the cookie is not Secure. Put a \
                 proxy in front that speaks TLS, and set PORTCULLIS_PUBLIC_URL=https://{}.",
                url.host()
            ),
        ));
    }
    if !url.is_https() && is_local(config) && listen.ip().is_unspecified() {
        findings.push(Finding::warning(
            format!("PORTCULLIS_LISTEN is {listen}, all addresses of this machine, without TLS"),
            format!(
                "PORTCULLIS_PUBLIC_URL, {url}, is for this machine alone, but others can reach the \
                 service too, and what they send can be read on the way. Set \
                 PORTCULLIS_LISTEN=127.0.0.1:{}. In a container it must stay as it is, and the port be \
                 published for 127.0.0.1 alone, as docker-compose.yml does it.",
                listen.port()
            ),
        ));
    }
    let port = url.port();
    if !url.is_https()
        && is_local(config)
        && listen.ip().is_loopback()
        && ![0, port].contains(&listen.port())
    {
        findings.push(Finding::warning(
            format!("PORTCULLIS_PUBLIC_URL, {url}, has another port than PORTCULLIS_LISTEN, {listen}"),
            format!(
                "Unless something on port {port} hands requests on to the service, clients are sent \
                 where nothing answers. Set PORTCULLIS_PUBLIC_URL=http://{}:{}.",
                url.host(),
                listen.port()
            ),
        ));
    }
    let plain = config.allowed_origins.iter().map(Origin::as_str);
    let plain = plain.filter(|origin| origin.starts_with("http:")).collect::<Vec<_>>().join(", ");
    if url.is_https() && !plain.is_empty() {
        findings.push(Finding::warning(
            format!("PORTCULLIS_ALLOWED_ORIGINS has origins without https: {plain}"),
            format!(
                "Whoever is between a browser and such a page can put a script into it that calls \
                 {url} as the person in front. Serve the page by https and name it so, or take it out."
            ),
        ));
    }
    findings
}

/// Whose word is taken for a client's address.
fn proxies(config: &Config) -> Vec<Finding> {
    let everybody = config.trusted_proxies.iter().find(|network| network.prefix_len() == 0);
    if let Some(network) = everybody {
        return vec![Finding::warning(
            format!("PORTCULLIS_TRUSTED_PROXIES has {network}, which is everybody"),
            "Any client can say in X-Forwarded-For that it comes from anywhere: limits on guessing by \
             network do not hold, and the audit log tells what it was told. Name the addresses of your \
             proxies only, such as PORTCULLIS_TRUSTED_PROXIES=10.0.0.5.",
        )];
    }
    if config.public_url.is_https() && config.trusted_proxies.is_empty() {
        return vec![Finding::warning(
            "PORTCULLIS_PUBLIC_URL is https and PORTCULLIS_TRUSTED_PROXIES is empty",
            "The service speaks no TLS itself, so a proxy must be in front, and without its address in \
             PORTCULLIS_TRUSTED_PROXIES all people seem to come from it: they share one limit on wrong \
             passwords and its turns to hash. Name the address that the service sees it come from, \
             such as PORTCULLIS_TRUSTED_PROXIES=127.0.0.1 or 10.0.0.0/8, and have it send \
             X-Forwarded-For.",
        )];
    }
    Vec::new()
}

/// Times of which one makes the other useless.
fn durations(config: &Config) -> Vec<Finding> {
    let time = |duration| humantime::format_duration(duration);
    let mut findings = Vec::new();
    let (idle, lifetime, remember) =
        (config.session_idle, config.session_lifetime, config.remember_for);
    if idle > lifetime {
        findings.push(Finding::warning(
            format!("PORTCULLIS_SESSION_IDLE is {}, longer than a session lasts at most", time(idle)),
            format!(
                "Every session that is not remembered ends after PORTCULLIS_SESSION_LIFETIME, {}, so \
                 the idle time never counts. Set it to less, such as the default 12h.",
                time(lifetime)
            ),
        ));
    }
    if remember < lifetime {
        findings.push(Finding::warning(
            format!("PORTCULLIS_REMEMBER_FOR is {}, shorter than a session that is not remembered", time(remember)),
            format!(
                "Who ticks \"remember me\" may be logged out sooner than who does not: without it a \
                 session in use lasts {}. Set PORTCULLIS_REMEMBER_FOR to more than \
                 PORTCULLIS_SESSION_LIFETIME, such as the default 30d.",
                time(lifetime)
            ),
        ));
    }
    let (statement, request) = (config.database_statement_timeout, config.request_timeout);
    if statement > request {
        findings.push(Finding::warning(
            format!(
                "PORTCULLIS_DATABASE_STATEMENT_TIMEOUT is {}, longer than a request may take",
                time(statement)
            ),
            format!(
                "A statement may go on and hold a connection after its request was given up, at \
                 PORTCULLIS_REQUEST_TIMEOUT, {}. Set it to less, such as the default 10s.",
                time(request)
            ),
        ));
    }
    findings
}

/// Whether clients are on this machine, as far as the settings say.
fn is_local(config: &Config) -> bool {
    config.public_url.origin().host().is_some_and(|host| is_loopback(&host))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::config::{PublicUrl, Switch};

    fn warnings(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::defaults().unwrap();
        change(&mut config);
        let findings = check(&config, None).into_iter();
        findings.filter(|f| f.level != Level::Ok).map(|f| format!("{} {}", f.what, f.why)).collect()
    }

    #[track_caller]
    fn one(parts: &[&str], change: impl FnOnce(&mut Config)) {
        let warnings = warnings(change);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(parts.iter().all(|part| warnings[0].contains(part)), "{warnings:?}");
    }

    fn public(config: &mut Config, url: &str) {
        config.public_url = PublicUrl::parse(url).unwrap();
    }

    #[test]
    fn the_defaults_are_fine_and_so_is_a_service_behind_a_proxy() {
        assert_eq!(warnings(|_| {}), Vec::<String>::new());
        let proxied = warnings(|config| {
            public(config, "https://auth.example.com");
            config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
            config.listen = "0.0.0.0:8080".parse().unwrap();
        });
        assert_eq!(proxied, Vec::<String>::new());
    }

    #[test]
    fn each_risk_is_told_with_what_mends_it() {
        one(&["BCRYPT_COST is 4", "unset"], |config| config.bcrypt_cost = 4);
        one(&["PORTCULLIS_THROTTLE=on"], |config| config.throttle = Switch::Off);
        one(&["PORTCULLIS_BASIC_AUTH=off"], |config| config.basic_auth = Switch::On);
        one(&["PORTCULLIS_API_KEY_QUERY=off"], |config| config.api_key_query = Switch::On);
        one(&["PUBLIC_URL=https://auth.example.com"], |config| {
            public(config, "http://auth.example.com:8080");
        });
        one(&["PORTCULLIS_LISTEN=127.0.0.1:8080"], |config| {
            config.listen = "[::]:8080".parse().unwrap();
        });
        one(&["PUBLIC_URL=http://localhost:9000"], |config| {
            config.listen = "127.0.0.1:9000".parse().unwrap();
        });
        one(&["PORTCULLIS_TRUSTED_PROXIES=127.0.0.1"], |config| {
            public(config, "https://auth.example.com");
        });
        one(&["0.0.0.0/0", "everybody"], |config| {
            public(config, "https://auth.example.com");
            config.trusted_proxies = vec!["0.0.0.0/0".parse().unwrap()];
        });
        one(&["http://app.example.com", "https"], |config| {
            public(config, "https://auth.example.com");
            config.trusted_proxies = vec!["10.0.0.5/32".parse().unwrap()];
            config.allowed_origins = vec![Origin::parse("http://app.example.com").unwrap()];
        });
        let hours = |hours: u64| std::time::Duration::from_secs(hours * 60 * 60);
        one(&["SESSION_IDLE is 8days"], |config| config.session_idle = hours(8 * 24));
        one(&["REMEMBER_FOR is 1day"], |config| config.remember_for = hours(24));
        one(&["STATEMENT_TIMEOUT is 1h"], |config| config.database_statement_timeout = hours(1));
    }

    #[test]
    fn a_password_that_everybody_knows_is_a_problem_where_others_can_reach_the_service() {
        let levels = |url: &str| {
            let mut config = Config::defaults().unwrap();
            public(&mut config, url);
            config.admin_password = Some("change me now".into());
            config.database_url = Some("postgres://portcullis:portcullis@postgres/x".into());
            passwords(&config).iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels("http://localhost:8080"), [Level::Warning; 2]);
        assert_eq!(levels("http://[::1]:8080"), [Level::Warning; 2]);
        assert_eq!(levels("https://auth.example.com"), [Level::Problem; 2]);
    }

    #[test]
    fn no_file_for_deployments_has_a_password() {
        for file in [
            include_str!("../../../docker-compose.yml"),
            include_str!("../../../.env.example"),
            include_str!("../../../deploy/kubernetes.yaml"),
        ] {
            for password in ["change me now", "portcullis:portcullis", "POSTGRES_PASSWORD:-"] {
                assert!(!file.contains(password), "{password}");
            }
            let assigned = file.lines().filter_map(|line| line.trim().split_once("PASSWORD="));
            for (name, value) in assigned {
                assert!(value.is_empty(), "{name}PASSWORD has a value");
            }
        }
    }
}
