//! Something between the service and PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split,
};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::broadcast;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Passes on what both sides say, until its connections are made to hang.
pub struct Proxy {
    /// How to connect through it.
    pub options: PgConnectOptions,
    hang: broadcast::Sender<()>,
    asked: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn before(options: PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(listener.local_addr().unwrap().port())
            .username(options.get_username())
            .database(options.get_database().unwrap());
        let (hang, _) = broadcast::channel(1);
        let asked = Arc::new(AtomicUsize::new(0));
        let proxy = Self { options: through, hang: hang.clone(), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut from_client, mut to_client) = split(Box::new(client) as Box<dyn Stream>);
                let (mut from_server, mut to_server) = split(connect(&options).await);
                let (mut hang, asked) = (hang.subscribe(), Arc::clone(&asked));
                tokio::spawn(async move {
                    let answered = AtomicBool::new(true);
                    let questions = pass_on(&mut from_client, &mut to_server, || {
                        if answered.swap(false, Ordering::SeqCst) {
                            asked.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                    let answers = pass_on(&mut from_server, &mut to_client, || {
                        answered.store(true, Ordering::SeqCst);
                    });
                    tokio::select! {
                        () = questions => {}
                        () = answers => {}
                        _ = hang.recv() => std::future::pending().await,
                    }
                });
            }
        });
        proxy
    }

    /// Has the connections that there are take what they are sent, and say nothing any more.
    pub fn hang(&self) {
        self.hang.send(()).unwrap();
    }

    /// How often PostgreSQL was asked something, and its answer waited for, since this was last called.
    pub fn round_trips(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

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

async fn pass_on(
    from: &mut ReadHalf<Box<dyn Stream>>,
    to: &mut WriteHalf<Box<dyn Stream>>,
    said: impl Fn(),
) {
    let mut said_now = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut said_now).await {
        said();
        if to.write_all(&said_now[..length]).await.is_err() {
            return;
        }
    }
}
