//! The binary, as a person starts it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;

/// A service process, and where it answers.
pub struct Service {
    pub child: Child,
    pub base: String,
    banner: String,
}

impl Service {
    /// Starts the binary in a directory, with no environment but what is given and `PATH`.
    pub fn start(directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = command(directory, environment).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        while !banner.contains("Ctrl-C") {
            assert_ne!(stdout.read_line(&mut banner).unwrap(), 0, "it ended: {banner}");
        }
        let (_, listen) = banner.split_once("listens on ").unwrap();
        let base = format!("http://{}", listen.split(')').next().unwrap());
        Self { child, base, banner }
    }

    /// As [`Service::start`], for settings with which it tells in the log when it is ready.
    pub fn start_for_machines(directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = command(directory, environment).stdout(Stdio::null()).spawn().unwrap();
        let ready = loop {
            let log = std::fs::read_to_string(directory.join("log")).unwrap();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            if let Some(ready) = lines.find(|line: &serde_json::Value| line["message"] == "ready") {
                break ready;
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended: {log}");
            std::thread::sleep(Duration::from_millis(10));
        };
        let base = format!("http://{}", ready["listen"].as_str().unwrap());
        Self { child, base, banner: String::new() }
    }

    pub fn banner(&self) -> &str {
        &self.banner
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Asks the service to stop, and returns how long that took.
    pub fn stop(mut self, signal: rustix::process::Signal) -> Duration {
        let start = Instant::now();
        self.signal(signal);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        start.elapsed()
    }

    async fn post(&self, path: &str, body: serde_json::Value) -> reqwest::Response {
        let request = reqwest::Client::new().post(format!("{}{path}", self.base)).json(&body);
        request.send().await.unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary in a directory, with no environment but what is given and `PATH`.
pub fn command(directory: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
        .env("PORTCULLIS_BCRYPT_COST", "4")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(File::create(directory.join("log")).unwrap());
    command
}

/// What the binary says when it does not start: one line.
pub fn refusal(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut command = command(directory, environment);
    let output = command.args(arguments).stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success(), "{environment:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// A directory that is removed with the value.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        let name = format!("portcullis-test-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn without_any_setting_the_service_comes_up_and_loses_nothing_however_it_ends() {
    let directory = Directory::new();
    let service = Service::start(&directory.0, &[]);
    for line in ["Service", "Swagger UI", "Data", "Admin", "Stop", "user create"] {
        assert!(service.banner.contains(line), "{}", service.banner);
    }
    let new = json!({"username": "alice", "password": PASSWORD});
    assert_eq!(service.post("/users", new).await.status(), 201);

    // A second service on the same data is told so.
    let line = refusal(&directory.0, &[], &[]);
    assert!(line.contains(".portcullis"), "{line}");

    // A command joins the running service's database.
    let mut disable = command(&directory.0, &[]);
    assert!(disable.args(["user", "disable", "alice"]).status().unwrap().success());
    let login = json!({"identifier": "alice", "password": PASSWORD});
    assert_eq!(service.post("/login", login.clone()).await.status(), 403);
    let mut enable = command(&directory.0, &[]);
    assert!(enable.args(["user", "enable", "alice"]).status().unwrap().success());

    // Killed, it leaves a server that is just ending; the next start deals with that.
    let mut service = service;
    for i in 0..3 {
        let new = json!({"username": format!("user-{i}"), "password": PASSWORD});
        assert_eq!(service.post("/users", new).await.status(), 201);
        service.signal(rustix::process::Signal::KILL);
        service.child.wait().unwrap();
        service = Service::start(&directory.0, &[]);
        let login = json!({"identifier": format!("user-{i}"), "password": PASSWORD});
        assert_eq!(service.post("/login", login).await.status(), 200);
    }
    assert!(service.stop(rustix::process::Signal::TERM) < Duration::from_secs(5));

    let service = Service::start(&directory.0, &[]);
    assert_eq!(service.post("/login", login).await.status(), 200);
    assert!(service.stop(rustix::process::Signal::INT) < Duration::from_secs(5));
}

#[tokio::test]
async fn another_projects_tests_are_logged_in_by_one_call() {
    // As the README's fixture does it.
    let (directory, data) = (Directory::new(), Directory::new());
    let data_dir = data.0.to_str().unwrap().to_owned();
    std::fs::write(directory.0.join(".env"), "DATABASE_URL=postgres://localhost:1/real\n").unwrap();
    let settings = [("DATABASE_URL", ""), ("PORTCULLIS_DATA_DIR", &*data_dir)];
    let service = Service::start(&directory.0, &settings);
    let http = reqwest::Client::builder().cookie_store(true).build().unwrap();
    let new = json!({"username": "alice", "password": "long enough"});
    let registered = http.post(format!("{}/users", service.base)).json(&new).send().await.unwrap();
    assert_eq!(registered.status(), 201);
    let me = http.get(format!("{}/me", service.base)).send().await.unwrap();
    assert_eq!(me.status(), 200);
    service.stop(rustix::process::Signal::TERM);
}

#[tokio::test]
async fn the_first_admin_comes_from_the_settings_and_only_the_first() {
    let app = TestApp::start().await;
    let url = app.database_url();
    let directory = Directory::new();
    let settings = |name: &'static str| {
        [
            ("DATABASE_URL", url.as_str()),
            ("PORTCULLIS_ADMIN_USERNAME", name),
            ("PORTCULLIS_ADMIN_EMAIL", ""),
            ("PORTCULLIS_ADMIN_PASSWORD", PASSWORD),
        ]
    };
    let weak = |password: &'static str| {
        let [url, name, ..] = settings("root");
        [url, name, ("PORTCULLIS_ADMIN_PASSWORD", password), ("PORTCULLIS_LOG", "error")]
    };
    for password in ["hunter2", "abcabcabcabc", "root root root"] {
        let line = refusal(&directory.0, &weak(password), &[]);
        assert!(line.contains("PORTCULLIS_ADMIN_PASSWORD") && !line.contains(password), "{line}");
    }
    // Several replicas at once make one admin.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                Service::start(&directory.0, &settings("root")).stop(rustix::process::Signal::TERM)
            });
        }
    });
    Service::start(&directory.0, &settings("second")).stop(rustix::process::Signal::TERM);
    // What would no longer be taken is no hindrance once there is one.
    Service::start(&directory.0, &weak("hunter2")).stop(rustix::process::Signal::TERM);
    assert_eq!(app.count("users").await, 1);
    let login = json!({"identifier": "root", "password": PASSWORD});
    assert_eq!(app.anonymous().post("/login", login).await.ok()["user"]["role"], "admin");
}

#[test]
fn a_wrong_setting_stops_the_start_with_one_line_that_says_what_is_allowed() {
    let directory = Directory::new();
    for (name, value, allowed) in [
        ("PORTCULLIS_BCRYPT_COST", "99", "from 4 to 16"),
        ("PORTCULLIS_LISTEN", "8080", "127.0.0.1:8080"),
        ("PORTCULLIS_HOST", "everywhere", "0.0.0.0"),
        ("PORT", "65536", "from 0 to 65535"),
        ("PORTCULLIS_LOG", "verbose", "warn, error or off"),
        ("PORTCULLIS_DATABASE_START_TIMEOUT", "never", "30d"),
        ("PORTCULLIS_METRICS_LISTEN", "http://localhost:9464", "127.0.0.1:8080"),
        ("PORTCULLIS_PUBLIC_URL", "auth.example.com", "https://auth.example.com"),
        ("PORTCULLIS_PUBLIC_URL", "https://example.com/users", "does not begin with /users"),
        ("PORTCULLIS_ALLOWED_ORIGINS", "*", "https://app.example.com"),
        ("PORTCULLIS_COOKIE_SAMESITE", "loose", "lax, strict, none"),
        ("PORTCULLIS_COOKIE_SAMESITE", "none", "https"),
        ("PORTCULLIS_COOKIE_DOMAIN", "example.com", "PORTCULLIS_PUBLIC_URL"),
        ("PORTCULLIS_HSTS", "yes", "on, subdomains, off"),
        ("PORTCULLIS_SWAGGER_UI", "never", "on, off"),
        ("PORTCULLIS_REGISTRATION", "maybe", "open, closed"),
        ("PORTCULLIS_SESSION_IDLE", "1", "15m"),
        ("PORTCULLIS_REMEMBER_FOR", "-1d", "30d"),
        ("PORTCULLIS_FRESH_FOR", "500ms", "whole seconds"),
        ("PORTCULLIS_REMEMBER_MAX", "for ever", "30d"),
        ("PORTCULLIS_TRUSTED_PROXIES", "10.0.0.0/33", "10.0.0.0/8"),
        ("PORTCULLIS_LOG", "a=b=c", "info"),
        ("PORTCULLIS_LOG_FORMAT", "xml", "text, json"),
        ("PORTCULLIS_SESSION_PROTECTION", "weak", "off, basic, strong"),
        ("PORTCULLIS_BASIC_AUTH", "maybe", "on, off"),
        ("PORTCULLIS_AUDIT_KEEP", "for ever", "30d"),
        ("PORTCULLIS_THROTTLE", "maybe", "on, off"),
        ("PORTCULLIS_THROTTLE_ACCOUNT", "10", "10/15m"),
        ("PORTCULLIS_THROTTLE_NETWORK", "0/15m", "10/15m"),
        ("PORTCULLIS_THROTTLE_REGISTRATION", "9/never", "10/15m"),
        ("PORTCULLIS_PASSWORD_MIN_LENGTH", "7", "from 8 to 64"),
        ("PORTCULLIS_REGISTRATION_PRIVACY", "maybe", "on, off"),
        ("PORTCULLIS_REQUIRE_VERIFIED_EMAIL", "maybe", "on, off"),
        ("PORTCULLIS_LOGIN_CODE", "maybe", "on, off"),
        ("PORTCULLIS_MAIL_FROM", "Example", "Example <auth@example.com>"),
        ("PORTCULLIS_RESET_URL", "/reset", "https://app.example.com/reset"),
        ("PORTCULLIS_VERIFY_URL", "javascript:alert(1)", "http or https"),
        ("PORTCULLIS_LOGIN_URL", "//example.com/login", "http or https"),
        ("PORTCULLIS_THROTTLE_MAIL", "5", "10/15m"),
        ("PORTCULLIS_THROTTLE_MAIL_NETWORK", "5/0s", "10/15m"),
        ("PORTCULLIS_HEADER_TIMEOUT", "soon", "15m"),
        ("PORTCULLIS_MAX_CONNECTIONS", "0", "from 1 to"),
        ("PORTCULLIS_SHUTDOWN_GRACE", "0s", "from 1s"),
        ("PORTCULLIS_DATABASE_CONNECTIONS", "2", "from 3 to"),
        ("PORTCULLIS_DATABASE_ACQUIRE_TIMEOUT", "1.5s", "whole seconds"),
        ("PORTCULLIS_DATABASE_STATEMENT_TIMEOUT", "-1s", "whole seconds"),
    ] {
        let line = refusal(&directory.0, &[(name, value)], &[]);
        for part in [name, allowed] {
            assert!(line.contains(part), "{name}={value}: {line}");
        }
        assert!(line.contains(value), "{line}");
    }
    for name in [
        "PORTCULLIS_REGISTRATION_PRIVACY",
        "PORTCULLIS_REQUIRE_VERIFIED_EMAIL",
        "PORTCULLIS_LOGIN_CODE",
    ] {
        let settings = [(name, "on"), ("PORTCULLIS_PUBLIC_URL", "https://auth.example.com")];
        let line = refusal(&directory.0, &settings, &[]);
        assert!(line.contains(name) && line.contains("PORTCULLIS_SMTP_URL"), "{line}");
    }
    let line = refusal(&directory.0, &[("PORTCULLIS_ADMIN_PASSWORD", "hunter2 hunter2")], &[]);
    assert!(line.contains("PORTCULLIS_ADMIN_USERNAME") && !line.contains("hunter2"), "{line}");
    let short = [("PORTCULLIS_REMEMBER_REFRESH", "on"), ("PORTCULLIS_REMEMBER_MAX", "29d")];
    let line = refusal(&directory.0, &short, &[]);
    for part in ["PORTCULLIS_REMEMBER_MAX=\"29days\"", "PORTCULLIS_REMEMBER_FOR"] {
        assert!(line.contains(part), "{line}");
    }
    let line = refusal(&directory.0, &[("PORTCULLIS_SMTP_URL", "smtp://localhost:1025")], &[]);
    assert!(line.contains("PORTCULLIS_MAIL_FROM"), "{line}");
    let line = refusal(&directory.0, &[("PORTCULLIS_SMTP_URL", "http://a:hunter2@localhost")], &[]);
    assert!(line.contains("smtp+starttls://") && !line.contains("hunter2"), "{line}");
    let secret = "mysql://user:hunter2@localhost/x";
    let line = refusal(&directory.0, &[("DATABASE_URL", secret)], &[]);
    assert!(line.contains("DATABASE_URL") && !line.contains("hunter2"), "{line}");
    let named = [("PORTCULLIS_ADMIN_USERNAME", "x y"), ("PORTCULLIS_ADMIN_PASSWORD", PASSWORD)];
    let line = refusal(&directory.0, &named, &[]);
    assert!(line.contains("PORTCULLIS_ADMIN_USERNAME=\"x y\" may have only"), "{line}");
    let line = refusal(&directory.0, &[], &["serve", "--bcrypt-cost", "99"]);
    assert!(line.contains("99") && line.contains("from 4 to 16"), "{line}");
    let line = refusal(&directory.0, &[], &["--colour"]);
    assert!(line.contains("--colour") && line.contains("--help"), "{line}");
}

#[test]
fn a_taken_port_is_told_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["PORTCULLIS_LISTEN", "PORTCULLIS_METRICS_LISTEN"] {
        let line = refusal(&Directory::new().0, &[(setting, &address)], &[]);
        assert!(line.contains(&address) && line.contains(setting), "{line}");
    }
}

#[test]
fn an_unreachable_database_is_told_without_its_password() {
    let url = "postgres://alice:hunter2@127.0.0.1:1/portcullis";
    let settings = [
        ("DATABASE_URL", url),
        ("PORTCULLIS_DATABASE_START_TIMEOUT", "1s"),
        ("PORTCULLIS_LOG", "error"),
    ];
    let line = refusal(&Directory::new().0, &settings, &[]);
    let expected = "cannot reach PostgreSQL at 127.0.0.1, port 1";
    assert!(!line.contains("hunter2") && line.contains(expected), "{line}");
}

#[tokio::test]
async fn a_login_that_postgresql_rejects_stops_the_start_at_once_and_says_what_to_correct() {
    let app = TestApp::start().await;
    let right = app.database_url();
    let url = url::Url::parse(&right).unwrap();
    let (mut unknown, mut missing) = (url.clone(), url);
    unknown.set_username("somebody_else").unwrap();
    unknown.set_password(Some("hunter2")).unwrap();
    missing.set_path("no_such_database");
    for (url, part) in [
        (unknown, "cannot log in to PostgreSQL as somebody_else"),
        (missing, "has no database no_such_database"),
    ] {
        let begun = std::time::Instant::now();
        let line = refusal(&Directory::new().0, &[("DATABASE_URL", url.as_str())], &[]);
        assert!(line.contains(part) && !line.contains("hunter2"), "{line}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{line}");
    }
}

#[tokio::test]
async fn the_start_waits_for_a_postgresql_that_is_not_there_yet() {
    let app = TestApp::start().await;
    let options = app.database_options();
    let socket = options.get_socket().unwrap().join(format!(".s.PGSQL.{}", options.get_port()));
    // Nobody listens at first; later, a relay leads to PostgreSQL.
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap();
    drop(relay);
    let url = format!(
        "postgres://{}@127.0.0.1:{}/{}",
        options.get_username(),
        address.port(),
        options.get_database().unwrap()
    );
    let directory = Directory::new();
    let service = tokio::task::spawn_blocking(move || {
        let service = Service::start(&directory.0, &[("DATABASE_URL", &*url)]);
        service.stop(rustix::process::Signal::HUP);
        directory
    });
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let relay = tokio::net::TcpListener::bind(address).await.unwrap();
    let serve = async {
        loop {
            let (mut client, _) = relay.accept().await.unwrap();
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut server = tokio::net::UnixStream::connect(socket).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    };
    let directory = tokio::select! {
        () = serve => unreachable!(),
        directory = service => directory.unwrap(),
    };
    drop(directory);
}

#[tokio::test]
async fn settings_come_from_the_env_file_and_the_environment_wins() {
    let directory = Directory::new();
    std::fs::write(directory.0.join(".env"), "PORTCULLIS_BCRYPT_COST=99\n").unwrap();
    let app = TestApp::start().await;
    // The environment's own 4 wins.
    let service = Service::start(&directory.0, &[("DATABASE_URL", &app.database_url())]);
    service.stop(rustix::process::Signal::TERM);
    std::fs::write(directory.0.join(".env"), "PORTCULLIS_ADMIN_PASSWORD=hunter 2\n").unwrap();
    let line = refusal(&directory.0, &[], &[]);
    assert!(line.contains(".env") && !line.contains("hunter"), "{line}");
    std::fs::write(directory.0.join(".env"), "PORTCULLIS_REGISTRATION=maybe\n").unwrap();
    assert!(refusal(&directory.0, &[], &[]).contains("PORTCULLIS_REGISTRATION=\"maybe\""));
    // Empty is unset, as compose files write it.
    let empty = [("PORTCULLIS_REGISTRATION", ""), ("DATABASE_URL", &*app.database_url())];
    Service::start(&directory.0, &empty).stop(rustix::process::Signal::TERM);
}

#[tokio::test]
async fn the_health_command_asks_the_service() {
    let app = TestApp::start().await;
    let address = app.base.strip_prefix("http://").unwrap().to_owned();
    let directory = Directory::new();
    let path = directory.0.clone();
    let status = tokio::task::spawn_blocking(move || {
        command(&path, &[("PORTCULLIS_LISTEN", &address)]).arg("health").status()
    });
    assert!(status.await.unwrap().unwrap().success());
    let line = refusal(&directory.0, &[("PORTCULLIS_LISTEN", "127.0.0.1:1")], &["health"]);
    assert!(line.contains("127.0.0.1:1"), "{line}");
}

#[test]
fn the_help_is_the_reference_of_all_settings_and_shows_no_secret() {
    let directory = Directory::new();
    let secret = [
        ("DATABASE_URL", "postgres://alice:hunter2@localhost/x"),
        ("PORTCULLIS_ADMIN_PASSWORD", "hunter2"),
        ("PORTCULLIS_SMTP_URL", "smtp://a:hunter2@localhost"),
    ];
    let mut child =
        command(&directory.0, &secret).arg("--help").stdout(Stdio::piped()).spawn().unwrap();
    let mut help = String::new();
    child.stdout.take().unwrap().read_to_string(&mut help).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!help.contains("hunter2"));
    let readme = include_str!("../../README.md");
    let names = help.split_whitespace().filter_map(|word| {
        let name = word.trim_end_matches(']');
        (name.starts_with("PORTCULLIS_") || name == "DATABASE_URL").then_some(name)
    });
    let names: std::collections::BTreeSet<_> = names.collect();
    assert_eq!(names.len(), 60, "{names:?}");
    for name in names {
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in the README's table");
    }
}
