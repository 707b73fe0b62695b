//! The passwords that attackers try first. Where they come from is in `breached/README.md`.

use sha2::{Digest as _, Sha256};

/// The first four bytes of the SHA-256 of each, sorted: more would make it larger for nothing.
static HASHES: &[u8] = include_bytes!("breached/hashes.bin");

/// Whether a password is one of them, as it is or in lower case.
pub(super) fn contains(password: &str) -> bool {
    [password, &password.to_lowercase()].into_iter().any(|form| {
        let digest = Sha256::digest(form.as_bytes());
        let (hashes, _) = HASHES.as_chunks::<4>();
        hashes.binary_search_by(|hash| hash[..].cmp(&digest[..4])).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_passwords_are_known_in_any_case_and_others_are_not() {
        assert_eq!(HASHES.len() / 4, 99_997);
        assert!(HASHES.as_chunks::<4>().0.is_sorted());
        for password in ["123456", "password", "12345678", "PASSWORD1", "Football", "trustno1"] {
            assert!(contains(password), "{password}");
        }
        // Of 2,000 that nobody has chosen, one may be taken for another by chance; not three.
        let taken = (0..2000).filter(|n| contains(&format!("nobody chose {n}"))).count();
        assert!(taken < 3, "{taken}");
    }
}
