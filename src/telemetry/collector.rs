//! The way to the collector. Nobody waits for it but the exporter's own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use super::environment::Exporter;

/// Sends on the runtime, which the exporter's thread is not part of, and tells once when that fails.
#[derive(Debug)]
struct Collector {
    http: Arc<dyn HttpClient>,
    runtime: Handle,
    failing: AtomicBool,
}

/// A client for a collector.
///
/// # Errors
/// One line for the operator, when there are no certificates to know one with https by.
pub(super) fn client(
    wanted: &Exporter,
    runtime: Handle,
) -> Result<impl HttpClient + use<>, String> {
    let within = wanted.within;
    let http: Arc<dyn HttpClient> = if wanted.endpoint.scheme() == "https" {
        let roots = HttpsConnectorBuilder::new().with_native_roots();
        let roots = roots.map_err(|error| format!("no certificates for a collector: {error}"))?;
        Arc::new(HyperClient::new(roots.https_only().enable_http1().build(), within, None))
    } else {
        Arc::new(HyperClient::new(HttpConnector::new(), within, None))
    };
    Ok(Collector { http, runtime, failing: AtomicBool::new(false) })
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = Arc::clone(&self.http);
        let sent = self.runtime.spawn(async move { http.send_bytes(request).await });
        let answer = sent.await?;
        let fault = match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(chain(&**error)),
        };
        self.tell(fault);
        answer
    }
}

impl Collector {
    /// Logs when sending begins to fail, and when it is well again: not every time.
    fn tell(&self, fault: Option<String>) {
        let failed = self.failing.swap(fault.is_some(), Ordering::Relaxed);
        match fault {
            Some(error) if !failed => {
                tracing::warn!(error, "traces do not reach the collector, and are dropped");
            }
            None if failed => tracing::info!("traces reach the collector again"),
            Some(_) | None => {}
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
