//! The port of the binary that Prometheus reads.

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
    // Of the 16, four are kept for who is calling.
    assert_eq!(series.of("db_client_connection_max"), 12.0);
    let connections = ["used", "idle"]
        .map(|state| series.of(&format!(r#"db_client_connection_count{{state="{state}"}}"#)));
    assert!(connections.iter().sum::<f64>() >= 1.0, "{connections:?}");
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
