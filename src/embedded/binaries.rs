//! Where the server's programs are.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, fs};

use super::account::Account;
use super::error::EmbeddedError;

/// Directories whose name begins so hold one version of PostgreSQL each, its programs in `bin`.
const INSTALLATIONS: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
];

/// The directory that holds `initdb` and `postgres`, of the major version `wanted` if one is.
pub(super) async fn find(
    account: &Account,
    wanted: Option<Wanted<'_>>,
) -> Result<PathBuf, EmbeddedError> {
    let mut found = Vec::new();
    for dir in candidates(account).await {
        let Some(major) = major_version(account, &dir).await else {
            continue;
        };
        if wanted.as_ref().is_none_or(|wanted| wanted.major == major) {
            return Ok(dir);
        }
        if !found.contains(&major) {
            found.push(major);
        }
    }
    match wanted {
        Some(Wanted { major, cluster }) if !found.is_empty() => {
            let found = found.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            Err(EmbeddedError::OtherVersion { cluster: cluster.into(), major, found })
        }
        _ => Err(EmbeddedError::NoBinaries),
    }
}

/// The version that an existing cluster needs.
pub(super) struct Wanted<'a> {
    pub(super) major: u32,
    pub(super) cluster: &'a Path,
}

/// The directories to look into, the likeliest first.
async fn candidates(account: &Account) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A relative entry would let whatever directory we are in choose the program.
    let mut dirs: Vec<_> = env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    let asked = account.command("pg_config").arg("--bindir").stderr(Stdio::null()).output().await;
    if let Ok(output) = asked {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()));
    }
    for (parent, prefix) in INSTALLATIONS {
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        newest_first(&mut names);
        dirs.extend(names.iter().map(|name| Path::new(parent).join(name).join("bin")));
    }
    dirs
}

/// Sorts names by the numbers in them, the highest first: 17 before 9.6.
fn newest_first(names: &mut [String]) {
    names.sort_by_cached_key(|name| {
        let numbers =
            name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
        std::cmp::Reverse(numbers.collect::<Vec<u32>>())
    });
}

/// The version of the programs in `dir`, if both are there and the account can run them.
async fn major_version(account: &Account, dir: &Path) -> Option<u32> {
    let server = dir.join("postgres");
    if !dir.is_absolute() || !server.is_file() || !dir.join("initdb").is_file() {
        return None;
    }
    let output =
        account.command(server).arg("--version").stderr(Stdio::null()).output().await.ok()?;
    leading_number(String::from_utf8_lossy(&output.stdout).split("(PostgreSQL) ").nth(1)?)
}

/// The number that `text` begins with: 15 of `15.14 (Debian …)`, 18 of `18beta1`.
pub(super) fn leading_number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_come_first() {
        let mut names = ["9.6", "10", "postgresql", "17", "postgresql@16"].map(String::from);
        newest_first(&mut names);
        assert_eq!(names, ["17", "postgresql@16", "10", "9.6", "postgresql"]);
    }

    #[test]
    fn a_version_is_the_number_that_the_text_begins_with() {
        assert_eq!(leading_number("15.14 (Debian 15.14-0)"), Some(15));
        assert_eq!(leading_number("18beta1"), Some(18));
        assert_eq!(leading_number("devel"), None);
    }
}
