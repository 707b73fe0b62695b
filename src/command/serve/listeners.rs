//! The ports of a service.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::Config;

/// The ports, taken and not yet answered on.
pub(super) struct Listeners {
    /// That of the API.
    pub(super) api: TcpListener,
    /// That of the metrics, where there is one.
    pub(super) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Takes the ports that the settings name.
    ///
    /// # Errors
    /// One line for the operator, when one of them is taken.
    pub(super) async fn bind(config: &Config) -> Result<Self, String> {
        let api = bind("PORTCULLIS_LISTEN", config.listen).await?;
        let metrics = match config.metrics_listen {
            Some(address) => Some(bind("PORTCULLIS_METRICS_LISTEN", address).await?),
            None => None,
        };
        Ok(Self { api, metrics })
    }
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("{setting}=\"{address}\" cannot be served on: {error}"))
}
