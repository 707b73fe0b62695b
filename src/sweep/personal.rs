//! Removes what is personal from the audit events of deleted accounts.

use std::time::Instant;

use tokio::time::sleep;

use super::REST;
use crate::state::App;
use crate::store::{self, anonymizations};

/// Events a transaction.
const BATCH: i64 = 200;

/// Anonymises the events of accounts that were deleted and had many. Each batch is a transaction, so a replica that is
/// stopped loses no progress, and another one continues.
pub(super) async fn anonymize(app: &App) -> sqlx::Result<()> {
    loop {
        let start = Instant::now();
        let mut transaction = store::begin(&app.pool).await?;
        let Some(next) = anonymizations::lock_any(&mut *transaction).await? else {
            return Ok(());
        };
        let events = anonymizations::advance(&mut transaction, &next, BATCH).await?;
        transaction.commit().await?;
        tracing::debug!(events, user_id = %next.user_id, "events of a deleted account were anonymised");
        sleep(start.elapsed() * REST).await;
    }
}
