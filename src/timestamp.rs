//! Times as the API writes them: RFC 3339 in UTC, with whole seconds and `Z`.

use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// The text of a time.
pub fn format(time: &OffsetDateTime) -> Result<String, time::error::Format> {
    time.to_offset(UtcOffset::UTC).truncate_to_second().format(&Rfc3339)
}

/// For `#[serde(serialize_with = …)]` on a time.
pub fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    format(time).map_err(serde::ser::Error::custom)?.serialize(serializer)
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

/// For `#[serde(deserialize_with = …)]` on a time that may be missing.
pub fn deserialize_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<OffsetDateTime>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    // What RFC 3339 can write, and so what we can write back.
    OffsetDateTime::parse(&text, &Rfc3339)
        .ok()
        .and_then(|time| time.checked_to_offset(UtcOffset::UTC))
        .filter(|time| (1..10_000).contains(&time.year()))
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom("must be a time such as 2027-12-31T00:00:00Z"))
}
