//! `portcullis user import`: accounts from another service, one JSON object a line.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::command::{on_database, output, refused};
use crate::config::Config;
use crate::problem::FieldError;
use crate::store::users::{self, ImportedUser, NewUser, Role};
use crate::{extract, names, password, store, timestamp};

/// Bytes of a line.
const LINE_MAX: u64 = 64 * 1024;
/// Rows a transaction.
const BATCH: usize = 500;
/// What programs for Windows write before UTF-8. A JSON parser may skip it (RFC 8259 §8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where the accounts come from.
#[derive(Args, Debug)]
pub struct Import {
    /// File with one JSON object a line: username, email, email_verified, name, password_hash, is_active, created_at, role
    file: PathBuf,
    /// The hashes are from Flask-Bcrypt with BCRYPT_HANDLE_LONG_PASSWORDS
    #[arg(long)]
    long_passwords: bool,
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    username: Option<String>,
    email: Option<String>,
    email_verified: Option<bool>,
    name: Option<String>,
    password_hash: String,
    is_active: Option<bool>,
    #[serde(default, deserialize_with = "timestamp::deserialize_option")]
    created_at: Option<OffsetDateTime>,
    role: Option<Role>,
}

/// What became of the rows.
#[derive(Default)]
struct Report {
    made: usize,
    there: usize,
    refused: Vec<(usize, String)>,
}

/// Makes the accounts that are not there yet. Running it again changes nothing.
///
/// # Errors
/// One line for the operator, after the refused rows have been told.
pub async fn run(config: &Config, import: Import) -> Result<String, String> {
    let file = open(&import)?;
    let done = on_database(config, async |pool| {
        let mut report = Report::default();
        let read = read(pool, file, (&import, config.new_email()), &mut report).await;
        Ok((report, read))
    });
    let (mut report, read) = done.await?;
    report.refused.sort_unstable();
    for (line, reason) in &report.refused {
        output::complain(&format!("{}:{line}: {reason}", import.file.display()));
    }
    let (made, there) = (report.made, report.there);
    let told = format!("created {made} accounts, {there} existed already");
    if let Err(error) = read {
        return Err(format!("{told}, and then failed: {error}"));
    }
    match report.refused.len() {
        0 => Ok(told),
        refused => Err(format!("{told}, rejected {refused} lines")),
    }
}

/// Opens the file, unless it is in UTF-16, as `>` of Windows PowerShell writes it.
fn open(import: &Import) -> Result<BufReader<File>, String> {
    let place = import.file.display();
    let told = |error: io::Error| format!("{place}: {error}");
    let mut lines = BufReader::new(File::open(&import.file).map_err(told)?);
    let start = lines.fill_buf().map_err(told)?;
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return Err(format!("{place} is in UTF-16: save it as UTF-8"));
    }
    Ok(lines)
}

async fn read(
    pool: &PgPool,
    mut lines: BufReader<File>,
    (import, new_email): (&Import, names::Read),
    report: &mut Report,
) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", import.file.display());
    let progress = ProgressBar::new(lines.get_ref().metadata().map_err(told)?.len());
    let (mut batch, mut number) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        let length = (&mut lines).take(LINE_MAX).read_until(b'\n', &mut line).map_err(told)?;
        number += 1;
        if length as u64 == LINE_MAX && !line.ends_with(b"\n") {
            report
                .refused
                .push((number, format!("the line is longer than {} KiB", LINE_MAX / 1024)));
            line.clear();
            lines.skip_until(b'\n').map_err(told)?;
        }
        // Each line may have been a file of its own.
        let text = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line);
        if !text.trim_ascii().is_empty() {
            match check(text.trim_ascii_end(), import.long_passwords, new_email) {
                Ok(user) => batch.push((number, user)),
                Err(reason) => report.refused.push((number, reason)),
            }
        }
        if batch.len() >= BATCH || length == 0 {
            store_batch(pool, report, std::mem::take(&mut batch))
                .await
                .map_err(|error| format!("PostgreSQL rejected a statement: {error}"))?;
        }
        if length == 0 {
            progress.finish_and_clear();
            return Ok(());
        }
        progress.inc(length as u64);
    }
}

async fn store_batch(
    pool: &PgPool,
    report: &mut Report,
    batch: Vec<(usize, ImportedUser)>,
) -> sqlx::Result<()> {
    let (mut made, mut there) = (0, 0);
    let mut transaction = store::begin(pool).await?;
    for (number, user) in batch {
        if let Some(id) = users::import(&mut *transaction, &user).await? {
            let (client, details) = (Client::operator(), json!({"imported": true}));
            let created = Event::new(Kind::UserCreated, &client).to(id).details(details);
            created.record_silently(&mut *transaction).await?;
            made += 1;
        } else if users::has_both_names(&mut *transaction, &user.new).await? {
            there += 1;
        } else {
            report.refused.push((number, taken(&mut transaction, &user.new).await?));
        }
    }
    transaction.commit().await?;
    report.made += made;
    report.there += there;
    Ok(())
}

/// Which names of an account that was not made belong to other accounts.
async fn taken(connection: &mut PgConnection, new: &NewUser) -> sqlx::Result<String> {
    let username_is_taken = match &new.username {
        Some(username) => users::has_username(&mut *connection, username).await?,
        None => false,
    };
    let email_is_taken = match &new.email {
        Some(email) => users::find_id_by_email(connection, email).await?.is_some(),
        None => false,
    };
    Ok(match (username_is_taken, email_is_taken) {
        (true, false) => "another account has this username",
        (false, true) => "another account has this email address",
        _ => "other accounts have this username and email address",
    }
    .to_owned())
}

/// A line as a row, or which field is wrong and why.
fn parse(line: &[u8]) -> Result<Row, String> {
    if str::from_utf8(line).is_err() {
        return Err("the line is not UTF-8".to_owned());
    }
    // serde would take an array for a struct, field by field.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err("a JSON object is expected".to_owned());
    }
    let not_json = |error: &serde_json::Error| {
        format!("the line is not valid JSON: column {}", error.column())
    };
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let row = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner());
        // serde_json takes a number for a word to be a fault of syntax.
        if !inner.is_data() && serde_json::from_slice::<IgnoredAny>(line).is_err() {
            return not_json(inner);
        }
        let fault = refused(extract::invalid(&path, &inner.to_string(), "the line"));
        // It may repeat what the file says, which may be long or meant for the terminal.
        fault.escape_debug().take(200).collect()
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(row)
}

/// A line as an account, or why it is none.
fn check(
    line: &[u8],
    long_passwords: bool,
    new_email: names::Read,
) -> Result<ImportedUser, String> {
    let row = parse(line)?;
    let told = |fault: FieldError| fault.to_string();
    let read = |field: &str, text: &Option<String>, read: names::Read| {
        text.as_deref().map(|text| read(field, text)).transpose().map_err(told)
    };
    let email_verified = row.email.is_some() && row.email_verified.unwrap_or_default();
    let new = NewUser {
        username: read("username", &row.username, names::username)?,
        email: read("email", &row.email, new_email)?,
        name: read("name", &row.name, names::name)?,
        role: row.role.unwrap_or_default(),
        must_change_password: false,
        email_verified,
        password_proven: email_verified,
    };
    if new.username.is_none() && new.email.is_none() {
        return Err("username or email is required".to_owned());
    }
    let password_hash = password::imported(&row.password_hash, long_passwords)
        .map_err(|unusable| format!("password_hash {unusable}"))?;
    let (is_active, created_at) = (row.is_active.unwrap_or(true), row.created_at);
    Ok(ImportedUser { new, password_hash, is_active, created_at })
}
