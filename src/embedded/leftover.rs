//! The server that an earlier service left behind when it was killed, and may still be ending.

use std::fs;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::sleep;

use super::error::{Context, EmbeddedError};
use super::home::Home;

/// Stops a server that runs on the cluster and waits until it is gone. For the holder of the lock.
pub(super) async fn stop(home: &Home) -> Result<(), EmbeddedError> {
    let file = home.cluster().join("postmaster.pid");
    let Some(pid) = recorded_pid(&file) else {
        return Ok(());
    };
    for (signal, patience) in [(Signal::INT, 30), (Signal::QUIT, 10)] {
        match process(pid, home).await {
            Process::Server => {}
            Process::Gone | Process::Unsure => return Ok(()),
            Process::Stranger => return forget(&file, pid),
        }
        tracing::info!(pid = pid.as_raw_pid(), "stopping the PostgreSQL that was left running");
        // An error means that it has just ended, or that the wait will be in vain.
        let _ = kill_process(pid, signal);
        let deadline = Instant::now() + Duration::from_secs(patience);
        while Instant::now() < deadline {
            if !matches!(process(pid, home).await, Process::Server) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Err(EmbeddedError::StillRunning { pid: pid.as_raw_pid(), cluster: home.cluster() })
}

/// The process that holds the cluster, as it was written down.
fn recorded_pid(file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(file).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    // A negative one is a server in single-user mode: somebody is at work by hand.
    Pid::from_raw(pid).filter(|pid| pid.as_raw_pid() > 1)
}

/// PostgreSQL would not start while the number it wrote down belongs to a living process.
fn forget(file: &Path, pid: Pid) -> Result<(), EmbeddedError> {
    tracing::info!(pid = pid.as_raw_pid(), "removing a stale postmaster.pid");
    if recorded_pid(file) == Some(pid) {
        fs::remove_file(file).context("remove", file)?;
    }
    Ok(())
}

/// What has the number that was written down.
enum Process {
    /// The server on this cluster.
    Server,
    /// Another program, which got the number later.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "ps does not tell enough to be sure")
    )]
    Stranger,
    /// No process.
    Gone,
    /// Cannot be told: it is left alone, and PostgreSQL decides.
    Unsure,
}

#[cfg(target_os = "linux")]
async fn process(pid: Pid, home: &Home) -> Process {
    use std::os::unix::fs::MetadataExt;

    if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return Process::Gone;
    }
    let proc = Path::new("/proc").join(pid.as_raw_pid().to_string());
    let Ok(metadata) = fs::metadata(&proc) else {
        return Process::Unsure;
    };
    if metadata.uid() != home.account.uid {
        return Process::Stranger;
    }
    // The server works in its data directory. Its own account is asked, since root in a container
    // may not look at other accounts' processes.
    let mut pwd = home.account.command("/bin/sh");
    pwd.args(["-c", "cd -P \"$0\" && pwd -P"]).arg(proc.join("cwd")).stderr(Stdio::null());
    let works_in = match pwd.output().await {
        Ok(output) if output.status.success() => output.stdout,
        _ => return Process::Unsure,
    };
    if works_in.strip_suffix(b"\n") != Some(home.cluster().as_os_str().as_bytes()) {
        return Process::Stranger;
    }
    let name = fs::read_to_string(proc.join("comm")).unwrap_or_default();
    if name.contains("postgres") { Process::Server } else { Process::Stranger }
}

#[cfg(not(target_os = "linux"))]
async fn process(pid: Pid, home: &Home) -> Process {
    if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return Process::Gone;
    }
    // The server is started with the data directory among its arguments.
    let mut ps = home.account.command("/bin/ps");
    ps.args(["-ww", "-o", "command=", "-p"])
        .arg(pid.as_raw_pid().to_string())
        .stderr(Stdio::null());
    let Ok(output) = ps.output().await else {
        return Process::Unsure;
    };
    let command = String::from_utf8_lossy(&output.stdout);
    let ours = home.cluster().to_str().is_some_and(|cluster| command.contains(cluster));
    if ours && command.contains("postgres") { Process::Server } else { Process::Unsure }
}
