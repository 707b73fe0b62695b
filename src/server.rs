//! A server that cannot be held open: who says nothing, or half a request, is let go.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

use crate::config::Config;

/// How long to wait when no connection can be accepted: there are no more files, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long connections without a request stay open when the service is told to stop: one may be on
/// its way.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes of a request's head, and of the buffer that a connection reads into. hyper begins with half of it, and
/// an idle connection keeps what its largest request needed.
const HEAD_LIMIT: usize = 16 * 1024;
/// Files that are kept for other things than connections.
const OTHER_FILES: u64 = 128;

/// Answers requests until `stop`, and then those that are in flight, within a grace period.
///
/// HTTP/1.1 only: what stands before us speaks it, and the version need not be guessed from the
/// first bytes of somebody who sends none.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &Config,
    stop: impl Future<Output = ()>,
) {
    let most = most_connections(config.max_connections);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(config.header_timeout);
    builder.max_buf_size(HEAD_LIMIT);
    let server = Server {
        builder,
        router,
        write_timeout: config.request_timeout,
        places: Arc::new(Semaphore::new(most as usize)),
        graceful: GracefulShutdown::new(),
        stopping: Arc::new(AtomicBool::new(false)),
    };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = server.accept(&listener) => match accepted {
                Ok((place, stream, peer)) => server.answer(Some(place), stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    server.stop(listener, config.shutdown_grace).await;
}

struct Server {
    builder: http1::Builder,
    router: Router,
    write_timeout: Duration,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
    stopping: Arc<AtomicBool>,
}

impl Server {
    /// The next connection, when there is a place for it.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(std::io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((place, stream, peer))
    }

    /// Answers what comes on a connection, in a task of its own.
    fn answer(&self, place: Option<OwnedSemaphorePermit>, stream: TcpStream, peer: SocketAddr) {
        // Answers are small: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        // Who asks and does not read the answer.
        stream.set_write_timeout(Some(self.write_timeout));
        let service = TowerToHyperService::new(self.service(peer));
        let connection = self.builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection ended badly");
            }
        });
    }

    /// The router, which is told where each request comes from, and tells that it is the last one on
    /// its connection when the service is about to end.
    fn service(
        &self,
        peer: SocketAddr,
    ) -> impl tower::Service<
        Request<Incoming>,
        Response = Response,
        Error = Infallible,
        Future: Send,
    > + Clone
    + use<> {
        let stopping = Arc::clone(&self.stopping);
        self.router
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                request
            })
            .map_response(move |mut response: Response| {
                if stopping.load(Ordering::Relaxed) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                response
            })
    }

    /// Takes nobody new, and answers what is in flight or on its way.
    async fn stop(self, listener: TcpListener, grace: Duration) {
        let deadline = Instant::now() + grace;
        // Who has been let in by the kernel would otherwise be cut off with the listener. The runtime may
        // not have seen all of them, so the kernel is asked; there is a place for everybody now.
        if let Ok(listener) = listener.into_std() {
            while let Ok((stream, peer)) = listener.accept() {
                let stream =
                    stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    self.answer(None, stream, peer);
                }
            }
        }
        // Only now, when whoever is told so cannot come back and be cut off.
        self.stopping.store(true, Ordering::Relaxed);
        // Nobody is left when all connections have ended.
        let ended = async {
            while self.graceful.count() > 0 {
                sleep(LINGER / 50).await;
            }
        };
        let _ = timeout(LINGER.min(grace), ended).await;
        if timeout_at(deadline, self.graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still in flight at the end of the grace period");
        }
    }
}

/// As many connections as the process may have files, which is raised to what it is allowed.
fn most_connections(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // What cannot be raised is what it was.
    let _ = setrlimit(Resource::Nofile, raised);
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let most = u32::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX).max(1);
    if most < wanted {
        tracing::warn!(
            files,
            wanted,
            most,
            "fewer connections than PORTCULLIS_MAX_CONNECTIONS: the process may not open more files"
        );
    }
    wanted.min(most)
}
