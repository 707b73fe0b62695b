//! How much of each limit is used up.
//!
//! A limit is a bucket of `burst` tries that is filled up again by one every `interval` (the generic
//! cell rate algorithm of ITU-T I.371): its row holds nothing but the time at which it will be full.

use std::time::Duration;

use sqlx::PgExecutor;

use crate::config::Rate;
use crate::store::interval;

/// A limit on one account, client or network.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// A hash of what is limited.
    pub key: Vec<u8>,
    /// How much it allows.
    pub rate: Rate,
}

/// What came of taking one try out of a bucket, and out of its network's too.
#[derive(Debug)]
pub struct Taken {
    /// Whether the bucket gave it.
    pub own: bool,
    /// Whether that was its last one.
    pub was_last: bool,
    /// Whether the network's did, if there is one; it is not asked when its own bucket did not.
    pub network: bool,
    /// Seconds until the bucket has one; not positive if it has.
    pub own_wait: i64,
    /// Seconds until the network's bucket has one; not positive if it has.
    pub network_wait: i64,
}

/// Takes one try out of a bucket, and one out of its network's. A network that has none left is found
/// out before anything is taken.
///
/// Rows are locked in this order, and `now()` is the statement's start: who had to wait for a lock
/// reckons with too little, so no more than the limit is ever given.
pub async fn take(
    db: impl PgExecutor<'_>,
    own: &Bucket,
    network: Option<&Bucket>,
) -> sqlx::Result<Taken> {
    let network_rate = network.unwrap_or(own).rate;
    sqlx::query_as!(
        Taken,
        r#"with own as (
             insert into throttles (key, full_at)
             select $1, now() + $2::interval
             where not exists (
                 select from throttles where key = $4 and full_at > now() + $6::interval
             )
             on conflict (key) do update
                 set full_at = greatest(throttles.full_at, now()) + $2::interval
                 where throttles.full_at <= now() + $3::interval
             returning key, full_at > now() + $3::interval as was_last
         ), network as (
             insert into throttles (key, full_at)
             select $4, now() + $5::interval from own where $4::bytea is not null
             on conflict (key) do update
                 set full_at = greatest(throttles.full_at, now()) + $5::interval
                 where throttles.full_at <= now() + $6::interval
             returning key
         ), waits as (
             select key, ceil(extract(epoch from full_at - now()))::bigint as seconds from throttles
             where key in ($1, $4)
         )
         select
             exists (select from own) as "own!",
             coalesce((select was_last from own), false) as "was_last!",
             $4::bytea is null or exists (select from network) as "network!",
             coalesce((select seconds from waits where key = $1), 0) - $7::bigint as "own_wait!",
             coalesce((select seconds from waits where key = $4), 0) - $8::bigint as "network_wait!""#,
        own.key,
        interval(own.rate.interval)?,
        interval(own.rate.slack())?,
        network.map(|bucket| bucket.key.as_slice()),
        interval(network_rate.interval)?,
        interval(network_rate.slack())?,
        seconds(own.rate.slack()),
        seconds(network_rate.slack()),
    )
    .fetch_one(db)
    .await
}

/// Gives one try back to a bucket.
pub async fn give_back(db: impl PgExecutor<'_>, bucket: &Bucket) -> sqlx::Result<()> {
    sqlx::query!(
        "update throttles set full_at = full_at - $2::interval where key = $1",
        bucket.key,
        interval(bucket.rate.interval)?,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Makes the buckets with these keys whole again, and gives one try back to the network's.
///
/// What stands first is done last, so the network's row is locked last, as in [`take`]. Neither part
/// refers to the other, so each looks again at a row that it had to wait for.
pub async fn clear(
    db: impl PgExecutor<'_>,
    keys: &[Vec<u8>],
    network: Option<&Bucket>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with network as (
             update throttles set full_at = full_at - $3::interval where key = $2
         )
         delete from throttles where key = any($1)",
        keys,
        network.map(|bucket| bucket.key.as_slice()),
        network.map(|bucket| interval(bucket.rate.interval)).transpose()?,
    )
    .execute(db)
    .await
    .map(drop)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
