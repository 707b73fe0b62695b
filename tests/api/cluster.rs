//! A database for each test: on `DATABASE_URL` if it is set, else on a throw-away cluster of this
//! process.

use std::str::FromStr as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis::embedded::Embedded;
use portcullis::store;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

/// The server; one of our own has a migrated database that those of the tests are copies of.
struct Cluster {
    /// How the service connects. On a server of our own it is no superuser, as in production.
    options: PgConnectOptions,
    /// How databases are created.
    admin: PgConnectOptions,
    is_ours: bool,
}

const TEMPLATE: &str = "portcullis_test_template";

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let (sender, receiver) = std::sync::mpsc::channel();
    // The server belongs to the runtime that started it, and each test has a runtime of its own.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
            let (options, server) = match url {
                Some(url) => (PgConnectOptions::from_str(&url).expect("DATABASE_URL"), None),
                None => {
                    let server = Embedded::throw_away().await.expect("a throw-away PostgreSQL");
                    (server.connect_options(), Some(server))
                }
            };
            let is_ours = server.is_some();
            let admin =
                server.as_ref().map_or_else(|| options.clone(), Embedded::superuser_options);
            if is_ours {
                // On somebody's server it would be left behind.
                create(&admin, TEMPLATE, "template0", options.get_username()).await;
                store::migrate(&options.clone().database(TEMPLATE)).await.unwrap();
            }
            sender.send(Cluster { options, admin, is_ours }).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("the cluster could not be started")
});

/// An empty, migrated database; dropped with the value when the server is not ours to throw away.
#[derive(Debug)]
pub struct Database {
    pub options: PgConnectOptions,
    /// None when it is not ours to drop.
    name: Option<String>,
}

impl Database {
    pub async fn create() -> Self {
        let name = next_name();
        let cluster = tokio::task::spawn_blocking(|| &*CLUSTER).await.unwrap();
        let options = cluster.options.clone().database(&name);
        if cluster.is_ours {
            create(&cluster.admin, &name, TEMPLATE, cluster.options.get_username()).await;
        } else {
            create(&cluster.admin, &name, "template0", cluster.options.get_username()).await;
            store::migrate(&options).await.unwrap();
        }
        Self { options, name: Some(name) }
    }

    /// An empty database, with nothing of the service in it.
    pub async fn empty() -> Self {
        let cluster = tokio::task::spawn_blocking(|| &*CLUSTER).await.unwrap();
        let name = next_name();
        create(&cluster.admin, &name, "template0", cluster.options.get_username()).await;
        Self { options: cluster.options.clone().database(&name), name: Some(name) }
    }

    /// Sets the default isolation level of its transactions, for connections from now on.
    pub async fn set_default_isolation(&self, level: &str) {
        let name = self.options.get_database().unwrap();
        let set = format!("alter database {name} set default_transaction_isolation = '{level}'");
        let mut connection = self.options.connect().await.unwrap();
        connection.execute(set.as_str()).await.unwrap();
    }

    /// One of a server that the test started itself.
    pub fn of(options: PgConnectOptions) -> Self {
        Self { options, name: None }
    }

    /// As the superuser, where there is one besides the owner.
    pub fn superuser_options(&self) -> PgConnectOptions {
        CLUSTER.admin.clone().database(self.options.get_database().unwrap())
    }

    /// For `DATABASE_URL` of another process.
    pub fn url(&self) -> String {
        self.options.to_url_lossy().to_string()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(name) = &self.name else { return };
        if CLUSTER.is_ours {
            return;
        }
        let drop = format!("drop database if exists {name} with (force)");
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut connection = CLUSTER.options.connect().await.unwrap();
                connection.execute(drop.as_str()).await.unwrap();
            });
        });
        let _ = thread.join();
    }
}

fn next_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("portcullis_test_{}_{count}", std::process::id())
}

async fn create(options: &PgConnectOptions, name: &str, template: &str, owner: &str) {
    let mut connection = options.connect().await.unwrap();
    let create = format!("create database {name} template {template} owner {owner}");
    connection.execute(create.as_str()).await.unwrap();
}
