//! Email addresses: which are accepted, and how they are stored.

use email_address::EmailAddress;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use url::Host;

use super::Read;
use super::visible::is_blank;
use crate::problem::FieldError;

/// Characters; RFC 5321 §4.5.3.1.3, less the angle brackets of a path.
const MAX_CHARS: usize = 254;
/// Bytes before the `@` (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL_PART: usize = 64;

/// How the addresses of new accounts are read: those that lead to this machine or its network are for development.
#[must_use]
pub fn new_email(is_local: bool) -> Read {
    if is_local { email } else { public_email }
}

/// The stored form of an email address: trimmed, in NFC (RFC 6532 §3.1) and lower case.
///
/// # Errors
/// What is wrong with it.
pub fn email(field: &str, text: &str) -> Result<String, FieldError> {
    let email = fold(text);
    if email.chars().count() > MAX_CHARS {
        return Err(FieldError::new(field, "too_long", "must have at most 254 characters"));
    }
    let parts = email.rsplit_once('@');
    // A percent sign in the domain would be decoded like that of a URL.
    let is_encoded = text.rsplit_once('@').is_some_and(|(_, domain)| domain.contains('%'));
    if is_encoded || !parts.is_some_and(|(local, domain)| is_local_part(local) && is_domain(domain))
    {
        return Err(FieldError::new(field, "invalid", "must be an email address"));
    }
    Ok(email)
}

/// As [`email`], without addresses that lead to this machine or its network: `bob@127.0.0.1`, `bob@localhost`,
/// `bob@mailhost`. Strangers could have the service send mail there.
fn public_email(field: &str, text: &str) -> Result<String, FieldError> {
    let email = email(field, text)?;
    let domain = email.rsplit_once('@').map(|(_, domain)| domain).unwrap_or_default();
    if !is_public_domain(domain) {
        let message = "must have a domain such as example.com after the @";
        return Err(FieldError::new(field, "invalid", message));
    }
    Ok(email)
}

/// Whether it is a name with a dot, and not one of this machine. `Host` reads every notation of an IPv4 address, such
/// as `0x7f000001` and `1`.
pub(crate) fn is_public_domain(domain: &str) -> bool {
    matches!(Host::parse(domain), Ok(Host::Domain(_)))
        && domain.contains('.')
        && !domain.ends_with(".localhost")
}

/// An email address in NFC and lower case, its domain as the DNS has it: one mailbox, one account.
pub(super) fn fold(text: &str) -> String {
    // The lower case of a character may be one that can be composed.
    let email: String = text.trim().nfc().collect::<String>().to_lowercase().nfc().collect();
    match email.rsplit_once('@').map(|(local, domain)| (local, Host::parse(domain))) {
        Some((local, Ok(Host::Domain(domain)))) => format!("{local}@{domain}"),
        _ => email,
    }
}

/// A dot-atom (RFC 5322 §3.2.3) with letters, marks and digits of every script (RFC 6531 §3.3).
///
/// A quoted local part has many spellings, and `=?` is how mail programs write other characters: one mailbox would
/// have many accounts, and the emails to it many limits.
fn is_local_part(local: &str) -> bool {
    local.len() <= MAX_LOCAL_PART && !local.contains("=?") && local.split('.').all(is_atom)
}

fn is_atom(atom: &str) -> bool {
    // A mark belongs to the character before it.
    !atom.is_empty() && !atom.starts_with(is_combining_mark) && atom.chars().all(is_atext)
}

fn is_atext(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    }
    (c.is_alphanumeric() || is_combining_mark(c)) && !is_blank(c)
}

fn is_domain(domain: &str) -> bool {
    // In brackets it would be the address of a machine.
    domain.is_ascii() && !domain.starts_with('[') && EmailAddress::is_valid_domain(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_folded_and_bounded() {
        assert_eq!(email("email", " Alice@Example.COM ").unwrap(), "alice@example.com");
        for same in
            ["a@bücher.example", "A@BÜCHER.example", "a@xn--bcher-kva.example", "a@ｂücher.example"]
        {
            assert_eq!(email("email", same).unwrap(), "a@xn--bcher-kva.example", "{same}");
        }
        let long = format!("{}@{}.com", "a".repeat(60), "b".repeat(200));
        let long_local = format!("{}@example.com", "a".repeat(65));
        for text in [
            "",
            "alice",
            "@example.com",
            "alice@",
            "alice@@example.com",
            ".alice@example.com",
            "alice.@example.com",
            "al..ice@example.com",
            "alice@example..com",
            "alice@example.com.",
            "alice@-example.com",
            "alice@[127.0.0.1]",
            "alice@%65xample.com",
            "a b@example.com",
            "a@b\0.com",
            "A <a@b.c>",
            "alice@example.com,bob@example.com",
            "\"alice\"@example.com",
            "\"a,b\"@example.com",
            "=?utf-8?q?alice?=@example.com",
            &long,
            &long_local,
        ] {
            assert!(email("email", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn letters_marks_and_digits_of_every_script_are_accepted_and_invisible_characters_are_not() {
        for local in [
            "почта",
            "用户",
            "بريد",
            "דואר",
            "이메일",
            "メール",
            "संपर्क",
            "ผู้ใช้",
            "தமிழ்",
            "ইমেইল",
            "ಕನ್ನಡ",
            "ខ្មែរ",
            "မြန်မာ",
            "ኢሜይል",
            "հայերեն",
            "ქართული",
            "ελληνικά",
            "josé",
            "søren",
            "e\u{301}milie",
            "نامه۱۲۳",
        ] {
            let stored = email("email", &format!("{local}@example.com")).expect(local);
            assert_eq!(stored, format!("{}@example.com", local.nfc().collect::<String>()));
        }
        for invisible in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2066}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{2800}',
            '\u{a0}',
        ] {
            let text = format!("a{invisible}b@example.com");
            assert!(email("email", &text).is_err(), "{invisible:?}");
        }
        assert!(email("email", "\u{94d}a@example.com").is_err(), "nothing to combine with");
    }

    #[test]
    fn composed_and_decomposed_characters_are_one_address() {
        for (composed, decomposed) in [
            ("álice@example.com", "a\u{301}lice@example.com"),
            ("ÁLICE@example.com", "A\u{301}LICE@example.com"),
            ("메일@example.com", "\u{1106}\u{1166}\u{110b}\u{1175}\u{11af}@example.com"),
        ] {
            assert_eq!(email("email", composed).unwrap(), email("email", decomposed).unwrap());
        }
    }

    #[test]
    fn domains_of_this_machine_and_its_network_are_for_development() {
        for text in [
            "bob@127.0.0.1",
            "bob@0x7f000001",
            "bob@0177.0.0.1",
            "bob@127.1",
            "bob@1",
            "bob@10.0.0.5",
            "bob@localhost",
            "bob@LOCALHOST",
            "bob@app.localhost",
            "bob@mailhost",
            "bob@com",
        ] {
            new_email(false)("email", text).expect_err(text);
            new_email(true)("email", text).expect(text);
        }
        for text in ["bob@example.com", "bob@mail.internal", "bob@bücher.example", "bob@1.example"]
        {
            new_email(false)("email", text).expect(text);
        }
    }
}
