//! `GET /metrics`, on a port of its own: what it tells is for operators.

mod sampling;

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::state::App;
use crate::{metrics, server};

/// The media type of OpenMetrics, which Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at once.
const CONNECTIONS: u32 = 16;

/// Tells whoever asks, and takes its samples, for ever.
pub async fn serve(listener: TcpListener, app: App) {
    let config = Config { max_connections: CONNECTIONS, ..(*app.config).clone() };
    let router = router(&app);
    let served = server::serve(listener, router, &config, std::future::pending());
    tokio::join!(served, sampling::run(app));
}

/// The address that Prometheus reads, and no other.
pub fn router(app: &App) -> Router {
    let registry =
        Arc::new(metrics::registry(&app.metrics, app.hasher.metrics(), app.pool.clone()));
    Router::new().route("/metrics", get(async move || write(&registry)))
}

fn write(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    encode(&mut text, registry)
        .map(|()| ([(header::CONTENT_TYPE, OPEN_METRICS)], text))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
