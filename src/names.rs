//! How usernames, email addresses and display names are written, stored and looked up.

mod email;
mod visible;

pub(crate) use self::email::is_public_domain;
pub use self::email::{email, new_email};
pub(crate) use self::visible::is_blank;
use self::visible::{breaks_line, changes_direction};
use crate::problem::FieldError;

const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=32;
const NAME_MAX: usize = 200;

/// Reads a name into its stored form; the first argument is the field's name, for the fault.
pub type Read = fn(&str, &str) -> Result<String, FieldError>;

/// The stored form of a username: trimmed, in lower case, never an email address.
///
/// # Errors
/// What is wrong with it.
pub fn username(field: &str, text: &str) -> Result<String, FieldError> {
    let username = text.trim().to_lowercase();
    if !username
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    {
        let message = "may have only letters a-z, digits, dots, underscores and hyphens";
        return Err(FieldError::new(field, "invalid", message));
    }
    if username.len() < *USERNAME_CHARS.start() {
        return Err(FieldError::new(field, "too_short", "must have at least 3 characters"));
    }
    if username.len() > *USERNAME_CHARS.end() {
        return Err(FieldError::new(field, "too_long", "must have at most 32 characters"));
    }
    Ok(username)
}

/// The stored form of a display name: trimmed.
///
/// # Errors
/// What is wrong with it.
pub fn name(field: &str, text: &str) -> Result<String, FieldError> {
    let name = text.trim();
    if name.chars().count() > NAME_MAX {
        return Err(FieldError::new(field, "too_long", "must have at most 200 characters"));
    }
    if name.chars().any(breaks_line) {
        return Err(FieldError::new(field, "invalid", "must not have control characters"));
    }
    if name.chars().any(changes_direction) {
        let message = "must not have characters that change the direction of text";
        return Err(FieldError::new(field, "invalid", message));
    }
    if name.chars().all(is_blank) {
        return Err(FieldError::new(
            field,
            "too_short",
            "must have at least one visible character",
        ));
    }
    Ok(name.to_owned())
}

/// What a person logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// A username, as it is stored.
    Username(String),
    /// An email address, as it is stored.
    Email(String),
}

impl Identifier {
    /// Takes an email address for one by its `@`, which no username has.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if text.contains('@') { Self::email(text) } else { Self::username(text) }
    }

    /// A username, whatever it looks like.
    #[must_use]
    pub fn username(text: &str) -> Self {
        Self::Username(fold(text))
    }

    /// An email address, whatever it looks like.
    #[must_use]
    pub fn email(text: &str) -> Self {
        Self::Email(email::fold(&fold(text)))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let (Self::Username(name) | Self::Email(name)) = self;
        name
    }
}

/// The names of an account, as people may give them at login.
pub fn identifiers(
    username: Option<&str>,
    email: Option<&str>,
) -> impl Iterator<Item = Identifier> {
    let username = username.map(|text| Identifier::Username(text.to_owned()));
    username.into_iter().chain(email.map(|text| Identifier::Email(text.to_owned())))
}

/// Those of these names that there are.
pub fn given(names: [&Option<String>; 3]) -> Vec<&str> {
    names.into_iter().flatten().map(String::as_str).collect()
}

/// The form that is compared with stored names. PostgreSQL has no NUL in text, and no stored name
/// has a control character, so a stand-in keeps such an identifier unknown instead of an error.
fn fold(text: &str) -> String {
    text.trim().to_lowercase().replace('\0', "\u{1}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usernames_are_folded_and_bounded() {
        assert_eq!(username("username", "  Alice.B-1_ ").unwrap(), "alice.b-1_");
        for text in ["", "ab", &"a".repeat(33), "alice@example.com", "älice", "a b c", "a\0bc"] {
            assert!(username("username", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_has_a_visible_character_and_nothing_that_changes_the_text_around_it() {
        for text in [
            "",
            " ",
            "\u{200b}",
            "\u{200d}\u{2060}\u{feff}",
            "\u{3164}",
            "\u{2800}",
            "\u{ad}",
            "\u{115f}\u{1160}",
            "\u{ffa0}",
            "\u{fe0f}",
            "\u{e0041}\u{e007f}",
            "\u{34f}",
            "\u{180e}",
            "\u{61c}",
            "\u{200e}",
            "\u{a0}\u{3000}",
            "\u{1d159}",
            "\u{17b4}",
        ] {
            assert_eq!(name("name", text).unwrap_err().code, "too_short", "{text:?}");
        }
        for c in [
            '\u{202a}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2068}', '\u{2028}', '\u{85}', '\0',
            '\n',
        ] {
            assert_eq!(name("name", &format!("Al{c}ice")).unwrap_err().code, "invalid", "{c:?}");
        }
        for text in [
            "Alice",
            "東京",
            "‏שלום‏",
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}",
            "🏴\u{e0067}\u{e0062}\u{e007f}",
            "می\u{200c}خواهم",
            "e\u{301}",
            "ᄒ\u{1161}",
            "1\u{fe0f}\u{20e3}",
            ".",
        ] {
            assert_eq!(name("name", text).unwrap(), text);
        }
    }

    #[test]
    fn an_identifier_with_an_at_sign_is_an_email_address() {
        assert_eq!(Identifier::new(" ALICE "), Identifier::Username("alice".into()));
        assert_eq!(Identifier::new("A@B.c"), Identifier::Email("a@b.c".into()));
        assert_eq!(Identifier::new("a\0"), Identifier::Username("a\u{1}".into()));
    }

    proptest! {
        #[test]
        fn a_stored_name_is_found_however_it_is_written(text in "([A-Za-z0-9._-]{3,32}|.{0,40})", email in "[a-zA-Z.+]{1,9}@[a-zA-Zéß０]{1,9}\\.[a-z]{2,3}", pad in "[ \t\n]{0,3}") {
            for (read, text) in [(username as Read, &text), (self::email as Read, &text), (self::email as Read, &email)] {
                let Ok(stored) = read("field", text) else { continue };
                prop_assert_eq!(read("field", &stored).unwrap(), stored.clone());
                let found = |text: &str| match Identifier::new(text) {
                    Identifier::Username(name) | Identifier::Email(name) => name,
                };
                for written in [stored.clone(), text.clone(), format!("{pad}{text}{pad}"), stored.to_uppercase()] {
                    prop_assert_eq!(found(&written), stored.clone(), "{:?}", written);
                }
            }
        }

        #[test]
        fn no_identifier_is_one_that_postgresql_cannot_hold(text in any::<String>()) {
            let (Identifier::Username(name) | Identifier::Email(name)) = Identifier::new(&text);
            prop_assert!(!name.contains('\0'));
        }
    }
}
