//! Who the server runs as: ourselves, but never root, which PostgreSQL refuses.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;
use std::process::Stdio;
use std::{env, fs, io};

use rustix::process::{getegid, geteuid};
use tokio::process::Command;

use super::error::EmbeddedError;

/// The account of the server and of everything that is started for it.
#[derive(Clone, Copy)]
pub(super) struct Account {
    pub(super) uid: u32,
    gid: u32,
    switched: bool,
}

impl Account {
    /// Our own account; for root, that of the owner of the data, or else `postgres` or `nobody`.
    pub(super) fn choose(dir: Option<&Path>) -> Result<Self, EmbeddedError> {
        if !geteuid().is_root() {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            return Ok(Self { uid, gid, switched: false });
        }
        let owner = |path: &Path| {
            let metadata = fs::symlink_metadata(path).ok()?;
            (metadata.uid() != 0).then_some((metadata.uid(), metadata.gid()))
        };
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = dir
            .and_then(|dir| owner(&dir.join("cluster")).or_else(|| owner(dir)))
            .or_else(|| find_user(&users, "postgres"))
            .or_else(|| find_user(&users, "nobody"))
            .ok_or(EmbeddedError::NoAccount)?;
        Ok(Self { uid, gid, switched: true })
    }

    /// Whether this is another account than ours.
    pub(super) fn is_switched(&self) -> bool {
        self.switched
    }

    /// A command of this account, away from the terminal's signals and from our environment:
    /// `PGDATA`, `PGPORT` and a locale that is not installed would all change what it does.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut path = env::var_os("PATH").unwrap_or_default();
        // The supervisor needs the ordinary programs whatever ours is.
        path.push(":/usr/bin:/bin");
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null());
        if self.switched {
            // This also drops root's supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Whether this account can get into `dir`.
    pub(super) async fn reaches(&self, dir: &Path) -> bool {
        !self.switched || self.succeeds("cd \"$0\"", dir).await
    }

    /// Whether this account can make a directory in `dir`.
    pub(super) async fn can_write(&self, dir: &Path) -> bool {
        self.succeeds("cd \"$0\" && [ -w . ]", dir).await
    }

    /// The system is asked by trying, since there is more to it than modes.
    async fn succeeds(&self, script: &str, dir: &Path) -> bool {
        let mut shell = self.command("/bin/sh");
        shell.args(["-c", script]).arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
        shell.status().await.is_ok_and(|status| status.success())
    }

    /// Makes this account the owner of `path`.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        if self.switched { lchown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }
}

/// The ids of a user in the text of `/etc/passwd`; macOS writes `nobody` as -2.
fn find_user(users: &str, name: &str) -> Option<(u32, u32)> {
    let id = |text: &str| text.parse::<i64>().ok().map(|id| id as u32);
    users.lines().find_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
        [found, _, uid, gid, ..] if found == name => Some((id(uid)?, id(gid)?)),
        _ => None,
    })
}
