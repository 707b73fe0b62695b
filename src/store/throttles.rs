//! How much of each limit is left.
//!
//! A limit is a bucket of `burst` attempts that regains one every `interval` (the generic cell rate
//! algorithm of ITU-T I.371). Its row holds only the time at which the bucket will be full.

use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;

use crate::config::Rate;
use crate::store::{each, interval};

/// A limit on one account, client or network.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The name of the limit, for clients, metrics and the log.
    pub policy: &'static str,
    /// A hash of what is limited.
    pub key: Vec<u8>,
    /// How much it allows.
    pub rate: Rate,
    /// Whether it refuses attempts when it is empty. If not, it only counts them.
    pub refuses: bool,
}

/// The result of taking an attempt from one bucket.
#[derive(Debug)]
pub struct Taken {
    /// Whether the bucket gave an attempt.
    pub taken: bool,
    /// Whether that was its last one.
    pub was_last: bool,
    /// Seconds until the bucket has an attempt; not positive if it has one.
    pub wait: i64,
    /// How many attempts are left.
    pub left: i64,
    /// Seconds until there is one more.
    pub more: i64,
}

/// The result of an [`exchange`].
#[derive(Debug)]
pub struct Exchanged {
    /// Whether the bucket gave an attempt.
    pub taken: bool,
    /// Seconds until the bucket has an attempt; not positive if it has one.
    pub wait: i64,
}

/// Takes one attempt from each bucket, or none if one that [refuses](Bucket::refuses) is empty.
///
/// If concurrent statements empty a bucket at this very moment, the others may have given theirs:
/// the caller gives those back.
///
/// The statement locks rows in the order given. Callers list narrow buckets before wide ones, and
/// buckets of one kind by their keys, so that two statements never dead-lock. `now()` is the start of
/// the transaction: a statement that waited for a lock counts too little time, never too much.
pub async fn take(db: impl PgExecutor<'_>, buckets: &[Bucket]) -> sqlx::Result<Vec<Taken>> {
    let steps = buckets.iter().map(|bucket| interval(bucket.rate.interval));
    let slacks = buckets.iter().map(|bucket| interval(bucket.rate.slack()));
    sqlx::query_as!(
        Taken,
        r#"with bucket as (
             select * from unnest($1::bytea[], $2::interval[], $3::interval[], $4::bool[])
                 with ordinality as bucket (key, step, slack, refuses, place)
         ), wait as (
             select place, refuses, ceil(extract(epoch from full_at - slack - now()))::bigint as seconds
             from bucket join throttles using (key)
         ), taken as (
             insert into throttles as present (key, full_at)
             select key, now() + step from bucket
             where not exists (select from wait where refuses and seconds > 0)
             order by place
             on conflict (key) do update
                 set full_at = greatest(present.full_at, now()) + (excluded.full_at - now())
                 where present.full_at <= now() + (select slack from bucket where key = present.key)
             returning key, full_at
         )
         select
             taken.key is not null as "taken!",
             coalesce(taken.full_at > now() + slack, false) as "was_last!",
             coalesce(wait.seconds, 0) as "wait!",
             coalesce(greatest(0, 1 + floor(
                 extract(epoch from now() + slack - taken.full_at) / extract(epoch from step)
             )), 0)::bigint as "left!",
             coalesce(ceil(
                 extract(epoch from taken.full_at - now())
                     - extract(epoch from step)
                         * (ceil(extract(epoch from taken.full_at - now()) / extract(epoch from step)) - 1)
             ), 0)::bigint as "more!"
         from bucket left join taken using (key) left join wait using (place)
         order by place"#,
        &each(buckets, |bucket| bucket.key.clone()),
        &steps.collect::<Result<Vec<_>, _>>()?,
        &slacks.collect::<Result<Vec<_>, _>>()?,
        &each(buckets, |bucket| bucket.refuses),
    )
    .fetch_all(db)
    .await
}

/// Gives attempts back to each bucket: the one that was taken, or `all` of them, which resets it. Locks
/// rows in the order given, as [`take`] does.
pub async fn give_back(db: impl PgExecutor<'_>, buckets: &[Bucket], all: bool) -> sqlx::Result<()> {
    sqlx::query!(
        "with bucket as (
             select * from unnest($1::bytea[], $2::interval[])
                 with ordinality as bucket (key, step, place)
         ), locked as (
             select key, step from throttles join bucket using (key)
             order by place
             for update of throttles
         )
         update throttles set full_at = full_at - locked.step
         from locked where throttles.key = locked.key",
        &each(buckets, |bucket| bucket.key.clone()),
        &steps_back(buckets, all)?,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Takes one attempt from a bucket, and if it has one, gives attempts back to others as [`give_back`].
pub async fn exchange(
    db: impl PgExecutor<'_>,
    taken: &Bucket,
    given_back: &[Bucket],
    all: bool,
) -> sqlx::Result<Exchanged> {
    sqlx::query_as!(
        Exchanged,
        r#"with taken as (
             insert into throttles as present (key, full_at) values ($1, now() + $2::interval)
             on conflict (key) do update
                 set full_at = greatest(present.full_at, now()) + $2::interval
                 where present.full_at <= now() + $3::interval
             returning key
         ), bucket as (
             select * from unnest($4::bytea[], $5::interval[])
                 with ordinality as bucket (key, step, place)
         ), locked as (
             select key, step from throttles join bucket using (key)
             where exists (select from taken)
             order by place
             for update of throttles
         ), given_back as (
             update throttles set full_at = full_at - locked.step
             from locked where throttles.key = locked.key
         )
         select
             exists (select from taken) as "taken!",
             coalesce((
                 select ceil(extract(epoch from full_at - $3::interval - now()))::bigint
                 from throttles where key = $1
             ), 0) as "wait!""#,
        taken.key,
        interval(taken.rate.interval)?,
        interval(taken.rate.slack())?,
        &each(given_back, |bucket| bucket.key.clone()),
        &steps_back(given_back, all)?,
    )
    .fetch_one(db)
    .await
}

/// Resets the buckets with these keys.
pub async fn clear(db: impl PgExecutor<'_>, keys: &[Vec<u8>]) -> sqlx::Result<()> {
    sqlx::query!("delete from throttles where key = any($1)", keys).execute(db).await.map(drop)
}

fn steps_back(buckets: &[Bucket], all: bool) -> sqlx::Result<Vec<PgInterval>> {
    let step = |rate: Rate| if all { rate.window() } else { rate.interval };
    buckets.iter().map(|bucket| interval(step(bucket.rate))).collect()
}
