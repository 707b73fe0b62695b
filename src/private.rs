//! Directories and files that no other account can change.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{self, Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{getegid, geteuid};

/// What the kernel shows as the owner of files whose owner a container does not have.
const OVERFLOW_UID: u32 = 65534;
const STICKY: u32 = 0o1000;

/// A directory's absolute path without links, of which only a part need exist. The directory itself must not
/// be a link, since whoever owns the link could redirect it.
///
/// # Errors
/// One line that names the directory and what to do.
pub(crate) fn resolve(dir: &Path) -> io::Result<PathBuf> {
    // The components have no slash at the end, which would follow a link.
    let dir = path::absolute(dir)?.components().collect::<PathBuf>();
    if fs::symlink_metadata(&dir).is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(io::Error::other("it is a symbolic link; use the directory that it leads to"));
    }
    let ancestor = existing_ancestor(&dir);
    let rest = dir.strip_prefix(ancestor).unwrap_or(Path::new(""));
    let resolved = ancestor.canonicalize()?;
    Ok(if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) })
}

/// The part of a path that exists.
pub(crate) fn existing_ancestor(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

/// Creates a directory with this mode, and those above it, unless it exists.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        // A umask of 0 must not let others write to them.
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        created => created?,
    }
    // Whatever the umask is.
    fs::set_permissions(dir, Permissions::from_mode(mode))
}

/// Rejects a resolved directory that another account owns, can write to or can replace. One that does not
/// exist yet is judged by the directories above it.
///
/// # Errors
/// One line that names the directory and what to do.
pub(crate) fn check_dir(dir: &Path) -> Result<(), String> {
    if let Ok(metadata) = fs::symlink_metadata(dir) {
        let shown = dir.display();
        if !metadata.is_dir() {
            return Err(format!("{shown} is not a directory"));
        }
        if !is_owner_trusted(&metadata) {
            let uid = metadata.uid();
            return Err(format!(
                "{shown} belongs to another account (user {uid}): change its owner with `chown`"
            ));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(format!(
                "other accounts can write to {shown} (mode {mode:04o}): run `chmod go-w {shown}`"
            ));
        }
    }
    check_ancestors(dir)
}

/// Rejects a resolved path of which another account can replace a directory.
///
/// # Errors
/// One line that names the directory and what to do.
pub(crate) fn check_ancestors(path: &Path) -> Result<(), String> {
    for dir in path.ancestors().skip(1) {
        let Ok(metadata) = fs::symlink_metadata(dir) else { continue };
        let (mode, shown) = (metadata.mode() & 0o7777, dir.display());
        // Many systems give each account a group of its own and a umask of 002.
        let is_own_group = [0, getegid().as_raw()].contains(&metadata.gid());
        let others = if is_own_group { 0o002 } else { 0o022 };
        // In a sticky directory, such as /tmp, each account can replace only what it owns.
        if mode & others != 0 && mode & STICKY == 0 {
            return Err(format!(
                "other accounts can replace {}, since they can write to {shown} (mode {mode:04o}): run `chmod go-w {shown}`",
                path.display()
            ));
        }
        if !is_owner_trusted(&metadata) && metadata.uid() != OVERFLOW_UID {
            return Err(format!(
                "{shown} belongs to another account (user {}), which can replace {}",
                metadata.uid(),
                path.display()
            ));
        }
    }
    Ok(())
}

/// Whether the owner may decide over our files: we ourselves and root. Root works on behalf of the owner.
fn is_owner_trusted(metadata: &Metadata) -> bool {
    let own = geteuid();
    own.is_root() || [0, own.as_raw()].contains(&metadata.uid())
}

/// Makes an open file one that only its owner can read or write.
///
/// # Errors
/// When it is no regular file, or belongs to another account.
pub(crate) fn tighten(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if !is_owner_trusted(&metadata) {
        return Err(io::Error::other("it belongs to another account"));
    }
    if metadata.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Writes a file that only its owner can read, in a directory that only its owner can enter.
///
/// # Errors
/// When another account owns one of them, can write to the directories above, or has put a link in the way.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = resolve(dir)?;
    make_dir(&dir, 0o700)?;
    check_dir(&dir).map_err(io::Error::other)?;
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let opened =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&dir)?;
    // What was checked by its path is what was opened.
    let metadata = opened.metadata()?;
    if !is_owner_trusted(&metadata) {
        return Err(io::Error::other("the directory belongs to another account"));
    }
    if metadata.mode() & 0o077 != 0 {
        opened.set_permissions(Permissions::from_mode(0o700))?;
    }
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = File::from(openat(&opened, name, flags, Mode::RUSR | Mode::WUSR)?);
    tighten(&file)?;
    file.set_len(0)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A private directory that is removed with the value.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let name = format!("portcullis-private-{:016x}", rand::random::<u64>());
            let path = std::env::temp_dir().canonicalize().unwrap().join(name);
            make_dir(&path, 0o700).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_rejected_with_the_remedy() {
        let root = Directory::new();
        let dir = root.0.join("a");
        make_dir(&dir, 0o700).unwrap();
        for (mode, is_private) in [
            (0o700, true),
            (0o750, true),
            (0o755, true),
            (0o770, false),
            (0o775, false),
            (0o702, false),
            (0o777, false),
            (0o1777, false),
        ] {
            set(&dir, mode);
            let checked = check_dir(&dir);
            assert_eq!(checked.is_ok(), is_private, "{mode:o} {checked:?}");
            if let Err(line) = checked {
                assert!(line.contains(&format!("chmod go-w {}", dir.display())), "{line}");
            }
        }
    }

    #[test]
    fn a_directory_below_one_that_others_can_write_to_is_rejected_unless_that_is_sticky() {
        let root = Directory::new();
        let (parent, dir) = (root.0.join("a"), root.0.join("a/b/c"));
        make_dir(&dir, 0o700).unwrap();
        for (mode, is_private) in [(0o755, true), (0o1777, true), (0o777, false), (0o757, false)] {
            set(&parent, mode);
            assert_eq!(check_dir(&dir).is_ok(), is_private, "{mode:o}");
            // Also before it is created.
            assert_eq!(check_dir(&parent.join("new")).is_ok(), is_private, "{mode:o}");
        }
        assert!(check_dir(&dir).unwrap_err().contains(&format!("chmod go-w {}", parent.display())));
    }

    #[test]
    fn a_link_and_a_file_are_no_directory() {
        let root = Directory::new();
        let (dir, link, file) = (root.0.join("a"), root.0.join("link"), root.0.join("file"));
        make_dir(&dir, 0o700).unwrap();
        symlink(&dir, &link).unwrap();
        fs::write(&file, "").unwrap();
        for path in [link.clone(), link.join(""), link.join(".")] {
            assert!(resolve(&path).unwrap_err().to_string().contains("symbolic link"), "{path:?}");
        }
        // A link above is resolved once, and what it leads to is checked.
        assert_eq!(resolve(&link.join("b")).unwrap(), dir.join("b"));
        assert!(check_dir(&file).unwrap_err().contains("not a directory"));
    }

    #[test]
    fn a_written_file_is_private_and_follows_no_link() {
        let root = Directory::new();
        let (dir, victim) = (root.0.join("mail"), root.0.join("victim"));
        fs::write(&victim, "kept").unwrap();
        make_dir(&dir, 0o755).unwrap();
        fs::write(dir.join("old"), "a longer text").unwrap();
        set(&dir.join("old"), 0o644);
        for name in ["old", "new"] {
            write(&dir, name, b"a text").unwrap();
            assert_eq!(fs::read(dir.join(name)).unwrap(), b"a text");
            assert_eq!(fs::metadata(dir.join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        symlink(&victim, dir.join("link")).unwrap();
        write(&dir, "link", b"a text").unwrap_err();
        symlink(&dir, root.0.join("elsewhere")).unwrap();
        write(&root.0.join("elsewhere"), "new", b"another").unwrap_err();
        set(&dir, 0o777);
        write(&dir, "new", b"another").unwrap_err();
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        assert_eq!(fs::read(dir.join("new")).unwrap(), b"a text");
    }
}
