//! `DATABASE_URL`, with the meaning that libpq gives such URLs, or an error on which a person can act.
//!
//! sqlx reads the URL in the end. It logs the value of a parameter that it does not know, and its errors may repeat the
//! password, so everything is checked here first. No error here shows a value.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use url::form_urlencoded;

/// Every parameter that has a meaning here, and the value that it may have.
const PARAMETERS: [&str; 14] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The parts of a URL, decoded.
#[derive(Default)]
struct Parts<'a> {
    user: Option<Cow<'a, str>>,
    password: Option<Cow<'a, str>>,
    host: Cow<'a, str>,
    port: Cow<'a, str>,
    database: Cow<'a, str>,
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// How to connect.
///
/// # Errors
/// What is wrong, to follow the name of the setting.
pub fn parse(text: &str) -> Result<PgConnectOptions, String> {
    let parts = Parts::read(text.trim())?;
    let url = parts.check()?.url()?;
    PgConnectOptions::from_str(&url).map_err(|_| "cannot be read".to_owned())
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let rest = ["postgres://", "postgresql://"].iter().find_map(|it| text.strip_prefix(it));
        let rest = rest.ok_or("must begin with postgres://")?;
        if rest.contains('#') {
            return Err("has a #: write it as %23".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') && !rest.contains('@') {
            return Err(
                "has a ? before the @: in a user name or a password write it as %3F".to_owned()
            );
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        if database.contains('@') {
            return Err(
                "has a / before the @: in a user name or a password write it as %2F".to_owned()
            );
        }
        let mut parts = Self { database: decode(database)?, ..Self::default() };
        let place = match authority.rsplit_once('@') {
            Some((credentials, _)) if credentials.contains('@') => {
                return Err("has two @: in a user name or a password write it as %40".to_owned());
            }
            Some((credentials, place)) => {
                let (user, password) = match credentials.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (credentials, None),
                };
                parts.user = Some(decode(user)?).filter(|user| !user.is_empty());
                parts.password = password.map(decode).transpose()?;
                place
            }
            None => authority,
        };
        if place.contains(',') {
            return Err("names several hosts: name one".to_owned());
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (place, ""),
        };
        parts.host = decode(host)?;
        parts.port = decode(port)?;
        parts.parameters = form_urlencoded::parse(query.as_bytes()).collect();
        Ok(parts)
    }

    /// Merges the parameters that stand for a part of the URL, and checks all values.
    fn check(mut self) -> Result<Self, String> {
        let mut kept = Vec::new();
        let (mut mode, mut roots) = (None, None);
        for (name, value) in std::mem::take(&mut self.parameters) {
            match &*name {
                "user" => self.user = Some(value),
                "password" => self.password = Some(value),
                "host" | "hostaddr" => self.host = value,
                "port" => self.port = value,
                "dbname" => self.database = value,
                "ssl" if value == "true" => mode = Some(Cow::Borrowed("require")),
                "ssl" => return Err("has a parameter ssl that is not true: use sslmode".to_owned()),
                "sslmode" if SSL_MODES.contains(&&*value) => mode = Some(value),
                "sslmode" => {
                    return Err(format!(
                        "has a parameter sslmode that is none of {}",
                        SSL_MODES.join(", ")
                    ));
                }
                "sslrootcert" => roots = Some(value),
                known if PARAMETERS.contains(&known) => kept.push((name, value)),
                unknown => {
                    let is_name = |it: u8| it.is_ascii_lowercase() || it == b'_';
                    let shown = Some(unknown).filter(|it| it.len() < 40 && it.bytes().all(is_name));
                    let shown = shown.unwrap_or("without a known name");
                    let known = PARAMETERS.join(", ");
                    return Err(format!("has a parameter {shown}: allowed are {known}"));
                }
            }
        }
        if self.host.contains(',') {
            return Err("names several hosts: name one".to_owned());
        }
        if !self.port.is_empty() && !self.port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err("has a port that is not a number from 1 to 65535; in a user name or a password write : as %3A, @ as %40 and / as %2F".to_owned());
        }
        // The roots of the system are those that sqlx uses anyway, and libpq then wants the strictest mode.
        if roots.as_deref() == Some("system") {
            let is_strict = mode.as_ref().is_none_or(|mode| *mode == "verify-full");
            if !is_strict {
                return Err("has sslrootcert=system, which needs sslmode=verify-full".to_owned());
            }
            (mode, roots) = (Some("verify-full".into()), None);
        }
        // A socket has no TLS, and needs none.
        if self.host.starts_with('/') {
            (mode, roots) = (Some("disable".into()), None);
        }
        kept.extend(mode.map(|mode| ("sslmode".into(), mode)));
        kept.extend(roots.map(|roots| ("sslrootcert".into(), roots)));
        self.parameters = kept;
        Ok(self)
    }

    /// The URL as sqlx reads it.
    fn url(&self) -> Result<String, String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let part = |value: &Option<Cow<'a, str>>| value.as_deref().map(str::to_owned);
        let present = |value: &Cow<'a, str>| Some(value.to_string()).filter(|it| !it.is_empty());
        for (name, value) in [
            ("user", part(&self.user)),
            ("password", part(&self.password)),
            ("host", present(&self.host).map(|host| host.trim_matches(['[', ']']).to_owned())),
            ("port", present(&self.port)),
            ("dbname", present(&self.database)),
        ] {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        query.extend_pairs(&self.parameters);
        let mut url = "postgres://".to_owned();
        write!(url, "/?{}", query.finish()).map_err(|error| error.to_string())?;
        Ok(url)
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, String> {
    let is_escaped = |(at, _): (usize, &str)| {
        text.get(at + 1..at + 3).is_some_and(|code| code.bytes().all(|it| it.is_ascii_hexdigit()))
    };
    if !text.match_indices('%').all(is_escaped) {
        return Err("has a % that is not part of an escape: write it as %25".to_owned());
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map_err(|_| "has an escape that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (String, u16, String, Option<String>, String) {
        let options = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let database = options.get_database().map(str::to_owned);
        let (host, user) = (options.get_host().to_owned(), options.get_username().to_owned());
        (host, options.get_port(), user, database, format!("{:?}", options.get_ssl_mode()))
    }

    #[test]
    fn a_url_means_what_it_means_to_libpq() {
        let app = Some("app".to_owned());
        let expected = |host: &str, port, mode: &str| {
            (host.to_owned(), port, "alice".to_owned(), app.clone(), mode.to_owned())
        };
        for (url, host, port, mode) in [
            ("postgres://alice@db/app", "db", 5432, "Prefer"),
            ("  postgresql://alice:p%40ss%2Fw%23rd@db:6432/app\n", "db", 6432, "Prefer"),
            ("postgres://alice:x@[::1]:6432/app?sslmode=require", "::1", 6432, "Require"),
            ("postgres://alice@/app?host=db&port=6432", "db", 6432, "Prefer"),
            ("postgres://db/app?user=alice&password=x", "db", 5432, "Prefer"),
            ("postgres://alice@db?dbname=app&ssl=true", "db", 5432, "Require"),
            ("postgres://alice@db/app?sslrootcert=system", "db", 5432, "VerifyFull"),
            (
                "postgres://alice@db/app?sslmode=verify-full&sslrootcert=system",
                "db",
                5432,
                "VerifyFull",
            ),
            ("postgres://alice@db/app?options=-c%20search_path%3Dauth", "db", 5432, "Prefer"),
        ] {
            assert_eq!(read(url), expected(host, port, mode), "{url}");
        }
        for url in [
            "postgres://alice@/app?host=/run/postgresql&sslmode=require",
            "postgres://alice@localhost/app?host=/run/postgresql",
            "postgres://alice@%2Frun%2Fpostgresql/app",
        ] {
            let options = parse(url).unwrap();
            assert!(format!("{options:?}").contains("/run/postgresql"), "{url}");
            assert_eq!(format!("{:?}", options.get_ssl_mode()), "Disable", "{url}");
        }
    }

    #[test]
    fn an_error_says_what_to_write_and_shows_no_value() {
        for (url, part) in [
            ("mysql://alice:hunter2@db/app", "postgres://"),
            ("db.hunter2.example/app", "postgres://"),
            ("postgres://alice:hun/ter2@db/app", "%2F"),
            ("postgres://alice:hun#ter2@db/app", "%23"),
            ("postgres://alice:hun@ter2@db/app", "%40"),
            ("postgres://alice:hunter2@h1:1,h2:2/app", "name one"),
            ("postgres://alice:hunter2@db:99999/app", "from 1 to 65535"),
            ("postgres://alice:hunter2@db:0/app", "from 1 to 65535"),
            ("postgres://alice:hunter2@db/app?sslmode=no-verify", "verify-full"),
            ("postgres://alice@db/app?passwd=hunter2", "passwd"),
            ("postgres://alice@db/app?connect_timeout=hunter2", "connect_timeout"),
            ("postgres://alice:hun?ter2@db/app", "%3F"),
            ("postgres://db/app?hunter2", "without a known name"),
            ("postgres://alice:hunter2%@db/app", "%25"),
            ("postgres://alice:hunter2%ff@db/app", "UTF-8"),
            ("postgres://alice:hunter2@db/app?sslmode=require&sslrootcert=system", "verify-full"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(part) && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
