//! The command line: serve (the default), migrate, doctor, openapi, health, user, token.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use portcullis::command::{doctor, health, migrate, output, serve, token, user};
use portcullis::config::{self, Config, SECRETS_HELP};
use portcullis::metrics::Metrics;
use portcullis::{openapi, telemetry};
use tokio::runtime::Runtime;

/// A self-hosted authentication service: sign-up, login, sessions and logout over a JSON API
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = SECRETS_HELP)]
struct Cli {
    #[command(flatten)]
    config: Config,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (the default command)
    #[command(after_help = SECRETS_HELP)]
    Serve(Box<Config>),
    /// Apply the migrations of the database, and exit
    Migrate(migrate::Migrate),
    /// Check the settings, cookies, the database and the mail server, and explain each problem
    Doctor(doctor::Doctor),
    /// Print the OpenAPI document
    Openapi,
    /// Check whether the service on this machine is alive
    Health,
    /// List, create and change accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Create API tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(line) => {
            output::complain(&format!("portcullis: {line}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    // Before any thread is started: reading it sets environment variables.
    config::env_file::load()?;
    let mut grammar = config::prepare(Cli::command());
    // It tells by itself what is wrong with the environment, and no flag can come before it.
    if std::env::args_os().nth(1).is_some_and(|command| command == "doctor") {
        grammar = grammar.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
    }
    let matches = grammar.try_get_matches_from_mut(std::env::args_os());
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            output::print_help(&error)?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(config::explain(&error, &grammar)),
    };
    let done = match cli.command {
        None => serve(cli.config.complete()?),
        Some(Command::Serve(config)) => serve(config.complete()?),
        Some(Command::Doctor(doctor)) => {
            let (config, wrong) = Config::inspect()?;
            return start(config, async |config| doctor::run(&config, &wrong, &doctor).await);
        }
        Some(Command::Openapi) => {
            output::print(&openapi::json().map_err(|error| error.to_string())?)
        }
        Some(Command::Migrate(migrate)) => {
            start(Config::from_env()?, async |config| migrate::run(&config, &migrate).await)
        }
        Some(Command::Health) => {
            start(Config::from_env()?, async |config| health::check(&config).await)
        }
        Some(Command::User(command)) => {
            start(Config::from_env()?, async |config| user::run(&config, command).await)
        }
        Some(Command::Token(command)) => {
            start(Config::from_env()?, async |config| token::run(&config, command).await)
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Starts the log and the threads, and runs a command on them.
fn start<T>(
    config: Config,
    run: impl AsyncFnOnce(Config) -> Result<T, String>,
) -> Result<T, String> {
    telemetry::log(&config)?;
    runtime()?.block_on(run(config))
}

/// Starts the service, with all that it tells.
fn serve(config: Config) -> Result<(), String> {
    let (runtime, metrics) = (runtime()?, Metrics::default());
    let traces = telemetry::start(&config, &metrics, runtime.handle())?;
    let served = runtime.block_on(serve::run(config, metrics));
    if let Some(traces) = traces {
        traces.flush();
    }
    served
}

fn runtime() -> Result<Runtime, String> {
    Runtime::new().map_err(|error| error.to_string())
}
