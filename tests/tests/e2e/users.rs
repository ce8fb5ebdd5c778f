//! Users: made, changed and dropped by SQL and by the command line; the first password is never lost; guessing and silence hurt nobody.

use crate::value;
use mainstem_testkit::mainstem::explain;
use mainstem_testkit::postgres::connect;
use mainstem_testkit::{Mainstem, MainstemOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The SQLSTATE with which a log-in is refused; None when it is let in.
async fn login(mainstem: &Mainstem, user: &str, password: &str) -> Option<String> {
    let mut config = mainstem.config();
    let error = connect(config.user(user).password(password)).await.err()?;
    let state = error.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.code()).map(|c| c.code().to_owned());
    Some(state.unwrap_or_else(|| error.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_change_and_go() {
    let mut mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let admin = mainstem.connect().await.unwrap();
    let refused = async |sql: &str| admin.batch_execute(sql).await.err().unwrap().code().unwrap().code().to_owned();
    admin.batch_execute("CREATE USER eve PASSWORD 'first'").await.map_err(explain).unwrap();
    assert_eq!(login(&mainstem, "eve", "first").await, None);
    assert_eq!(login(&mainstem, "eve", "second").await.as_deref(), Some("28P01"));
    assert_eq!(refused("CREATE USER eve PASSWORD 'x'").await, "42710");
    assert_eq!(refused("ALTER USER absent PASSWORD 'x'").await, "42704");
    assert_eq!(refused("ALTER USER eve PASSWORD ''").await, "28P01");
    assert_eq!(refused("DROP USER absent").await, "42704");
    assert_eq!(refused("DROP USER admin").await, "2BP01");
    admin.batch_execute("DROP USER IF EXISTS absent").await.map_err(explain).unwrap();
    // Her own password, by herself; the log-in sees it at once. Of others she changes nothing.
    let mut config = mainstem.config();
    let eve = connect(config.user("eve").password("first")).await.unwrap();
    eve.batch_execute("ALTER USER eve PASSWORD 'second'").await.map_err(explain).unwrap();
    assert_eq!(login(&mainstem, "eve", "second").await, None);
    let error = eve.batch_execute("ALTER USER admin PASSWORD 'x'").await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "42501");
    // As psql's \password sends it: a verifier, here of `pencil` (RFC 7677).
    let verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    admin.batch_execute(&format!("ALTER USER eve PASSWORD '{verifier}'")).await.map_err(explain).unwrap();
    assert_eq!(login(&mainstem, "eve", "pencil").await, None);
    mainstem.restart().unwrap();
    assert_eq!(login(&mainstem, "eve", "pencil").await, None);
    // A dropped user is gone, with the sessions that it has.
    let admin = mainstem.connect().await.unwrap();
    let eve = connect(config.user("eve").password("pencil")).await.unwrap();
    admin.batch_execute("DROP USER eve").await.map_err(explain).unwrap();
    assert_eq!(eve.simple_query("SELECT 1").await.err().unwrap().code().unwrap().code(), "57P01");
    assert_eq!(login(&mainstem, "eve", "pencil").await.as_deref(), Some("28P01"));
    for word in ["first", "second", "pencil"] {
        assert!(!mainstem.log().contains(word), "{word} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_password_is_set_with_the_server_stopped() {
    let mut mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let set = |mainstem: &Mainstem, password: &str| {
        let mut command = mainstem.command("user");
        command.args(["set-password", "admin", "--data"]).arg(mainstem.data_directory());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    // Not while it runs.
    let output = set(&mainstem, "other");
    assert!(!output.status.success() && text(&output).contains("CFG-004"), "{}", text(&output));
    mainstem.stop().unwrap();
    let output = set(&mainstem, "other");
    assert!(output.status.success(), "{}", text(&output));
    let output = set(&mainstem, "");
    assert!(!output.status.success() && text(&output).contains("USR-002"), "{}", text(&output));
    mainstem.start_again().unwrap();
    assert_eq!(login(&mainstem, "admin", "other").await, None);
    assert_eq!(login(&mainstem, "admin", mainstem_testkit::mainstem::ADMIN_PASSWORD).await.as_deref(), Some("28P01"));
}

/// Starts that fail, each at another step, then one that is right: it prints a password.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_eats_no_password() {
    let directory = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(mainstem_testkit::mainstem::binary().unwrap());
        command.args(["start", "--http-listen", "127.0.0.1:0", "--data"]).arg(directory.path().join("data")).args(arguments);
        command.env_remove("MAINSTEM_ADMIN_PASSWORD").current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let closed = mainstem_testkit::process::free_port().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let source = format!("shop=postgres://u:p@127.0.0.1:{closed}/shop");
    for wrong in [
        vec!["--pg-listen", ":7432"],
        vec!["--pg-listen", &taken],
        vec!["--pg-listen", "127.0.0.1:0", "--set", "tls_cert=/absent", "--set", "tls_key=/absent"],
        vec!["--pg-listen", "127.0.0.1:0", "--source", &source],
    ] {
        let output = start(&wrong).wait_with_output().unwrap();
        assert!(!output.status.success(), "{wrong:?}: {}", text(&output));
        assert!(!text(&output).contains("password, shown only now"), "{wrong:?}: {}", text(&output));
    }
    let mut right = start(&["--pg-listen", "0"]);
    let mut printed = String::new();
    let mut out = std::io::BufReader::new(right.stdout.take().unwrap());
    while !printed.contains("password, shown only now") {
        let line = std::io::BufRead::read_line(&mut out, &mut printed).unwrap();
        assert!(line > 0, "it ended without a word about the password:\n{printed}");
    }
    std::io::BufRead::read_line(&mut out, &mut printed).unwrap();
    right.kill().unwrap();
    right.wait().unwrap();
    assert!(printed.contains("mainstem user set-password admin") && printed.contains("@127.0.0.1:"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_is() {
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let (status, page) = mainstem.get("/").unwrap();
    assert!(
        status == 200 && page.contains("<html") && page.contains(&format!("127.0.0.1:{}/main", mainstem.pg_port())),
        "{page}"
    );
    let (status, body) = mainstem.get("/readyz").unwrap();
    assert!(status == 200 && body.contains("\"reasons\":[]"), "{body}");
    let output = mainstem.command("status").args(["--http-listen", &mainstem.http_port().to_string()]).output().unwrap();
    assert!(output.status.success() && text(&output).starts_with("mainstem 0"), "{}", text(&output));
    let closed = mainstem_testkit::process::free_port().unwrap().to_string();
    let output = mainstem.command("status").args(["--http-listen", &closed]).output().unwrap();
    assert!(!output.status.success() && text(&output).contains("CFG-011"), "{}", text(&output));
    // Each flag with a text and its default.
    let help = Command::new(mainstem_testkit::mainstem::binary().unwrap()).args(["start", "--help"]).output().unwrap();
    let help = text(&help);
    let flags: Vec<_> = help.split("\n      --").skip(1).collect();
    assert!(flags.len() >= 6, "{help}");
    for flag in flags {
        let described = flag.split_once('>').is_some_and(|(_, text)| text.trim().len() > 20);
        assert!(described && (flag.contains("[default: ") || flag.contains("default.toml")), "--{flag}");
    }
}

/// Sockets that never say a whole word: at the Postgres endpoint they hold nobody up, at the HTTP endpoint they are closed.
#[tokio::test(flavor = "multi_thread")]
async fn silence_hurts_nobody() {
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let open = |port: u16, bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let silent: Vec<_> = (0..600).map(|_| open(mainstem.pg_port(), b"")).collect();
    let client = mainstem.connect().await.unwrap();
    assert_eq!(value(&client, "SELECT 1").await.as_deref(), Some("1"));
    let halves: Vec<_> = (0..600).map(|_| open(mainstem.http_port(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: ")).collect();
    assert_eq!(mainstem.get("/healthz").unwrap().0, 200);
    for mut half in halves {
        half.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let ended = half.read(&mut [0; 1]);
        assert!(!matches!(&ended, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock), "still open: {ended:?}");
    }
    drop(silent);
    assert_eq!(value(&client, "SELECT 1").await.as_deref(), Some("1"));
}
