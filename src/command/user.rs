//! `portcullis user …`: accounts, for the operator.

mod list;

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;
use uuid::Uuid;

use crate::account::{self, Actor};
use crate::client::Client;
use crate::command::{cause, failed, find_account, import, on_database, output, refused};
use crate::config::Config;
use crate::names;
use crate::password::{Hasher, NewPassword};
use crate::problem::FieldError;
use crate::store::users::{Changes, NewUser, Role, User};
use crate::store::{self, users};

/// What a fault is told of.
const FIELD: &str = "the password";

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// List accounts, the newest first
    List(list::List),
    /// Create an account; prompts for the password
    Create(Create),
    /// Import the accounts of another service
    ///
    /// Reads a file with one JSON object a line. Accounts that exist already are not changed. Rejected lines are
    /// reported with their number, the field and the reason.
    Import(import::Import),
    /// Set the role of an account, and revoke its sessions
    ///
    /// The last active admin keeps its role. An account that is no longer an admin also loses its API tokens with the
    /// scope admin.
    SetRole {
        /// The account's username or email address
        account: String,
        /// The new role
        role: Role,
    },
    /// Set the password of an account, and revoke its sessions and API tokens
    SetPassword {
        /// The account's username or email address
        account: String,
        /// Where the password comes from
        #[command(flatten)]
        source: PasswordSource,
    },
    /// Disable an account, and revoke its sessions and API tokens
    Disable {
        /// The account's username or email address
        account: String,
    },
    /// Enable a disabled account
    Enable {
        /// The account's username or email address
        account: String,
    },
}

/// The account to make.
#[derive(Args, Debug)]
pub struct Create {
    /// Username; required without --email
    #[arg(long)]
    username: Option<String>,
    /// Email address; required without --username
    #[arg(long, required_unless_present = "username")]
    email: Option<String>,
    /// Mark the email address as verified
    #[arg(long, requires = "email")]
    email_verified: bool,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// Role
    #[arg(long, default_value = "user")]
    role: Role,
    #[command(flatten)]
    source: PasswordSource,
    /// Print the account as JSON, like POST /users
    #[arg(long)]
    json: bool,
}

/// Where the password comes from.
#[derive(Args, Clone, Copy, Debug)]
pub struct PasswordSource {
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

/// Runs the command, and prints the result.
///
/// # Errors
/// One line for the operator.
pub async fn run(config: &Config, command: UserCommand) -> Result<(), String> {
    let hasher = Hasher::new(config);
    let done = match command {
        UserCommand::List(list) => {
            return on_database(config, async |pool| list.run(pool).await).await;
        }
        UserCommand::Import(import) => import::run(config, import).await?,
        command => {
            // Wrong input is reported before a database is started.
            let task = Task::read(command, config, &hasher)?;
            on_database(config, async |pool| task.run(pool, &hasher).await).await?
        }
    };
    output::print(&format!("{done}\n"))
}

/// A command whose input was read and checked.
enum Task {
    Create { new: NewUser, password: SecretString, json: bool },
    SetPassword(String, SecretString),
    SetRole(String, Role),
    SetActive(String, bool),
}

impl Task {
    fn read(command: UserCommand, config: &Config, hasher: &Hasher) -> Result<Self, String> {
        Ok(match command {
            UserCommand::Import(_) | UserCommand::List(_) => {
                return Err("this command changes no account".to_owned());
            }
            UserCommand::Create(create) => {
                let json = create.json;
                let (new, source) = create.check(config.new_email())?;
                Self::Create { new, password: source.read(hasher)?, json }
            }
            UserCommand::SetRole { account, role } => Self::SetRole(account, role),
            UserCommand::SetPassword { account, source } => {
                Self::SetPassword(account, source.read(hasher)?)
            }
            UserCommand::Disable { account } => Self::SetActive(account, false),
            UserCommand::Enable { account } => Self::SetActive(account, true),
        })
    }

    async fn run(self, pool: &PgPool, hasher: &Hasher) -> Result<String, String> {
        match self {
            Self::Create { new, password, json } => {
                let hash = hash(hasher, &password, new.names()).await?;
                let mut transaction = store::begin(pool).await.map_err(failed)?;
                let (actor, client) = (Actor::Operator, Client::operator());
                let user = account::create(&mut transaction, &new, &hash, actor, &client).await;
                let user = user.map_err(|error| cause(&error))?;
                transaction.commit().await.map_err(failed)?;
                if json {
                    return serde_json::to_string(&user).map_err(|error| error.to_string());
                }
                let name = user.username.or(user.email).unwrap_or_default();
                Ok(format!("created the {} {name} ({})", user.role.as_str(), user.id))
            }
            Self::SetPassword(account, password) => {
                let id = find_account(pool, &account).await?;
                let user = users::find(pool, id).await.map_err(failed)?;
                let names = user.as_ref().map(User::names).unwrap_or_default();
                let hash = hash(hasher, &password, names).await?;
                let changes = Changes { password_hash: Some(hash), ..Changes::default() };
                change(pool, id, changes).await?;
                Ok(format!("{account} has a new password; all sessions and API tokens are revoked"))
            }
            Self::SetRole(account, role) => {
                let id = find_account(pool, &account).await?;
                let before = users::find(pool, id).await.map_err(failed)?;
                let word = role.as_str();
                if before.is_some_and(|before| before.role == role) {
                    return Ok(format!("{account} already has the role {word}"));
                }
                change(pool, id, Changes { role: Some(role), ..Changes::default() }).await?;
                let tokens = match role {
                    Role::Admin => "",
                    Role::User => ", and API tokens with the scope admin,",
                };
                Ok(format!("{account} now has the role {word}; all sessions{tokens} are revoked"))
            }
            Self::SetActive(account, is_active) => {
                let changes = Changes { is_active: Some(is_active), ..Changes::default() };
                change(pool, find_account(pool, &account).await?, changes).await?;
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

/// Hashes a new password of an account with these names.
async fn hash(
    hasher: &Hasher,
    password: &SecretString,
    names: Vec<&str>,
) -> Result<String, String> {
    let hash = hasher.hash_new(NewPassword { field: FIELD, password, names }).await;
    hash.map_err(refused)
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
