//! Times as the API writes them: RFC 3339 in UTC, with whole seconds and `Z`.

use serde::{Serialize as _, Serializer};
use time::{OffsetDateTime, UtcOffset};

/// For `#[serde(serialize_with = …)]` on a time.
pub fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let whole = time.to_offset(UtcOffset::UTC).truncate_to_second();
    let text = whole.format(&time::format_description::well_known::Rfc3339);
    text.map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// For `#[serde(serialize_with = …)]` on a time that may be missing.
pub fn serialize_option<S: Serializer>(
    time: &Option<OffsetDateTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serialize(time, serializer),
        None => serializer.serialize_none(),
    }
}
