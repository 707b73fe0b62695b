//! How servers begin, are shared and end.

use super::*;

#[tokio::test]
async fn a_second_start_finds_what_the_first_one_kept() {
    let dir = Dir::new();
    let server = Embedded::start(&dir.data()).await.unwrap();
    table(&mut connect(&server).await).await;
    sqlx::query("insert into t values (7)").execute(&mut connect(&server).await).await.unwrap();
    let pid = server_pid(server.data_dir());
    server.stop().await.unwrap();
    assert!(!lives(pid));
    let server = Embedded::start(&dir.data()).await.unwrap();
    assert_eq!(count(&server).await, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_cluster_is_utf8_durable_and_on_no_network() {
    let dir = Dir::new();
    let server = Embedded::start(&dir.data()).await.unwrap();
    let mut connection = connect(&server).await;
    for (setting, value) in [
        ("server_encoding", "UTF8"),
        ("lc_messages", "C"),
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ] {
        let is: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(is, value, "{setting}");
    }
    let socket_dir = server.connect_options().get_socket().unwrap().clone();
    assert_eq!(fs::metadata(socket_dir).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(dir.data().join("lock")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(dir.data().join("server.log")).unwrap().mode() & 0o777, 0o600);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_service_loses_nothing_and_starts_again_at_once() {
    let dir = Dir::new();
    let (mut committed, mut slowest) = (0, Duration::ZERO);
    for round in 0..15 {
        let begin = Instant::now();
        let mut service = Process::start("insert", &dir.data());
        service.says("ready ");
        if round > 0 {
            slowest = slowest.max(begin.elapsed());
        }
        for _ in 0..20 + round * 7 {
            committed = service.says("committed ").parse().unwrap();
        }
        for line in service.kill() {
            if let Some(n) = line.strip_prefix("committed ") {
                // The last line may be cut.
                committed = committed.max(n.parse().unwrap_or(0));
            }
        }
    }
    let server = Embedded::start(&dir.data()).await.unwrap();
    let rows = count(&server).await;
    // One more may have been committed and not been said.
    assert!(rows >= committed && rows <= committed + 15, "{rows} rows of {committed}");
    let gaps: i64 = sqlx::query_scalar("select max(n) - count(*) from t")
        .fetch_one(&mut connect(&server).await)
        .await
        .unwrap();
    assert_eq!(gaps, 0);
    eprintln!(
        "15 kills, {committed} commits said, {rows} rows, slowest start after a kill {slowest:?}"
    );
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_lock_is_free_after_a_kill_while_the_server_still_lives() {
    let dir = Dir::new();
    let mut service = Process::start("hold", &dir.data());
    service.says("ready ");
    let lock = File::options().read(true).write(true).open(dir.data().join("lock")).unwrap();
    assert!(lock.try_lock().is_err());
    let server = server_pid(&dir.data());
    let supervisor = parent(server);
    // Frozen, the server cannot end, nor therefore its supervisor.
    kill_process(server, Signal::STOP).unwrap();
    service.kill();
    lock.try_lock().unwrap();
    assert!(lives(server) && lives(supervisor));
    lock.unlock().unwrap();
    kill_process(server, Signal::CONT).unwrap();
    Embedded::start(&dir.data()).await.unwrap().stop().await.unwrap();
    assert!(!lives(server));
}

#[tokio::test]
async fn a_dropped_server_is_stopped() {
    let dir = Dir::new();
    let server = Embedded::start(&dir.data()).await.unwrap();
    let pid = server_pid(&dir.data());
    drop(server);
    eventually("the server has ended", || !lives(pid));
}

#[tokio::test]
async fn a_server_whose_supervisor_was_killed_too_is_stopped_by_the_next_start() {
    let dir = Dir::new();
    let mut service = Process::start("hold", &dir.data());
    service.says("ready ");
    let orphan = server_pid(&dir.data());
    // The shell that watches goes with its children, or it would stop the server in good order.
    let supervisor = parent(orphan);
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse().map(Pid::from_raw) else {
            continue;
        };
        let Some(pid) = pid.filter(|pid| *pid != orphan && lives(*pid)) else {
            continue;
        };
        if fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()))
            .is_ok_and(|stat| stat.contains("(sh) "))
            && parent(pid) == supervisor
        {
            kill_process(pid, Signal::KILL).unwrap();
        }
    }
    kill_process(supervisor, Signal::KILL).unwrap();
    service.kill();
    std::thread::sleep(Duration::from_millis(300));
    assert!(lives(orphan));
    let server = Embedded::start(&dir.data()).await.unwrap();
    assert!(!lives(orphan));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_service_is_refused() {
    let dir = Dir::new();
    let server = Embedded::start(&dir.data()).await.unwrap();
    let Err(error) = Embedded::start(&dir.data()).await else { panic!("it was not") };
    assert!(matches!(error, EmbeddedError::InUse { .. }));
    assert!(error.to_string().contains(dir.data().to_str().unwrap()), "{error}");
    // The first is none the worse for it.
    connect(&server).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn of_many_services_that_start_at_once_one_wins() {
    let dir = Dir::new();
    let data = dir.data();
    let (a, b, c) =
        tokio::join!(Embedded::start(&data), Embedded::start(&data), Embedded::start(&data));
    let (won, lost): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|lost| matches!(lost, Err(EmbeddedError::InUse { .. }))));
}

#[tokio::test]
async fn a_command_joins_the_running_service_and_leaves_it_alone() {
    let dir = Dir::new();
    let server = Embedded::start(&dir.data()).await.unwrap();
    table(&mut connect(&server).await).await;
    // In this process and in another.
    let mut joined = Embedded::join_or_start(&dir.data()).await.unwrap();
    assert_eq!(count(&joined).await, 0);
    assert!(tokio::time::timeout(Duration::from_millis(100), joined.died()).await.is_err());
    joined.stop().await.unwrap();
    let mut command = Process::start("join", &dir.data());
    assert_eq!(command.says("connected "), "portcullis portcullis portcullis");
    assert!(command.child.wait().unwrap().success());
    assert_eq!(count(&server).await, 0);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_with_no_service_starts_the_server_and_stops_it() {
    let dir = Dir::new();
    let server = Embedded::join_or_start(&dir.data()).await.unwrap();
    let Err(error) = Embedded::start(&dir.data()).await else { panic!("it was not refused") };
    assert!(error.to_string().starts_with("another portcullis is using "), "{error}");
    let pid = server_pid(&dir.data());
    server.stop().await.unwrap();
    assert!(!lives(pid));
}

#[tokio::test]
async fn commands_that_begin_at_once_all_work() {
    let dir = Dir::new();
    let mut commands: Vec<_> = (0..4).map(|_| Process::start("join", &dir.data())).collect();
    for command in &mut commands {
        command.says("connected ");
    }
    for mut command in commands {
        assert!(command.child.wait().unwrap().success());
    }
}

#[tokio::test]
async fn the_servers_death_is_noticed_and_the_next_start_works() {
    let dir = Dir::new();
    for _ in 0..3 {
        let mut server = Embedded::start(&dir.data()).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), server.died()).await.is_err());
        kill_process(server_pid(&dir.data()), Signal::KILL).unwrap();
        tokio::time::timeout(Duration::from_secs(5), server.died()).await.unwrap();
        server.died().await;
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_path_that_is_long_and_odd_works() {
    let dir = Dir::new();
    for name in
        ["x".repeat(150), "a, \"b\" 'c' $d \\e é".into(), format!("{}, \"é", "y".repeat(120))]
    {
        let data = dir.0.join(name);
        let server = Embedded::start(&data).await.unwrap();
        connect(&server).await;
        let socket_dir = server.connect_options().get_socket().unwrap().clone();
        assert!(socket_dir.as_os_str().len() <= 93, "{socket_dir:?}");
        let joined = Embedded::join_or_start(&data).await.unwrap();
        joined.stop().await.unwrap();
        server.stop().await.unwrap();
        assert!(socket_dir.starts_with(&data) || !socket_dir.exists());
    }
}
