//! What a new password must be (NIST SP 800-63B-4 §3.1.1.2, ASVS 6.2): long enough, and none that an
//! attacker would try early. There are no rules of composition.

use secrecy::{ExposeSecret as _, SecretString};
use unicode_normalization::UnicodeNormalization as _;
use zxcvbn::matching::Match;
use zxcvbn::matching::patterns::MatchPattern;
use zxcvbn::{Score, zxcvbn};

use super::breached;
use crate::names::is_blank;
use crate::problem::FieldError;

/// Characters after NFKC.
const MAX_CHARS: usize = 128;
/// Characters that the estimator looks at: it takes long for long ones, which are hard to guess anyway.
const ESTIMATED_CHARS: usize = 32;
/// Characters, such as those of a year, that make no password out of a name.
const MOST_BESIDES_NAMES: usize = 4;
/// Shorter parts of names are in too many words.
const SHORTEST_NAME: usize = 3;

/// What is wrong with a new password at first sight; `None` when nothing.
pub(super) fn fault(field: &str, password: &SecretString, min: usize) -> Option<FieldError> {
    let normal: String = password.expose_secret().nfkc().take(MAX_CHARS + 1).collect();
    let chars = normal.chars().count();
    let fault = |code, message: &str| Some(FieldError::new(field, code, message));
    if chars < min {
        fault("too_short", &format!("must have at least {min} characters"))
    } else if chars > MAX_CHARS {
        fault("too_long", &format!("must have at most {MAX_CHARS} characters"))
    } else if breached::contains(normal.trim_matches(is_blank)) {
        fault(
            "breached",
            "is one of the passwords that leak and are tried most often; take another",
        )
    } else {
        None
    }
}

/// What an estimator of guesses has against a new password of somebody with these `names`. It may take
/// as long as hashing does.
pub(super) fn estimate(
    field: &str,
    password: &SecretString,
    names: &[String],
) -> Option<FieldError> {
    let normal: String = password.expose_secret().nfkc().collect();
    let head: String = normal.chars().take(ESTIMATED_CHARS).collect();
    let names = parts(names);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let entropy = zxcvbn(&head, &names);
    let easy = matches!(entropy.score(), Score::Zero | Score::One | Score::Two);
    let (code, message) =
        if is_made_of(&names, &normal) || easy && has_one_of(&names, entropy.sequence()) {
            ("personal", "must not be made of a name, an address or this service's name")
        } else if entropy.score() == Score::Zero {
            ("guessable", "is too easy to guess")
        } else {
            return None;
        };
    let advice = entropy.feedback().map(|feedback| {
        let warning = feedback.warning().map(|warning| warning.to_string());
        let suggestions = feedback.suggestions().iter().map(ToString::to_string);
        warning.into_iter().chain(suggestions).collect::<Vec<_>>().join(" ")
    });
    let advice = advice.unwrap_or_default();
    let message = format!("{message}. {advice}");
    Some(FieldError::new(field, code, message.trim_end_matches(['.', ' '])))
}

/// The names in lower case, and the words that they are made of.
fn parts(names: &[String]) -> Vec<String> {
    let names = names.iter().map(|name| name.to_lowercase());
    let parts = names.flat_map(|name| {
        let words = name.split(|c: char| !c.is_alphanumeric()).map(str::to_owned);
        words.chain([name.clone()]).collect::<Vec<_>>()
    });
    parts.filter(|part| part.chars().count() >= SHORTEST_NAME).collect()
}

/// Whether a password has next to nothing but these: the estimator thinks much of joining two.
fn is_made_of(names: &[&str], password: &str) -> bool {
    let mut names = names.to_vec();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let password = password.to_lowercase();
    let rest = names.iter().fold(password.clone(), |rest, name| rest.replace(name, " "));
    rest != password && rest.chars().filter(|c| !is_blank(*c)).count() <= MOST_BESIDES_NAMES
}

/// Whether a password is partly made of one of these, perhaps over and over.
fn has_one_of(names: &[&str], password: &[Match]) -> bool {
    password.iter().any(|part| match &part.pattern {
        MatchPattern::Dictionary(word) => names.contains(&word.matched_word.as_str()),
        MatchPattern::Repeat(repeat) => has_one_of(names, &repeat.base_matches),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_sight(password: &str) -> Option<String> {
        fault("password", &password.to_owned().into(), 8).map(|fault| fault.code)
    }

    fn estimated(password: &str) -> Option<String> {
        let names = ["alice", "alice.liddell@example.com", "Alice Liddell", "portcullis"];
        let names = names.map(str::to_owned);
        estimate("password", &password.to_owned().into(), &names).map(|fault| fault.code)
    }

    #[test]
    fn length_counts_characters_after_nfkc() {
        assert_eq!(first_sight("seven77").as_deref(), Some("too_short"));
        assert_eq!(first_sight("ﬁ ﬁ ﬁ"), None);
        assert_eq!(first_sight(&"é".repeat(128)), None);
        assert_eq!(first_sight(&"é".repeat(129)).as_deref(), Some("too_long"));
    }

    #[test]
    fn what_leaks_most_often_is_refused_in_any_form() {
        for password in [
            "password1",
            "12345678",
            "PassWord1",
            "ｐａｓｓｗｏｒｄ１",
            "password1 ",
            "\u{feff}password1\u{200b}",
        ] {
            assert_eq!(first_sight(password).as_deref(), Some("breached"), "{password}");
        }
    }

    #[test]
    fn what_is_made_of_ones_own_names_is_refused_and_what_merely_has_one_is_not() {
        for password in [
            "alice1234",
            "Alice2026!",
            "l1ddell99",
            "aliceliddell",
            "portcullis1",
            "alice.liddell",
            "example!!",
            "liddellliddellliddell",
        ] {
            assert_eq!(estimated(password).as_deref(), Some("personal"), "{password}");
        }
        let long = "alice.liddell@example.com";
        assert_eq!(estimated(&format!("{long} rides purple horses")), None);
        assert_eq!(estimated("alice rides purple horses"), None);
        assert_eq!(estimated("correct horse battery staple"), None);
    }

    #[test]
    fn repeats_and_sequences_are_refused_with_advice() {
        for password in ["zzzzzzzzzzzzzz", "abcdefgh", "xyxyxyxyxy", &"2026".repeat(8)] {
            let names = [];
            let fault = estimate("password", &password.to_owned().into(), &names).expect(password);
            assert_eq!(fault.code, "guessable");
            assert!(fault.message.len() > "is too easy to guess".len() + 20, "{}", fault.message);
        }
    }

    #[test]
    fn a_hostile_password_is_estimated_in_the_time_of_a_hash() {
        let hostile = "4@8({[<3€6911!|1|70$5+7%2".repeat(5).into();
        // The quickest of some tries is the one that nothing else slowed down.
        let quickest = |work: &dyn Fn()| {
            let times = (0..5).map(|_| {
                let start = std::time::Instant::now();
                work();
                start.elapsed()
            });
            times.min().unwrap_or_default()
        };
        let estimated = quickest(&|| drop(estimate("password", &hostile, &[])));
        let hashed = quickest(&|| drop(bcrypt::hash("password", 12)));
        println!("a hostile password: estimated in {estimated:?}, hashed in {hashed:?}");
        assert!(estimated < hashed * 2, "{estimated:?} {hashed:?}");
    }
}
