//! `GET /metrics`, on a port of its own: what it tells is for operators.

mod sampling;

use std::os::fd::AsFd as _;
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
use crate::supervise::{Task, supervise};
use crate::{metrics, server};

/// The media type of OpenMetrics, which Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at once.
const CONNECTIONS: u32 = 16;

/// Tells whoever asks, and takes its samples, for ever.
pub async fn serve(listener: TcpListener, app: App) {
    let config = Config { max_connections: CONNECTIONS, ..(*app.config).clone() };
    let (router, listener) = (router(&app), Arc::new(listener));
    let serve = || {
        let (router, listener, config) = (router.clone(), Arc::clone(&listener), &config);
        async move { serve_once(&listener, router, config).await }
    };
    let sample = || sampling::run(app.clone());
    let panics = &app.metrics.panics;
    tokio::join!(
        supervise(Task::Metrics, panics.clone(), serve),
        supervise(Task::SessionCount, panics.clone(), sample),
    );
}

/// Serves on a copy of the listener, since a server closes its own.
async fn serve_once(listener: &TcpListener, router: Router, config: &Config) {
    match copy(listener) {
        Ok(listener) => server::serve(listener, router, config, std::future::pending()).await,
        Err(error) => tracing::error!(%error, "the metrics cannot be served"),
    }
}

fn copy(listener: &TcpListener) -> std::io::Result<TcpListener> {
    let copy = listener.as_fd().try_clone_to_owned()?;
    TcpListener::from_std(copy.into())
}

/// The address that Prometheus reads, and no other.
pub fn router(app: &App) -> Router {
    let (pool, reserve) = (app.pool.clone(), app.reserve.clone());
    let registry = metrics::registry(&app.metrics, app.hasher.metrics(), pool, reserve);
    let registry = Arc::new(registry);
    Router::new().route("/metrics", get(async move || write(&registry)))
}

fn write(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    encode(&mut text, registry)
        .map(|()| ([(header::CONTENT_TYPE, OPEN_METRICS)], text))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
