//! How much of something one account may have.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::MOST_TOKENS;
use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::error::Result;
use crate::store::{api_tokens, sessions, users};

/// Revokes sessions and API tokens of an account that has more than it may have, those unused longest first, at most
/// `most` of each. Returns whether it revoked any.
///
/// # Errors
/// Those of the database.
pub async fn trim(
    connection: &mut PgConnection,
    user_id: Uuid,
    most_sessions: i64,
    most: i64,
) -> Result<bool> {
    users::lock(&mut *connection, &[user_id]).await?;
    let client = Client::operator();
    let revoked =
        sessions::delete_beyond(&mut *connection, user_id, None, most_sessions, most).await?;
    if revoked > 0 {
        let event = Event::new(Kind::SessionRevoked, &client).to(user_id);
        let details = json!({"sessions": revoked, "limit": most_sessions});
        event.details(details).record(&mut *connection).await?;
    }
    let tokens = api_tokens::delete_beyond(&mut *connection, user_id, MOST_TOKENS, most).await?;
    if tokens > 0 {
        let event = Event::new(Kind::TokenRevoked, &client).to(user_id);
        let details = json!({"tokens": tokens, "limit": MOST_TOKENS});
        event.details(details).record(connection).await?;
    }
    Ok(revoked > 0 || tokens > 0)
}
