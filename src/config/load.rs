//! Where the settings come from: flags, the environment, and what the environment alone may hold.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args as _, Command, FromArgMatches as _};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Config, SmtpUrl, secrets};

impl Config {
    /// The settings of the environment, for the commands that take none as flags.
    ///
    /// # Errors
    /// One line that names the variable, its value and what is allowed.
    pub fn from_env() -> Result<Self, String> {
        let mut command = prepare(Self::augment_args(Command::new("portcullis")));
        let matches = command
            .try_get_matches_from_mut(["portcullis"])
            .map_err(|error| explain(&error, &command))?;
        Self::from_arg_matches(&matches).map_err(|error| explain(&error, &command))?.complete()
    }

    /// The settings of the environment, and a line for each whose value is not allowed: that one has
    /// its default here. How they fit each other is not looked at.
    ///
    /// # Errors
    /// One line, when the environment cannot be read at all.
    pub fn inspect() -> Result<(Self, Vec<String>), String> {
        let mut command = prepare(Self::augment_args(Command::new("portcullis")));
        let mut wrong = Vec::new();
        let matches = loop {
            let error = match command.try_get_matches_from_mut(["portcullis"]) {
                Ok(matches) => break matches,
                Err(error) => error,
            };
            let line = explain(&error, &command);
            let Some(id) = argument(&error, &command).map(|arg| arg.get_id().clone()) else {
                return Err(line);
            };
            command = command.mut_arg(id, |arg| arg.env(clap::builder::Resettable::Reset));
            wrong.push(line);
        };
        let mut config =
            Self::from_arg_matches(&matches).map_err(|error| explain(&error, &command))?;
        wrong.extend(config.read_secrets());
        Ok((config, wrong))
    }

    /// The defaults, whatever the environment says.
    ///
    /// # Errors
    /// None with the defaults as they are.
    pub fn defaults() -> Result<Self, String> {
        let command = Self::augment_args(Command::new("portcullis"))
            .mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
        let matches = command.try_get_matches_from(["portcullis"]).map_err(|e| e.to_string())?;
        Self::from_arg_matches(&matches).map_err(|e| e.to_string())
    }

    /// Adds the secrets and checks the settings against each other.
    ///
    /// # Errors
    /// One line that names the variables and what is allowed.
    pub fn complete(mut self) -> Result<Self, String> {
        match self.read_secrets().into_iter().next() {
            Some(line) => Err(line),
            None => self.check().map(|()| self),
        }
    }

    /// Reads what has no flag, and returns a line for each that cannot be read.
    fn read_secrets(&mut self) -> Vec<String> {
        let secrets = [
            ("DATABASE_URL", &mut self.database_url),
            ("PORTCULLIS_ADMIN_PASSWORD", &mut self.admin_password),
        ];
        let read =
            secrets.into_iter().map(|(name, value)| secrets::read(name).map(|read| *value = read));
        let smtp_url = read_smtp_url().map(|read| self.smtp_url = read);
        read.chain([smtp_url]).filter_map(Result::err).collect()
    }
}

fn read_smtp_url() -> Result<Option<SmtpUrl>, String> {
    let Some(url) = secrets::read("PORTCULLIS_SMTP_URL")? else { return Ok(None) };
    SmtpUrl::parse(url.expose_secret()).map(Some).map_err(|allowed| {
        format!("PORTCULLIS_SMTP_URL must be {allowed} (its value is not shown)")
    })
}

/// `PORTCULLIS_SUPERUSER_URL`, for `portcullis migrate --own` alone: the service never has it.
///
/// # Errors
/// One line that names the variable; never its value.
pub fn superuser_url() -> Result<Option<SecretString>, String> {
    secrets::read("PORTCULLIS_SUPERUSER_URL")
}

/// Makes an empty variable count as unset (compose files write `${X:-}`), and keeps what the
/// variables hold out of `--help`.
#[must_use]
pub fn prepare(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let arg = arg.hide_env_values(true);
            let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|v| v.is_empty());
            if empty { arg.env(clap::builder::Resettable::Reset) } else { arg }
        })
        .mut_subcommands(prepare)
}

/// clap's error in one line that names the variable, its value and what is allowed.
pub fn explain(error: &clap::Error, command: &Command) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        let text = error.to_string();
        let first = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
        let line = first.collect::<Vec<_>>().join(" ");
        return format!("{} (see --help)", line.trim_start_matches("error: "));
    }
    let variable = argument(error, command).and_then(Arg::get_env).map_or_else(
        || text(ContextKind::InvalidArg).unwrap_or_default(),
        |name| name.to_string_lossy().into_owned(),
    );
    let allowed = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => format!("one of {}", text(ContextKind::ValidValue).unwrap_or_default()),
    };
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    format!("{variable}=\"{value}\" is not allowed: it must be {allowed}")
}

/// The argument whose value clap refused.
fn argument<'a>(error: &clap::Error, command: &'a Command) -> Option<&'a Arg> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let long = shown.split_whitespace().next()?.strip_prefix("--")?;
    let commands = std::iter::once(command).chain(command.get_subcommands());
    commands.flat_map(Command::get_arguments).find(|arg| arg.get_long() == Some(long))
}
