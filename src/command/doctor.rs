//! `portcullis doctor`: what is wrong with the settings, cookies, the database and mail, in plain
//! words, and which setting mends it. Nothing is changed.

mod cookies;
mod database;
mod mail;
mod migrations;
mod settings;
mod site;
mod unreachable;

use std::process::ExitCode;

use clap::Args;

use crate::command::output;
use crate::config::Config;

/// Columns of the output.
const WIDTH: usize = 100;
/// Columns before the text of a finding.
const INDENT: usize = 9;

/// What to try besides looking.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Send a test email to this address
    #[arg(long, value_name = "ADDRESS")]
    send_test_mail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// As it should be.
    Ok,
    /// It works, and is risky or surprising.
    Warning,
    /// It does not work, or lets strangers in.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    level: Level,
    /// What was seen.
    what: String,
    /// Why that matters, and which setting with which value mends it.
    why: String,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), why: String::new() }
    }

    /// One that is fine as long as what is said beside it holds.
    fn note(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), why: why.into() }
    }

    fn warning(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { level: Level::Warning, what: what.into(), why: why.into() }
    }

    fn problem(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { level: Level::Problem, what: what.into(), why: why.into() }
    }

    fn text(&self) -> String {
        let word = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        let lines = [&self.what, &self.why].into_iter().flat_map(|text| wrap(text));
        let mut text = String::new();
        for (number, line) in lines.enumerate() {
            let word = if number == 0 { word } else { "" };
            text += &format!("{word:INDENT$}{line}\n");
        }
        text
    }
}

/// Looks at everything, prints what it finds, and fails if there is a problem. `wrong` are the settings
/// whose values are not allowed, a line each.
///
/// # Errors
/// One line if standard output cannot be written. What else goes wrong is a finding.
pub async fn run(config: &Config, wrong: &[String], doctor: &Doctor) -> Result<ExitCode, String> {
    let mut levels = Vec::new();
    let mut tell = |findings: Vec<Finding>| {
        levels.extend(findings.iter().map(|finding| finding.level));
        output::print(&findings.iter().map(Finding::text).collect::<String>())
    };
    let unfit = config.check().err();
    // Where a default stands for a wrong value, more would be said of what is not there.
    if wrong.is_empty() {
        tell(settings::check(config, unfit.as_deref()))?;
        tell(cookies::check(config))?;
    } else {
        tell(settings::wrong(wrong))?;
    }
    if !wrong.iter().chain(&unfit).any(|line| line.starts_with("DATABASE_URL")) {
        tell(database::check(config).await)?;
    }
    let is_of_mail = |line: &String| {
        ["PORTCULLIS_SMTP_URL", "PORTCULLIS_MAIL_FROM"].iter().any(|name| line.starts_with(name))
    };
    if !wrong.iter().chain(&unfit).any(is_of_mail) {
        tell(mail::check(config, doctor.send_test_mail.as_deref()).await)?;
    }
    output::print(&format!("\n{}\n", count(&levels)))?;
    let failed = levels.contains(&Level::Problem);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Logs what is risky about the settings, a line each, for those who never run `doctor`.
pub fn warn(config: &Config) {
    let findings = settings::risks(config).into_iter().chain(cookies::check(config));
    for Finding { what, .. } in findings.filter(|finding| finding.level != Level::Ok) {
        tracing::warn!("{what} (`portcullis doctor` explains it)");
    }
}

/// The last line.
fn count(levels: &[Level]) -> String {
    let count = |level| levels.iter().filter(|l| **l == level).count();
    let plural = |count, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    let (problems, warnings) = (plural(problems, "problem"), plural(warnings, "warning"));
    format!("{problems}, {warnings}, {} ok", count(Level::Ok))
}

/// The lines of a text, none wider than there is room for, unless a word is.
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH - INDENT => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_an_indented_explanation() {
        let finding = Finding::warning("it rains", "word ".repeat(40));
        let text = finding.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "warning  it rains");
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1..].iter().all(|line| line.starts_with("         word")), "{text}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(Finding::ok("it shines").text(), "ok       it shines\n");
    }

    #[test]
    fn the_last_line_counts() {
        assert_eq!(count(&[Level::Ok, Level::Problem, Level::Ok]), "1 problem, 0 warnings, 2 ok");
    }
}
