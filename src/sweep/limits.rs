//! Revokes what accounts have beyond their limits.

use std::time::Instant;

use tokio::time::sleep;
use uuid::Uuid;

use super::REST;
use crate::error::Result;
use crate::state::App;
use crate::store::users;
use crate::{account, store};

/// Accounts a statement.
const STRETCH: i64 = 500;
/// Sessions or API tokens a transaction.
const BATCH: i64 = 100;

/// Checks every account once, and revokes the sessions and API tokens beyond the limits, those unused longest first.
/// What cannot be done is logged, and left to the next time.
pub async fn trim(app: &App) {
    if let Err(error) = walk(app).await {
        tracing::warn!(%error, "accounts could not be checked for their limits");
    }
}

async fn walk(app: &App) -> Result<()> {
    let (mut after, sessions) = (Uuid::nil(), app.config.sessions_per_user.into());
    loop {
        let start = Instant::now();
        let mut connection = app.pool.acquire().await?;
        let (tokens, pool) = (account::MOST_TOKENS, &mut *connection);
        let stretch = users::find_beyond(pool, after, sessions, tokens, STRETCH).await?;
        drop(connection);
        let Some(stretch) = stretch else { return Ok(()) };
        sleep(start.elapsed() * REST).await;
        for user_id in stretch.beyond {
            if let Err(error) = trim_one(app, user_id, sessions).await {
                tracing::warn!(%error, %user_id, "an account could not be trimmed to its limits");
            }
        }
        after = stretch.last;
    }
}

async fn trim_one(app: &App, user_id: Uuid, sessions: i64) -> Result<()> {
    loop {
        let start = Instant::now();
        let mut transaction = store::begin(&app.pool).await?;
        let has_revoked = account::trim(&mut transaction, user_id, sessions, BATCH).await?;
        transaction.commit().await?;
        if !has_revoked {
            return Ok(());
        }
        sleep(start.elapsed() * REST).await;
    }
}
