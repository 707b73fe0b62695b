//! What a proxy says of the request that it asks about. Only a trusted one is believed.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use url::{Position, Url};

use crate::config::Config;
use crate::forwarded;
use crate::state::App;

/// The request that a trusted proxy asks about.
pub(super) struct Original<'a>(&'a HeaderMap);

impl<'a> Original<'a> {
    /// What the proxy says, if it is believed.
    pub(super) fn of(parts: &'a Parts, app: &App) -> Option<Self> {
        forwarded::is_from_trusted_proxy(&parts.extensions, app).then_some(Self(&parts.headers))
    }

    /// Whether it changes nothing. A proxy sets one of the headers and may pass on the other as the client
    /// sent it, so all that are there must say so.
    pub(super) fn is_safe(&self) -> bool {
        let named = ["x-forwarded-method", "x-original-method"].map(|name| self.0.get_all(name));
        let mut methods = named.iter().flatten().peekable();
        methods.peek().is_some()
            && methods.all(|name| {
                Method::from_bytes(name.as_bytes()).is_ok_and(|method| method.is_safe())
            })
    }

    /// Where it goes, if that is a page of ours; only what can be read in one way counts.
    pub(super) fn url(&self, config: &Config) -> Option<Url> {
        let text = if self.0.contains_key("x-forwarded-uri") {
            let (proto, host) = (self.text("x-forwarded-proto")?, self.text("x-forwarded-host")?);
            let uri = self.text("x-forwarded-uri").filter(|uri| uri.starts_with('/'))?;
            format!("{proto}://{host}{uri}")
        } else {
            self.text("x-original-url")?.to_owned()
        };
        let (scheme, rest) = text.split_once("://")?;
        let url = Url::parse(&text).ok().filter(|_| matches!(scheme, "http" | "https"))?;
        // The host that is checked is the one that was written.
        let authority = rest.split(['/', '?', '#']).next()?;
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let written = authority.strip_suffix(default_port).unwrap_or(authority);
        let host = &url[Position::BeforeHost..Position::AfterPort];
        (written.eq_ignore_ascii_case(host) && config.is_ours(&url)).then_some(url)
    }

    /// The one value of a header: visible ASCII without a backslash, which browsers take for a slash.
    fn text(&self, name: &str) -> Option<&str> {
        let mut values = self.0.get_all(name).iter();
        let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
        value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\').then_some(value)
    }
}
