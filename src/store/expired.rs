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
    /// A while after they expired: until then their owner sees them.
    ApiTokens,
    /// Usernames that are no longer reserved.
    FormerUsernames,
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

/// Deletes from a table by the time in a column, and returns that of each row as `at`, with other columns.
///
/// The bounds are subqueries, so that the planner does not look for them among rows that were just deleted:
/// that would take longer than the rest.
#[rustfmt::skip]
macro_rules! delete {
    ($connection:expr, $batch:expr, $table:literal, $column:literal, $and:literal, $columns:literal) => {
        sqlx::query!(
            "with due as (
                 select ctid, " + $column + " as at from " + $table + "
                 where " + $column + " >= (select $1::timestamptz)
                     and " + $column + " < (select now() - $2::interval) " + $and + "
                 order by " + $column + "
                 limit $3
                 for update of " + $table + " skip locked
             )
             delete from " + $table + " t using due where t.ctid = due.ctid
             returning due.at as \"at!\"" + $columns,
            $batch.after,
            interval($batch.keep)?,
            $batch.limit,
        )
        .fetch_all(&mut *$connection)
        .await?
    };
    ($connection:expr, $batch:expr, $table:literal, $column:literal, $and:literal) => {
        delete!($connection, $batch, $table, $column, $and, "")
            .into_iter()
            .map(|gone| gone.at)
            .collect()
    };
    ($connection:expr, $batch:expr, $table:literal, $column:literal) => {
        delete!($connection, $batch, $table, $column, "")
    };
}

impl Expiring {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Sessions,
        Self::SessionRecords,
        Self::AuditEvents,
        Self::Throttles,
        Self::KnownDevices,
        Self::OneTimeTokens,
        Self::Outbox,
        Self::Registrations,
        Self::ApiTokens,
        Self::FormerUsernames,
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
            Self::ApiTokens => "api_tokens",
            Self::FormerUsernames => "former_usernames",
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
        Ok(match self {
            Self::Sessions => {
                let gone =
                    delete!(connection, batch, "sessions", "expires_at", "", ", t.record_id");
                let gone = gone.into_iter().map(|gone| (gone.record_id, gone.at));
                let (records, times): (Vec<_>, _) = gone.unzip();
                session_records::delete(connection, &records).await?;
                times
            }
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
            Self::ApiTokens => delete!(connection, batch, "api_tokens", "expires_at"),
            Self::FormerUsernames => {
                delete!(connection, batch, "former_usernames", "reserved_until")
            }
        })
    }
}
