//! The secrets that a client keeps so that accounts recognise it, and the form in which one cookie
//! holds several.

use std::collections::HashSet;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Purpose, Secret};

/// How many secrets a cookie holds; the oldest are dropped.
const MOST: usize = 10;
/// The longest value of a cookie that is ours, with room for longer secrets.
const LONGEST: usize = MOST * 64;
/// Separates the secrets in a cookie. No secret contains it, and a single secret reads as before.
const SEPARATOR: char = '.';

/// The secrets of one purpose that a client sent, newest first. They are kept as sent: most requests
/// need none of them, so they are parsed and hashed when they are needed.
#[derive(Clone, Debug, Default)]
pub struct HeldSecrets(Option<SecretString>);

impl HeldSecrets {
    /// Secrets from the value of a cookie.
    #[must_use]
    pub fn from_cookie(value: &str) -> Self {
        Self((value.len() <= LONGEST).then(|| value.into()))
    }

    /// The hashes of the secrets; anything else in the cookie is ignored.
    #[must_use]
    pub fn hashes<P: Purpose>(&self) -> Vec<Vec<u8>> {
        self.parsed::<P>().map(|secret| secret.hash()).collect()
    }

    /// The value of a cookie that holds a new secret and the newest of these.
    #[must_use]
    pub fn with<P: Purpose>(&self, new: &Secret<P>) -> SecretString {
        let mut value = new.expose().to_owned();
        for secret in self.parsed::<P>().take(MOST - 1) {
            value.push(SEPARATOR);
            value.push_str(secret.expose());
        }
        value.into()
    }

    fn parsed<P: Purpose>(&self) -> impl Iterator<Item = Secret<P>> {
        let value = self.0.as_ref().map(SecretString::expose_secret).unwrap_or_default();
        let mut seen = HashSet::new();
        let distinct = value.split(SEPARATOR).take(MOST).filter(move |text| seen.insert(*text));
        distinct.filter_map(Secret::parse)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::{ApiTokenSecret, Device, DeviceSecret};

    fn add(secrets: &HeldSecrets, new: &DeviceSecret) -> HeldSecrets {
        HeldSecrets::from_cookie(secrets.with(new).expose_secret())
    }

    #[test]
    fn a_cookie_holds_the_newest_ten_secrets() {
        let given: Vec<_> = std::iter::repeat_with(DeviceSecret::generate).take(13).collect();
        let cookie = given.iter().fold(HeldSecrets::default(), |cookie, new| add(&cookie, new));
        let newest: Vec<_> = given.iter().rev().take(10).map(DeviceSecret::hash).collect();
        assert_eq!(cookie.hashes::<Device>(), newest);
    }

    #[test]
    fn a_cookie_of_an_earlier_release_holds_one_secret() {
        let old = DeviceSecret::generate();
        let cookie = HeldSecrets::from_cookie(old.expose());
        assert_eq!(cookie.hashes::<Device>(), [old.hash()]);
        let new = DeviceSecret::generate();
        assert_eq!(add(&cookie, &new).hashes::<Device>(), [new.hash(), old.hash()]);
    }

    #[test]
    fn what_is_no_secret_or_repeated_is_ignored() {
        let (own, other) = (DeviceSecret::generate(), ApiTokenSecret::generate());
        let own_text = own.expose();
        let cookie = format!("..x.{own_text}.{}.{own_text}.", other.expose());
        assert_eq!(HeldSecrets::from_cookie(&cookie).hashes::<Device>(), [own.hash()]);
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = DeviceSecret::generate();
        let debug = format!("{:?}", HeldSecrets::from_cookie(secret.expose()));
        assert!(!debug.contains(secret.expose()), "{debug}");
    }

    proptest! {
        #[test]
        fn any_cookie_is_read(value in any::<String>()) {
            prop_assert!(HeldSecrets::from_cookie(&value).hashes::<Device>().is_empty());
        }
    }
}
