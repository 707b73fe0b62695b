//! The formats in which passwords are stored.
//!
//! bcrypt sees 72 bytes at most, so new hashes are passlib's `bcrypt_sha256` version 2: bcrypt of
//! base64(HMAC-SHA-256), the key being the salt's 22 characters and the message the password in
//! NFKC (passlib 1.7.4, `passlib.hash.bcrypt_sha256`). Plain bcrypt, as Flask-Bcrypt stores it, is
//! verified over the bytes as they were sent.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::{BcryptError, BcryptResult};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;

const PREFIX: &str = "$bcrypt-sha256$v=2,t=";
/// Bcrypt over the SHA-256 of the password in hex, as Flask-Bcrypt stores it when
/// `BCRYPT_HANDLE_LONG_PASSWORDS` is on. Its own form is that of plain bcrypt; the mark is ours.
const HEX_PREFIX: &str = "$sha256-hex";
/// What every version of passlib's format begins with.
const ANY_PASSLIB: &str = "$bcrypt-sha256$";
/// Characters of a bcrypt salt in its own base64.
const SALT: usize = 22;
/// The highest cost that is imported. One above the highest of ours would keep a core busy for minutes or days.
const MAX_COST: u32 = 16;

/// Why a hash of another service cannot be verified here, as the end of a sentence about it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Another scheme.
    #[error("is neither bcrypt ($2a$, $2b$ or $2y$) nor passlib's bcrypt_sha256")]
    Unknown,
    /// passlib 1.7.3 introduced version 2.
    #[error("is passlib's bcrypt_sha256, but not version 2, the only one that is accepted")]
    PasslibVersion,
    /// bcrypt, with characters missing, changed or added.
    #[error("is a damaged bcrypt hash: 53 characters of salt and digest must follow the cost")]
    Damaged,
    /// The cost is out of bounds.
    #[error("has the bcrypt cost {0}; a cost from 4 to {MAX_COST} is accepted")]
    Cost(u32),
}

/// A stored hash, taken apart.
pub(super) struct Stored {
    scheme: Scheme,
    /// Plain bcrypt: `$2b$12$` and 53 characters of salt and digest.
    bcrypt: String,
    cost: u32,
}

#[derive(PartialEq, Eq)]
enum Scheme {
    BcryptSha256,
    BcryptSha256Hex,
    Bcrypt,
}

impl Stored {
    /// Takes a hash apart.
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        let (scheme, bcrypt) = if let Some(rest) = text.strip_prefix(PREFIX) {
            (Scheme::BcryptSha256, plain(rest).ok_or(Unusable::Damaged)?)
        } else if text.starts_with(ANY_PASSLIB) {
            return Err(Unusable::PasslibVersion);
        } else if let Some(bcrypt) = text.strip_prefix(HEX_PREFIX) {
            (Scheme::BcryptSha256Hex, bcrypt.to_owned())
        } else {
            (Scheme::Bcrypt, text.to_owned())
        };
        if !["$2a$", "$2b$", "$2y$"].iter().any(|ident| bcrypt.starts_with(ident)) {
            return Err(Unusable::Unknown);
        }
        let parts: bcrypt::HashParts = bcrypt.parse().map_err(|_| Unusable::Damaged)?;
        let cost = parts.get_cost();
        if !(4..=31).contains(&cost) {
            return Err(Unusable::Cost(cost));
        }
        Ok(Self { scheme, bcrypt, cost })
    }

    pub(super) fn cost(&self) -> u32 {
        self.cost
    }

    /// Whether a new hash of this cost would look the same.
    pub(super) fn is_current(&self, cost: u32) -> bool {
        self.scheme == Scheme::BcryptSha256 && self.cost == cost
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, password: &str) -> bool {
        let verified = match self.scheme {
            Scheme::BcryptSha256 => {
                let salt = &self.bcrypt[self.bcrypt.len() - 53..][..SALT];
                condense(password, salt).and_then(|key| bcrypt::verify(key, &self.bcrypt))
            }
            Scheme::BcryptSha256Hex => {
                let digest = Sha256::digest(password);
                let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                bcrypt::verify(hex, &self.bcrypt)
            }
            Scheme::Bcrypt => bcrypt::verify(password, &self.bcrypt),
        };
        verified.unwrap_or(false)
    }
}

/// Plain bcrypt, from what follows passlib's prefix: `2b,r=12$salt$digest`.
fn plain(rest: &str) -> Option<String> {
    let (ident, rest) = rest.split_once(",r=")?;
    let (rounds, rest) = rest.split_once('$')?;
    let (salt, digest) = rest.split_once('$')?;
    let rounds: u32 = rounds.parse().ok()?;
    Some(format!("${ident}${rounds:02}${salt}{digest}"))
}

/// The form in which a hash of another service is stored.
pub(super) fn imported(text: &str, long_passwords: bool) -> Result<String, Unusable> {
    let stored = Stored::parse(text)?;
    if stored.cost > MAX_COST {
        return Err(Unusable::Cost(stored.cost));
    }
    Ok(match (stored.scheme, long_passwords) {
        (Scheme::Bcrypt, true) => format!("{HEX_PREFIX}{text}"),
        _ => text.to_owned(),
    })
}

/// A new hash of this cost.
pub(super) fn make(password: &str, cost: u32) -> BcryptResult<String> {
    // The crate draws the salt together with the hash, and the key needs the salt first.
    let salt: [u8; 16] = rand::random();
    let text = bcrypt::BASE_64.encode(salt);
    let parts = bcrypt::hash_with_salt(condense(password, &text)?, cost, salt)?.to_string();
    let digest = &parts[parts.len() - 31..];
    Ok(format!("{PREFIX}2b,r={cost}${text}${digest}"))
}

/// Takes as long as one verification of each of these costs.
pub(super) fn spend(costs: RangeInclusive<u32>) {
    for cost in costs {
        // What it comes to is of no interest.
        let _ = std::hint::black_box(bcrypt::hash_with_salt("spend", cost, [0; 16]));
    }
}

fn condense(password: &str, salt: &str) -> BcryptResult<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(salt.as_bytes())
        .map_err(|_| BcryptError::InvalidHash("no key for the HMAC"))?;
    mac.update(password.nfkc().collect::<String>().as_bytes());
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by passlib 1.7.4, but for the first, which stands in its documentation.
    const PASSLIB: [(&str, &str); 6] = [
        (
            "password",
            "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
        ),
        (
            "correct horse battery staple",
            "$bcrypt-sha256$v=2,t=2b,r=5$G5bXpAkzXphU6PJLcX7wTO$yO04G2.3QzOiEkeNwCD71zprvNPLzzu",
        ),
        ("", "$bcrypt-sha256$v=2,t=2b,r=5$PhA400NGBW1X.edlTMTc8.$NChkekCDDobJdtukhc3JqdYbsgrdwLa"),
        (
            "éééééééééééééééééééééééééééééééééééééééé",
            "$bcrypt-sha256$v=2,t=2b,r=5$AW3CLjxY8rRFXcLwb268fu$5ssWDnP2Qux1xu.rjCcEcOUYO.tL7cq",
        ),
        (
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "$bcrypt-sha256$v=2,t=2b,r=5$8q3sBdH3OKdlBtfGmrsvWO$vGaZd9.qNCWphjU8UQRIGQKibNPeFre",
        ),
        (
            "nul\0byte",
            "$bcrypt-sha256$v=2,t=2b,r=5$cfn2iMMtPBUudk2br4uSte$EV16NaT75jmw30tzKjcMk1VXCOwl.e.",
        ),
    ];

    #[test]
    fn hashes_that_passlib_made_verify() {
        for (password, hash) in PASSLIB {
            let stored = Stored::parse(hash).unwrap();
            assert!(stored.verify(password), "{password:?}");
            assert!(!stored.verify(&format!("{password} ")), "{password:?}");
        }
    }

    #[test]
    fn hashes_of_python_bcrypt_verify_and_are_not_current() {
        for (password, hash) in [
            ("secret", "$2b$05$7Drdy1G2ZCRlOrfEAkNWruwvBlAGK54wN7y/2mg7MumZYHCxkWqt."),
            ("secret", "$2a$05$MzOwF.oD4tvCuH695u86/uvXqZ4T3EKqpMI5nS4gQ.UOpqyVTiGt6"),
        ] {
            let stored = Stored::parse(hash).unwrap();
            assert!(stored.verify(password));
            assert!(!stored.verify("Secret"));
            assert!(!stored.is_current(5));
        }
    }

    #[test]
    fn plain_bcrypt_is_cut_at_72_bytes_as_its_makers_did() {
        let hash = "$2b$05$sIJHqdVJSVUOl3v1eqOt6e1OLWf7xIurXxbhVtGIOzB8j.kNQ.XDS";
        let stored = Stored::parse(hash).unwrap();
        assert!(stored.verify(&"y".repeat(72)));
        assert!(stored.verify(&"y".repeat(100)));
        assert!(!stored.verify(&"y".repeat(71)));
    }

    #[test]
    fn a_new_hash_is_current_and_knows_all_of_a_long_password() {
        let password = "z".repeat(100);
        let text = make(&password, 4).unwrap();
        let stored = Stored::parse(&text).unwrap();
        assert!(text.starts_with("$bcrypt-sha256$v=2,t=2b,r=4$"), "{text}");
        assert!(stored.is_current(4) && !stored.is_current(5));
        assert!(stored.verify(&password));
        assert!(!stored.verify(&"z".repeat(99)));
    }

    #[test]
    fn compatibility_forms_of_a_password_are_the_same_password() {
        let stored = Stored::parse(&make("ﬁancé Ⅷ", 4).unwrap()).unwrap();
        assert!(stored.verify("fiance\u{301} VIII"));
    }

    #[test]
    fn long_passwords_of_flask_bcrypt_verify_when_they_are_marked() {
        // bcrypt.hashpw(hashlib.sha256(b"z" * 100).hexdigest(), …) of Python's bcrypt 3.2.2
        let made = "$2b$05$ceH8St6vDYcK.N3ZnFwXj.p6oxt3TGa556jzzQKo2t3DQ.Ju/as0a";
        let stored = Stored::parse(&imported(made, true).unwrap()).unwrap();
        assert!(stored.verify(&"z".repeat(100)));
        assert!(!stored.verify(&"z".repeat(99)));
        assert!(!stored.is_current(5));
        assert!(!Stored::parse(made).unwrap().verify(&"z".repeat(100)));
        assert_eq!(imported(&made.replace("$05$", "$17$"), true), Err(Unusable::Cost(17)));
        assert_eq!(imported(PASSLIB[0].1, true).as_deref(), Ok(PASSLIB[0].1));
    }

    #[test]
    fn each_hash_that_cannot_be_imported_has_its_own_reason() {
        let passlib = PASSLIB[0].1;
        let bcrypt = "$2b$05$7Drdy1G2ZCRlOrfEAkNWruwvBlAGK54wN7y/2mg7MumZYHCxkWqt.";
        for (text, reason) in [
            (String::new(), Unusable::Unknown),
            ("plain".to_owned(), Unusable::Unknown),
            ("$argon2id$v=19$m=1,t=1,p=1$x$y".to_owned(), Unusable::Unknown),
            (bcrypt.replace("2b", "2x"), Unusable::Unknown),
            (passlib.replace("2b", "é"), Unusable::Unknown),
            (passlib.replace("v=2,t=", ""), Unusable::PasslibVersion),
            (passlib.replace("v=2", "v=1"), Unusable::PasslibVersion),
            ("$2b$05$short".to_owned(), Unusable::Damaged),
            (format!("{bcrypt}\n"), Unusable::Damaged),
            (bcrypt.replace("05", "five"), Unusable::Damaged),
            (passlib.replace("r=12", "r=x"), Unusable::Damaged),
            (passlib.replace("r=12$", ""), Unusable::Damaged),
            (passlib.replace("r=12", "r=3"), Unusable::Cost(3)),
            (passlib.replace("r=12", "r=17"), Unusable::Cost(17)),
            (bcrypt.replace("05", "03"), Unusable::Cost(3)),
            (bcrypt.replace("05", "17"), Unusable::Cost(17)),
            (bcrypt.replace("05", "31"), Unusable::Cost(31)),
            (bcrypt.replace("05", "99"), Unusable::Cost(99)),
        ] {
            assert_eq!(imported(&text, false), Err(reason), "{text}");
        }
    }
}
