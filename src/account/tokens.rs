//! Creating and revoking API tokens.

use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Actor, event, lock};
use crate::audit::Kind;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::names;
use crate::problem::FieldError;
use crate::store::api_tokens::{self, ApiToken, NewApiToken, Scope};
use crate::store::outbox::{self, MailKind};
use crate::store::users::Role;
use crate::throttle;

/// API tokens that an account may have at once, without those that have expired.
pub const MOST_TOKENS: i64 = 50;

/// How long a token is valid unless the request says otherwise.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A token that is requested, in its stored form.
#[derive(Debug)]
pub struct TokenRequest {
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it expires, if it does.
    pub expires_at: Option<OffsetDateTime>,
}

impl TokenRequest {
    /// Checks a request, whose name, scopes and end are called `fields`. Without scopes, the token may read. Without
    /// an end, it is valid for a year; with an empty one, it never expires.
    ///
    /// # Errors
    /// `ValidationFailed`, with all that is wrong at once.
    pub fn check(
        fields: [&str; 3],
        name: &str,
        scopes: Option<Vec<Scope>>,
        expires_at: Option<Option<OffsetDateTime>>,
    ) -> Result<Self> {
        let [name_field, scopes_field, end_field] = fields;
        let mut faults: Vec<FieldError> = Vec::new();
        let name = names::name(name_field, name).map_err(|fault| faults.push(fault));
        let mut scopes = scopes.unwrap_or_else(|| vec![Scope::Read]);
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            faults.push(FieldError::new(scopes_field, "too_short", "must name at least one"));
        }
        let now = OffsetDateTime::now_utc();
        let expires_at = expires_at.unwrap_or(Some(now + LIFETIME));
        if expires_at.is_some_and(|end| end <= now) {
            faults.push(FieldError::new(end_field, "invalid", "must be in the future"));
        }
        match name {
            Ok(name) if faults.is_empty() => Ok(Self { name, scopes, expires_at }),
            _ => Err(Error::ValidationFailed(faults)),
        }
    }
}

/// Creates an API token, and notifies the owner. It outlives the session that asks for it, so none may come of one that was just revoked.
///
/// # Errors
/// `Forbidden` for the scope `admin` without the role, `AccountDisabled`, `TooManyTokens`, those of the actor's credential, and those
/// of the database.
pub async fn create_token(
    connection: &mut PgConnection,
    new: &NewApiToken<'_>,
    actor: Actor<'_>,
    client: &Client,
) -> Result<ApiToken> {
    let user = lock(connection, new.user_id, actor, false).await?.user;
    if !user.is_active {
        return Err(Error::AccountDisabled);
    }
    if new.scopes.contains(&Scope::Admin) && user.role != Role::Admin {
        return Err(Error::Forbidden);
    }
    if api_tokens::count_valid(&mut *connection, user.id).await? >= MOST_TOKENS {
        return Err(Error::TooManyTokens(MOST_TOKENS));
    }
    let token = api_tokens::insert(&mut *connection, new).await?;
    let created = event(Kind::TokenCreated, client, user.id, actor);
    let details = json!({"token_id": token.id, "scopes": token.scopes});
    created.details(details).record(&mut *connection).await?;
    if let Actor::Owner(owner) = actor {
        let (kind, config) = (MailKind::TokenCreated, &owner.app().config);
        if throttle::may_tell(connection, config, kind, user.id.as_bytes()).await? {
            let expires_at = token.expires_at.map(OffsetDateTime::unix_timestamp);
            let details = json!({"scopes": token.scopes, "expires_at": expires_at});
            outbox::insert_to_owner(connection, Some(user.id), kind, &details).await?;
        }
    }
    Ok(token)
}

/// Revokes one API token of an account.
///
/// # Errors
/// `NotFound` when the account has no such token, those of the actor's credential, and those of the database.
pub async fn revoke_token(
    connection: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    actor: Actor<'_>,
    client: &Client,
) -> Result<()> {
    lock(connection, user_id, actor, false).await?;
    if !api_tokens::delete(&mut *connection, user_id, id).await? {
        return Err(Error::NotFound);
    }
    let revoked = event(Kind::TokenRevoked, client, user_id, actor);
    Ok(revoked.details(json!({"token_id": id})).record(connection).await?)
}

/// Revokes every API token of an account.
///
/// # Errors
/// Those of the actor's credential, and those of the database.
pub async fn revoke_tokens(
    connection: &mut PgConnection,
    user_id: Uuid,
    actor: Actor<'_>,
    client: &Client,
) -> Result<()> {
    lock(connection, user_id, actor, false).await?;
    revoke_all(connection, user_id, actor, client).await
}

/// Revokes every API token of an account whose row is locked.
pub(super) async fn revoke_all(
    connection: &mut PgConnection,
    user_id: Uuid,
    actor: Actor<'_>,
    client: &Client,
) -> Result<()> {
    let tokens = api_tokens::delete_all(&mut *connection, user_id).await?;
    if tokens > 0 {
        let revoked = event(Kind::TokenRevoked, client, user_id, actor);
        revoked.details(json!({"tokens": tokens})).record(connection).await?;
    }
    Ok(())
}
