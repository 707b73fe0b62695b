//! Commands whose output goes to a reader that is gone, as with `portcullis doctor | head -1`.

use std::fs::File;
use std::io::PipeWriter;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, command};

/// A pipe that nobody reads any more.
fn closed_pipe() -> PipeWriter {
    std::io::pipe().unwrap().1
}

/// Every command that ends by itself, with a number that makes its names unique.
fn commands(directory: &Directory, number: usize) -> Vec<Vec<String>> {
    let users = directory.0.join("users.jsonl");
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let line = json!({"username": format!("imported-{number}"), "password_hash": hash});
    std::fs::write(&users, line.to_string()).unwrap();
    let name = format!("user-{number}");
    let users = users.display();
    [
        "--help",
        "-h",
        "--version",
        "help",
        "help user create",
        "serve --help",
        "migrate --help",
        "doctor --help",
        "openapi --help",
        "health --help",
        "user --help",
        "user import --help",
        "token create --help",
        "openapi",
        "migrate",
        "doctor",
        &format!("user create --username {name} --password-stdin"),
        &format!("user set-password {name} --password-stdin"),
        &format!("user set-role {name} user"),
        &format!("token create {name} --name backup --json"),
        "user list",
        "user list --json",
        &format!("user disable {name}"),
        &format!("user enable {name}"),
        &format!("user import {users}"),
    ]
    .map(|line| line.split(' ').map(str::to_owned).collect())
    .into()
}

/// Runs a command to its end, with `PASSWORD` as its standard input.
async fn run(
    app: &TestApp,
    directory: &Directory,
    arguments: &[String],
    stdout: Stdio,
    stderr: Stdio,
) -> Output {
    let password = directory.0.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let url = app.database_url();
    let mut command = command(&directory.0, &[("DATABASE_URL", &url), ("PORTCULLIS_LOG", "error")]);
    command.args(arguments).stdin(File::open(password).unwrap()).stdout(stdout).stderr(stderr);
    let run = move || command.spawn().unwrap().wait_with_output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn a_command_whose_standard_output_is_closed_does_its_work_and_ends_quietly() {
    let (app, directory) = (TestApp::start().await, Directory::new());
    for arguments in commands(&directory, 0) {
        let output = run(&app, &directory, &arguments, closed_pipe().into(), Stdio::piped()).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
    }
    assert_eq!(app.count("users").await, 2);
}

#[tokio::test]
async fn a_command_that_cannot_write_its_output_says_so_and_fails() {
    let (app, directory) = (TestApp::start().await, Directory::new());
    // Migrating prints nothing.
    for arguments in commands(&directory, 1).into_iter().filter(|line| *line != ["migrate"]) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = run(&app, &directory, &arguments, full.into(), Stdio::piped()).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        let expected = "portcullis: standard output cannot be written: No space left on device";
        assert!(told.starts_with(expected) && told.lines().count() == 1, "{arguments:?}: {told}");
    }
}

#[tokio::test]
async fn a_command_whose_standard_error_is_closed_fails_as_it_would_otherwise() {
    let (app, directory) = (TestApp::start().await, Directory::new());
    let users = directory.0.join("wrong.jsonl");
    std::fs::write(&users, "nonsense\n".repeat(9)).unwrap();
    for line in [
        "--colour".to_owned(),
        "user create".to_owned(),
        "user disable nobody".to_owned(),
        format!("user import {}", users.display()),
        "serve --bcrypt-cost 99".to_owned(),
        "health".to_owned(),
    ] {
        let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let output = run(&app, &directory, &arguments, Stdio::piped(), closed_pipe().into()).await;
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
    }
}

#[tokio::test]
async fn a_service_whose_output_nobody_reads_goes_on_serving() {
    let (app, directory) = (TestApp::start().await, Directory::new());
    let url = app.database_url();
    // With a banner; and with a generated password that the log leaves out.
    for format in ["text", "json"] {
        app.sql("delete from users").await;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = free.to_string();
        let settings = [
            ("DATABASE_URL", &*url),
            ("PORTCULLIS_LISTEN", &*listen),
            ("PORTCULLIS_LOG", if format == "json" { "error" } else { "debug" }),
            ("PORTCULLIS_LOG_FORMAT", format),
            ("PORTCULLIS_ADMIN_USERNAME", "root"),
        ];
        let mut command = command(&directory.0, &settings);
        let mut child = command.stdout(closed_pipe()).stderr(closed_pipe()).spawn().unwrap();
        let (start, client) = (Instant::now(), app.anonymous().at(&format!("http://{listen}")));
        while tokio::net::TcpStream::connect(free).await.is_err() || app.count("users").await == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            assert!(start.elapsed() < Duration::from_secs(30), "it does not serve");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let new = json!({"username": format!("user-{format}"), "password": PASSWORD});
        client.post("/users", new).await.status(201);
        client.get("/me").await.ok();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert!(ended.success(), "{ended}");
    }
}
