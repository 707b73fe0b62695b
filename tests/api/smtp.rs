//! A mail server on loopback that keeps what it is given, for the tests to read.

mod mail;
mod sending;
mod session;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use url::Url;

pub use mail::Mail;
use session::Server;

/// How long a mail may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a client must do before it may send.
#[derive(Clone, Copy, Default)]
pub struct Options {
    pub tls: Tls,
    /// The username and the password.
    pub login: Option<(&'static str, &'static str)>,
    pub hello: Hello,
    /// Whether addresses may have other characters than ASCII.
    pub smtputf8: bool,
}

/// How a client must greet it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Hello {
    #[default]
    Any,
    /// It is older than EHLO.
    HeloOnly,
    /// With a name that has a dot, as Postfix with reject_non_fqdn_helo_hostname.
    FullyQualified,
    /// No name is good enough.
    Rejected,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Tls {
    #[default]
    None,
    /// Asked for by the client; nothing is taken without.
    Starttls,
    /// From the first byte.
    Wrapped,
}

/// What becomes of a message instead of being kept and answered with a 250.
#[derive(Clone, Copy)]
pub enum Failure {
    /// Each recipient is refused with this code.
    RefuseRecipient(u16),
    /// Each recipient is unknown: a 550 that says so.
    UnknownRecipient,
    /// A 451 once the message has been sent; it is not kept.
    TemporaryAfterData,
    /// A 554 that quotes the message, as a spam filter may; it is not kept.
    QuoteMessage,
    /// The message is kept, but the connection ends without an answer.
    CutAfterData,
    /// The message is not kept, and nothing is answered any more on a connection that stays.
    Hang,
}

/// An SMTP server on a port of its own, until it is dropped.
pub struct Mailbox {
    address: SocketAddr,
    certificate: String,
    server: Arc<Server>,
    /// What ends the listening, which then gives back the port.
    listening: Mutex<Option<(oneshot::Sender<()>, JoinHandle<TcpSocket>)>>,
    /// The port while nobody listens: nobody else gets it.
    held: Mutex<Option<TcpSocket>>,
}

impl Mailbox {
    /// One that takes everything from everybody.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let names = ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into());
        let mailbox = Self {
            address: socket.local_addr().unwrap(),
            certificate: certified.cert.pem(),
            server: Arc::new(Server::new(options, certified)),
            listening: Mutex::new(None),
            held: Mutex::new(Some(socket)),
        };
        mailbox.restart().await;
        mailbox
    }

    /// Where it is, how to encrypt, and how to log in.
    pub fn url(&self) -> String {
        let Options { tls, login, .. } = self.server.options;
        let (scheme, host) = match tls {
            Tls::None => ("smtp", "127.0.0.1"),
            Tls::Starttls => ("smtp+starttls", "localhost"),
            Tls::Wrapped => ("smtps", "localhost"),
        };
        let port = self.address.port();
        let mut url = Url::parse(&format!("{scheme}://{host}:{port}")).unwrap();
        if let Some((username, password)) = login {
            url.set_username(username).unwrap();
            url.set_password(Some(password)).unwrap();
        }
        url.into()
    }

    /// The PEM of the certificate, which is its own authority.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Refuses connections from now on, and cuts those that there are.
    pub async fn stop(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some((stop, listening)) = listening {
            stop.send(()).unwrap();
            *self.held.lock().unwrap() = Some(listening.await.unwrap());
        }
    }

    /// Stops if need be, and listens on the same port again.
    pub async fn restart(&self) {
        self.stop().await;
        let listener = self.held.lock().unwrap().take().unwrap().listen(1024).unwrap();
        let (stop, stopped) = oneshot::channel();
        let listening = tokio::spawn(listen(listener, Arc::clone(&self.server), stopped));
        *self.listening.lock().unwrap() = Some((stop, listening));
    }

    /// What becomes of the next messages, after those that were spoken of before.
    pub fn fail(&self, failure: Failure, times: usize) {
        self.server.failures.lock().unwrap().extend(std::iter::repeat_n(failure, times));
    }

    /// All that it was given so far, in order.
    pub fn received(&self) -> Vec<Mail> {
        self.server.mails.borrow().clone()
    }

    /// All that it was given, once there are so many.
    pub async fn wait(&self, count: usize) -> Vec<Mail> {
        self.until(&format!("{count} mails"), |mails| mails.len() >= count).await
    }

    /// The mails that this address was a recipient of.
    pub fn to(&self, address: &str) -> Vec<Mail> {
        self.received().into_iter().filter(|mail| mail.is_to(address)).collect()
    }

    /// The first, second, … mail to an address, once it has come.
    pub async fn next_to(&self, address: &str, n: usize) -> Mail {
        let what = format!("{n} mails to {address}");
        let is_there =
            |mails: &[Mail]| mails.iter().filter(|mail| mail.is_to(address)).count() >= n;
        self.until(&what, is_there).await;
        self.to(address).swap_remove(n - 1)
    }

    /// The names by which it was greeted.
    pub fn greetings(&self) -> Vec<String> {
        self.server.greetings.lock().unwrap().clone()
    }

    /// How many logins were right.
    pub fn logins(&self) -> usize {
        self.server.logins()
    }

    async fn until(&self, what: &str, come: impl Fn(&[Mail]) -> bool) -> Vec<Mail> {
        let mut mails = self.server.mails.subscribe();
        if let Ok(mails) = timeout(PATIENCE, mails.wait_for(|mails| come(mails))).await {
            return mails.unwrap().clone();
        }
        panic!("no {what}, but {:#?}", self.received());
    }
}

/// Takes a port, without listening yet.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // What was cut may linger there.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Serves until told to stop, or until there is nobody left to tell it.
async fn listen(
    listener: TcpListener,
    server: Arc<Server>,
    mut stopped: oneshot::Receiver<()>,
) -> TcpSocket {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(Arc::clone(&server).serve(accepted.unwrap().0));
            }
            // A client that goes away is no failure of the server, but a panic is of the test.
            Some(ended) = connections.join_next() => drop(ended.unwrap()),
            _ = &mut stopped => break,
        }
    }
    let address = listener.local_addr().unwrap();
    drop(listener);
    let held = bind(address);
    connections.shutdown().await;
    held
}
