//! `portcullis user …`: accounts, for the operator.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;
use uuid::Uuid;

use crate::account::{self, Actor};
use crate::client::Client;
use crate::command::{Database, import, refused};
use crate::config::Config;
use crate::error::Error;
use crate::names::{self, Identifier};
use crate::password::{Hasher, NewPassword};
use crate::problem::FieldError;
use crate::store::users::{Changes, NewUser, Role, User};
use crate::store::{self, users};

/// What a fault is told of.
const FIELD: &str = "the password";

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account; the password is asked for
    Create(Create),
    /// Make the accounts of another service, from a file with a JSON object a line
    Import(import::Import),
    /// Set the password of an account, and revoke its sessions and API tokens
    SetPassword {
        /// The account's username or email address
        account: String,
        /// Where the password comes from
        #[command(flatten)]
        source: PasswordSource,
    },
    /// Disable an account: nobody logs in, and its sessions and API tokens are revoked
    Disable {
        /// The account's username or email address
        account: String,
    },
    /// Let an account log in again
    Enable {
        /// The account's username or email address
        account: String,
    },
}

/// The account to make.
#[derive(Args, Debug)]
pub struct Create {
    /// Its username; this or --email is needed
    #[arg(long)]
    username: Option<String>,
    /// Its email address
    #[arg(long, required_unless_present = "username")]
    email: Option<String>,
    /// Take the email address for verified
    #[arg(long, requires = "email")]
    email_verified: bool,
    /// Its display name
    #[arg(long)]
    name: Option<String>,
    /// What it may do
    #[arg(long, default_value = "user")]
    role: Role,
    #[command(flatten)]
    source: PasswordSource,
}

/// Where the password comes from.
#[derive(Args, Clone, Copy, Debug)]
pub struct PasswordSource {
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

/// Does it, and returns a line that says what was done.
///
/// # Errors
/// One line for the operator.
pub async fn run(config: &Config, command: UserCommand) -> Result<String, String> {
    // Whatever is wrong with what was typed is told before a database is started.
    let hasher = Hasher::new(config);
    let task = match command {
        UserCommand::Import(import) => return import::run(config, import).await,
        command => Task::read(command, config, &hasher)?,
    };
    let database = Database::join(config).await?;
    let done = async {
        store::migrate(&database.options()).await.map_err(|error| error.to_string())?;
        let pool = store::pool(database.options(), config);
        let done = task.run(&pool, &hasher).await;
        pool.close().await;
        done
    };
    let done = done.await;
    database.close().await;
    done
}

/// A command whose input was read and checked.
enum Task {
    Create(NewUser, SecretString),
    SetPassword(String, SecretString),
    SetActive(String, bool),
}

impl Task {
    fn read(command: UserCommand, config: &Config, hasher: &Hasher) -> Result<Self, String> {
        Ok(match command {
            UserCommand::Import(_) => return Err("import reads a file of its own".to_owned()),
            UserCommand::Create(create) => {
                let (new, source) = create.check(config.new_email())?;
                Self::Create(new, source.read(hasher)?)
            }
            UserCommand::SetPassword { account, source } => {
                Self::SetPassword(account, source.read(hasher)?)
            }
            UserCommand::Disable { account } => Self::SetActive(account, false),
            UserCommand::Enable { account } => Self::SetActive(account, true),
        })
    }

    async fn run(self, pool: &PgPool, hasher: &Hasher) -> Result<String, String> {
        match self {
            Self::Create(new, password) => {
                let hash = hash(hasher, &password, new.names()).await?;
                let mut transaction = store::begin(pool).await.map_err(failed)?;
                let (actor, client) = (Actor::Operator, Client::operator());
                let user = account::create(&mut transaction, &new, &hash, actor, &client).await;
                let user = user.map_err(|error| cause(&error))?;
                transaction.commit().await.map_err(failed)?;
                let name = user.username.or(user.email).unwrap_or_default();
                let role = if user.role == Role::Admin { "admin" } else { "user" };
                Ok(format!("made the {role} {name} ({})", user.id))
            }
            Self::SetPassword(account, password) => {
                let id = find(pool, &account).await?;
                let user = users::find(pool, id).await.map_err(failed)?;
                let names = user.as_ref().map(User::names).unwrap_or_default();
                let hash = hash(hasher, &password, names).await?;
                let changes = Changes { password_hash: Some(hash), ..Changes::default() };
                change(pool, id, changes).await?;
                Ok(format!("{account} has a new password; all sessions and API tokens are revoked"))
            }
            Self::SetActive(account, is_active) => {
                let changes = Changes { is_active: Some(is_active), ..Changes::default() };
                change(pool, find(pool, &account).await?, changes).await?;
                Ok(match is_active {
                    true => format!("{account} may log in again"),
                    false => {
                        format!(
                            "{account} may no longer log in; all sessions and API tokens are revoked"
                        )
                    }
                })
            }
        }
    }
}

/// Changes an account, with all that follows from the change.
async fn change(pool: &PgPool, id: Uuid, changes: Changes) -> Result<(), String> {
    let mut transaction = store::begin(pool).await.map_err(failed)?;
    let client = Client::operator();
    let changed = account::update(&mut transaction, id, changes, Actor::Operator, &client).await;
    changed.map_err(|error| cause(&error))?;
    transaction.commit().await.map_err(failed)
}

async fn find(pool: &PgPool, account: &str) -> Result<Uuid, String> {
    let found = users::find_credentials(pool, &Identifier::new(account)).await.map_err(failed)?;
    found.map(|found| found.user_id).ok_or_else(|| format!("there is no account {account}"))
}

/// Hashes a new password of an account with these names.
async fn hash(
    hasher: &Hasher,
    password: &SecretString,
    names: Vec<&str>,
) -> Result<String, String> {
    let hash = hasher.hash_new(NewPassword { field: FIELD, password, names }).await;
    hash.map_err(refused)
}

/// An error in words for an operator, who may know the cause.
fn cause(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("the database refused: {source}"))
}

fn failed(error: sqlx::Error) -> String {
    format!("the database refused: {error}")
}

impl Create {
    fn check(self, new_email: names::Read) -> Result<(NewUser, PasswordSource), String> {
        let new = NewUser {
            username: self
                .username
                .map(|text| names::username("--username", &text))
                .transpose()
                .map_err(told)?,
            email: self.email.map(|text| new_email("--email", &text)).transpose().map_err(told)?,
            name: self.name.map(|text| names::name("--name", &text)).transpose().map_err(told)?,
            role: self.role,
            email_verified: self.email_verified,
            must_change_password: false,
            password_proven: self.email_verified,
        };
        Ok((new, self.source))
    }
}

impl PasswordSource {
    fn read(self, hasher: &Hasher) -> Result<SecretString, String> {
        let password = if self.password_stdin {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
            // PowerShell may write a byte order mark before what it pipes.
            let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
            SecretString::from(line.trim_end_matches(['\r', '\n']).to_owned())
        } else if std::io::stdin().is_terminal() {
            let prompt = |text| rpassword::prompt_password(text).map(SecretString::from);
            let first = prompt("Password: ").map_err(|error| error.to_string())?;
            let again = prompt("Password, again: ").map_err(|error| error.to_string())?;
            if first.expose_secret() != again.expose_secret() {
                return Err("the two passwords differ".to_owned());
            }
            first
        } else {
            return Err(
                "there is no terminal to ask for the password; use --password-stdin".to_owned()
            );
        };
        match hasher.fault(FIELD, &password) {
            Some(fault) => Err(told(fault)),
            None => Ok(password),
        }
    }
}

fn told(fault: FieldError) -> String {
    fault.to_string()
}
