//! Secrets in files: `DATABASE_URL_FILE` and the others, as Docker and Kubernetes mount them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, Service, command, refusal};

/// Every secret setting, and a valid value.
const SECRETS: [(&str, &str); 3] = [
    ("DATABASE_URL", "postgres://alice:hunter2@127.0.0.1:1/portcullis"),
    ("PORTCULLIS_ADMIN_PASSWORD", PASSWORD),
    ("PORTCULLIS_SMTP_URL", "smtp://alice:hunter2@127.0.0.1:1"),
];

#[tokio::test]
async fn every_secret_is_read_from_the_file_that_its_setting_names() {
    let app = TestApp::start().await;
    let directory = Directory::new();
    let file = |name: &str, text: &str| {
        let path = directory.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // Editors and `echo` end a file with a line break; it is no part of the secret.
    let url = file("url", &format!("{}\n", app.database_url()));
    let password = file("password", &format!("{PASSWORD}\r\n"));
    let smtp = file("smtp", "smtp://alice:hunter2@127.0.0.1:1");
    let settings = [
        ("DATABASE_URL_FILE", &*url),
        // As compose files write what is unset.
        ("DATABASE_URL", ""),
        ("PORTCULLIS_ADMIN_USERNAME", "root"),
        ("PORTCULLIS_ADMIN_PASSWORD_FILE", &password),
        ("PORTCULLIS_SMTP_URL_FILE", &smtp),
        ("PORTCULLIS_MAIL_FROM", "auth@example.com"),
    ];
    let service = Service::start(&directory.0, &settings);
    assert!(service.banner().contains("smtp://127.0.0.1:1"), "{}", service.banner());
    let login = json!({"identifier": "root", "password": PASSWORD});
    app.anonymous().at(&service.base).post("/login", login).await.ok();
    service.stop(Signal::TERM);
}

#[test]
fn a_secret_and_its_file_cannot_both_be_set() {
    let directory = Directory::new();
    for (name, value) in SECRETS {
        let file = format!("{name}_FILE");
        let line = refusal(&directory.0, &[(name, value), (&file, "/run/secrets/x")], &[]);
        assert!(line.contains(&format!("{name} and {file} are both set")), "{line}");
        assert!(!line.contains("hunter2") && !line.contains(PASSWORD), "{line}");
    }
}

#[test]
fn a_secret_file_that_cannot_be_used_is_reported_by_its_path() {
    let directory = Directory::new();
    let path = directory.0.join("secret");
    let shown = path.to_str().unwrap();
    let refused = |part: &str| {
        for (name, _) in SECRETS {
            let file = format!("{name}_FILE");
            // Only one command reads the settings in another way.
            for arguments in [&[][..], &["migrate"]] {
                let line = refusal(&directory.0, &[(&file, shown)], arguments);
                let whole = line.contains(&format!("{file}=\"{shown}\"")) && line.contains(part);
                assert!(whole && !line.contains("hunter2"), "{line}");
            }
        }
    };
    refused("No such file");
    for empty in ["", "\n", "\r\n"] {
        fs::write(&path, empty).unwrap();
        refused("is empty");
    }
    fs::write(&path, b"hunter2\xff").unwrap();
    refused("must be UTF-8");
    fs::write(&path, "hunter2".repeat(10_000)).unwrap();
    refused("larger than 64 KiB");
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(&path, Permissions::from_mode(0o0)).unwrap();
        refused("Permission denied");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("directory");
}

#[test]
fn the_doctor_reports_a_secret_file_that_is_missing() {
    let directory = Directory::new();
    for (name, _) in SECRETS {
        let file = format!("{name}_FILE");
        let mut doctor = command(&directory.0, &[(&file, "/nonexistent")]);
        let output = doctor.arg("doctor").stdout(Stdio::piped()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("problem  {file}=\"/nonexistent\"")), "{text}");
        assert!(!output.status.success());
    }
}

#[test]
fn mails_are_not_written_where_others_could_read_or_replace_them() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    fs::create_dir(&data).unwrap();
    let shown = data.to_str().unwrap();
    let settings = [
        ("DATABASE_URL", "postgres://alice@127.0.0.1:1/x"),
        ("PORTCULLIS_DATABASE_START_TIMEOUT", "1s"),
        ("PORTCULLIS_LOG", "error"),
        ("PORTCULLIS_DATA_DIR", shown),
    ];
    fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
    let line = refusal(&directory.0, &settings, &[]);
    assert!(line.contains(&format!("chmod go-w {shown}")), "{line}");
    // A private one is no hindrance: what fails is the database.
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    let line = refusal(&directory.0, &settings, &[]);
    assert!(line.contains("cannot reach PostgreSQL"), "{line}");
}
