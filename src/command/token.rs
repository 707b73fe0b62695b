//! `portcullis token …`: API tokens, for the operator.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::account::{self, Actor, TokenRequest};
use crate::client::Client;
use crate::command::{self, cause, failed, output, refused};
use crate::config::{self, Config};
use crate::error::Error;
use crate::store;
use crate::store::api_tokens::{NewApiToken, Scope};
use crate::timestamp;
use crate::token::ApiTokenSecret;

/// The flags, as faults name them.
const FLAGS: [&str; 3] = ["--name", "--scope", "--expires-in"];

/// What to do with API tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create an API token for an account, and print its secret
    ///
    /// Prints the secret to standard output, and what the token may do to standard error. The secret is not shown
    /// again.
    Create(Create),
}

/// The token to create.
#[derive(Args, Debug)]
pub struct Create {
    /// The account's username or email address
    account: String,
    /// The name of the token, such as "backup script"
    #[arg(long)]
    name: String,
    /// What the token may do; may be repeated [default: read]
    #[arg(long, value_name = "SCOPE", hide_default_value = true)]
    scope: Vec<Scope>,
    /// How long the token is valid, such as 90d [default: 365d]
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    expires_in: Option<Duration>,
    /// Create a token that never expires
    #[arg(long, conflicts_with = "expires_in")]
    no_expiry: bool,
    /// Print the token and its secret as JSON, like POST /me/tokens
    #[arg(long)]
    json: bool,
}

/// Runs the command, and prints the result.
///
/// # Errors
/// One line for the operator.
pub async fn run(config: &Config, command: TokenCommand) -> Result<(), String> {
    let TokenCommand::Create(create) = command;
    let request = create.check()?;
    command::on_database(config, async |pool| create.run(pool, request).await).await
}

impl Create {
    fn check(&self) -> Result<TokenRequest, String> {
        let expires_at = match self.expires_in {
            Some(duration) => Some(Some(OffsetDateTime::now_utc() + duration)),
            None => self.no_expiry.then_some(None),
        };
        let scopes = (!self.scope.is_empty()).then(|| self.scope.clone());
        TokenRequest::check(FLAGS, &self.name, scopes, expires_at).map_err(refused)
    }

    async fn run(&self, pool: &PgPool, request: TokenRequest) -> Result<(), String> {
        let user_id = command::find_account(pool, &self.account).await?;
        let secret = ApiTokenSecret::generate();
        let TokenRequest { name, scopes, expires_at } = &request;
        let (hash, expires_at) = (secret.hash(), *expires_at);
        let new = NewApiToken { user_id, name, hash: &hash, scopes, expires_at };
        let mut transaction = store::begin(pool).await.map_err(failed)?;
        let (actor, client) = (Actor::Operator, Client::operator());
        let token = account::create_token(&mut transaction, &new, actor, &client).await;
        let token = token.map_err(|error| match error {
            Error::Forbidden => "only tokens of admins may have the scope admin".to_owned(),
            error => cause(&error),
        })?;
        transaction.commit().await.map_err(failed)?;
        if self.json {
            let body = json!({"api_token": token, "token": secret.expose()});
            return output::print(&format!("{body}\n"));
        }
        let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let end = match token.expires_at.as_ref().map(timestamp::format) {
            Some(time) => format!("expires at {}", time.map_err(|error| error.to_string())?),
            None => "never expires".to_owned(),
        };
        let (account, scopes, id) = (&self.account, scopes.join(", "), token.id);
        output::complain(&format!(
            "created the API token {id} of {account}: scopes {scopes}, {end}"
        ));
        output::print(&format!("{}\n", secret.expose()))
    }
}
