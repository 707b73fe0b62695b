//! The embedded PostgreSQL, from without, and what its tests speak of. What is to be killed runs in a process of its own: this
//! very binary, started anew with one ignored test.

mod lives;
mod surroundings;

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis::embedded::{Embedded, EmbeddedError};
use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use sqlx::{ConnectOptions, PgConnection};

const ROLE: &str = "EMBEDDED_TEST_ROLE";
const DIR: &str = "EMBEDDED_TEST_DIR";

#[tokio::test]
#[ignore = "the process that other tests start and kill"]
async fn a_service() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap_or_default());
    let started = match &*role {
        "throw_away" | "throw_away_static" => Embedded::throw_away().await,
        "join" => Embedded::join_or_start(&dir).await,
        _ => Embedded::start(&dir).await,
    };
    let server = match started {
        Ok(server) => server,
        Err(error) => return println!("\nfailed {error}"),
    };
    let mut connection = connect(&server).await;
    println!("\nready {}", server.data_dir().display());
    match &*role {
        "insert" => {
            table(&mut connection).await;
            let mut n: i64 = sqlx::query_scalar("select coalesce(max(n), 0) from t")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            loop {
                n += 1;
                sqlx::query("insert into t values ($1)")
                    .bind(n)
                    .execute(&mut connection)
                    .await
                    .unwrap();
                println!("committed {n}");
            }
        }
        "throw_away_static" => {
            static SERVER: OnceLock<Embedded> = OnceLock::new();
            assert!(SERVER.set(server).is_ok());
        }
        "join" => {
            let name: String = sqlx::query_scalar("select current_setting('application_name') || ' ' || current_user || ' ' || current_database()").fetch_one(&mut connection).await.unwrap();
            println!("connected {name}");
            server.stop().await.unwrap();
        }
        _ => std::future::pending().await,
    }
}

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(role: &str, dir: &Path) -> Self {
        Self::start_with(role, dir, &[], |_| {})
    }

    fn start_with(
        role: &str,
        dir: &Path,
        before: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let exe = std::env::current_exe().unwrap();
        let mut command = match before {
            [] => Command::new(exe),
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command.args(args).arg(exe);
                command
            }
        };
        let test = module_path!()
            .split_once("::")
            .map_or("a_service".into(), |(_, module)| format!("{module}::a_service"));
        command.args(["--exact", &test, "--ignored", "--nocapture"]);
        command
            .env(ROLE, role)
            .env(DIR, dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The rest of the next line that begins so.
    fn says(&mut self, what: &str) -> String {
        loop {
            let line = self
                .lines
                .next()
                .unwrap_or_else(|| panic!("it ended without saying {what:?}"))
                .unwrap();
            if let Some(rest) = line.strip_prefix(what) {
                return rest.into();
            }
            assert!(!line.starts_with("failed "), "{line}");
        }
    }

    /// Kills it with SIGKILL and gives what it had still said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.map_while(Result::ok).collect()
    }
}

/// A directory that goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "embedded-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = Path::new("/tmp").join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A server that is just being stopped may be writing still.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.0).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

async fn connect(server: &Embedded) -> PgConnection {
    server.connect_options().connect().await.unwrap()
}

async fn table(connection: &mut PgConnection) {
    sqlx::query("create table if not exists t (n bigint primary key)")
        .execute(connection)
        .await
        .unwrap();
}

async fn count(server: &Embedded) -> i64 {
    sqlx::query_scalar("select count(*) from t")
        .fetch_one(&mut connect(server).await)
        .await
        .unwrap()
}

fn server_pid(data_dir: &Path) -> Pid {
    let text = fs::read_to_string(data_dir.join("cluster/postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
}

fn parent(pid: Pid) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1;
    Pid::from_raw(rest.split(' ').nth(1).unwrap().parse().unwrap()).unwrap()
}

fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
    test_kill_process(pid).is_ok() && !stat.contains(") Z ")
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_root(test: &str) -> bool {
    if !geteuid().is_root() {
        eprintln!("{test}: skipped, it needs root");
    }
    geteuid().is_root()
}
