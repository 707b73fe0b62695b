use std::io;
use std::path::{Path, PathBuf};

/// Why there is no embedded PostgreSQL. Each message is one line and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No directory holds both `initdb` and `postgres`.
    #[error(
        "PostgreSQL is not installed: run `{}`, or set DATABASE_URL to a server of yours, or run \
         `docker compose up`",
        install_command(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
    )]
    NoBinaries,

    /// The data was made by a version of which there are no binaries.
    #[error(
        "the data in {} is PostgreSQL {major}'s and only version {found} was found: install \
         PostgreSQL {major}, or move that directory away to begin anew, or set DATABASE_URL",
        cluster.display()
    )]
    OtherVersion {
        /// The existing cluster.
        cluster: PathBuf,
        /// The major version that made it.
        major: u32,
        /// The major versions that are installed.
        found: String,
    },

    /// Root found no account to start the server as.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`: \
         run as another user or set DATABASE_URL"
    )]
    NoAccount,

    /// Another process holds the data directory.
    #[error(
        "another portcullis is using {}: stop it first, or set PORTCULLIS_DATA_DIR to another \
         directory",
        data_dir.display()
    )]
    InUse {
        /// The directory in question.
        data_dir: PathBuf,
    },

    /// Another account can change the data directory, or replace it.
    #[error("{fault}; or set PORTCULLIS_DATA_DIR to another directory")]
    Exposed {
        /// What is wrong with which directory, and what to do.
        fault: String,
    },

    /// The directory of the socket can be entered by others, or belongs to them.
    #[error(
        "{} is not a directory of mode 0700 that belongs to user {uid}: remove it, or set \
         PORTCULLIS_DATA_DIR to another directory",
        dir.display()
    )]
    SocketDirectory {
        /// The directory in question.
        dir: PathBuf,
        /// The account of the server.
        uid: u32,
    },

    /// `PGOPTIONS` is set: sqlx sends it to every server, and there is no way to have it not do so.
    #[error(
        "PGOPTIONS is set, which the embedded PostgreSQL does not take: unset it or set DATABASE_URL"
    )]
    OptionsInEnvironment,

    /// The cluster could not be made.
    #[error("PostgreSQL's initdb failed; {} ends: {tail}", log.display())]
    Initdb {
        /// The log's path.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// The server ended while it was starting.
    #[error("PostgreSQL did not start; {} ends: {tail}", log.display())]
    Ended {
        /// The log's path.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// The server does not answer.
    #[error("PostgreSQL has not answered in {seconds} s ({answer}); {} ends: {tail}", log.display())]
    NoAnswer {
        /// For how long it was tried.
        seconds: u64,
        /// What the last try gave.
        answer: String,
        /// The log's path.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// The server of an earlier service does not stop.
    #[error("PostgreSQL (process {pid}) still uses {} and does not stop: stop it", cluster.display())]
    StillRunning {
        /// The server's process.
        pid: i32,
        /// The cluster it is using.
        cluster: PathBuf,
    },

    /// The server refused to create the service's role or database, or to give them what they need.
    #[error("PostgreSQL did not create the role and the database `portcullis`: {0}")]
    CreateDatabase(#[source] sqlx::Error),

    /// A file, directory or program is not to be used.
    #[error("cannot {action} {}: {source}; PORTCULLIS_DATA_DIR names another directory", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Says what was tried when input or output failed.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, EmbeddedError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { action, path: path.into(), source })
    }
}

/// The command that installs PostgreSQL on this system, which Linux describes in os-release(5).
fn install_command(os_release: &str) -> &'static str {
    if cfg!(target_os = "macos") {
        return "brew install postgresql";
    }
    let value = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"')
    };
    // The distribution, and then those that it is like, the nearest first.
    let ids = [value("ID")].into_iter().chain(value("ID_LIKE").split_whitespace());
    let command = ids.into_iter().find_map(|id| match id {
        "debian" | "ubuntu" => Some("sudo apt-get install -y postgresql"),
        "fedora" | "rhel" | "centos" => Some("sudo dnf install -y postgresql-server"),
        "alpine" => Some("sudo apk add postgresql"),
        "arch" => Some("sudo pacman -S --needed postgresql"),
        "suse" | "opensuse" => Some("sudo zypper install -y postgresql-server"),
        _ => None,
    });
    command.unwrap_or("sudo apt-get install -y postgresql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_fits_the_system() {
        if cfg!(target_os = "macos") {
            return;
        }
        for (os_release, command) in [
            ("PRETTY_NAME=\"Debian\"\nID=debian\n", "apt-get install -y postgresql"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "apt-get install -y postgresql"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf install -y postgresql-server"),
            ("ID=alpine\n", "apk add postgresql"),
            ("ID=manjaro\nID_LIKE=arch\n", "pacman -S --needed postgresql"),
            (
                "ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\n",
                "zypper install -y postgresql-server",
            ),
            ("", "apt-get install -y postgresql"),
        ] {
            assert_eq!(install_command(os_release), format!("sudo {command}"), "{os_release}");
        }
    }
}
