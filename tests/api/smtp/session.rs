//! What the server says to a client.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mailin::response::{AUTH_OK, INVALID_CREDENTIALS, OK};
use mailin::{Action, AuthMechanism, Handler, Response, SessionBuilder};
use rcgen::{CertifiedKey, KeyPair};
use tokio::io::{self, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::{Failure, Hello, Mail, Options, Tls};

/// Not a code of SMTP: the connection ends without an answer.
const CUT: u16 = 1;
/// Nor is this: nothing is answered any more.
const HANG: u16 = 2;

/// What all connections share.
pub struct Server {
    pub options: Options,
    pub mails: watch::Sender<Vec<Mail>>,
    pub failures: Mutex<VecDeque<Failure>>,
    pub greetings: Mutex<Vec<String>>,
    logins: AtomicUsize,
    tls: TlsAcceptor,
}

impl Server {
    pub fn new(options: Options, certified: CertifiedKey<KeyPair>) -> Self {
        let chain = vec![certified.cert.into()];
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain, certified.signing_key.into()).unwrap();
        Self {
            options,
            mails: watch::Sender::default(),
            failures: Mutex::default(),
            greetings: Mutex::default(),
            logins: AtomicUsize::new(0),
            tls: Arc::new(config).into(),
        }
    }

    pub fn logins(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }

    /// Serves a client until it goes.
    pub async fn serve(self: Arc<Self>, stream: TcpStream) -> io::Result<()> {
        if self.options.tls == Tls::Wrapped {
            self.converse(self.tls.accept(stream).await?, true).await?;
        } else if let Some(stream) = self.converse(stream, false).await? {
            self.converse(self.tls.accept(stream).await?, true).await?;
        }
        Ok(())
    }

    /// Answers line by line, and returns the stream when it is to be encrypted.
    async fn converse<S>(self: &Arc<Self>, stream: S, is_encrypted: bool) -> io::Result<Option<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut session = self.rules().build(
            Ipv4Addr::LOCALHOST.into(),
            Dialogue {
                server: Arc::clone(self),
                is_encrypted,
                failure: None,
                from: String::new(),
                to: Vec::new(),
                raw: Vec::new(),
            },
        );
        if is_encrypted {
            session.tls_active();
        }
        let mut stream = BufStream::new(stream);
        if is_encrypted == (self.options.tls == Tls::Wrapped) {
            stream.write_all(&session.greeting().buffer()?).await?;
            stream.flush().await?;
        }
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await? > 0 {
            let is_ehlo = line.starts_with(b"EHLO ");
            if is_ehlo && self.options.hello == Hello::HeloOnly {
                stream.write_all(b"502 5.5.1 Command not implemented\r\n").await?;
                stream.flush().await?;
                line.clear();
                continue;
            }
            let offers_smtputf8 = is_ehlo && self.options.smtputf8;
            if self.options.smtputf8 {
                // The session knows nothing of it.
                let text = String::from_utf8(line).unwrap();
                line = text.replace(" SMTPUTF8", "").into_bytes();
            }
            let response = session.process(&line);
            line.clear();
            match response.code {
                CUT => break,
                HANG => drop(io::copy(&mut stream, &mut io::sink()).await?),
                _ if response.action == Action::NoReply => {}
                _ => {
                    let mut reply = response.buffer()?;
                    if offers_smtputf8 && response.code == 250 {
                        let first = reply.iter().position(|byte| *byte == b'\n').unwrap() + 1;
                        reply.splice(first..first, b"250-SMTPUTF8\r\n".iter().copied());
                    }
                    stream.write_all(&reply).await?;
                    stream.flush().await?;
                }
            }
            match response.action {
                Action::Reply | Action::NoReply => {}
                Action::UpgradeTls => return Ok(Some(stream.into_inner())),
                Action::Close => break,
            }
        }
        Ok(None)
    }

    fn rules(&self) -> SessionBuilder {
        let mut rules = SessionBuilder::new("localhost");
        if self.options.login.is_some() {
            rules.enable_auth(AuthMechanism::Plain).enable_auth(AuthMechanism::Login);
        }
        match self.options.tls {
            Tls::None => rules.insecure_enable_plaintext_auth(),
            Tls::Starttls => rules.enable_start_tls(),
            Tls::Wrapped => &mut rules,
        };
        rules
    }
}

/// A connection, and the message that is being sent on it.
struct Dialogue {
    server: Arc<Server>,
    is_encrypted: bool,
    failure: Option<Failure>,
    from: String,
    to: Vec<String>,
    raw: Vec<u8>,
}

impl Dialogue {
    fn keep(&mut self) {
        let (from, to) = (std::mem::take(&mut self.from), std::mem::take(&mut self.to));
        let mail = Mail::parse(from, to, std::mem::take(&mut self.raw));
        self.server.mails.send_modify(|mails| mails.push(mail));
    }
}

impl Handler for Dialogue {
    fn helo(&mut self, _: IpAddr, domain: &str) -> Response {
        self.server.greetings.lock().unwrap().push(domain.to_owned());
        match self.server.options.hello {
            Hello::FullyQualified if !domain.contains('.') => {}
            Hello::Rejected => {}
            _ => return OK,
        }
        let text =
            format!("5.5.2 <{domain}>: Helo command rejected: need fully-qualified hostname");
        Response::custom(504, text)
    }

    fn mail(&mut self, _: IpAddr, _: &str, _: &str) -> Response {
        if self.server.options.tls == Tls::Starttls && !self.is_encrypted {
            return Response::custom(530, "Must issue a STARTTLS command first".to_owned());
        }
        self.failure = self.server.failures.lock().unwrap().pop_front();
        OK
    }

    fn rcpt(&mut self, _: &str) -> Response {
        match self.failure {
            Some(Failure::RefuseRecipient(code)) => Response::custom(code, "Refused".to_owned()),
            Some(Failure::UnknownRecipient) => {
                Response::custom(550, "5.1.1 Nobody of that name here".to_owned())
            }
            _ => OK,
        }
    }

    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        self.from = from.to_owned();
        self.to = to.to_vec();
        self.raw.clear();
        OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.raw.extend(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let mut response = OK;
        match self.failure.take() {
            None | Some(Failure::RefuseRecipient(_) | Failure::UnknownRecipient) => self.keep(),
            Some(Failure::TemporaryAfterData) => {
                response = Response::custom(451, "Try again later".to_owned());
                // After an error, the session would take what follows for more of the message.
                response.is_error = false;
            }
            Some(Failure::QuoteMessage) => {
                let mail = Mail::parse(String::new(), vec![], std::mem::take(&mut self.raw));
                let words: Vec<&str> = mail.text.split_whitespace().collect();
                response = Response::custom(554, format!("Spam: {}", words.join(" ")));
                response.is_error = false;
            }
            Some(Failure::CutAfterData) => {
                self.keep();
                response.code = CUT;
            }
            Some(Failure::Hang) => response.code = HANG,
        }
        response
    }

    fn auth_plain(&mut self, _: &str, username: &str, password: &str) -> Response {
        self.auth_login(username, password)
    }

    fn auth_login(&mut self, username: &str, password: &str) -> Response {
        if self.server.options.login != Some((username, password)) {
            return INVALID_CREDENTIALS;
        }
        self.server.logins.fetch_add(1, Ordering::Relaxed);
        AUTH_OK
    }
}
