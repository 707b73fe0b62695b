//! What a collector is told, and what it costs when it does not listen.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use rustix::process::Signal;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::collector::{Collector, Manner, attribute};
use crate::serve::{Directory, Service};
use crate::throttle::right;

/// The kinds of spans (OTLP's `SpanKind`).
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
/// A status that tells of an error (OTLP's `StatusCode`).
const ERROR: i32 = 2;

/// The trace of somebody who calls.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A service that tells a collector, and a client of it.
async fn telling(directory: &Directory, collector: &Collector, delay: &str) -> (TestApp, Service) {
    let mut app = TestApp::start().await;
    let database = app.database_url();
    let settings = [
        ("DATABASE_URL", &*database),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=auth"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_BSP_SCHEDULE_DELAY", delay),
        // Longer than any test takes.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300000"),
    ];
    let service = Service::start(&directory.0, &settings);
    app.base.clone_from(&service.base);
    (app, service)
}

async fn stop(service: Service) -> Duration {
    tokio::task::spawn_blocking(move || service.stop(Signal::TERM)).await.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn within(inner: &Span, outer: &Span) -> bool {
    inner.parent_span_id == outer.span_id
        && inner.trace_id == outer.trace_id
        && inner.start_time_unix_nano >= outer.start_time_unix_nano
        && inner.end_time_unix_nano <= outer.end_time_unix_nano
        && inner.start_time_unix_nano <= inner.end_time_unix_nano
}

#[tokio::test]
async fn a_request_is_a_span_of_its_callers_trace_with_its_hash_and_its_statements() {
    let directory = Directory::new();
    let collector = Collector::start(Manner::Takes).await;
    // Nothing would come within the test, but that the end sends what is left.
    let (app, service) = telling(&directory, &collector, "600000").await;
    let user = app.user().await;
    let caller = app
        .anonymous()
        .with("traceparent", &format!("00-{TRACE}-{CALLER}-01"))
        .with("tracestate", "vendor=1");
    caller.post("/login", right(user.username())).await.ok();
    let mine = format!("00-{}-{CALLER}-01", TRACE.replace('0', "1"));
    user.with("traceparent", &mine).get("/me").await.ok();
    app.anonymous().get("/made-up/path?api_key=hunter2").await.status(404);
    app.sql("alter table users rename to elsewhere").await;
    user.get("/me").await.status(500);
    app.sql("alter table elsewhere rename to users").await;
    assert_eq!(collector.requests(), 0);
    stop(service).await;

    let spans = collector.spans();
    let login = named(&spans, "POST /login");
    assert_eq!((login.kind, hex(&login.trace_id)), (SERVER, TRACE.to_owned()));
    assert_eq!((hex(&login.parent_span_id), &*login.trace_state), (CALLER.to_owned(), "vendor=1"));
    let attributes = [
        ("http.request.method", "POST"),
        ("http.route", "/login"),
        ("http.response.status_code", "200"),
        ("url.path", "/login"),
    ];
    for (key, value) in attributes {
        assert_eq!(attribute(&login.attributes, key), value, "{key}");
    }
    let children: Vec<_> = spans.iter().filter(|span| within(span, login)).collect();
    let hash = children.iter().find(|span| span.name == "hash").unwrap();
    assert_eq!(hash.kind, INTERNAL);
    let statements: Vec<_> = children.iter().filter(|span| span.kind == CLIENT).collect();
    assert!(statements.len() >= 5, "{children:#?}");
    let find = statements
        .iter()
        .map(|span| attribute(&span.attributes, "db.query.text"))
        .find(|text| text.contains("password_hash") && text.contains("$1"));
    assert!(find.is_some(), "{statements:#?}");
    assert_eq!(attribute(&statements[0].attributes, "db.system.name"), "postgresql");

    // A lookup is a task of its own, which may be that of several requests.
    let mut looks = spans.iter().filter(|span| span.name == "GET /me");
    let looks = looks.find(|span| hex(&span.parent_span_id) == CALLER).unwrap();
    let below: Vec<_> = spans.iter().filter(|span| within(span, looks)).collect();
    let lookup = below.iter().find(|span| span.kind == CLIENT).unwrap();
    assert!(attribute(&lookup.attributes, "db.query.text").contains("session_records"));

    // Whoever brings no trace begins one.
    let register = named(&spans, "POST /users");
    assert!(register.parent_span_id.is_empty() && register.trace_id != login.trace_id);
    let lost = named(&spans, "GET");
    assert_eq!(attribute(&lost.attributes, "url.path"), "/made-up/path");
    assert_eq!(lost.status.as_ref().map_or(0, |status| status.code), 0);
    let mut failed = spans.iter().filter(|span| span.name == "GET /me");
    let failed = failed.find(|span| span.parent_span_id.is_empty()).unwrap();
    assert_eq!(failed.status.as_ref().unwrap().code, ERROR);

    assert_eq!(collector.sender("service.name"), "portcullis");
    assert_eq!(collector.sender("service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(collector.sender("deployment.environment.name"), "test");
    assert_eq!(collector.headers()["x-team"], "auth");
    // Nothing that a person gave.
    let text = collector.text();
    for secret in [PASSWORD, "hunter2", user.username()] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_mail_is_a_part_of_the_request_that_it_was_written_in() {
    let directory = Directory::new();
    let collector = Collector::start(Manner::Takes).await;
    let (app, service) = telling(&directory, &collector, "100").await;
    app.user_at("alice@example.com").await;
    collector.until("mail").await;
    stop(service).await;
    let spans = collector.spans();
    let (mail, register) = (named(&spans, "mail"), named(&spans, "POST /users"));
    assert_eq!(attribute(&mail.attributes, "kind"), "verify_email");
    assert!(mail.trace_id == register.trace_id && mail.parent_span_id == register.span_id);
    assert!(spans.iter().any(|span| span.kind == CLIENT && within(span, mail)), "{spans:#?}");
    assert!(!collector.text().contains("alice@example.com"));
}

#[tokio::test]
async fn who_is_not_sampled_is_not_told_of() {
    let directory = Directory::new();
    let collector = Collector::start(Manner::Takes).await;
    let (app, service) = telling(&directory, &collector, "100").await;
    let caller = app.anonymous().with("traceparent", &format!("00-{TRACE}-{CALLER}-00"));
    caller.get("/healthz").await.ok();
    app.anonymous().get("/readyz").await.ok();
    let spans = collector.until("GET /readyz").await;
    assert!(!spans.iter().any(|span| span.name == "GET /healthz"), "{spans:#?}");
    stop(service).await;
}

#[tokio::test]
async fn a_collector_that_does_not_listen_slows_nobody_and_is_told_of_once() {
    for manner in [Manner::NeverAnswers, Manner::Refuses] {
        let directory = Directory::new();
        let collector = Collector::start(manner).await;
        let (app, service) = telling(&directory, &collector, "50").await;
        let user = app.user().await;
        let start = Instant::now();
        let mut asked = 0;
        // More than its queue holds, each with its statement.
        while asked < 1500 || (manner == Manner::Refuses && collector.requests() < 5) {
            user.get("/me").await.ok();
            asked += 1;
        }
        let each = start.elapsed() / asked;
        let stopped = stop(service).await;
        let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
        let told = log.lines().filter(|line| line.contains("collector")).count();
        println!("{asked} requests, {each:?} each, stopped after {stopped:?}, {told} lines");
        assert!(each < Duration::from_millis(50), "{each:?}");
        assert!(stopped < Duration::from_secs(6), "{stopped:?}");
        assert!(told <= 1, "{log}");
        assert_eq!(told == 1, manner == Manner::Refuses);
    }
}

#[tokio::test]
async fn a_collector_that_comes_back_is_told_of() {
    let directory = Directory::new();
    let collector = Collector::later(Manner::Takes).await;
    let (app, service) = telling(&directory, &collector, "50").await;
    let ask = async || {
        for _ in 0..20 {
            app.anonymous().get("/healthz").await.ok();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    ask().await;
    collector.listen().await;
    ask().await;
    collector.until("GET /healthz").await;
    stop(service).await;
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    for told in ["traces do not reach the collector", "traces reach the collector again"] {
        assert_eq!(log.matches(told).count(), 1, "{log}");
    }
}

#[test]
fn settings_of_traces_that_cannot_be_met_stop_the_start() {
    let directory = Directory::new();
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    for (settings, told) in [
        (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")], "http://localhost:4318"),
        (vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://a")], "http://localhost:4318"),
        (vec![collector, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http/protobuf"),
        (vec![collector, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")], "http/protobuf"),
        (vec![collector, ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")], "none"),
        (vec![collector, ("OTEL_TRACES_EXPORTER", "zipkin")], "otlp"),
        (vec![collector, ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")], "milliseconds"),
    ] {
        let line = crate::serve::refusal(&directory.0, &settings, &[]);
        let (name, _) = settings.last().unwrap();
        assert!(line.contains(name) && line.contains(told), "{name}: {line}");
    }
    let login = [("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a:hunter2@example.com")];
    assert!(!crate::serve::refusal(&directory.0, &login, &[]).contains("hunter2"));
    let (grpc, wrong) = (("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("DATABASE_URL", "x"));
    for met in [
        // Empty is unset, as compose files write it.
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", ""), grpc],
        vec![collector, grpc, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")],
        vec![collector, grpc, ("OTEL_TRACES_EXPORTER", "none")],
        vec![collector, grpc, ("OTEL_SDK_DISABLED", "true")],
    ] {
        let line = crate::serve::refusal(&directory.0, &[met, vec![wrong]].concat(), &[]);
        assert!(line.contains("DATABASE_URL"), "{line}");
    }
}

#[tokio::test]
async fn a_collector_with_a_certificate_is_told_by_https_and_another_is_not() {
    let collector = Collector::start(Manner::Takes).await;
    let (port, certificate) = collector.behind_tls().await;
    let (known, url) = (Directory::new(), format!("https://localhost:{port}"));
    let roots = known.0.join("roots.pem");
    std::fs::write(&roots, certificate).unwrap();
    let app = TestApp::start().await;
    let database = app.database_url();
    for trusts in [false, true] {
        let directory = Directory::new();
        let mut settings = vec![
            ("DATABASE_URL", &*database),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ];
        settings.extend(trusts.then_some(("SSL_CERT_FILE", roots.to_str().unwrap())));
        let service = Service::start(&directory.0, &settings);
        app.anonymous().at(&service.base).get("/healthz").await.ok();
        if trusts {
            collector.until("GET /healthz").await;
        }
        stop(service).await;
        let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
        assert_eq!(log.contains("do not reach the collector"), !trusts, "{log}");
        assert_eq!(collector.requests() > 0, trusts);
    }
}
