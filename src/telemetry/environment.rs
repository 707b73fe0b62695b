//! OpenTelemetry's variables, those that its SDK leaves to us.

use std::time::Duration;

use url::Url;

/// The collector for everything, and the one for traces, whose path is its own.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// Where the specification of OTLP/HTTP has traces go.
const PATH: &str = "v1/traces";
/// OTLP's default for how long the collector may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Where traces go, and how.
#[derive(Debug)]
pub(super) struct Exporter {
    /// What they are posted to.
    pub(super) endpoint: Url,
    /// How long that may take.
    pub(super) within: Duration,
}

/// What the variables want; none without a collector, and where traces are switched off.
///
/// # Errors
/// One line for the operator: a value is wrong, or asks for what is not built in.
pub(super) fn exporter() -> Result<Option<Exporter>, String> {
    let disabled = variable("OTEL_SDK_DISABLED");
    if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    if variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none") {
        return Ok(None);
    }
    let Some(endpoint) = endpoint()? else { return Ok(None) };
    let exporter = variable("OTEL_TRACES_EXPORTER").map(|value| ("OTEL_TRACES_EXPORTER", value));
    only(exporter, "otlp")?;
    only(of_traces("PROTOCOL"), "http/protobuf")?;
    only(of_traces("COMPRESSION"), "none")?;
    Ok(Some(Exporter { endpoint, within: within()? }))
}

fn endpoint() -> Result<Option<Url>, String> {
    let general = || {
        let base = variable(ENDPOINT)?;
        Some((ENDPOINT, format!("{}/{PATH}", base.trim_end_matches('/'))))
    };
    let own = variable(TRACES_ENDPOINT).map(|url| (TRACES_ENDPOINT, url));
    let Some((name, text)) = own.or_else(general) else { return Ok(None) };
    let url = Url::parse(&text).ok().filter(|url| {
        let has_login = !url.username().is_empty() || url.password().is_some();
        matches!(url.scheme(), "http" | "https") && url.has_host() && !has_login
    });
    url.map(Some).ok_or(format!(
        "{name} must be an http or https URL without a login, such as http://localhost:4318 (its value is not shown)"
    ))
}

fn within() -> Result<Duration, String> {
    let Some((name, text)) = of_traces("TIMEOUT") else { return Ok(WITHIN) };
    let milliseconds = text.parse().ok().filter(|milliseconds| *milliseconds > 0);
    milliseconds
        .map(Duration::from_millis)
        .ok_or(format!("{name}=\"{text}\" is not a number of milliseconds"))
}

/// Refuses what is not built in.
fn only(variable: Option<(impl AsRef<str>, String)>, built_in: &str) -> Result<(), String> {
    match variable.filter(|(_, value)| value != built_in) {
        Some((name, value)) => Err(format!(
            "{}=\"{value}\" is not allowed: it must be {built_in}, which is all that is built in",
            name.as_ref()
        )),
        None => Ok(()),
    }
}

/// The exporter's variable for traces, or else the one for everything, with its value.
fn of_traces(setting: &str) -> Option<(String, String)> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"];
    names.into_iter().map(|prefix| format!("{prefix}{setting}")).find_map(|name| {
        let value = variable(&name)?;
        Some((name, value))
    })
}

/// A variable that is set, and not empty, as compose files write what is not.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
