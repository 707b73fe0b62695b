//! How what has expired goes: a few rows at a time, those first that expired first. Rows that somebody
//! holds are skipped, and so are those that another replica deletes.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{interval, session_records};

/// A table of which rows expire.
#[derive(Clone, Copy, Debug)]
pub enum Expiring {
    /// With their records.
    Sessions,
    /// Those that no session holds: they were made for a login that was then refused.
    SessionRecords,
    /// By their age.
    AuditEvents,
    /// Buckets that are whole.
    Throttles,
    /// By when they last logged in.
    KnownDevices,
    /// By their own time.
    OneTimeTokens,
    /// By their age.
    Outbox,
    /// By their age.
    Registrations,
}

/// Which rows of a table are to go.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Those that expired from then on: on the way from the first row, all that were deleted would be passed again.
    pub after: OffsetDateTime,
    /// How long they are kept; zero where their own time says when they expire.
    pub keep: Duration,
    /// How many at most.
    pub limit: i64,
}

/// Deletes from a table by the time in a column, and returns that of each row.
macro_rules! delete {
    ($connection:expr, $batch:expr, $table:literal, $column:literal $(, $and:literal)?) => {
        sqlx::query_scalar!(
            "with due as (
                 select ctid, " + $column + " as at from " + $table + "
                 where " + $column + " >= $1 and " + $column + " < now() - $2::interval "
                 $(+ $and)? +
                 " order by " + $column + "
                 limit $3
                 for update of " + $table + " skip locked
             )
             delete from " + $table + " t using due where t.ctid = due.ctid
             returning due.at as \"at!\"",
            $batch.after,
            interval($batch.keep)?,
            $batch.limit,
        )
        .fetch_all($connection)
        .await
    };
}

impl Expiring {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Sessions,
        Self::SessionRecords,
        Self::AuditEvents,
        Self::Throttles,
        Self::KnownDevices,
        Self::OneTimeTokens,
        Self::Outbox,
        Self::Registrations,
    ];

    /// The table's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::SessionRecords => "session_records",
            Self::AuditEvents => "audit_events",
            Self::Throttles => "throttles",
            Self::KnownDevices => "known_devices",
            Self::OneTimeTokens => "one_time_tokens",
            Self::Outbox => "outbox",
            Self::Registrations => "registrations",
        }
    }

    /// Deletes some rows, and returns when each of them expired.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete(
        self,
        connection: &mut PgConnection,
        batch: Batch,
    ) -> sqlx::Result<Vec<OffsetDateTime>> {
        match self {
            Self::Sessions => delete_sessions(connection, batch).await,
            Self::SessionRecords => delete!(
                connection,
                batch,
                "session_records",
                "expiry_date",
                "and not exists (select from sessions where record_id = session_records.id)"
            ),
            Self::AuditEvents => delete!(connection, batch, "audit_events", "at"),
            Self::Throttles => delete!(connection, batch, "throttles", "full_at"),
            Self::KnownDevices => delete!(connection, batch, "known_devices", "last_used_at"),
            Self::OneTimeTokens => delete!(connection, batch, "one_time_tokens", "expires_at"),
            Self::Outbox => delete!(connection, batch, "outbox", "created_at"),
            Self::Registrations => delete!(connection, batch, "registrations", "created_at"),
        }
    }
}

async fn delete_sessions(
    connection: &mut PgConnection,
    batch: Batch,
) -> sqlx::Result<Vec<OffsetDateTime>> {
    let ended = sqlx::query!(
        "with due as (
             select ctid from sessions
             where expires_at >= $1 and expires_at < now() - $2::interval
             order by expires_at
             limit $3
             for update skip locked
         )
         delete from sessions s using due where s.ctid = due.ctid
         returning s.record_id, s.expires_at",
        batch.after,
        interval(batch.keep)?,
        batch.limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let ended = ended.into_iter().map(|ended| (ended.record_id, ended.expires_at));
    let (records, times): (Vec<_>, Vec<_>) = ended.unzip();
    session_records::delete(connection, &records).await?;
    Ok(times)
}
