//! How mails leave: to an SMTP server or, in development, to files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lettre::address::{AddressError, Envelope};
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp;
use lettre::transport::smtp::extension::Extension;
use lettre::{Address, Message};
use rustix::fs::Access;
use tokio::time::timeout;

use super::connection::{Server, greeting};
use super::letter::Letter;
use crate::config::{Config, SmtpUrl};
use crate::{names, private};

/// What the server, or the way to it, has against a mail.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long the server may take to say goodbye.
const QUIT_WITHIN: Duration = Duration::from_secs(2);

/// Whom mails are from that go to no server.
const FROM_NOBODY: &str = "Portcullis <portcullis@localhost>";

/// Whom mails are from, and how they go.
#[derive(Clone, Debug)]
pub struct Mailer {
    from: Mailbox,
    /// What its mails call the service.
    pub service: String,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Server(SmtpUrl, Arc<Server>),
    /// For development. The files hold links and codes that open accounts.
    Files(PathBuf),
    Nowhere,
}

/// What the server can do besides.
#[derive(Clone, Copy, Debug)]
pub struct Support {
    /// Whether it accepts addresses such as josé@example.com (RFC 6531).
    pub smtputf8: bool,
}

/// A mail on its way.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub to: &'a str,
    /// What names it, here and for those that it passes: a second copy has the same.
    pub id: &'a str,
    /// What it says.
    pub letter: &'a Letter,
}

/// Says that a program sent it, so that none answers it (RFC 3834 §5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, BoxError> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl Mailer {
    /// A mailer as the settings have it. It connects when there is a mail.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn new(config: &Config) -> Result<Self, String> {
        let from = match &config.mail_from {
            Some(from) => from.clone(),
            None => FROM_NOBODY.parse().map_err(|error: AddressError| error.to_string())?,
        };
        let host = || config.public_url.host().to_owned();
        let service = from.name.clone().unwrap_or_else(host);
        let way = match &config.smtp_url {
            Some(url) => {
                let server = Server::new(url, greeting(config))
                    .map_err(|error| format!("PORTCULLIS_SMTP_URL ({url}): {error}"))?;
                Way::Server(url.clone(), Arc::new(server))
            }
            None if config.has_mail() => {
                check(&config.data_dir)?;
                Way::Files(config.data_dir.join("mail"))
            }
            None => Way::Nowhere,
        };
        Ok(Self { from, service, way })
    }

    /// Where mails go, for a person.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.way {
            Way::Server(url, _) => url.to_string(),
            Way::Files(dir) => format!("{}/*.eml (no PORTCULLIS_SMTP_URL)", dir.display()),
            Way::Nowhere => "nowhere (no PORTCULLIS_SMTP_URL)".to_owned(),
        }
    }

    /// Whether mails go anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !matches!(self.way, Way::Nowhere)
    }

    /// Connects to the server, with TLS and the login as they are set, and sends nothing. Without a
    /// server, checks that the directory for mail files can be written.
    ///
    /// # Errors
    /// What the server, or the way to it, has against it.
    pub async fn try_connection(&self) -> Result<Support, BoxError> {
        match &self.way {
            Way::Server(_, server) => {
                let mut connection = server.connect().await?;
                let smtputf8 = connection.server_info().supports_feature(Extension::SmtpUtfEight);
                if !connection.test_connected().await {
                    return Err("the server did not answer".into());
                }
                let _ = timeout(QUIT_WITHIN, connection.quit()).await;
                return Ok(Support { smtputf8 });
            }
            Way::Files(dir) => check_writable(dir).map_err(|error| unwritable(dir, &error))?,
            Way::Nowhere => {}
        }
        Ok(Support { smtputf8: true })
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// What the server, or the way to it, has against it.
    pub async fn send(&self, mail: &Outgoing<'_>) -> Result<(), BoxError> {
        let message = self.message(mail)?;
        match &self.way {
            Way::Server(_, server) => {
                let mut connection = server.connect().await?;
                connection.send(message.envelope(), &message.formatted()).await?;
                // It was accepted. A server that is slow to say goodbye must not make it be sent again.
                let _ = timeout(QUIT_WITHIN, connection.quit()).await;
                Ok(())
            }
            Way::Files(dir) => {
                let name = format!("{}.eml", mail.id);
                let file = dir.join(&name);
                let written = write(dir.clone(), name, message.formatted()).await;
                written.map_err(|error| unwritable(&file, &error))?;
                // Not the text: its link and its code open an account.
                let (subject, file) = (mail.letter.subject, file.display());
                tracing::info!(to = mail.to, subject, %file, "mail written to a file");
                Ok(())
            }
            Way::Nowhere => Ok(()),
        }
    }

    fn message(&self, mail: &Outgoing<'_>) -> Result<Message, BoxError> {
        let (letter, service) = (mail.letter, self.service.as_str());
        let bodies =
            MultiPart::alternative_plain_html(letter.text(service)?, letter.html(service)?);
        let to = address(mail.to)?;
        // Not what it reads out of the headers again.
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.clone()])?;
        let message = Message::builder()
            .envelope(envelope)
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject)
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .header(AutoSubmitted)
            .multipart(bodies)?;
        Ok(message)
    }
}

/// An address as lettre has it, whose own rules accept only some scripts.
fn address(text: &str) -> Result<Address, AddressError> {
    let text = names::email("to", text).map_err(|_| AddressError::InvalidInput)?;
    let (local, domain) = text.rsplit_once('@').ok_or(AddressError::MissingParts)?;
    Ok(Address::new_dangerous(local, domain))
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It may work in a moment.
    Fair,
    /// The server said no for good (5xx), which is for its operator to mend, or ours.
    Poor,
    /// There is no such address.
    Hopeless,
}

/// What to expect of another try to send to this address after an error.
pub fn outlook(error: &BoxError, to: &str) -> Outlook {
    if error.is::<AddressError>() || error.is::<lettre::error::Error>() {
        return Outlook::Hopeless;
    }
    let Some(error) = error.downcast_ref::<smtp::Error>() else { return Outlook::Fair };
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    // X.1.x: it is the address (RFC 3463 §3.2). Without SMTPUTF8 there is no way to some.
    let is_address = error.is_permanent() && cause.starts_with("5.1.");
    if is_address || (error.is_client() && !to.is_ascii()) {
        Outlook::Hopeless
    } else if error.is_permanent() {
        Outlook::Poor
    } else {
        Outlook::Fair
    }
}

/// Rejects a data directory in which another account could read or replace the mails.
fn check(data_dir: &Path) -> Result<(), String> {
    let resolved = private::resolve(data_dir)
        .map_err(|error| format!("PORTCULLIS_DATA_DIR=\"{}\": {error}", data_dir.display()))?;
    if resolved.exists() && !resolved.is_dir() {
        // No mail can be written there, which is reported when one is.
        return Ok(());
    }
    private::check_dir(&resolved)
        .map_err(|fault| format!("{fault}; or set PORTCULLIS_DATA_DIR to another directory"))
}

/// Writes a file that only its owner can read.
async fn write(dir: PathBuf, name: String, bytes: Vec<u8>) -> std::io::Result<()> {
    let write = move || private::write(&dir, &name, &bytes);
    tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?
}

/// Checks that a directory can be written or created, and creates nothing.
fn check_writable(dir: &Path) -> std::io::Result<()> {
    // An empty path is the working directory.
    let mut existing = dir.ancestors().filter(|path| path.as_os_str().is_empty() || path.exists());
    let existing = existing.next().filter(|path| !path.as_os_str().is_empty());
    let existing = existing.unwrap_or(Path::new("."));
    Ok(rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn unwritable(path: &Path, error: &std::io::Error) -> BoxError {
    let remedy = "set PORTCULLIS_SMTP_URL, or PORTCULLIS_DATA_DIR to a writable directory";
    format!("mail files cannot be written to {}: {error}; {remedy}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PublicUrl;

    #[test]
    fn a_directory_for_mails_must_be_writable_and_is_not_created() {
        let root =
            std::env::temp_dir().join(format!("portcullis-mail-{:x}", rand::random::<u64>()));
        check_writable(&root.join("data/mail")).expect("it can be created");
        assert!(!root.exists());
        std::fs::write(&root, "a file").unwrap();
        check_writable(&root).expect_err("a file is no directory");
        std::fs::remove_file(root).unwrap();
        check_writable(Path::new("mail")).expect("the working directory is writable");
    }

    #[test]
    fn without_a_server_any_public_url_will_do() {
        for url in
            ["http://[::1]:8080", "http://127.0.0.1:8080", "http://auth", "https://a.example"]
        {
            let mut config = Config::defaults().unwrap();
            config.public_url = PublicUrl::parse(url).unwrap();
            let mailer = Mailer::new(&config).expect(url);
            let mail = Outgoing { to: "alice@example.com", id: "1", letter: &Letter::test("x") };
            mailer.message(&mail).expect(url);
        }
    }
}
