//! The first admin with a generated password, and passwords that everybody knows.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, Service, command};

/// The password in a banner, if it shows one.
fn shown(banner: &str) -> Option<String> {
    let (_, rest) = banner.split_once(", password ")?;
    Some(rest.split_whitespace().next().unwrap().to_owned())
}

/// The log lines that have a password.
fn logged(directory: &Directory) -> Vec<Value> {
    let log = fs::read_to_string(directory.0.join("log")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["password"].is_string()).collect()
}

#[tokio::test]
async fn the_first_start_generates_the_admins_password_and_shows_it_once() {
    let app = TestApp::start().await;
    for (setting, name) in
        [("PORTCULLIS_ADMIN_USERNAME", "root"), ("PORTCULLIS_ADMIN_EMAIL", "root@example.com")]
    {
        app.sql("delete from users").await;
        let (directory, url) = (Directory::new(), app.database_url());
        let settings = [("DATABASE_URL", &*url), (setting, name)];
        let service = Service::start(&directory.0, &settings);
        let password = shown(service.banner()).expect("a password");
        assert!(service.banner().contains(&format!("{name}, password ")), "{}", service.banner());
        assert!(password.len() > 16, "{password}");
        let login = json!({"identifier": name, "password": password});
        let admin = app.anonymous().at(&service.base);
        assert_eq!(admin.post("/login", login).await.ok()["user"]["role"], "admin");
        // It does nothing but choose a new password first.
        admin.get("/users").await.problem(403, "password_change_required");
        let change = json!({"current_password": password, "new_password": PASSWORD});
        admin.put("/me/password", change).await.ok();
        admin.get("/users").await.ok();
        service.stop(Signal::TERM);
        let log = fs::read_to_string(directory.0.join("log")).unwrap();
        assert!(!log.contains(&password), "{log}");
        let service = Service::start(&directory.0, &settings);
        assert_eq!(shown(service.banner()), None);
        service.stop(Signal::TERM);
    }
}

#[tokio::test]
async fn a_service_without_a_terminal_logs_the_generated_password_in_one_line() {
    let app = TestApp::start().await;
    let (directory, url) = (Directory::new(), app.database_url());
    let settings = [
        ("DATABASE_URL", &*url),
        ("PORTCULLIS_ADMIN_USERNAME", "root"),
        ("PORTCULLIS_LOG_FORMAT", "json"),
    ];
    let service = Service::start_for_machines(&directory.0, &settings);
    let base = service.base.clone();
    // The line follows the one that says that the service is ready.
    let log = || fs::read_to_string(directory.0.join("log")).unwrap();
    for _ in 0..100 {
        if log().contains("first admin") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let lines = logged(&directory);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["name"], &lines[0]["level"]), (&json!("root"), &json!("WARN")));
    assert!(lines[0]["message"].as_str().unwrap().starts_with("first admin created"), "{lines:?}");
    let login = json!({"identifier": "root", "password": lines[0]["password"]});
    app.anonymous().at(&base).post("/login", login).await.ok();
    service.stop(Signal::TERM);
    Service::start_for_machines(&directory.0, &settings).stop(Signal::TERM);
    assert_eq!(logged(&directory), Vec::<Value>::new());
}

#[tokio::test]
async fn the_generated_password_is_shown_even_if_the_log_is_off() {
    let app = TestApp::start().await;
    let (directory, url) = (Directory::new(), app.database_url());
    let settings = [
        ("DATABASE_URL", &*url),
        ("PORTCULLIS_ADMIN_USERNAME", "root"),
        ("PORTCULLIS_LOG_FORMAT", "json"),
        ("PORTCULLIS_LOG", "off"),
    ];
    let mut child = command(&directory.0, &settings).stdout(Stdio::null()).spawn().unwrap();
    let mut log = String::new();
    for _ in 0..500 {
        log = fs::read_to_string(directory.0.join("log")).unwrap();
        if log.ends_with('\n') {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(log.starts_with("portcullis: first admin created"), "{log}");
    let password = log.trim().rsplit(' ').next().unwrap();
    let login = json!({"identifier": "root", "password": password});
    app.anonymous().post("/login", login).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_start_at_once_create_one_admin_and_show_the_password_that_works() {
    let app = TestApp::start().await;
    let url = app.database_url();
    for _ in 0..3 {
        app.sql("delete from users").await;
        // Even if their settings name different admins.
        let starts: Vec<_> = ["root", "root", "admin", "admin"]
            .map(|name| {
                let url = url.clone();
                std::thread::spawn(move || {
                    let directory = Directory::new();
                    let settings = [("DATABASE_URL", &*url), ("PORTCULLIS_ADMIN_USERNAME", name)];
                    let service = Service::start(&directory.0, &settings);
                    let password = shown(service.banner());
                    service.stop(Signal::TERM);
                    password.map(|password| (name, password))
                })
            })
            .into();
        let shown: Vec<_> = starts.into_iter().filter_map(|start| start.join().unwrap()).collect();
        assert_eq!((shown.len(), app.count("users").await), (1, 1), "{shown:?}");
        let login = json!({"identifier": shown[0].0, "password": shown[0].1});
        app.anonymous().post("/login", login).await.ok();
    }
}

#[tokio::test]
async fn an_admin_with_a_password_that_everybody_knows_is_reported_by_the_start_and_the_doctor() {
    let app = TestApp::start().await;
    let (admin, careful) = (app.admin().await, app.admin().await);
    // The default of earlier compose files, which a new password may no longer be.
    let change = |password: &str| {
        let hash = bcrypt::hash(password, 4).unwrap();
        format!("update users set password_hash = '{hash}' where username = ")
    };
    app.sql(&format!("{}'{}'", change("change me now"), admin.username())).await;
    app.sql(&format!("{}'{}'", change("k7fm-2xqe-9rhd"), careful.username())).await;
    let (directory, url) = (Directory::new(), app.database_url());
    let settings = [("DATABASE_URL", &*url)];
    let service = Service::start(&directory.0, &settings);
    let log = || fs::read_to_string(directory.0.join("log")).unwrap();
    for _ in 0..500 {
        if log().contains("everybody knows") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    service.stop(Signal::TERM);
    let log = log();
    let reported: Vec<_> = log.lines().filter(|line| line.contains("everybody knows")).collect();
    assert_eq!(reported.len(), 1, "{log}");
    assert!(reported[0].contains("ERROR") && reported[0].contains(admin.username()), "{log}");

    let settings = [("DATABASE_URL", &*url), ("PORTCULLIS_PUBLIC_URL", "https://auth.example.com")];
    let mut doctor = command(&directory.0, &settings);
    let output = doctor.arg("doctor").stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().replace("\n         ", " ");
    let problem =
        format!("problem  the admin {} has a password that everybody knows", admin.username());
    assert!(text.contains(&problem), "{text}");
    assert!(text.contains(&format!("portcullis user set-password {}", admin.username())), "{text}");
    assert!(!text.contains(careful.username()), "{text}");
    // An admin who cannot log in is no danger.
    app.sql("update users set is_active = false").await;
    let output = command(&directory.0, &settings).arg("doctor").stdout(Stdio::piped()).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(!text.contains("everybody knows"), "{text}");
}

#[tokio::test]
async fn without_a_name_in_the_settings_no_admin_is_created() {
    let app = TestApp::start().await;
    let (directory, url) = (Directory::new(), app.database_url());
    let service = Service::start(&directory.0, &[("DATABASE_URL", &*url)]);
    assert!(service.banner().contains("user create --username admin"), "{}", service.banner());
    service.stop(Signal::TERM);
    assert_eq!(app.count("users").await, 0);
    // One that is there is left alone.
    let user = app.user().await;
    app.sql("update users set role = 'admin'").await;
    let settings = [("DATABASE_URL", &*url), ("PORTCULLIS_ADMIN_USERNAME", "root")];
    let service = Service::start(&directory.0, &settings);
    assert_eq!(shown(service.banner()), None);
    service.stop(Signal::TERM);
    assert_eq!(app.count("users").await, 1);
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    app.anonymous().post("/login", login).await.ok();
}
