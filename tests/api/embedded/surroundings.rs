//! What the machine may be like.

use super::*;
#[tokio::test]
async fn a_socket_directory_that_somebody_else_made_is_refused() {
    let dir = Dir::new();
    let data = dir.0.join("z".repeat(150));
    let server = Embedded::start(&data).await.unwrap();
    let socket_dir = server.connect_options().get_socket().unwrap().clone();
    let owner = fs::metadata(&socket_dir).unwrap().uid();
    server.stop().await.unwrap();

    let refused = async || {
        let Err(error) = Embedded::start(&data).await else { panic!("it was not") };
        assert!(matches!(error, EmbeddedError::SocketDirectory { .. }), "{error}");
    };
    fs::create_dir(dir.0.join("private")).unwrap();
    fs::set_permissions(dir.0.join("private"), Permissions::from_mode(0o700)).unwrap();
    if geteuid().is_root() {
        chown(dir.0.join("private"), Some(owner), None).unwrap();
    }
    symlink(dir.0.join("private"), &socket_dir).unwrap();
    refused().await;
    fs::remove_file(&socket_dir).unwrap();

    fs::create_dir(&socket_dir).unwrap();
    fs::set_permissions(&socket_dir, Permissions::from_mode(0o755)).unwrap();
    if geteuid().is_root() {
        chown(&socket_dir, Some(owner), None).unwrap();
    }
    refused().await;
    if geteuid().is_root() {
        fs::set_permissions(&socket_dir, Permissions::from_mode(0o700)).unwrap();
        chown(&socket_dir, Some(12345), None).unwrap();
        refused().await;
    }
    fs::remove_dir(&socket_dir).unwrap();
    Embedded::start(&data).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_throw_away_server_is_quick_and_roomy_and_gone_after_stop() {
    let server = Embedded::throw_away().await.unwrap();
    let data = server.data_dir().to_path_buf();
    let mut connections = Vec::new();
    for _ in 0..150 {
        connections.push(connect(&server).await);
    }
    let fsync: String =
        sqlx::query_scalar("show fsync").fetch_one(&mut connections[0]).await.unwrap();
    assert_eq!(fsync, "off");
    server.stop().await.unwrap();
    assert!(!data.exists());
}

#[tokio::test]
async fn a_throw_away_server_is_gone_however_the_process_ends() {
    // Killed.
    let mut service = Process::start("throw_away", Path::new("/"));
    let data = PathBuf::from(service.says("ready "));
    let pid = server_pid(&data);
    service.kill();
    eventually("the directory is gone", || !data.exists());
    assert!(!lives(pid));

    // Ended, the value being in a static.
    let mut service = Process::start("throw_away_static", Path::new("/"));
    let data = PathBuf::from(service.says("ready "));
    assert!(service.child.wait().unwrap().success());
    eventually("the directory is gone", || !data.exists());

    // Dropped.
    let server = Embedded::throw_away().await.unwrap();
    let data = server.data_dir().to_path_buf();
    drop(server);
    eventually("the directory is gone", || !data.exists());

    // Killed while it was starting, at whatever point.
    let temp = Dir::new();
    fs::set_permissions(&temp.0, Permissions::from_mode(0o1777)).unwrap();
    for delay in [5, 20, 40, 80, 150, 300, 500, 700, 900, 1200] {
        let service = Process::start_with("throw_away", Path::new("/"), &[], |command| {
            command.env("TMPDIR", &temp.0);
        });
        std::thread::sleep(Duration::from_millis(delay));
        service.kill();
    }
    eventually("all directories are gone", || fs::read_dir(&temp.0).unwrap().next().is_none());
}

#[tokio::test]
async fn root_runs_the_server_as_another_account() {
    if !is_root("root_runs_the_server_as_another_account") {
        return;
    }
    let dir = Dir::new();
    let server = Embedded::start(&dir.data()).await.unwrap();
    let pid = server_pid(server.data_dir()).as_raw_pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    let uid = fs::metadata(dir.data().join("cluster")).unwrap().uid().to_string();
    assert_ne!(uid, "0");
    assert!(field("Uid:").split('\t').all(|id| id == uid), "{status}");
    assert!(field("Gid:").split('\t').all(|id| id != "0"), "{status}");
    assert_eq!(field("Groups:"), "");
    assert_eq!(field("CapEff:"), "0000000000000000");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_unprivileged_user_needs_nothing_of_root() {
    if !is_root("an_unprivileged_user_needs_nothing_of_root") {
        return;
    }
    let dir = Dir::new();
    chown(&dir.0, Some(65534), Some(65534)).unwrap();
    let before = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
    for _ in 0..3 {
        let mut service = Process::start_with("insert", &dir.data(), &before, |_| {});
        service.says("committed ");
        assert_eq!(fs::metadata(dir.data()).unwrap().mode() & 0o777, 0o700);
        service.kill();
    }
    // Root goes on with the same data, as their owner, who then can go on again.
    let server = Embedded::start(&dir.data()).await.unwrap();
    assert_eq!(server.data_dir(), dir.data());
    assert!(count(&server).await >= 3);
    server.stop().await.unwrap();
    let mut service = Process::start_with("insert", &dir.data(), &before, |_| {});
    service.says("committed ");
    service.kill();
}

#[tokio::test]
async fn a_directory_that_the_servers_account_cannot_reach_is_moved() {
    if !is_root("a_directory_that_the_servers_account_cannot_reach_is_moved") {
        return;
    }
    let dir = Dir::new();
    fs::set_permissions(&dir.0, Permissions::from_mode(0o700)).unwrap();
    let server = Embedded::start(&dir.data()).await.unwrap();
    let moved = server.data_dir().to_path_buf();
    assert!(moved.starts_with("/var/lib/portcullis"), "{moved:?}");
    assert!(!dir.data().exists());
    table(&mut connect(&server).await).await;
    assert_eq!(Embedded::join_or_start(&dir.data()).await.unwrap().data_dir(), moved);
    server.stop().await.unwrap();
    let server = Embedded::start(&dir.data()).await.unwrap();
    assert_eq!(count(&server).await, 0);
    server.stop().await.unwrap();
    fs::remove_dir_all(moved).unwrap();
}

#[tokio::test]
async fn a_strict_umask_is_no_hindrance() {
    let dir = Dir::new();
    let data = dir.0.join("a/b/c");
    let before = ["sh", "-c", "umask 077; exec \"$0\" \"$@\""];
    let mut service = Process::start_with("hold", &data, &before, |_| {});
    let real = PathBuf::from(service.says("ready "));
    service.kill();
    if real != data {
        Embedded::start(&data).await.unwrap().stop().await.unwrap();
        fs::remove_dir_all(real).unwrap();
    }
}

#[tokio::test]
async fn what_the_environment_says_of_postgresql_changes_nothing() {
    let dir = Dir::new();
    let mut service = Process::start_with("join", &dir.data(), &[], |command| {
        for (name, value) in [
            ("PGHOST", "nowhere.invalid"),
            ("PGHOSTADDR", "192.0.2.1"),
            ("PGPORT", "1"),
            ("PGUSER", "mallory"),
            ("PGDATABASE", "elsewhere"),
            ("PGPASSWORD", "wrong"),
            ("PGPASSFILE", "/nonexistent"),
            ("PGSERVICE", "nothing"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/nonexistent"),
            ("PGSSLCERT", "/nonexistent"),
            ("PGSSLKEY", "/nonexistent"),
            ("PGAPPNAME", "mallory"),
            ("PGDATA", "/nonexistent"),
            ("PGTZ", "nowhere"),
            ("PGDATESTYLE", "nonsense"),
            ("PGCLIENTENCODING", "SQL_ASCII"),
            ("PG_COLOR", "always"),
            ("LC_ALL", "xx_YY.nonsense"),
            ("LANG", "xx_YY.nonsense"),
            ("TZ", "Nowhere/Nothing"),
        ] {
            command.env(name, value);
        }
    });
    assert_eq!(service.says("connected "), "portcullis portcullis portcullis");
    service.child.wait().unwrap();
}

#[tokio::test]
async fn options_in_the_environment_are_refused() {
    let dir = Dir::new();
    let mut service = Process::start_with("hold", &dir.data(), &[], |command| {
        command.env("PGOPTIONS", "-c search_path=mallory");
    });
    let line =
        service.lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("failed "));
    assert!(line.unwrap().contains("PGOPTIONS"));
    assert!(!dir.data().exists());
    service.child.wait().unwrap();
}

#[tokio::test]
async fn an_initdb_that_was_cut_short_is_made_good() {
    for delay in [0, 20, 60, 120, 200, 300, 450, 600] {
        let dir = Dir::new();
        let service = Process::start("hold", &dir.data());
        let unfinished = || {
            let entries = fs::read_dir(dir.data()).ok()?;
            entries
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.to_string_lossy().contains("/cluster."))
        };
        eventually("initdb is at work", || unfinished().is_some());
        std::thread::sleep(Duration::from_millis(delay));
        service.kill();
        let server = Embedded::start(&dir.data()).await.unwrap();
        connect(&server).await;
        server.stop().await.unwrap();
    }

    // Nor does what has been lying there for long hinder.
    let dir = Dir::new();
    fs::create_dir_all(dir.data().join("cluster.0123/base")).unwrap();
    fs::write(dir.data().join("cluster.0123/PG_VERSION"), "15\n").unwrap();
    fs::set_permissions(dir.data(), Permissions::from_mode(0o755)).unwrap();
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    assert!(!dir.data().join("cluster.0123").exists());
}

#[tokio::test]
async fn a_stale_pid_file_harms_no_stranger() {
    let dir = Dir::new();
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    let cluster = dir.data().join("cluster");
    let owner = fs::metadata(&cluster).unwrap();
    // The number may have come to anybody: us, another program of the server's account, one even
    // that works in the data directory.
    for (own_account, cwd) in
        [(false, Path::new("/")), (true, Path::new("/")), (true, &*cluster), (false, &*cluster)]
    {
        let mut sleep = Command::new("sleep");
        sleep.arg("60").current_dir(cwd);
        if own_account && geteuid().is_root() {
            sleep.uid(owner.uid()).gid(owner.gid());
        }
        let mut stranger = sleep.spawn().unwrap();
        let file = cluster.join("postmaster.pid");
        fs::write(
            &file,
            format!("{}\n{}\n1700000000\n5432\n/tmp\n\n", stranger.id(), cluster.display()),
        )
        .unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        let started = Embedded::start(&dir.data()).await;
        assert!(stranger.try_wait().unwrap().is_none(), "it was harmed");
        started.unwrap().stop().await.unwrap();
        assert!(stranger.try_wait().unwrap().is_none(), "it was harmed");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[tokio::test]
async fn data_of_another_version_are_not_touched() {
    let dir = Dir::new();
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    fs::write(dir.data().join("cluster/PG_VERSION"), "11\n").unwrap();
    let Err(error) = Embedded::start(&dir.data()).await else { panic!("it started") };
    assert!(matches!(error, EmbeddedError::OtherVersion { major: 11, .. }), "{error}");
}

#[tokio::test]
async fn without_postgresql_the_ways_out_are_named() {
    let mask = "mount -t tmpfs none /usr/lib/postgresql && exec \"$0\" \"$@\"";
    let probe = Command::new("unshare")
        .args(["-m", "sh", "-c", mask, "true"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return eprintln!("without_postgresql_the_ways_out_are_named: skipped, it needs to mount");
    }
    let dir = Dir::new();
    let mut service =
        Process::start_with("hold", &dir.data(), &["unshare", "-m", "sh", "-c", mask], |_| {});
    let line =
        service.lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("failed "));
    let line = line.expect("it fails");
    for way in ["run `", "postgresql", "DATABASE_URL", "docker compose up"] {
        assert!(line.contains(way), "{line}");
    }
    service.child.wait().unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why_in_one_line() {
    let dir = Dir::new();
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    let file = dir.data().join("cluster/postgresql.auto.conf");
    fs::write(&file, "work_mem = nonsense\n").unwrap();
    let Err(error) = Embedded::start(&dir.data()).await else { panic!("it started") };
    let message = error.to_string();
    assert!(
        message.contains("work_mem") && message.contains("server.log") && !message.contains('\n'),
        "{message}"
    );
}

#[tokio::test]
async fn a_log_that_has_grown_large_is_put_aside() {
    let dir = Dir::new();
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    let log = dir.data().join("server.log");
    File::options().write(true).open(&log).unwrap().set_len(9 << 20).unwrap();
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    assert!(fs::metadata(&log).unwrap().len() < 1 << 20);
    assert_eq!(fs::metadata(dir.data().join("server.log.1")).unwrap().len(), 9 << 20);
}

/// The start is refused with a line that names the directory and the remedy.
async fn exposed(data: &Path, parts: &[&str]) {
    let Err(error) = Embedded::start(data).await else { panic!("it started on {data:?}") };
    let Err(joined) = Embedded::join_or_start(data).await else { panic!("it joined {data:?}") };
    let Err(looked_at) = Embedded::is_made(data).await else { panic!("it is fine: {data:?}") };
    for error in [error, joined, looked_at] {
        let line = error.to_string();
        let whole = parts.iter().all(|part| line.contains(part));
        assert!(whole && line.contains("PORTCULLIS_DATA_DIR") && !line.contains('\n'), "{line}");
    }
}

#[tokio::test]
async fn a_data_directory_that_others_can_write_to_is_rejected() {
    let dir = Dir::new();
    let data = dir.data();
    Embedded::start(&data).await.unwrap().stop().await.unwrap();
    let own = fs::metadata(&data).unwrap().mode() & 0o7777;
    for mode in [0o777, 0o775, 0o757, 0o1777] {
        fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
        exposed(&data, &[&format!("chmod go-w {}", data.display())]).await;
    }
    fs::set_permissions(&data, Permissions::from_mode(own)).unwrap();
    // Whoever can write to a directory above can put another one in its place.
    fs::set_permissions(&dir.0, Permissions::from_mode(0o777)).unwrap();
    exposed(&data, &[&format!("chmod go-w {}", dir.0.display())]).await;
    exposed(&dir.0.join("new"), &[&format!("chmod go-w {}", dir.0.display())]).await;
    assert!(!dir.0.join("new").exists());
    // Not in a sticky one, such as /tmp.
    fs::set_permissions(&dir.0, Permissions::from_mode(0o1777)).unwrap();
    Embedded::start(&data).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_data_directory_that_is_a_link_is_rejected() {
    let dir = Dir::new();
    fs::create_dir(dir.0.join("real")).unwrap();
    symlink(dir.0.join("real"), dir.data()).unwrap();
    exposed(&dir.data(), &["symbolic link"]).await;
    assert!(fs::read_dir(dir.0.join("real")).unwrap().next().is_none());
    // One above is the operator's business, as /tmp is one on macOS.
    Embedded::start(&dir.data().join("below")).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_data_directory_of_another_account_is_rejected() {
    if !is_root("a_data_directory_of_another_account_is_rejected") {
        return;
    }
    let dir = Dir::new();
    fs::create_dir(dir.data()).unwrap();
    let before = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
    for (path, owner) in [(dir.data(), 12345), (dir.0.clone(), 12345)] {
        chown(&dir.0, Some(65534), Some(65534)).unwrap();
        chown(dir.data(), Some(65534), Some(65534)).unwrap();
        chown(&path, Some(owner), None).unwrap();
        let mut service = Process::start_with("hold", &dir.data(), &before, |_| {});
        let line =
            service.lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("failed "));
        let line = line.expect("it fails");
        let expected = format!("{} belongs to another account (user {owner})", path.display());
        assert!(line.contains(&expected), "{line}");
        service.child.wait().unwrap();
    }
}

#[tokio::test]
async fn files_that_were_open_to_others_are_made_private() {
    let dir = Dir::new();
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    let files = ["lock", "server.log"].map(|name| dir.data().join(name));
    for file in &files {
        fs::set_permissions(file, Permissions::from_mode(0o666)).unwrap();
    }
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600, "{file:?}");
    }
    // What is no file is not taken for one.
    fs::remove_file(&files[0]).unwrap();
    fs::create_dir(&files[0]).unwrap();
    let Err(error) = Embedded::start(&dir.data()).await else { panic!("it started") };
    assert!(error.to_string().contains("lock"), "{error}");
}
