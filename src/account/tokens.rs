//! Creating and revoking API tokens.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Actor, event, lock};
use crate::audit::Kind;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::store::api_tokens::{self, ApiToken, NewApiToken, Scope};
use crate::store::outbox::{self, MailKind};
use crate::store::users::Role;
use crate::throttle;

/// API tokens that an account may have at once, without those that have expired.
pub const MOST_TOKENS: i64 = 50;

/// Creates an API token, and notifies the owner. It outlives the session that asks for it, so none may come of one that was just revoked.
///
/// # Errors
/// `Forbidden` for the scope `admin` without the role, `TooManyTokens`, those of the actor's credential, and those
/// of the database.
pub async fn create_token(
    connection: &mut PgConnection,
    new: &NewApiToken<'_>,
    actor: Actor<'_>,
    client: &Client,
) -> Result<ApiToken> {
    let user = lock(connection, new.user_id, actor, false).await?.user;
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
