//! Where the settings come from: flags, the environment, and what the environment alone may hold.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args as _, Command, FromArgMatches as _};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Config, PublicUrl, SmtpUrl, secrets};

/// The settings that have no flag.
const SECRETS: [&str; 4] = [
    "DATABASE_URL",
    "PORTCULLIS_ADMIN_PASSWORD",
    "PORTCULLIS_SMTP_URL",
    "PORTCULLIS_SUPERUSER_URL",
];

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
        config.settle();
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
        self.settle();
        match self.read_secrets().into_iter().next() {
            Some(line) => Err(line),
            None => self.check().map(|()| self),
        }
    }

    /// Derives the address and the public URL that are not given.
    fn settle(&mut self) {
        self.listen = self.given_listen.unwrap_or((self.host, self.port).into());
        self.public_url =
            self.given_public_url.clone().unwrap_or_else(|| PublicUrl::of(&self.listen));
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

/// A line for each variable that looks like a setting and is none, with the setting that was probably meant.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown = unknown_among(given);
    unknown.sort_unstable();
    unknown
}

fn unknown_among(given: impl Iterator<Item = String>) -> Vec<String> {
    let command = Config::augment_args(Command::new("portcullis"));
    let known = command.get_arguments().filter_map(Arg::get_env).filter_map(|name| name.to_str());
    let mut known: Vec<String> = known.map(str::to_owned).collect();
    for secret in SECRETS {
        known.extend([secret.to_owned(), format!("{secret}_FILE")]);
    }
    let ours = given.filter(|name| name.starts_with("PORTCULLIS_"));
    let unknown = ours.filter(|name| !known.contains(name) && !is_of_others(name));
    unknown
        .map(|name| {
            let distance = |known: &&String| strsim::damerau_levenshtein(&name, known);
            let longer = known.iter().find(|known| known.starts_with(&name));
            let nearest = known.iter().min_by_key(distance).filter(|known| distance(known) <= 4);
            match longer.or(nearest) {
                Some(nearest) => format!("{name} is not a setting: did you mean {nearest}?"),
                None => format!("{name} is not a setting"),
            }
        })
        .collect()
}

/// Whether a variable is one of the compose file, or one that Docker or Kubernetes sets for a service that is called
/// portcullis.
fn is_of_others(name: &str) -> bool {
    ["PORTCULLIS_BIND", "PORTCULLIS_PORT", "PORTCULLIS_NAME"].contains(&name)
        || ["PORTCULLIS_SERVICE_", "PORTCULLIS_PORT_", "PORTCULLIS_ENV_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_reported_with_the_nearest_one_and_names_of_others_are_not() {
        let unknown = |name: &str| unknown_among([name.to_owned()].into_iter());
        for (name, line) in [
            ("PORTCULLIS_ALLOWED_ORIGIN", ": did you mean PORTCULLIS_ALLOWED_ORIGINS?"),
            ("PORTCULLIS_PUBLICURL", ": did you mean PORTCULLIS_PUBLIC_URL?"),
            ("PORTCULLIS_LISTN", ": did you mean PORTCULLIS_LISTEN?"),
            ("PORTCULLIS_SMTP_URL_FIEL", ": did you mean PORTCULLIS_SMTP_URL_FILE?"),
            ("PORTCULLIS_COOKIE", ": did you mean PORTCULLIS_COOKIE_SAMESITE?"),
            ("PORTCULLIS_SOMETHING_ELSE_ALTOGETHER", ""),
        ] {
            assert_eq!(unknown(name), [format!("{name} is not a setting{line}")]);
        }
        for known in [
            "PORTCULLIS_LISTEN",
            "PORTCULLIS_ADMIN_PASSWORD_FILE",
            "PORTCULLIS_BIND",
            "PORTCULLIS_PORT",
            "PORTCULLIS_SERVICE_HOST",
            "PORTCULLIS_PORT_8080_TCP_ADDR",
            "HOME",
        ] {
            assert!(unknown(known).is_empty(), "{known}");
        }
    }
}
