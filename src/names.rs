//! How usernames, email addresses and display names are written, stored and looked up.

use email_address::{EmailAddress, Options};
use url::Host;

use crate::problem::FieldError;

const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=32;
/// RFC 5321 §4.5.3.1.3, less the angle brackets of a path.
const EMAIL_MAX: usize = 254;
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

/// The stored form of an email address: trimmed, in lower case.
///
/// # Errors
/// What is wrong with it.
pub fn email(field: &str, text: &str) -> Result<String, FieldError> {
    let email = fold_email(text);
    if email.chars().count() > EMAIL_MAX {
        return Err(FieldError::new(field, "too_long", "must have at most 254 characters"));
    }
    let options = Options::default().without_display_text().without_domain_literal();
    // A quoted local part has many spellings, and "=?" is how mail programs write other characters: one
    // mailbox would have many accounts, and the mails to it many limits.
    let plain = !email.chars().any(|c| c.is_control() || c.is_whitespace() || c == '"')
        && !email.contains("=?");
    if !plain || EmailAddress::parse_with_options(&email, options).is_err() {
        return Err(FieldError::new(field, "invalid", "must be an email address"));
    }
    Ok(email)
}

/// The stored form of a display name: trimmed.
///
/// # Errors
/// What is wrong with it.
pub fn name(field: &str, text: &str) -> Result<String, FieldError> {
    let name = text.trim();
    if name.is_empty() {
        return Err(FieldError::new(field, "too_short", "must not be empty; leave it out instead"));
    }
    if name.chars().count() > NAME_MAX {
        return Err(FieldError::new(field, "too_long", "must have at most 200 characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(FieldError::new(field, "invalid", "must not have control characters"));
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
        Self::Email(fold_email(&fold(text)))
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

/// An email address in lower case, its domain as the DNS has it: one mailbox, one account.
fn fold_email(text: &str) -> String {
    let email = text.trim().to_lowercase();
    match email.rsplit_once('@').map(|(local, domain)| (local, Host::parse(domain))) {
        Some((local, Ok(Host::Domain(domain)))) => format!("{local}@{domain}"),
        _ => email,
    }
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
    fn emails_are_folded_and_bounded() {
        assert_eq!(email("email", " Alice@Example.COM ").unwrap(), "alice@example.com");
        for same in
            ["a@bücher.example", "A@BÜCHER.example", "a@xn--bcher-kva.example", "a@ｂücher.example"]
        {
            assert_eq!(email("email", same).unwrap(), "a@xn--bcher-kva.example", "{same}");
        }
        let long = format!("{}@{}.com", "a".repeat(60), "b".repeat(200));
        for text in [
            "",
            "alice",
            "@example.com",
            "alice@",
            "a b@example.com",
            "a@b\0.com",
            "A <a@b.c>",
            "\"alice\"@example.com",
            "\"a,b\"@example.com",
            "=?utf-8?q?alice?=@example.com",
            &long,
        ] {
            assert!(email("email", text).is_err(), "{text:?}");
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
