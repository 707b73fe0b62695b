//! Names as the OpenAPI document describes them, wherever they are given. What is said here is held
//! to in `names`.

use utoipa::openapi::schema::{AdditionalProperties, SchemaType};
use utoipa::openapi::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};

/// A display name: no character that is rejected, and one that is visible. The blank ones beyond U+FFFF are missing.
const NAME: &str = concat!(
    r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*",
    r"[^\s\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f",
    r"\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8]",
    r"[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*$",
);

/// A username that is given or null.
pub(crate) fn username() -> Object {
    let schema = text("3 to 32 of `a-z 0-9 . _ -`, in any case.", true);
    schema.min_length(Some(3)).max_length(Some(32)).pattern(Some("^[A-Za-z0-9._-]*$")).build()
}

/// An email address that is given or null.
pub(crate) fn email() -> Object {
    address(true)
}

/// An email address.
pub(crate) fn given_email() -> Object {
    address(false)
}

fn address(nullable: bool) -> Object {
    let schema = text("At most 254 characters.", nullable);
    schema.max_length(Some(254)).format(Some(SchemaFormat::KnownFormat(KnownFormat::Email))).build()
}

/// A display name that is given or null.
pub(crate) fn name() -> Object {
    displayed("How the person wants to be called; at most 200 characters.", true)
}

/// What to call an API token.
pub(crate) fn token_name() -> Object {
    displayed("What to call it, at most 200 characters.", false)
}

/// An object with any members.
pub(crate) fn details() -> Object {
    let schema =
        ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(true)));
    schema.description(Some("More about it; the members depend on the kind.")).build()
}

fn displayed(description: &str, nullable: bool) -> Object {
    let schema = text(description, nullable);
    schema.min_length(Some(1)).max_length(Some(200)).pattern(Some(NAME)).build()
}

fn text(description: &str, nullable: bool) -> ObjectBuilder {
    let types = [Some(Type::String), nullable.then_some(Type::Null)];
    let types = SchemaType::from_iter(types.into_iter().flatten());
    ObjectBuilder::new().schema_type(types).description(Some(description))
}
