//! Deleted accounts whose audit events are still to be anonymised, a batch at a time.
//!
//! Until that is done, the queries of `audit_events` hide what the events still hold.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// A deleted account, and how far its events are anonymised.
#[derive(Debug)]
pub struct Anonymization {
    /// The account.
    pub user_id: Uuid,
    /// The last event of its own that was done.
    own_done: Uuid,
    /// The last event that was done of those that it caused to others.
    others_done: Uuid,
}

/// Begins to anonymise the events of an account that is being deleted.
pub async fn insert(db: impl PgExecutor<'_>, user_id: Uuid) -> sqlx::Result<Anonymization> {
    sqlx::query_as!(
        Anonymization,
        "insert into anonymizations (user_id) values ($1) returning user_id, own_done, others_done",
        user_id,
    )
    .fetch_one(db)
    .await
}

/// Locks one that no other transaction has locked.
pub async fn lock_any(db: impl PgExecutor<'_>) -> sqlx::Result<Option<Anonymization>> {
    sqlx::query_as!(
        Anonymization,
        "select user_id, own_done, others_done from anonymizations limit 1 for update skip locked",
    )
    .fetch_optional(db)
    .await
}

/// Removes from up to `limit` events where the requests of the account came from, and returns how many those were.
/// The address of an admin who changed the account is the admin's, and stays. The row is locked; it is deleted when
/// no event is left.
pub async fn advance(
    connection: &mut PgConnection,
    anonymization: &Anonymization,
    limit: i64,
) -> sqlx::Result<u64> {
    let Anonymization { user_id, own_done, others_done } = anonymization;
    // An array is made once, by the index that has the order.
    let own = sqlx::query_scalar!(
        "update audit_events set ip = null, user_agent = null, request_id = null
         where id = any(array(
             select id from audit_events
             where user_id = $1 and coalesce(actor_id, $1) = $1 and id > $2
             order by id
             limit $3
         ))
         returning id",
        user_id,
        own_done,
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let others = sqlx::query_scalar!(
        "update audit_events set ip = null, user_agent = null, request_id = null
         where id = any(array(
             select id from audit_events
             where actor_id = $1 and user_id is distinct from actor_id and id > $2
             order by id
             limit $3
         ))
         returning id",
        user_id,
        others_done,
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let done = own.len() + others.len();
    let is_over = [&own, &others].iter().all(|batch| (batch.len() as i64) < limit);
    if is_over {
        sqlx::query!("delete from anonymizations where user_id = $1", user_id)
            .execute(connection)
            .await?;
    } else {
        sqlx::query!(
            "update anonymizations set own_done = $2, others_done = $3 where user_id = $1",
            user_id,
            own.into_iter().max().unwrap_or(*own_done),
            others.into_iter().max().unwrap_or(*others_done),
        )
        .execute(connection)
        .await?;
    }
    Ok(done as u64)
}
