//! Why PostgreSQL rejects what the service writes, for operators.

/// What PostgreSQL says.
pub(super) fn message(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// What helps.
pub(super) fn remedy(error: &sqlx::Error) -> &'static str {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
        Some("42501") => {
            "The role of DATABASE_URL needs `select, insert, update, delete` on every table of the service. Run \
             `portcullis migrate` with the role that owns them, or make the role of DATABASE_URL their owner \
             (`portcullis migrate --own`)."
        }
        // Undefined or ambiguous names: the search path leads elsewhere.
        Some("42P01" | "42703" | "42883" | "42P10" | "42804" | "23502") => {
            "Another application's tables may come first in the search_path of the role. Give the service a \
             database, or at least a schema, of its own."
        }
        _ => "The log of PostgreSQL shows the statement and the reason.",
    }
}
