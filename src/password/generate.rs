//! Passwords that the service chooses.

use rand::seq::IndexedRandom as _;
use secrecy::SecretString;

/// No character looks like another one, and none needs a modifier key.
const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
/// Twenty of these 31 characters are 99 bits.
const GROUPS: usize = 5;
const GROUP: usize = 4;

/// A random password that is easy to type, such as `k7fm-2xqe-9rhd-wn4t-c6ps`.
#[must_use]
pub fn generate() -> SecretString {
    let mut random = rand::rng();
    let group = |_| {
        let characters = (0..GROUP).filter_map(|_| ALPHABET.choose(&mut random));
        characters.map(|byte| char::from(*byte)).collect::<String>()
    };
    (0..GROUPS).map(group).collect::<Vec<_>>().join("-").into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn generated_passwords_are_easy_to_type_and_differ() {
        let passwords: HashSet<String> =
            (0..1000).map(|_| generate().expose_secret().to_owned()).collect();
        assert_eq!(passwords.len(), 1000);
        let mut seen = HashSet::new();
        for password in &passwords {
            let groups: Vec<_> = password.split('-').collect();
            assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [GROUP; GROUPS]);
            seen.extend(password.bytes().filter(|byte| *byte != b'-'));
        }
        assert_eq!(seen, ALPHABET.iter().copied().collect());
    }
}
