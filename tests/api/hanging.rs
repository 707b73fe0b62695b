//! A database that takes what it is sent and says nothing.

use std::time::{Duration, Instant};

use portcullis::metrics::Metrics;
use portcullis::state::App;
use portcullis::store;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::broadcast;

use crate::TestApp;
use crate::app::serve;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(options: &PgConnectOptions) -> Box<dyn Stream> {
    match options.get_socket() {
        Some(folder) => {
            let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
            Box::new(UnixStream::connect(socket).await.unwrap())
        }
        None => {
            let address = (options.get_host(), options.get_port());
            Box::new(TcpStream::connect(address).await.unwrap())
        }
    }
}

/// Something before PostgreSQL, and what makes the connections that go through it by then hang for ever.
async fn proxy(options: PgConnectOptions) -> (PgConnectOptions, broadcast::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(listener.local_addr().unwrap().port())
        .username(options.get_username())
        .database(options.get_database().unwrap());
    let (hang, _) = broadcast::channel(1);
    let hangs = hang.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (mut server, mut hang) = (connect(&options).await, hangs.subscribe());
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = hang.recv() => std::future::pending().await,
                }
            });
        }
    });
    (through, hang)
}

#[tokio::test]
async fn connections_that_hang_are_done_without_within_seconds() {
    let app = TestApp::with(|config| config.database_connections = 4).await;
    let user = app.user().await;
    let (through, hang) = proxy(app.database_options()).await;
    let pool = store::pool(through, &app.config);
    let base = serve(App::new(app.config.clone(), pool.clone(), Metrics::default())).await;
    let user = user.at(&base);
    // As many as there may be.
    let mut held = vec![];
    for _ in 0..4 {
        held.push(pool.acquire().await.unwrap());
    }
    drop(held);
    user.get("/me").await.ok();
    hang.send(()).unwrap();
    let begun = Instant::now();
    user.get("/me").await.problem(503, "database_unavailable");
    loop {
        let answer = user.get("/me").await;
        if answer.code == 200 {
            break;
        }
        answer.problem(503, "database_unavailable");
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not recover");
    }
    println!("well after {:?}", begun.elapsed());
}

#[tokio::test]
async fn uses_that_cannot_be_written_down_hinder_nobody() {
    let app = TestApp::with(|config| config.database_connections = 3).await;
    let user = app.user().await;
    app.sql("create function hang() returns trigger language plpgsql as 'begin perform pg_sleep(60); return new; end'").await;
    app.sql("create trigger hang before update on sessions for each row execute function hang()")
        .await;
    let mut setup = app.pool.acquire().await.unwrap();
    sqlx::query("set session_replication_role = replica").execute(&mut *setup).await.unwrap();
    let due = "update sessions set last_seen_at = now() - interval '2 minutes'";
    sqlx::query(due).execute(&mut *setup).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        let asked = Instant::now();
        user.get("/me").await.ok();
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
