//! The `.env` file of the working directory.

use std::collections::HashSet;
use std::io::ErrorKind;

const PATH: &str = ".env";

/// Sets the variables of the file that are not set already. Call it before any thread is started.
///
/// # Errors
/// One line that names the variable, and never shows what is in the file.
pub fn load() -> Result<(), String> {
    let text = match std::fs::read_to_string(PATH) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{PATH} cannot be read: {error}")),
    };
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if let Some(variable) = find_lost_dollar(&text, is_set) {
        return Err(format!(
            "{PATH}: the value of {variable} has a $ and a name that is not set. Put the value in single quotes, or \
             write \\$ for a dollar sign"
        ));
    }
    match dotenvy::from_path(PATH) {
        // The line may hold a secret, so it is not shown.
        Err(dotenvy::Error::LineParse(..)) => {
            Err(format!("{PATH} has a line that cannot be read; quote values that have spaces"))
        }
        Err(error) => Err(format!("{PATH} cannot be read: {error}")),
        Ok(()) => Ok(()),
    }
}

/// The first variable whose value would silently lose a part: dotenvy replaces `$name` by nothing if it is not set.
fn find_lost_dollar(text: &str, is_set: impl Fn(&str) -> bool) -> Option<&str> {
    let (mut earlier, mut lines) = (HashSet::new(), text.lines());
    while let Some(line) = lines.next().map(str::trim_start) {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((variable, value)) = line.split_once('=').filter(|_| !line.starts_with('#'))
        else {
            continue;
        };
        let (variable, mut value) = (variable.trim(), value.to_owned());
        // A value in quotes goes on in the next line.
        while is_open(&value)
            && let Some(next) = lines.next()
        {
            value = format!("{value}\n{next}");
        }
        if !substitutions(&value).0.iter().all(|name| is_set(name) || earlier.contains(*name)) {
            return Some(variable);
        }
        earlier.insert(variable);
    }
    None
}

/// Whether a quote in a value is not closed.
fn is_open(value: &str) -> bool {
    substitutions(value).1
}

/// The names that dotenvy replaces in a value, after a `$` that is neither escaped nor in single quotes, and whether a
/// quote is open at its end.
fn substitutions(value: &str) -> (Vec<&str>, bool) {
    let (mut names, mut is_quoted, mut is_escaped) = (Vec::new(), None, false);
    for (at, c) in value.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted != Some('\'') => is_escaped = true,
            '\'' | '"' if is_quoted == Some(c) => is_quoted = None,
            '\'' | '"' if is_quoted.is_none() => is_quoted = Some(c),
            '#' if is_quoted.is_none() && value[..at].ends_with([' ', '\t']) => break,
            '$' if is_quoted != Some('\'') => {
                let rest = &value[at + 1..];
                let name = match rest.strip_prefix('{') {
                    Some(block) => block.split('}').next(),
                    None => rest.split(|c: char| !c.is_alphanumeric()).next(),
                };
                names.extend(name);
            }
            _ => {}
        }
    }
    (names, is_quoted.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_that_would_take_a_part_of_a_value_away_is_found() {
        let found = |text: &'static str| find_lost_dollar(text, |name| name == "HOME");
        for lost in [
            "SECRET=Tr0ub4$dor&3-horse",
            "SECRET=\"Tr0ub4$dor&3 horse\"",
            "  export SECRET=a${dor}b",
            "SECRET=ends with $",
            "SECRET=pa$$word",
            "FIRST=x\nSECRET=$HOME/$SECOND\nSECOND=y",
            "SECRET='a'$b",
            "SECRET=\"line one\nTr0ub4$dor&3\"",
            "SECRET=\"it's $5\"",
        ] {
            assert_eq!(found(lost), Some("SECRET"), "{lost}");
        }
        for kept in [
            "SECRET='Tr0ub4$dor&3-horse'",
            "SECRET=Tr0ub4\\$dor",
            "SECRET=\"Tr0ub4\\$dor\"",
            "DIR=$HOME/data",
            "DIR=${HOME}/data",
            "FIRST=x\nSECOND=$FIRST-y",
            "# SECRET=$dor",
            "SECRET='line one\nTr0ub4$dor&3'\nNEXT=x",
            "LEVEL=info # costs $5",
        ] {
            assert_eq!(found(kept), None, "{kept}");
        }
    }
}
