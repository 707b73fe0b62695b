//! A collector on loopback that keeps the spans that it is given.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use portcullis::config::Config;
use portcullis::server;
use prost::Message as _;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// How long spans may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What it does with what it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Takes,
    Refuses,
    NeverAnswers,
}

#[derive(Clone)]
pub struct Collector {
    pub url: String,
    address: SocketAddr,
    given: Arc<Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>>,
    manner: Manner,
}

impl Collector {
    pub async fn start(manner: Manner) -> Self {
        let collector = Self::later(manner).await;
        collector.listen().await;
        collector
    }

    /// One that does not listen yet.
    pub async fn later(manner: Manner) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = free.local_addr().unwrap();
        Self { url: format!("http://{address}"), address, given: Arc::default(), manner }
    }

    pub async fn listen(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let router = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        tokio::spawn(async move {
            let config = Config::defaults().unwrap();
            server::serve(listener, router, &config, std::future::pending()).await;
        });
    }

    /// Has it listen behind TLS, too: returns the port, and the certificate in PEM.
    pub async fn behind_tls(&self) -> (u16, String) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.pem();
        let config = ServerConfig::builder().with_no_client_auth();
        let chain = vec![certified.cert.into()];
        let config = config.with_single_cert(chain, certified.signing_key.into()).unwrap();
        let (acceptor, address) = (TlsAcceptor::from(Arc::new(config)), self.address);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut client) = acceptor.accept(stream).await else { continue };
                let mut collector = TcpStream::connect(address).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut collector).await });
            }
        });
        (port, certificate)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        let given = self.given.lock().unwrap();
        let resources = given.iter().flat_map(|(_, request)| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// How often it was given something.
    pub fn requests(&self) -> usize {
        self.given.lock().unwrap().len()
    }

    /// The headers with which it was given something first.
    pub fn headers(&self) -> HeaderMap {
        self.given.lock().unwrap()[0].0.clone()
    }

    /// An attribute of who sent the first spans.
    pub fn sender(&self, key: &str) -> String {
        let given = self.given.lock().unwrap();
        attribute(&given[0].1.resource_spans[0].resource.as_ref().unwrap().attributes, key)
    }

    /// All that it was given, for a look at what must not be there.
    pub fn text(&self) -> String {
        format!("{:?}", self.given.lock().unwrap())
    }

    /// The spans, once there is one of this name.
    pub async fn until(&self, name: &str) -> Vec<Span> {
        let come = async {
            while !self.spans().iter().any(|span| span.name == name) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(PATIENCE, come).await.is_ok(), "no {name} in {:#?}", self.spans());
        self.spans()
    }
}

/// The text of an attribute; empty without it.
pub fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => other.map(|value| format!("{value:?}")).unwrap_or_default(),
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    collector.given.lock().unwrap().push((headers, request));
    match collector.manner {
        Manner::Takes => StatusCode::OK,
        Manner::Refuses => StatusCode::BAD_REQUEST,
        Manner::NeverAnswers => std::future::pending().await,
    }
}
