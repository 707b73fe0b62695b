//! `portcullis user import`: accounts from another service, one JSON object a line.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::json;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::command::Database;
use crate::config::Config;
use crate::problem::FieldError;
use crate::store::users::{self, ImportedUser, NewUser, Role};
use crate::{names, password, store, timestamp};

/// Bytes of a line.
const LINE_MAX: u64 = 64 * 1024;
/// Rows a transaction.
const BATCH: usize = 500;

/// Where the accounts come from.
#[derive(Args, Debug)]
pub struct Import {
    /// The file: one JSON object a line, with username, email, email_verified, name,
    /// password_hash, is_active, created_at, role
    file: PathBuf,
    /// The hashes are of Flask-Bcrypt with BCRYPT_HANDLE_LONG_PASSWORDS: bcrypt over SHA-256 in hex
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
    let file =
        File::open(&import.file).map_err(|error| format!("{}: {error}", import.file.display()))?;
    let database = Database::join(config).await?;
    let done = async {
        store::migrate(&database.options()).await.map_err(|error| error.to_string())?;
        let pool = store::pool(database.options(), config);
        let mut report = Report::default();
        let read = read(&pool, file, &import, &mut report).await;
        pool.close().await;
        Ok((report, read))
    };
    let done: Result<_, String> = done.await;
    database.close().await;
    let (mut report, read) = done?;
    report.refused.sort_unstable();
    for (line, reason) in &report.refused {
        eprintln!("{}:{line}: {reason}", import.file.display());
    }
    let (made, there) = (report.made, report.there);
    let told = format!("{made} accounts made, {there} were there already");
    if let Err(error) = read {
        return Err(format!("{told}, and then: {error}"));
    }
    match report.refused.len() {
        0 => Ok(told),
        refused => Err(format!("{told}, {refused} lines were refused")),
    }
}

async fn read(
    pool: &PgPool,
    file: File,
    import: &Import,
    report: &mut Report,
) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", import.file.display());
    let progress = ProgressBar::new(file.metadata().map_err(told)?.len());
    let mut lines = BufReader::new(file);
    let (mut batch, mut number) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        let length = (&mut lines).take(LINE_MAX).read_until(b'\n', &mut line).map_err(told)?;
        number += 1;
        if length as u64 == LINE_MAX && !line.ends_with(b"\n") {
            report.refused.push((number, "the line is too long".to_owned()));
            line.clear();
            lines.skip_until(b'\n').map_err(told)?;
        }
        if !line.trim_ascii().is_empty() {
            match check(&line, import.long_passwords) {
                Ok(user) => batch.push((number, user)),
                Err(reason) => report.refused.push((number, reason)),
            }
        }
        if batch.len() >= BATCH || length == 0 {
            store_batch(pool, report, std::mem::take(&mut batch))
                .await
                .map_err(|error| format!("the database refused: {error}"))?;
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
            let reason = "another account has this username or email address";
            report.refused.push((number, reason.to_owned()));
        }
    }
    transaction.commit().await?;
    report.made += made;
    report.there += there;
    Ok(())
}

/// A line as an account, or why it is none.
fn check(line: &[u8], long_passwords: bool) -> Result<ImportedUser, String> {
    // serde would take an array for a struct, field by field.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err("a JSON object is expected".to_owned());
    }
    let row: Row = serde_json::from_slice(line).map_err(|error| {
        // It may repeat what the file says, which may be long or meant for the terminal.
        error.to_string().escape_debug().take(200).collect::<String>()
    })?;
    let told = |fault: FieldError| fault.to_string();
    let read = |field: &str, text: &Option<String>, read: names::Read| {
        text.as_deref().map(|text| read(field, text)).transpose().map_err(told)
    };
    let email_verified = row.email.is_some() && row.email_verified.unwrap_or_default();
    let new = NewUser {
        username: read("username", &row.username, names::username)?,
        email: read("email", &row.email, names::email)?,
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
        .ok_or("password_hash is neither bcrypt nor passlib's bcrypt_sha256")?;
    let (is_active, created_at) = (row.is_active.unwrap_or(true), row.created_at);
    Ok(ImportedUser { new, password_hash, is_active, created_at })
}
