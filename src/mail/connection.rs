//! Connections to the mail server: how it is reached, greeted and logged in to.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{Error, SMTP_PORT, SUBMISSION_PORT, SUBMISSIONS_PORT};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

use super::BoxError;
use crate::config::{Config, SmtpUrl};
use crate::names;

/// How long connecting may take. Replies have no limit of their own: the caller sets one for all.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
/// What [`HeloStream`] writes instead of `EHLO`.
const HELO: &[u8] = b"HELO";

/// The mail server of `PORTCULLIS_SMTP_URL`.
pub(super) struct Server {
    host: String,
    port: u16,
    encryption: Encryption,
    login: Option<Credentials>,
    name: ClientId,
}

enum Encryption {
    None,
    /// Required, after a greeting in plain text (RFC 3207).
    Starttls(TlsParameters),
    /// From the first byte (RFC 8314).
    Wrapped(TlsParameters),
}

/// The name by which the service greets mail servers: many reject names without a dot (RFC 5321 §4.1.4). The name of
/// the machine is not used, since a container has its id for a name.
#[must_use]
pub fn greeting(config: &Config) -> ClientId {
    let domain = |name: &str| {
        let name = name.trim_end_matches('.');
        names::is_public_domain(name).then(|| ClientId::Domain(name.to_owned()))
    };
    let sender = config.mail_from.as_ref().and_then(|from| domain(from.email.domain()));
    // An address in brackets is what a client without a name sends.
    domain(config.public_url.host()).or(sender).unwrap_or(ClientId::Ipv4(Ipv4Addr::LOCALHOST))
}

impl Server {
    pub(super) fn new(url: &SmtpUrl, name: ClientId) -> Result<Self, BoxError> {
        let url = Url::parse(url.connection())?;
        let host = match url.host().ok_or("a host is missing")? {
            Host::Domain(host) => host.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let tls = || TlsParameters::new(host.clone());
        let (encryption, port) = match (url.scheme(), url.query()) {
            ("smtps", _) => (Encryption::Wrapped(tls()?), SUBMISSIONS_PORT),
            (_, Some(_)) => (Encryption::Starttls(tls()?), SUBMISSION_PORT),
            _ => (Encryption::None, SMTP_PORT),
        };
        let decode = |text| percent_decode_str(text).decode_utf8().map(String::from);
        let login = match url.password() {
            Some(password) => Some(Credentials::new(decode(url.username())?, decode(password)?)),
            None => None,
        };
        Ok(Self { host, port: url.port().unwrap_or(port), encryption, login, name })
    }

    /// Connects, encrypts and logs in, as the URL says.
    pub(super) async fn connect(&self) -> Result<AsyncSmtpConnection, BoxError> {
        let wrapped = match &self.encryption {
            Encryption::Wrapped(tls) => Some(tls.clone()),
            _ => None,
        };
        let address = (&*self.host, self.port);
        let limit = Some(CONNECT_WITHIN);
        let connected =
            AsyncSmtpConnection::connect_tokio1(address, limit, &self.name, wrapped, None).await;
        let mut connection = match connected {
            Err(error) if error.is_permanent() && self.is_plain() => {
                self.connect_by_helo(error).await?
            }
            connected => connected?,
        };
        if let Encryption::Starttls(tls) = &self.encryption {
            connection.starttls(tls.clone(), &self.name).await?;
        }
        if let Some(login) = &self.login {
            connection.auth(&MECHANISMS, login).await?;
        }
        Ok(connection)
    }

    /// Whether nothing is needed that only extensions offer.
    fn is_plain(&self) -> bool {
        matches!(self.encryption, Encryption::None) && self.login.is_none()
    }

    /// Greets a server that rejected `EHLO` with `HELO` (RFC 5321 §3.2).
    async fn connect_by_helo(&self, rejection: Error) -> Result<AsyncSmtpConnection, BoxError> {
        let connected = timeout(CONNECT_WITHIN, TcpStream::connect((&*self.host, self.port))).await;
        let Ok(Ok(stream)) = connected else { return Err(rejection.into()) };
        let stream = Box::new(HeloStream { stream, written: 0 });
        Ok(AsyncSmtpConnection::connect_with_transport(stream, &self.name).await?)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({}:{})", self.host, self.port)
    }
}

/// A connection on which the first command, lettre's `EHLO`, is sent as `HELO`, which is as long.
#[derive(Debug)]
struct HeloStream {
    stream: TcpStream,
    /// Bytes so far.
    written: usize,
}

impl AsyncTokioStream for HeloStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for HeloStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for HeloStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let stream = Pin::new(&mut this.stream);
        let written = match HELO.get(this.written..).filter(|rest| !rest.is_empty()) {
            None => stream.poll_write(context, bytes),
            Some(rest) => {
                let mut bytes = bytes.to_vec();
                bytes.iter_mut().zip(rest).for_each(|(byte, helo)| *byte = *helo);
                stream.poll_write(context, &bytes)
            }
        };
        if let Poll::Ready(Ok(count)) = &written {
            this.written += count;
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PublicUrl;

    #[test]
    fn the_greeting_is_a_domain_with_a_dot_or_an_address_in_brackets() {
        for (public_url, from, expected) in [
            ("https://auth.example.com", "a@mail.example.org", "auth.example.com"),
            ("https://bücher.example", "a@mail.example.org", "xn--bcher-kva.example"),
            ("http://localhost:8080", "a@mail.example.org", "mail.example.org"),
            ("http://app.localhost", "a@mail.example.org", "mail.example.org"),
            ("http://portcullis:8080", "a@mail.example.org", "mail.example.org"),
            ("http://192.0.2.1", "a@mail.example.org", "mail.example.org"),
            ("http://[2001:db8::1]", "a@mail.example.org", "mail.example.org"),
            ("http://localhost:8080", "a@localhost", "[127.0.0.1]"),
            ("http://localhost:8080", "", "[127.0.0.1]"),
        ] {
            let mut config = Config::defaults().unwrap();
            config.public_url = PublicUrl::parse(public_url).unwrap();
            config.mail_from = from.parse().ok();
            assert_eq!(greeting(&config).to_string(), expected, "{public_url} {from}");
        }
    }

    #[test]
    fn the_server_and_the_login_are_those_of_the_url() {
        for (url, host, port) in [
            ("smtp://mail.example.com", "mail.example.com", 25),
            ("smtp+starttls://mail.example.com", "mail.example.com", 587),
            ("smtps://mail.example.com", "mail.example.com", 465),
            ("smtp://127.0.0.1:1025", "127.0.0.1", 1025),
            ("smtps://[::1]", "::1", 465),
        ] {
            let server = Server::new(&SmtpUrl::parse(url).unwrap(), ClientId::default()).unwrap();
            assert_eq!((&*server.host, server.port), (host, port), "{url}");
            assert!(server.login.is_none());
        }
        let url = SmtpUrl::parse("smtps://a%40b:p%40ss%3A%2F%C3%BC@localhost").unwrap();
        let server = Server::new(&url, ClientId::default()).unwrap();
        assert!(server.login == Some(Credentials::new("a@b".into(), "p@ss:/ü".into())));
        assert!(!format!("{server:?}").contains("ss:/"), "{server:?}");
    }
}
