//! The port of the binary that Prometheus reads.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::timeout;

use super::{PATIENCE, Series};
use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, Service};

#[tokio::test]
async fn metrics_have_a_port_of_their_own_and_only_that() {
    let app = TestApp::start().await;
    app.user().await;
    let (directory, url) = (Directory::new(), app.database_url());
    let settings = [("DATABASE_URL", &*url), ("PORTCULLIS_METRICS_LISTEN", "127.0.0.1:0")];
    let service = Service::start(&directory.0, &settings);
    let metrics = service.banner().split_whitespace().find(|word| word.ends_with("/metrics"));
    let metrics = metrics.unwrap().to_owned();
    let http = reqwest::Client::new();
    let login = json!({"identifier": "nobody", "password": PASSWORD});
    for _ in 0..5 {
        let asked = http.post(format!("{}/login", service.base)).json(&login).send().await.unwrap();
        assert_eq!(asked.status(), 401);
    }
    let read =
        async || Series::read(&http.get(&metrics).send().await.unwrap().text().await.unwrap());
    // It is looked at as soon as the service is there.
    let looked_at = async {
        loop {
            let series = read().await;
            if series.of("portcullis_sessions_active") == 1.0 {
                break series;
            }
        }
    };
    let series = timeout(PATIENCE, looked_at).await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(series.of(&format!(r#"portcullis_build_info{{version="{version}"}}"#)), 1.0);
    // Of the 16, four are reserved for authentication.
    for (pool, max) in [("main", 12.0), ("reserved", 4.0)] {
        assert_eq!(series.of(&format!(r#"db_client_connection_max{{pool="{pool}"}}"#)), max);
        let count = |state: &str| {
            series.of(&format!(r#"db_client_connection_count{{pool="{pool}",state="{state}"}}"#))
        };
        let open = count("used") + count("idle");
        assert!(open <= max && (open >= 1.0 || pool == "reserved"), "{pool} {open}");
    }
    assert_eq!(series.of(r#"db_client_connection_timeouts_total{pool="reserved"}"#), 0.0);
    // Every one of these logins needed some.
    assert!(series.of("db_client_connection_wait_time_seconds_count") >= 15.0, "{series:?}");
    assert!(series.of("process_resident_memory_bytes") > 1e6);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((now - 60.0..=now).contains(&series.of("process_start_time_seconds")));

    let metrics_base = metrics.strip_suffix("/metrics").unwrap();
    for elsewhere in [format!("{}/metrics", service.base), format!("{metrics_base}/me")] {
        assert_eq!(http.get(&elsewhere).send().await.unwrap().status(), 404, "{elsewhere}");
    }
    assert_eq!(http.post(&metrics).send().await.unwrap().status(), 405);
    let stop = move || service.stop(Signal::TERM);
    tokio::task::spawn_blocking(stop).await.unwrap();
    assert!(http.get(&metrics).send().await.is_err());
    // What the waits are known by is no line of the log.
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    assert!(log.contains("answered") && !log.contains("acquired connection"), "{log}");
}

#[tokio::test]
async fn without_the_setting_nobody_is_told() {
    let app = TestApp::start().await;
    let (directory, url) = (Directory::new(), app.database_url());
    let service = Service::start(&directory.0, &[("DATABASE_URL", &*url)]);
    assert!(!service.banner().contains("metrics"), "{}", service.banner());
    let asked = reqwest::get(format!("{}/metrics", service.base)).await.unwrap();
    assert_eq!(asked.status(), 404);
    service.stop(Signal::TERM);
}

#[tokio::test]
async fn a_panic_of_a_background_task_is_counted_and_logged_and_the_task_goes_on() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("delete from outbox").await;
    let (directory, url) = (Directory::new(), app.database_url());
    // The program cannot hold such a time: reading it panics.
    let unreadable = "insert into outbox (kind, email, user_id, created_at)
                      select 'password_changed', 'alice@example.com', id, 'infinity' from users";
    app.sql(unreadable).await;
    let settings = [
        ("DATABASE_URL", &*url),
        ("PORTCULLIS_METRICS_LISTEN", "127.0.0.1:0"),
        ("PORTCULLIS_LOG_FORMAT", "text"),
    ];
    let service = Service::start(&directory.0, &settings);
    let metrics = service.banner().split_whitespace().find(|word| word.ends_with("/metrics"));
    let metrics = metrics.unwrap().to_owned();
    let http = reqwest::Client::new();
    let panics = async |task: &str| {
        let text = http.get(&metrics).send().await.unwrap().text().await.unwrap();
        Series::read(&text).of(&format!(r#"portcullis_task_panics_total{{task="{task}"}}"#))
    };
    let panicked = async {
        while panics("outbox").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, panicked).await.expect("a panic");
    // The next mail is sent.
    app.sql("insert into outbox (kind, email, user_id) select 'password_changed', 'bob@example.com', id from users")
        .await;
    let sent = async {
        while app.count("outbox where email = 'bob@example.com'").await > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, sent).await.expect("the outbox goes on");
    assert_eq!(panics("session_lookups").await, 0.0);
    // A session that cannot be read fails its own request, and no later one.
    let replica = user.at(&service.base);
    app.sql("update sessions set last_seen_at = 'infinity'").await;
    replica.get("/me").await.problem(500, "internal");
    app.sql("update sessions set last_seen_at = now()").await;
    replica.get("/me").await.ok();
    assert_eq!(panics("session_lookups").await, 1.0);
    let stop = move || service.stop(Signal::TERM);
    tokio::task::spawn_blocking(stop).await.unwrap();
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    for task in ["outbox", "session_lookups"] {
        let reported = log.lines().any(|line| {
            line.contains("ERROR")
                && line.contains("a background task panicked")
                && line.contains(&format!("task=\"{task}\""))
        });
        assert!(reported, "{task}: {log}");
    }
}
