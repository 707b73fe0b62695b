//! Opaque secrets: made, shown once, stored hashed.
//!
//! A secret is a prefix that says what it is for and 32 characters of base64url: 160 random bits and a
//! CRC-32 of what comes before it, so that a scanner, and we ourselves, can tell a secret from a typo
//! without a database.

mod held;

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroize as _;
use sha2::{Digest as _, Sha256};

pub use self::held::HeldSecrets;

const RANDOM: usize = 20;
const CHECKSUM: usize = 4;

/// What a secret is for.
pub trait Purpose {
    /// What the secret starts with.
    const PREFIX: &'static str;
}

/// Programs that act for a person.
pub enum ApiToken {}

impl Purpose for ApiToken {
    const PREFIX: &'static str = "pct_";
}

/// Clients that have logged in before.
pub enum Device {}

impl Purpose for Device {
    const PREFIX: &'static str = "pcd_";
}

/// Clients that requested a login code.
pub enum LoginRequest {}

impl Purpose for LoginRequest {
    const PREFIX: &'static str = "pcr_";
}

/// People who were sent a mail.
pub enum OneTime {}

impl Purpose for OneTime {
    const PREFIX: &'static str = "pco_";
}

/// The secret of an API token.
pub type ApiTokenSecret = Secret<ApiToken>;
/// The secret of a client that has logged in before.
pub type DeviceSecret = Secret<Device>;
/// The secret of a client that requested a login code.
pub type LoginRequestSecret = Secret<LoginRequest>;
/// The secret in a mailed link.
pub type OneTimeSecret = Secret<OneTime>;

/// A secret for one purpose.
pub struct Secret<P>(String, PhantomData<P>);

impl<P: Purpose> Secret<P> {
    /// A new secret.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; RANDOM + CHECKSUM];
        bytes[..RANDOM].copy_from_slice(&rand::random::<[u8; RANDOM]>());
        let checksum = checksum(&bytes[..RANDOM]);
        bytes[RANDOM..].copy_from_slice(&checksum);
        Self(format!("{}{}", P::PREFIX, URL_SAFE_NO_PAD.encode(bytes)), PhantomData)
    }

    /// Reads what a client sent; `None` when it was never such a secret, by its form or its checksum.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(P::PREFIX)?).ok()?;
        let (random, check) = bytes.split_at_checked(RANDOM)?;
        (check == checksum(random)).then(|| Self(text.to_owned(), PhantomData))
    }
}

impl<P> Secret<P> {
    /// The text that the client is to hold.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the database knows the secret by: 160 random bits need no salt and no slow hash.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(&self.0).to_vec()
    }
}

impl<P> Drop for Secret<P> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<P> fmt::Debug for Secret<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn checksum(random: &[u8]) -> [u8; CHECKSUM] {
    crc32fast::hash(random).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_back_and_a_typo_is_not() {
        let secret = ApiTokenSecret::generate();
        let text = secret.expose().to_owned();
        assert_eq!(text.len(), 36);
        assert_eq!(ApiTokenSecret::parse(&text).unwrap().hash(), secret.hash());
        for at in ApiToken::PREFIX.len()..text.len() {
            let mut typo = text.clone().into_bytes();
            typo[at] = if typo[at] == b'A' { b'B' } else { b'A' };
            assert!(ApiTokenSecret::parse(&String::from_utf8(typo).unwrap()).is_none());
        }
        let for_another = DeviceSecret::generate();
        for text in [
            for_another.expose(),
            "",
            "pct_",
            "pcs_AAAA",
            "pct_AAAA",
            &text[4..],
            &text[..35],
            &format!("{text}A"),
        ] {
            assert!(ApiTokenSecret::parse(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_a_secret_reads_as_one(text in any::<String>(), tail in "[A-Za-z0-9_-]{32}") {
            prop_assert!(ApiTokenSecret::parse(&text).is_none());
            // By chance once in four thousand million.
            let made_up = format!("pct_{tail}");
            prop_assert!(ApiTokenSecret::parse(&made_up).is_none());
        }
    }
}
