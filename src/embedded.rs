//! The private PostgreSQL that is used when `DATABASE_URL` is not set.
//!
//! It is real PostgreSQL with its durable defaults, found on the machine, in a cluster of our own, on
//! a Unix socket that only its account can reach, and it ends when we do.

mod account;
mod binaries;
mod error;
mod home;
mod leftover;
mod server;
mod supervisor;

use std::env;
use std::fs::File;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::PgConnectOptions;
use tokio::time::sleep;

use account::Account;
pub use error::EmbeddedError;
use home::Home;
use server::Server;

const LOCK_WITHIN: Duration = Duration::from_secs(2);
const JOIN_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A running PostgreSQL. When the value is dropped or the process ends, however it does, the server
/// is stopped; [`Embedded::stop`] also waits for that.
pub struct Embedded {
    home: Home,
    socket_dir: PathBuf,
    /// None when the server is another process's.
    server: Option<Server>,
    /// Dropped last: who has it finds no server of ours, or one that is stopping.
    _lock: Option<File>,
}

impl Embedded {
    /// Starts the server on the cluster in `data_dir`, making the cluster first if it is not there.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::InUse`] when another process holds the directory, and whatever keeps
    /// PostgreSQL from starting.
    pub async fn start(data_dir: &Path) -> Result<Self, EmbeddedError> {
        refuse_options()?;
        let home = Home::settle(data_dir).await?;
        // A service that was killed while it was starting a program leaves the lock, for a moment,
        // to the copy of itself that was to become the program.
        let deadline = Instant::now() + LOCK_WITHIN;
        loop {
            match home.try_lock(true)? {
                Some(lock) => return Self::run(home, lock).await,
                None if Instant::now() < deadline => sleep(PAUSE).await,
                None => return Err(EmbeddedError::InUse { data_dir: home.dir }),
            }
        }
    }

    /// Joins the server of the service that is running on `data_dir`, or else starts it as
    /// [`Embedded::start`] does, after any other command. Stopping a joined one leaves the server
    /// alone.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::InUse`] when another process holds the directory and its server does not
    /// answer, and whatever keeps PostgreSQL from starting.
    pub async fn join_or_start(data_dir: &Path) -> Result<Self, EmbeddedError> {
        refuse_options()?;
        let home = Home::settle(data_dir).await?;
        let deadline = Instant::now() + JOIN_WITHIN;
        while Instant::now() < deadline {
            // Time and again: whoever holds it may just be starting, or ending.
            if let Some(lock) = home.try_lock(false)? {
                return Self::run(home, lock).await;
            }
            let socket_dir = home.socket_dir();
            let options = server::connect_options(&socket_dir);
            if home.is_service()
                && home.check_socket_dir(&socket_dir).is_ok()
                && let Ok(connection) = server::connect(&options, Duration::from_millis(200)).await
            {
                // Nothing hangs on how it is closed.
                let _ = connection.close().await;
                return Ok(Self { home, socket_dir, server: None, _lock: None });
            }
            sleep(PAUSE).await;
        }
        Err(EmbeddedError::InUse { data_dir: home.dir })
    }

    /// Whether there is a cluster for `data_dir`. Makes nothing, not even the directory; when there is
    /// none, there must be the binaries to make one with.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::NoBinaries`], and whatever keeps the directory from being found.
    pub async fn is_made(data_dir: &Path) -> Result<bool, EmbeddedError> {
        refuse_options()?;
        if Home::is_made(data_dir).await? {
            return Ok(true);
        }
        binaries::find(&Account::choose(None)?, None).await.map(|_| false)
    }

    /// Starts a server on a new cluster in a temporary directory, for tests: quick rather than
    /// durable. The directory is removed when the server stops, even if this process is killed and
    /// the value, in a static say, never dropped.
    ///
    /// # Errors
    ///
    /// Whatever keeps PostgreSQL from starting.
    pub async fn throw_away() -> Result<Self, EmbeddedError> {
        refuse_options()?;
        let home = Home::temporary().await?;
        let server = Server::start(&home, true).await?;
        Ok(Self { socket_dir: home.socket_dir(), home, server: Some(server), _lock: None })
    }

    async fn run(home: Home, lock: File) -> Result<Self, EmbeddedError> {
        let server = Server::start(&home, false).await?;
        Ok(Self { socket_dir: home.socket_dir(), home, server: Some(server), _lock: Some(lock) })
    }

    /// How to connect: by the Unix socket, to the database `portcullis`, as its owner, who is no superuser.
    /// What the environment says of PostgreSQL (`PGHOST`, `PGUSER` …) plays no part.
    pub fn connect_options(&self) -> PgConnectOptions {
        server::connect_options(&self.socket_dir)
    }

    /// How to connect as the superuser, which the service never does. For tests and maintenance.
    pub fn superuser_options(&self) -> PgConnectOptions {
        server::superuser_options(&self.socket_dir)
    }

    /// Where the data really is: elsewhere than was asked when we are root and the account of the
    /// server cannot reach that.
    pub fn data_dir(&self) -> &Path {
        &self.home.dir
    }

    /// Resolves when the server has ended without being asked, and never for one that was joined.
    /// Cancel safe. To be awaited in the runtime that started it.
    pub async fn died(&mut self) {
        match &mut self.server {
            Some(server) => server.ended().await,
            None => pending().await,
        }
    }

    /// Ends all connections, stops the server and waits until it is gone. To be called in the
    /// runtime that started it.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::StillRunning`] when it does not stop, and [`EmbeddedError::Io`] when what is
    /// to be removed cannot be.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self.server {
            Some(server) => server.stop(&self.home).await,
            None => Ok(()),
        }
    }
}

/// sqlx adds `PGOPTIONS` to what it sends and offers no way to take it out again.
fn refuse_options() -> Result<(), EmbeddedError> {
    match env::var("PGOPTIONS") {
        Ok(options) if !options.trim().is_empty() => Err(EmbeddedError::OptionsInEnvironment),
        _ => Ok(()),
    }
}
