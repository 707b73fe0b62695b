//! A program that ends when we do. It is the child of a shell that reads a pipe from us: however
//! this process ends, SIGKILL included, the kernel closes the pipe and the shell interrupts it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};

use super::account::Account;

/// The supervisor of one program.
pub(super) struct Supervisor {
    shell: Child,
    /// Closed by the kernel at our end; no other process has it, since it is closed on exec.
    pipe: OwnedFd,
    report: ChildStdout,
    status: Vec<u8>,
}

impl Supervisor {
    /// Starts `program` in `dir`, its output going to `log`. `remove` is a directory that is removed
    /// after the program, unless [`Supervisor::keep`] is called.
    pub(super) fn start(
        account: &Account,
        program: &Path,
        args: Vec<OsString>,
        dir: &Path,
        log: &File,
        remove: Option<&Path>,
    ) -> io::Result<Self> {
        let mut command = account.command("/bin/sh");
        command.arg("-c").arg(include_str!("supervisor.sh")).arg("supervisor");
        command.arg(remove.unwrap_or(Path::new(""))).arg(program).args(args);
        command.current_dir(dir).stderr(log.try_clone()?);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(pipe), Some(report)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err(io::Error::other("the shell has no pipes"));
        };
        Ok(Self { shell, pipe: pipe.into_owned_fd()?, report, status: Vec::new() })
    }

    /// Waits until the program has ended and tells whether it succeeded. Cancel safe.
    pub(super) async fn ended(&mut self) -> bool {
        // The shell writes the status and closes its end, or is killed, which closes it too.
        while self.report.read_buf(&mut self.status).await.is_ok_and(|read| read > 0) {}
        self.status == b"0\n"
    }

    /// After the program's end: leaves the directory that was to be removed.
    pub(super) async fn keep(mut self) -> io::Result<()> {
        File::from(self.pipe).write_all(b"\n")?;
        self.shell.wait().await.map(drop)
    }

    /// Interrupts the program and waits until it, and what was to be removed, are gone.
    pub(super) async fn stop(mut self) -> io::Result<()> {
        drop(self.pipe);
        self.shell.wait().await.map(drop)
    }
}
