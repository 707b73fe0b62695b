//! Where a page or the service is.

use url::{Host, Url};

use crate::config::Origin;

/// An origin, taken apart.
pub(super) struct Place {
    pub(super) url: Url,
    pub(super) host: Host,
}

impl Place {
    pub(super) fn new(origin: &Origin) -> Option<Self> {
        Some(Self { url: Url::parse(origin.as_str()).ok()?, host: origin.host()? })
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(super) fn text(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The same place on another host.
    pub(super) fn on(&self, host: &Host) -> String {
        let mut url = self.url.clone();
        let _ = url.set_host(Some(&host.to_string()));
        url.origin().ascii_serialization()
    }

    /// The same place by https, on the default port.
    pub(super) fn by_https(&self) -> String {
        format!("https://{}", self.host)
    }
}
