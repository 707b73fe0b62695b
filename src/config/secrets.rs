//! Secret settings: from the environment, or from a file that the environment names.

use std::env::VarError;
use std::fs::File;
use std::io::Read as _;

use secrecy::SecretString;

/// A file that is larger than this holds no secret of ours.
const LARGEST: u64 = 64 * 1024;

/// The value of a secret setting, without the line break that shells and editors put at its end: of the variable `name`, or of the file that `name` with `_FILE` names.
///
/// # Errors
/// One line that names the variable and never shows a secret.
pub(super) fn read(name: &str) -> Result<Option<SecretString>, String> {
    let file_name = format!("{name}_FILE");
    let secret = match (variable(name)?, variable(&file_name)?) {
        (Some(_), Some(_)) => return Err(format!("{name} and {file_name} are both set: set one")),
        (None, Some(path)) => from_file(&file_name, &path)?,
        (None, None) => return Ok(None),
        (Some(value), None) => match without_line_break(&value) {
            "" => return Ok(None),
            value => value.to_owned(),
        },
    };
    Ok(Some(secret.into()))
}

/// The value of a variable; an empty one counts as unset.
fn variable(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(format!("{name} must be UTF-8 (its value is not shown)"))
        }
    }
}

/// The content of a file, without the line break that editors and `echo` put at its end.
fn from_file(name: &str, path: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("{name}=\"{path}\" cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{name}=\"{path}\" is larger than {} KiB", LARGEST / 1024));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("{name}=\"{path}\" must be UTF-8 (its content is not shown)"))?;
    match without_line_break(&text) {
        "" => Err(format!("{name}=\"{path}\" is empty")),
        text => Ok(text.to_owned()),
    }
}

fn without_line_break(text: &str) -> &str {
    let line = text.strip_suffix('\n');
    line.map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_removed_and_nothing_else() {
        for (text, secret) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            ("hunter2\n\n", "hunter2\n"),
            ("hunter2\r", "hunter2\r"),
            (" hunter 2 \n", " hunter 2 "),
            ("\n", ""),
        ] {
            assert_eq!(without_line_break(text), secret, "{text:?}");
        }
    }
}
