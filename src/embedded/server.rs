//! A cluster, made once, and the server that runs on it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout_at};

use super::binaries::{self, Wanted, leading_number};
use super::error::{Context, EmbeddedError};
use super::home::{Home, Log, random_hex};
use super::leftover;
use super::supervisor::Supervisor;
use crate::store::ownership;

/// The service's role and its database, both.
const NAME: &str = "portcullis";
/// The role that `initdb` makes.
const SUPERUSER: &str = ownership::SUPERUSERS[0];
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
/// A killed server's last processes may keep its memory for a moment: "is still in use".
const TRIES: u32 = 4;

/// A server of ours that answers, and what must live as long as it.
pub(super) struct Server {
    supervisor: Supervisor,
    temporary: bool,
}

impl Server {
    /// Starts the server, making the cluster first if it is not there. For the holder of the lock.
    pub(super) async fn start(home: &Home, temporary: bool) -> Result<Self, EmbeddedError> {
        let cluster = home.cluster();
        let version_file = cluster.join("PG_VERSION");
        let wanted = match fs::read_to_string(&version_file) {
            Ok(version) => {
                leading_number(&version).map(|major| Wanted { major, cluster: &cluster })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).context("read", &version_file),
        };
        let made = wanted.is_some();
        let binaries = binaries::find(&home.account, wanted).await?;
        // Removes what is unfinished, should we be killed before there is a server.
        let mut guards = Vec::new();
        if temporary {
            guards.push(home.make_temporary().await?);
        }
        let log = home.open_log()?;
        if !made {
            guards.push(make_cluster(home, &binaries, &log, temporary).await?);
        }
        let socket_dir = home.make_socket_dir()?;

        let mut tries = 1;
        let server = loop {
            leftover::stop(home).await?;
            let supervisor = Supervisor::start(
                &home.account,
                &binaries.join("postgres"),
                server_args(&cluster, &socket_dir, temporary),
                &cluster,
                &log.file,
                temporary.then_some(&*home.dir),
            );
            let supervisor = supervisor.context("start", &binaries.join("postgres"))?;
            let mut server = Self { supervisor, temporary };
            match server.prepare(&socket_dir, &log).await {
                Ok(()) => break server,
                Err(error) => {
                    let again =
                        matches!(error, EmbeddedError::Ended { .. }) && tries < TRIES && !temporary;
                    // The reason why it did not start is worth more than one why it did not stop.
                    let _ = server.stop(home).await;
                    if !again {
                        return Err(error);
                    }
                }
            }
            tries += 1;
            sleep(Duration::from_millis(300)).await;
        };
        for guard in guards {
            guard.keep().await.context("leave", &home.dir)?;
        }
        Ok(server)
    }

    /// Waits until the server answers, and makes sure that it has the service's role and database.
    async fn prepare(&mut self, socket_dir: &Path, log: &Log) -> Result<(), EmbeddedError> {
        let connected = tokio::select! {
            _ = self.supervisor.ended() => {
                return Err(EmbeddedError::Ended { log: log.path.clone(), tail: log.tail() });
            }
            connected = connect_as_superuser(socket_dir) => connected,
        };
        let connection = connected.map_err(|answer| EmbeddedError::NoAnswer {
            seconds: READY_WITHIN.as_secs(),
            answer,
            log: log.path.clone(),
            tail: log.tail(),
        })?;
        make_database(connection, socket_dir).await.map_err(EmbeddedError::CreateDatabase)
    }

    /// Waits until the server has ended. Cancel safe.
    pub(super) async fn ended(&mut self) {
        self.supervisor.ended().await;
    }

    /// Stops the server and waits until it is gone.
    pub(super) async fn stop(self, home: &Home) -> Result<(), EmbeddedError> {
        match tokio::time::timeout(STOPPED_WITHIN, self.supervisor.stop()).await {
            Ok(ended) => ended.context("await", Path::new("/bin/sh"))?,
            Err(_) => tracing::warn!("PostgreSQL does not stop by itself"),
        }
        // The supervisor may have been killed, or its signal may not have been enough.
        leftover::stop(home).await?;
        if self.temporary {
            return remove_dir(&home.dir);
        }
        let socket_dir = home.socket_dir();
        if !socket_dir.starts_with(&home.dir) { remove_dir(&socket_dir) } else { Ok(()) }
    }
}

/// How to connect to the server whose socket is in `dir`. sqlx takes defaults from the environment
/// (`PGHOST`, `PGSSLMODE`, `PGPASSWORD` …), so each is said here.
pub(super) fn connect_options(dir: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("localhost")
        .socket(dir)
        .port(5432)
        .username(NAME)
        .password("")
        .database(NAME)
        .ssl_mode(PgSslMode::Disable)
        .application_name(NAME)
}

/// How to connect as the superuser, to the same database.
pub(super) fn superuser_options(dir: &Path) -> PgConnectOptions {
    connect_options(dir).username(SUPERUSER)
}

/// Connects as soon as the server answers; the error is what it last said.
pub(super) async fn connect(
    options: &PgConnectOptions,
    within: Duration,
) -> Result<PgConnection, String> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(20);
    let mut answer = String::from("no answer");
    loop {
        match timeout_at(deadline, options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            // 28000: the server is up, and has no such role.
            Ok(Err(sqlx::Error::Database(error))) if error.code().as_deref() == Some("28000") => {
                return Err(error.to_string());
            }
            Ok(Err(error)) => answer = error.to_string(),
            Err(_) => {}
        }
        if Instant::now() + pause >= deadline {
            return Err(answer);
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}

/// A connection of the superuser. A cluster of an earlier version has one that is called as the service's role.
async fn connect_as_superuser(socket_dir: &Path) -> Result<PgConnection, String> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut answer = String::from("there is no superuser");
    for role in ownership::SUPERUSERS.into_iter().chain([NAME]) {
        let options = connect_options(socket_dir).username(role).database("postgres");
        match connect(&options, deadline - Instant::now()).await {
            Ok(mut connection) => {
                if ownership::is_superuser(&mut connection).await.is_ok_and(|is| is) {
                    return Ok(connection);
                }
            }
            Err(error) => answer = error,
        }
    }
    Err(answer)
}

/// Makes the service's role, which is no superuser, and a database that it owns. In a cluster of an earlier
/// version the role is the superuser, which is renamed.
async fn make_database(mut superuser: PgConnection, socket_dir: &Path) -> sqlx::Result<()> {
    ownership::make_ordinary(&mut superuser, NAME, None).await?;
    let exists = sqlx::query("select from pg_database where datname = $1").bind(NAME);
    if exists.fetch_optional(&mut superuser).await?.is_none() {
        let create = "create database portcullis owner portcullis";
        sqlx::raw_sql(create).execute(&mut superuser).await?;
    }
    // By its own name, which is another one if it was renamed.
    let name: String = sqlx::query_scalar("select session_user").fetch_one(&mut superuser).await?;
    superuser.close().await?;
    let options = connect_options(socket_dir).username(&name);
    let mut superuser = options.connect().await?;
    ownership::take_over(&mut superuser, NAME).await?;
    superuser.close().await
}

/// Makes the cluster beside its place and moves it there when it is whole, so that an initdb which
/// was killed leaves nothing that would be taken for a cluster.
async fn make_cluster(
    home: &Home,
    binaries: &Path,
    log: &Log,
    temporary: bool,
) -> Result<Supervisor, EmbeddedError> {
    let prefix = "cluster.";
    for entry in fs::read_dir(&home.dir).context("read", &home.dir)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // It may still be ending and come in our way; the next start will remove it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let unfinished = home.dir.join(format!("{prefix}{}", random_hex()));
    let made = DirBuilder::new().mode(0o700).create(&unfinished);
    made.and_then(|()| home.account.give(&unfinished)).context("make", &unfinished)?;

    // An initdb that is late makes its parents too: it is for its supervisor to remove them.
    let remove = if temporary { &home.dir } else { &unfinished };
    let program = binaries.join("initdb");
    let mut args: Vec<OsString> = vec!["--pgdata".into(), unfinished.clone().into()];
    let fixed = ["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject"];
    args.extend(fixed.map(OsString::from));
    args.push(format!("--username={SUPERUSER}").into());
    if temporary {
        args.push("--no-sync".into());
    }
    let initdb =
        Supervisor::start(&home.account, &program, args, &unfinished, &log.file, Some(remove));
    let mut initdb = initdb.context("start", &program)?;
    if !initdb.ended().await {
        let error = EmbeddedError::Initdb { log: log.path.clone(), tail: log.tail() };
        let _ = initdb.stop().await;
        let _ = fs::remove_dir_all(unfinished);
        return Err(error);
    }
    fs::rename(&unfinished, home.cluster()).context("rename", &unfinished)?;
    File::open(&home.dir).and_then(|dir| dir.sync_all()).context("sync", &home.dir)?;
    Ok(initdb)
}

fn server_args(cluster: &Path, socket_dir: &Path, temporary: bool) -> Vec<OsString> {
    // The setting is a list, in which a quoted name may hold anything.
    let socket_dir = socket_dir.to_string_lossy().replace('"', "\"\"");
    let mut settings = vec![
        String::from("listen_addresses="),
        format!("unix_socket_directories=\"{socket_dir}\""),
        String::from("port=5432"),
        String::from("logging_collector=off"),
        String::from("log_destination=stderr"),
    ];
    if temporary {
        let settings_of_tests =
            ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"];
        settings.extend(settings_of_tests.map(String::from));
    }
    let mut args = vec![OsString::from("-D"), cluster.into()];
    args.extend(settings.into_iter().flat_map(|setting| ["-c".into(), setting.into()]));
    args
}

fn remove_dir(dir: &PathBuf) -> Result<(), EmbeddedError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("remove", dir),
        _ => Ok(()),
    }
}
