//! Where everything is kept: `<data_dir>/cluster`, `run` (the socket), `lock` and `server.log`.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::account::Account;
use super::error::{Context, EmbeddedError};
use super::supervisor::Supervisor;
use crate::private::{check_ancestors, check_dir, existing_ancestor, make_dir, resolve, tighten};

/// What a Unix socket's path may have in bytes, its closing zero aside.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
const CLUSTER: &str = "cluster";
/// Where data goes that root was asked to keep where the server's account cannot reach it.
const ELSEWHERE: &str = "/var/lib/portcullis";
const SOCKET_NAME: &str = ".s.PGSQL.5432";
const LOG_MAX: u64 = 8 << 20;
/// What a service writes into the lock's file.
const SERVICE: &[u8] = b"service\n";

/// A data directory and the account that its server runs as.
pub(super) struct Home {
    pub(super) dir: PathBuf,
    pub(super) account: Account,
}

impl Home {
    /// Makes the data directory: the one asked for, or, when root asks for one that the server's
    /// account cannot reach, one of our own under `/var/lib`.
    pub(super) async fn settle(asked: &Path) -> Result<Self, EmbeddedError> {
        let dir = resolve(asked).context("find", asked)?;
        let account = Account::choose(Some(&dir))?;
        if account.reaches(existing_ancestor(&dir)).await {
            // Before anything is created there.
            check(&dir)?;
            make_dir(&dir, if account.is_switched() { 0o755 } else { 0o700 })
                .context("make", &dir)?;
            if account.reaches(&dir).await {
                check(&dir)?;
                return Ok(Self { dir, account });
            }
        }
        let (parent, dir) = (Path::new(ELSEWHERE), elsewhere(&dir));
        make_dir(parent, 0o755).and_then(|()| make_dir(&dir, 0o755)).context("make", &dir)?;
        check(&dir)?;
        Ok(Self { account: Account::choose(Some(&dir))?, dir })
    }

    /// Whether there is a cluster where [`Home::settle`] would look for it.
    pub(super) async fn is_made(asked: &Path) -> Result<bool, EmbeddedError> {
        let dir = resolve(asked).context("find", asked)?;
        let account = Account::choose(Some(&dir))?;
        let reached = account.reaches(existing_ancestor(&dir)).await;
        let dir = if reached { dir } else { elsewhere(&dir) };
        check(&dir)?;
        Ok(dir.join(CLUSTER).exists())
    }

    /// A directory of a name that nobody else has, not yet made, for a cluster that will not stay.
    pub(super) async fn temporary() -> Result<Self, EmbeddedError> {
        let account = Account::choose(None)?;
        let name = format!("portcullis-{}", random_hex());
        let mut dir = env::temp_dir();
        if !dir.is_absolute() || !account.can_write(&dir).await {
            dir = PathBuf::from("/tmp");
        }
        let dir = dir.canonicalize().context("find", &dir)?.join(name);
        Ok(Self { dir, account })
    }

    /// Makes the temporary directory. A supervisor does it, so that there is no moment in which it
    /// exists and would outlive us.
    pub(super) async fn make_temporary(&self) -> Result<Supervisor, EmbeddedError> {
        let args = ["-m", "700"].into_iter().map(OsString::from).chain([self.dir.clone().into()]);
        let mkdir = || {
            let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
            let (program, root) = (Path::new("mkdir"), Path::new("/"));
            Supervisor::start(
                &self.account,
                program,
                args.collect(),
                root,
                &nowhere,
                Some(&self.dir),
            )
        };
        let mut mkdir = mkdir().context("make", &self.dir)?;
        if !mkdir.ended().await {
            return Err(io::Error::other("mkdir failed")).context("make", &self.dir);
        }
        Ok(mkdir)
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.dir.join(CLUSTER)
    }

    /// The lock that one process at a time holds, or None when another has it. It goes with the
    /// process, however that ends. A service writes down that it stays, and may be joined.
    pub(super) fn try_lock(&self, service: bool) -> Result<Option<File>, EmbeddedError> {
        let path = self.dir.join("lock");
        let mut file = self.open_private(&path).context("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).context("lock", &path),
        }
        let text: &[u8] = if service { SERVICE } else { b"" };
        file.set_len(0).and_then(|()| file.write_all(text)).context("write", &path)?;
        Ok(Some(file))
    }

    /// Whether whoever holds the lock is a service.
    pub(super) fn is_service(&self) -> bool {
        fs::read(self.dir.join("lock")).is_ok_and(|text| text == SERVICE)
    }

    /// Opens the server's log for appending; one that has grown large is put aside first.
    pub(super) fn open_log(&self) -> Result<Log, EmbeddedError> {
        let path = self.dir.join("server.log");
        let open = || {
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_MAX) {
                fs::rename(&path, self.dir.join("server.log.1"))?;
            }
            let file = self.open_private(&path)?;
            let begin = file.metadata()?.len();
            Ok((file, begin))
        };
        let (file, begin) = open().context("open", &path)?;
        Ok(Log { path, file, begin })
    }

    /// The directory of the socket: in the data directory when the path is short enough.
    pub(super) fn socket_dir(&self) -> PathBuf {
        let inside = self.dir.join("run");
        if inside.to_str().is_some_and(|dir| dir.len() + 1 + SOCKET_NAME.len() <= SOCKET_PATH_MAX) {
            return inside;
        }
        // Not TMPDIR: it may be long too, and every process must come to the same name.
        Path::new("/tmp").join(format!("portcullis-{}", short_hash(&self.dir)))
    }

    /// Makes the directory of the socket. Whoever can enter it is a superuser of the database, and
    /// in /tmp anybody might have made it before us: it must be a directory of the account's own.
    pub(super) fn make_socket_dir(&self) -> Result<PathBuf, EmbeddedError> {
        let dir = self.socket_dir();
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => self.account.give(&dir).context("give away", &dir)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context("make", &dir),
        }
        self.check_socket_dir(&dir)?;
        Ok(dir)
    }

    /// Refuses a socket directory that others can enter or have made.
    pub(super) fn check_socket_dir(&self, dir: &Path) -> Result<(), EmbeddedError> {
        let metadata = fs::symlink_metadata(dir).context("look at", dir)?;
        let private = metadata.is_dir() && metadata.mode() & 0o7777 == 0o700;
        if private && metadata.uid() == self.account.uid {
            return check_ancestors(dir).map_err(|fault| EmbeddedError::Exposed { fault });
        }
        Err(EmbeddedError::SocketDirectory { dir: dir.into(), uid: self.account.uid })
    }

    /// Opens a file that nobody else may read or write, following no link that was laid for us.
    fn open_private(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .append(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        match options.clone().create_new(true).open(path) {
            Ok(file) => {
                // Root works on behalf of the directory's owner, who must be able to go on alone.
                if self.account.is_switched() {
                    let owner = fs::metadata(&self.dir)?;
                    fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
                }
                Ok(file)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let file = options.open(path)?;
                tighten(&file)?;
                Ok(file)
            }
            Err(error) => Err(error),
        }
    }
}

/// The server's log, and where in it the present start begins.
pub(super) struct Log {
    pub(super) path: PathBuf,
    pub(super) file: File,
    begin: u64,
}

impl Log {
    /// The last lines of this start, as one.
    pub(super) fn tail(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.begin))?;
            file.read_to_end(&mut text)
        });
        if let Err(error) = read {
            return format!("(cannot be read: {error})");
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(6)..].join(" | ")
    }
}

fn check(dir: &Path) -> Result<(), EmbeddedError> {
    check_dir(dir).map_err(|fault| EmbeddedError::Exposed { fault })
}

fn elsewhere(dir: &Path) -> PathBuf {
    Path::new(ELSEWHERE).join(short_hash(dir))
}

/// Sixteen hexadecimal digits that stand for a path.
fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen hexadecimal digits that nobody can foresee.
pub(super) fn random_hex() -> String {
    format!("{:016x}", rand::random::<u64>())
}
