//! Secrets that are mailed to prove that an address is somebody's own: a token in a link, and a short
//! code to be typed (NIST SP 800-63B-4 §3.1.3, ASVS 6.4, 6.5).
//!
//! They are made when the mail is, stored hashed, and good for one purpose, once. Tries at a code are
//! limited for each address; a token cannot be guessed.
//!
//! A login code also needs the secret of the client that requested it (ASVS 6.6.2). The secrets that
//! verify an address or reset a password do not. Neither authenticates anybody, and people often read
//! the mail on another device than the one that requested it. A verification without a session of the
//! account therefore proves the address alone, and a reset revokes all other access.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::names;
use crate::password::{Hasher, Place};
use crate::state::App;
use crate::store::one_time_tokens::{self, Given, Purpose, Token};
use crate::throttle::Attempt;
use crate::token::OneTimeSecret;

/// Crockford's base 32: no letters that look like digits, and few words.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code: 40 bits.
const CODE_CHARS: usize = 8;

/// A code to be typed.
pub struct Code(SecretString);

impl Code {
    /// A new code.
    #[must_use]
    pub fn generate() -> Self {
        let random = rand::random::<[u8; CODE_CHARS]>();
        let text: String =
            random.map(|byte| char::from(ALPHABET[usize::from(byte) % 32])).iter().collect();
        Self(text.into())
    }

    /// What a person typed: in any case, with blanks and hyphens anywhere, and with the letters that
    /// look like digits. What can be no code becomes one that is never right.
    #[must_use]
    pub fn read(typed: &SecretString) -> Self {
        let chars = typed.expose_secret().chars().filter(|c| !c.is_whitespace() && *c != '-');
        let text: String = chars
            .map(|c| match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                c => c,
            })
            .take(CODE_CHARS + 1)
            .collect();
        let is_code = text.len() == CODE_CHARS && text.bytes().all(|b| ALPHABET.contains(&b));
        Self(if is_code { text } else { "no code".to_owned() }.into())
    }

    /// The code in two groups, as it is mailed.
    #[must_use]
    pub fn grouped(&self) -> String {
        let (head, tail) = self.0.expose_secret().split_at(CODE_CHARS / 2);
        format!("{head}-{tail}")
    }

    /// What the database knows the code by: the same code to another address, or for another purpose,
    /// has another hash.
    ///
    /// # Errors
    /// `Busy`.
    pub async fn hash(
        &self,
        (hasher, place): (&Hasher, Place),
        purpose: Purpose,
        email: &str,
    ) -> Result<Vec<u8>> {
        let digest = Sha256::digest(format!("{}\0{email}", purpose.as_str()));
        let mut salt = [0; 16];
        salt.copy_from_slice(&digest[..16]);
        hasher.hash_code(place, salt, self.0.expose_secret()).await
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

/// What a person brings back from a mail.
#[derive(Debug)]
pub enum Proof {
    /// The token of the link; `None` when it never was one.
    Token(Option<OneTimeSecret>),
    /// The code, and the address that it was sent to.
    Code {
        /// The address, as accounts have it.
        email: String,
        /// The code.
        code: Code,
        /// The hashes of the secrets of the client's requests for login codes.
        requests: Vec<Vec<u8>>,
    },
}

impl Proof {
    /// Reads the fields of a request: a token, or an address and a code.
    ///
    /// # Errors
    /// `ValidationFailed` when it is neither.
    pub fn read(
        token: Option<&SecretString>,
        email: Option<&str>,
        code: Option<&SecretString>,
    ) -> Result<Self> {
        match (token, email, code) {
            (Some(token), None, None) => {
                Ok(Self::Token(OneTimeSecret::parse(token.expose_secret())))
            }
            (None, Some(email), Some(code)) => {
                let (email, code) = (names::email("email", email)?, Code::read(code));
                Ok(Self::Code { email, code, requests: vec![] })
            }
            (None, None, None) => {
                Err(Error::invalid("token", "required", "(or email and code) is required"))
            }
            (None, Some(_), None) => Err(Error::invalid("code", "required", "is required")),
            (None, None, Some(_)) => Err(Error::invalid("email", "required", "is required")),
            (Some(_), ..) => {
                Err(Error::invalid("token", "invalid", "must not be given beside email and code"))
            }
        }
    }

    /// Looks for what was mailed, and does not use it up: that is for [`one_time_tokens::spend`], in the
    /// transaction of what it is good for. `None` when nothing stands.
    ///
    /// # Errors
    /// `RateLimited`, `Busy`, and those of the database.
    pub async fn find(
        &self,
        app: &App,
        client: &Client,
        purpose: Purpose,
    ) -> Result<Option<Token>> {
        let (email, code, requests) = match self {
            Self::Token(None) => return Ok(None),
            Self::Token(Some(token)) => {
                let given = Given::Token(token.hash());
                return Ok(one_time_tokens::find(&app.pool, purpose, &given).await?);
            }
            Self::Code { email, code, requests } => (email, code, requests),
        };
        let hasher = app.hasher.for_client(client);
        let place = hasher.admit().await?;
        let attempt = Attempt::to_redeem(app, client, purpose.as_str(), email, requests).await?;
        let hash = match code.hash((&hasher, place), purpose, email).await {
            Ok(hash) => hash,
            Err(error) => {
                attempt.give_back().await?;
                return Err(error);
            }
        };
        let given = Given::Code { email: email.clone(), hash, requests: requests.clone() };
        let found = one_time_tokens::find(&app.pool, purpose, &given).await?;
        if found.is_some() {
            attempt.succeed().await?;
        }
        Ok(found)
    }

    /// The error for what does not stand, or does not any more.
    #[must_use]
    pub fn refused(&self) -> Error {
        let field = match self {
            Self::Token(_) => "token",
            Self::Code { .. } => "code",
        };
        Error::invalid(field, "invalid", "does not stand, or does not any more; ask for a new mail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> String {
        Code::read(&typed.to_owned().into()).0.expose_secret().to_owned()
    }

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        for _ in 0..200 {
            let code = Code::generate();
            let grouped = code.grouped();
            assert_eq!(grouped.len(), CODE_CHARS + 1);
            for typed in [grouped.clone(), grouped.to_lowercase(), grouped.replace('-', " ")] {
                assert_eq!(read(&typed), code.0.expose_secret());
            }
        }
        assert_eq!(read(" oIl0-abcd "), "0110ABCD");
        for typed in
            ["", "0110ABC", "0110ABCDE", "0110ABCU", "0110ABC\0", "é0110ABC", &"A".repeat(100_000)]
        {
            assert_eq!(read(typed), "no code");
        }
    }

    #[test]
    fn debug_shows_no_code() {
        let code = Code::generate();
        assert!(!format!("{code:?}").contains(&code.grouped()[..4]));
    }
}
