//! The Postgres door against real clients (psql, tokio-postgres, psycopg) and against bytes no client sends. Behind it stands a
//! small service of this test's own with fixed answers.
#![allow(clippy::disallowed_methods)] // drives the outside world
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

mod service;

use mainstem_env::Env;
use mainstem_identity::scram::{ITERATIONS, Mechanism, Verifier};
use mainstem_listener::TlsFiles;
use mainstem_pgwire::{Backend, Credentials, PgServer, PgSettings, metrics};
use service::Fixed;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// `admin` and `eve`, while she is there; both have the same password.
#[derive(Default)]
struct Users {
    eve_is_gone: AtomicBool,
}

impl Credentials for Users {
    fn verifier(&self, user: &str) -> Option<Verifier> {
        self.exists(user).then(|| Verifier::new(Mechanism::Sha256, "s3cret", [7; 16], ITERATIONS))
    }

    fn exists(&self, user: &str) -> bool {
        user == "admin" || user == "eve" && !self.eve_is_gone.load(Ordering::SeqCst)
    }

    fn is_administrator(&self, user: &str) -> bool {
        user == "admin"
    }
}

struct Door {
    address: SocketAddr,
    service: Arc<Fixed>,
    users: Arc<Users>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    runtime: Option<tokio::runtime::Runtime>,
    done: Option<tokio::task::JoinHandle<()>>,
}

impl Door {
    fn open() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut PgSettings)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut settings = PgSettings { listen: "127.0.0.1:0".into(), ..PgSettings::default() };
        change(&mut settings);
        let (service, users) = (Arc::new(Fixed::default()), Arc::new(Users::default()));
        let backend = Arc::new(OnceLock::from(Backend { service: service.clone(), users: users.clone() }));
        let server = runtime.block_on(PgServer::bind(Env::real(), settings, backend)).unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let done = runtime.spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, service, users, stop: Some(stop), runtime: Some(runtime), done: Some(done) }
    }

    fn url(&self) -> String {
        format!("postgresql://admin:s3cret@{}/main", self.address)
    }

    fn psql(&self, args: &[&str]) -> (bool, String, String) {
        self.psql_at(&self.url(), args)
    }

    fn psql_at(&self, url: &str, args: &[&str]) -> (bool, String, String) {
        let out = Command::new(psql_path()).arg("-X").arg(url).args(args).output().expect("psql is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.success(), text(&out.stdout), text(&out.stderr))
    }

    async fn client(&self) -> (tokio_postgres::Client, tokio::task::JoinHandle<()>) {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        let task = tokio::spawn(async {
            let _ = connection.await;
        });
        (client, task)
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn still_serves(&self) {
        assert_eq!(self.psql(&["-Atc", "SELECT one"]).1, "1\n");
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let (Some(runtime), Some(done)) = (self.runtime.take(), self.done.take()) {
            let _ = runtime.block_on(done);
            runtime.shutdown_background();
        }
    }
}

fn psql_path() -> &'static str {
    let debian = "/usr/lib/postgresql/15/bin/psql";
    if Path::new(debian).exists() { debian } else { "psql" }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// Everything the server sends until it closes.
fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return bytes,
            Err(e) => panic!("the server neither answered nor closed: {e}"),
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

const TEXTS: &str = "t|-2|4|9223372036854775807|1.1|1e+20|-123.45|héllo|\\x00ff|2024-01-02|03:04:05.6|2024-01-02 03:04:05.123456\
|2024-01-02 03:04:05.123456+00|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{\"a\": 1}|{\"a\": 1}|{1,NULL,3}|(1,\"a b\")|18446744073709551615|view|word\n\
\x00NULLS\n";

#[test]
fn psql_simple() {
    let door = Door::open();
    let check = |args: &[&str], expected: &str| {
        let (good, out, err) = door.psql(args);
        assert!(good, "{err}");
        assert_eq!(out, expected, "{args:?}");
    };
    check(&["-Atc", "SELECT one"], "1\n");
    let nulls = ["-"; 21].join("|");
    check(&["-At", "-P", "null=-", "-c", "SELECT types"], &TEXTS.replace("\0NULLS", &nulls));
    // Several statements in one message; psql shows each result.
    check(&["-Atc", "SELECT one; SET x = 1; SELECT one"], "1\nSET\n1\n");
    check(&["-Atc", ""], "");
    check(&["-At", "-v", "FETCH_COUNT=0", "-c", "SELECT rows 3"], "0\n1\n2\n");
    check(&["-Atc", "COPY (SELECT types) TO STDOUT WITH (FORMAT csv, HEADER)"], include_str!("data/types.csv"));
    check(&["-Atc", "COPY (SELECT rows 2) TO STDOUT"], "0\n1\n");
    check(&["-Atc", "\\copy (SELECT rows 2) TO STDOUT csv"], "0\n1\n");
    let (good, out, err) = door.psql(&["-c", "NOTICE"]);
    assert!(good && out == "NOTICE\n" && err.contains("NOTICE:  look here"), "{out}{err}");
    let (_, out, _) = door.psql(&["-Atc", "\\echo :SERVER_VERSION_NAME", "-c", "\\echo :ENCODING", "-c", "\\encoding"]);
    assert!(out.starts_with("15.0 (Mainstem"), "{out}");
}

#[test]
fn errors_carry_everything() {
    let door = Door::open();
    let (good, _, err) = door.psql(&["-v", "VERBOSITY=verbose", "-c", "SELECT one; SELECT héh, FAIL 8"]);
    assert!(!good);
    for part in [
        "ERROR:  42703: column \"x\" does not exist",
        "LINE 1: SELECT one; SELECT héh, FAIL 8",
        "DETAIL:  Error code SQL-999.",
        "HINT:  Perhaps y.",
        "LOCATION:  SQL-999",
    ] {
        assert!(err.contains(part), "{part} in {err}");
    }
    let caret = err.lines().skip_while(|l| !l.starts_with("LINE")).nth(1).unwrap();
    assert_eq!(caret.chars().position(|c| c == '^'), Some("LINE 1: SELECT one; SELECT".chars().count() + 1), "{err}");
    // The statement after the failed one did not run; the transaction block it stood in has failed.
    let (_, out, err) = door.psql(&["-Atc", "BEGIN", "-c", "FAIL 1", "-c", "SHOW status", "-c", "ROLLBACK", "-c", "SHOW status"]);
    assert_eq!(out, "BEGIN\nE\nROLLBACK\nI\n", "{err}");
    // Rows already sent, then an error in the stream.
    let (good, _, err) = door.psql(&["-Atc", "SELECT broken"]);
    assert!(!good && err.contains("broke in the middle"), "{err}");
    door.still_serves();
}

#[test]
fn login() {
    let door = Door::open();
    let url = |user: &str, password: &str, database: &str| format!("postgresql://{user}:{password}@{}/{database}", door.address);
    let failed = metrics::LOGINS_FAILED.get();
    let check = |url: &str, expected: &str| {
        let (good, _, err) = door.psql_at(url, &["-c", "SELECT one"]);
        assert!(!good && err.contains(expected), "{err}");
    };
    check(&url("admin", "wrong", "main"), "password authentication failed for user \"admin\"");
    // An unknown user goes through the same exchange.
    check(&url("nobody", "s3cret", "main"), "password authentication failed for user \"nobody\"");
    assert!(metrics::LOGINS_FAILED.get() >= failed + 2);
    check(&url("admin", "s3cret", "other"), "database \"other\" does not exist");
    check(&format!("{}?client_encoding=LATIN1", door.url()), "UTF8");
    check(&format!("{}?sslmode=require", door.url()), "does not support SSL");
    check(&format!("{}?gssencmode=require", door.url()), "GSS");
    // Settings given at start-up reach the session.
    let (good, out, err) =
        door.psql_at(&format!("{}?options=-c%20search_path%3Dshop", door.url()), &["-Atc", "SHOW search_path"]);
    assert!(good && out == "shop\n", "{out}{err}");
}

#[test]
fn tls() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let door = Door::with(|s| s.tls = Some(TlsFiles { cert: data.join("localhost.crt"), key: data.join("localhost.key") }));
    let (good, out, err) = door.psql(&["-Atc", "\\conninfo", "-c", "SELECT one"]);
    assert!(good && out.contains("TLSv1.3") && out.ends_with("1\n"), "{out}{err}");
    let verified = format!(
        "postgresql://admin:s3cret@localhost:{}/main?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={}",
        door.address.port(),
        data.join("localhost.crt").display()
    );
    assert_eq!(door.psql_at(&verified, &["-Atc", "SELECT one"]).1, "1\n");
    assert_eq!(door.psql_at(&format!("{}?sslmode=disable", door.url()), &["-Atc", "SELECT one"]).1, "1\n");
    // Clear bytes behind the request for encryption are not taken for encrypted ones.
    let mut stream = door.raw();
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    assert!(contains(&read_all(stream), "unencrypted data"));
}

/// A certificate for `localhost` that signs itself, made by the tool that administrators use.
fn new_certificate(dir: &Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let (cert, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-new", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=localhost"]);
    openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", "subjectAltName=DNS:localhost"]);
    let made = openssl.arg("-out").arg(&cert).arg("-keyout").arg(&key).output().expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}

#[test]
fn a_new_certificate_needs_no_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = new_certificate(dir.path(), "server");
    let (trusted, next) = (dir.path().join("trusted.crt"), new_certificate(dir.path(), "next"));
    std::fs::copy(&cert, &trusted).unwrap();
    let door = Door::with(|s| s.tls = Some(TlsFiles { cert: cert.clone(), key: key.clone() }));
    let verified = |trusted: &Path| {
        let tls = format!("hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={}", trusted.display());
        let url = format!("postgresql://admin:s3cret@localhost:{}/main?{tls}", door.address.port());
        door.psql_at(&url, &["-Atc", "SELECT one"]).1 == "1\n"
    };
    assert!(verified(&trusted) && !verified(&next.0));
    // Half of the change is no certificate for its key: the old one stays.
    std::fs::copy(&next.0, &cert).unwrap();
    assert!(verified(&trusted) && !verified(&next.0));
    std::fs::copy(&next.1, &key).unwrap();
    assert!(verified(&next.0) && !verified(&trusted));
    std::fs::write(&cert, "garbage").unwrap();
    assert!(verified(&next.0));
}

#[test]
fn bad_settings() {
    let door = Door::open();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let check = |settings: PgSettings, expected: &str, code: &str| {
        let bound = runtime.block_on(PgServer::bind(Env::real(), settings, Arc::default()));
        let error = bound.err().unwrap();
        assert!(error.to_string().contains(expected) && error.code().id == code, "{error}");
    };
    let listen = door.address.to_string();
    check(PgSettings { listen: listen.clone(), ..PgSettings::default() }, &listen, "NET-001");
    let check_tls = |cert: &Path, key: &Path, expected: &str| {
        let tls = Some(TlsFiles { cert: cert.to_path_buf(), key: key.to_path_buf() });
        check(PgSettings { tls, listen: "127.0.0.1:0".into(), ..PgSettings::default() }, expected, "NET-002");
    };
    let (nowhere, data) = (Path::new("/nonexistent.pem"), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"));
    let (crt, key) = (data.join("localhost.crt"), data.join("localhost.key"));
    check_tls(nowhere, &key, "/nonexistent.pem");
    check_tls(&crt, &crt, "private key");
    check_tls(&key, &key, "certificate");
}

#[test]
fn garbage_and_truncation() {
    let door = Door::open();
    let before = metrics::PROTOCOL_ERRORS.get();
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0; 64], &[0, 0, 0, 8, 0, 2, 0, 0], &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]]
    {
        let mut stream = door.raw();
        stream.write_all(bytes).unwrap();
        let answer = read_all(stream);
        assert!(answer.is_empty() || answer[0] == b'E', "{answer:?}");
    }
    // Cut short in the middle of a message.
    let mut stream = door.raw();
    stream.write_all(&[0, 0, 0, 50, 0, 3, 0, 0, b'u']).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(read_all(stream).is_empty());
    assert!(metrics::PROTOCOL_ERRORS.get() > before);
    door.still_serves();
}

/// A client of one's own hands: start-up without a password cannot be, so it authenticates through `postgres-protocol`'s twin
/// in tokio-postgres; here only what comes before.
#[test]
fn slow_start_is_cut_off() {
    let door = Door::with(|s| s.startup_max = Duration::from_millis(300));
    let mut stream = door.raw();
    stream.write_all(&[0, 0]).unwrap();
    assert!(contains(&read_all(stream), "canceling authentication due to timeout"));
    // Also one that stops in the middle of authentication.
    let mut stream = door.raw();
    stream.write_all(b"\0\0\0\x14\0\x03\0\0user\0admin\0\0").unwrap();
    assert!(contains(&read_all(stream), "canceling authentication due to timeout"));
    assert!(metrics::STARTUP_TIMEOUTS.get() >= 2);
}

/// Far more sockets than may wait, and none of them says a word.
#[test]
fn silent_sockets_keep_nobody_out() {
    let door = Door::with(|s| (s.connections_max, s.waiting_max, s.waiting_address_max) = (4, 40, 20));
    let silent: Vec<_> = (0..270).map(|_| door.raw()).collect();
    door.still_serves();
    let sessions: Vec<_> = (0..4).map(|_| door.run(door.client())).collect();
    let first = silent.into_iter().next().unwrap();
    assert!(contains(&read_all(first), "wait for their log-in"));
    for (client, _) in &sessions {
        assert_eq!(door.run(client.query_one("SELECT one", &[])).unwrap().get::<_, i32>(0), 1);
    }
}

#[test]
fn the_last_places_are_for_administrators() {
    let door = Door::with(|s| (s.connections_max, s.reserved) = (2, 1));
    let eve = door.url().replace("admin", "eve");
    door.run(async {
        let (_first, connection) = tokio_postgres::connect(&eve, NoTls).await.unwrap();
        let _task = tokio::spawn(connection);
        let error = tokio_postgres::connect(&eve, NoTls).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "53300");
        let _admin = door.client().await;
    });
}

#[test]
fn a_dropped_user_is_gone_at_once() {
    let door = Door::open();
    let eve = door.url().replace("admin", "eve");
    door.run(async {
        let (client, connection) = tokio_postgres::connect(&eve, NoTls).await.unwrap();
        let _task = tokio::spawn(connection);
        client.simple_query("SELECT one").await.unwrap();
        door.users.eve_is_gone.store(true, Ordering::SeqCst);
        assert_eq!(client.simple_query("SELECT one").await.err().unwrap().code().unwrap().code(), "57P01");
        let error = tokio_postgres::connect(&eve, NoTls).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "28P01");
    });
}

#[test]
fn guessing_is_turned_away() {
    let door = Door::open();
    let wrong = door.url().replace("s3cret", "guess");
    door.run(async {
        let guess = || async { tokio_postgres::connect(&wrong, NoTls).await.err().unwrap().code().unwrap().code().to_owned() };
        for _ in 0..3 {
            assert_eq!(guess().await, "28P01");
        }
        // From here on they stand in line, and the last of so many would wait too long.
        let mut line: futures::stream::FuturesUnordered<_> = (0..20).map(|_| guess()).collect();
        while futures::StreamExt::next(&mut line).await.expect("nobody was turned away") != "28000" {}
    });
    // Another user of the same address waits for nothing.
    let eve = door.url().replace("admin", "eve");
    assert_eq!(door.psql_at(&eve, &["-Atc", "SELECT one"]).1, "1\n");
}

#[test]
fn a_server_that_starts_says_so() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (backend, settings) = (Arc::new(OnceLock::new()), PgSettings { listen: "127.0.0.1:0".into(), ..PgSettings::default() });
    let server = runtime.block_on(PgServer::bind(Env::real(), settings, backend.clone())).unwrap();
    let url = format!("postgresql://admin:s3cret@{}/main", server.local_addr().unwrap());
    let _serving = runtime.spawn(server.run(std::future::pending()));
    let state = || runtime.block_on(tokio_postgres::connect(&url, NoTls)).err().map(|e| e.code().unwrap().code().to_owned());
    assert_eq!(state().as_deref(), Some("57P03"));
    let opened = Backend { service: Arc::new(Fixed::default()), users: Arc::new(Users::default()) };
    assert!(backend.set(opened).is_ok());
    assert_eq!(state(), None);
}

#[test]
fn too_many_connections() {
    let door = Door::with(|s| s.connections_max = 2);
    door.run(async {
        let (one, two) = (door.client().await, door.client().await);
        let error = tokio_postgres::connect(&door.url(), NoTls).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "53300");
        // A full server still takes cancel requests.
        let token = two.0.cancel_token();
        let (slept, cancelled) = tokio::join!(two.0.simple_query("SLEEP"), async {
            door.service.wait_running().await;
            token.cancel_query(NoTls).await
        });
        cancelled.unwrap();
        assert_eq!(slept.err().unwrap().code().unwrap().code(), "57014");
        drop(one);
        let mut again = tokio_postgres::connect(&door.url(), NoTls).await;
        while again.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            again = tokio_postgres::connect(&door.url(), NoTls).await;
        }
    });
}

#[test]
fn tokio_postgres_binary() {
    let door = Door::open();
    door.run(async {
        let (client, _task) = door.client().await;
        let statement = client.prepare("SELECT types").await.unwrap();
        let names: Vec<_> = statement.columns().iter().map(|c| c.type_().name().to_string()).collect();
        assert_eq!(
            names.join(" "),
            "bool int2 int4 int8 float4 float8 numeric text bytea date time timestamp timestamptz uuid json jsonb _int4 text numeric text text"
        );
        let rows = client.query(&statement, &[]).await.unwrap();
        let row = &rows[0];
        assert!(row.get::<_, bool>(0));
        assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), (-2, 4, i64::MAX));
        assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (1.1, 1e20));
        assert_eq!(row.get::<_, Raw>(6).0, [0, 2, 0, 0, 0x40, 0, 0, 2, 0, 123, 17, 148]);
        assert_eq!(row.get::<_, &str>(7), "héllo");
        assert_eq!(row.get::<_, &[u8]>(8), [0, 255]);
        assert_eq!(row.get::<_, Raw>(9).0, 8767i32.to_be_bytes());
        assert_eq!(row.get::<_, Raw>(10).0, 11_045_600_000i64.to_be_bytes());
        let since_epoch = row.get::<_, std::time::SystemTime>(12).duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since_epoch.as_micros(), 1_704_164_645_123_456);
        assert_eq!(row.get::<_, Raw>(13).0[..4], [0xa0, 0xee, 0xbc, 0x99]);
        assert_eq!(row.get::<_, Raw>(14).0, b"{\"a\": 1}");
        assert_eq!(row.get::<_, Raw>(15).0, b"\x01{\"a\": 1}");
        assert_eq!(row.get::<_, Vec<Option<i32>>>(16), [Some(1), None, Some(3)]);
        for column in 0..names.len() {
            assert!(rows[1].get::<_, Option<Raw>>(column).is_none());
        }
        // Parameters, binary, every one echoed by the service.
        let row = client
            .query_one("ECHO int8 float8 text bool bytea", &[&-5i64, &2.5f64, &"x'y", &true, &&b"\x00\x01"[..]])
            .await
            .unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, f64>(1), row.get::<_, &str>(2)), (-5, 2.5, "x'y"));
        assert_eq!((row.get::<_, bool>(3), row.get::<_, &[u8]>(4)), (true, &b"\x00\x01"[..]));
        let now = std::time::UNIX_EPOCH + Duration::from_micros(1_704_164_645_123_456);
        let row = client.query_one("ECHO timestamptz list", &[&now, &vec![1i32, 2]]).await.unwrap();
        assert_eq!((row.get::<_, std::time::SystemTime>(0), row.get::<_, Vec<i32>>(1)), (now, vec![1, 2]));
        let none = client.query_one("ECHO int8 text", &[&None::<i64>, &None::<&str>]).await.unwrap();
        assert_eq!((none.get::<_, Option<i64>>(0), none.get::<_, Option<&str>>(1)), (None, None));
    });
}

/// A value's binary form as it came.
struct Raw(Vec<u8>);

impl<'a> tokio_postgres::types::FromSql<'a> for Raw {
    fn from_sql(_: &tokio_postgres::types::Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }
    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

#[test]
fn portals_and_errors_in_the_extended_protocol() {
    let door = Door::open();
    door.run(async {
        let (mut client, _task) = door.client().await;
        let transaction = client.transaction().await.unwrap();
        let portal = transaction.bind("SELECT rows 5", &[]).await.unwrap();
        let mut counts = Vec::new();
        for _ in 0..3 {
            counts.push(transaction.query_portal(&portal, 2).await.unwrap().len());
        }
        assert_eq!(counts, [2, 2, 1]);
        transaction.commit().await.unwrap();
        // An error skips to Sync, and the next statement works.
        let error = client.query("FAIL 1", &[]).await.err().unwrap();
        assert_eq!(error.as_db_error().unwrap().routine(), Some("SQL-999"));
        assert_eq!(client.query_one("SELECT one", &[]).await.unwrap().get::<_, i32>(0), 1);
        // A wrong parameter fails in the door; the transaction block knows.
        client.simple_query("BEGIN").await.unwrap();
        let error = client.prepare("ECHO a b; ECHO c").await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "42601");
        let status = client.simple_query("SHOW status").await.unwrap();
        assert!(status.iter().any(|m| matches!(m, SimpleQueryMessage::Row(row) if row.get(0) == Some("E"))));
        client.simple_query("ROLLBACK").await.unwrap();
        // Statements of the wire can be dropped by SQL.
        let error = client.simple_query("DEALLOCATE nothing").await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "26000");
        client.simple_query("DEALLOCATE ALL").await.unwrap();
        let tags = client.simple_query("SELECT one; SELECT rows 2").await.unwrap();
        let counts = tags.iter().filter_map(|m| match m {
            SimpleQueryMessage::CommandComplete(n) => Some(*n),
            _ => None,
        });
        assert_eq!(counts.collect::<Vec<_>>(), [1, 2]);
    });
}

/// Frontend messages, one after the other: a letter and its body.
fn frames(messages: &[(u8, &[u8])]) -> Vec<u8> {
    let frame = |(tag, body): &(u8, &[u8])| [&[*tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat();
    messages.iter().flat_map(frame).collect()
}

/// The next backend message. Fails when none comes.
fn next_message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).expect("the server says nothing");
    let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

/// asyncpg and others send Parse, Describe, Flush and wait for the answer before they send more.
#[test]
fn an_error_is_sent_at_once() {
    let door = Door::open();
    let mut stream = door.raw();
    // The driver logs in on the same socket and is then left alone.
    let (twin, config) = (stream.try_clone().unwrap(), door.url().parse::<tokio_postgres::Config>().unwrap());
    twin.set_nonblocking(true).unwrap();
    let _driver = door.run(async { config.connect_raw(tokio::net::TcpStream::from_std(twin).unwrap(), NoTls).await }).unwrap();
    stream.set_nonblocking(false).unwrap();
    let flush = (b'H', &b""[..]);
    let good = [(b'P', &b"\0SELECT one\0\0\0"[..]), (b'B', &b"\0\0\0\0\0\0\0\0"[..]), (b'E', &b"\0\0\0\0\0"[..])];
    let broken = [(b'P', &b"\0SELECT broken\0\0\0"[..]), good[1], good[2]];
    // What is sent, the answers before the error, and the error's SQLSTATE.
    let check = |stream: &mut TcpStream, messages: &[(u8, &[u8])], before: &str, state: &str| {
        stream.write_all(&frames(messages)).unwrap();
        let mut seen = String::new();
        let (mut tag, mut body) = next_message(stream);
        while tag != b'E' {
            seen.push(char::from(tag));
            (tag, body) = next_message(stream);
        }
        assert!(seen == before && contains(&body, &format!("C{state}\0")), "{seen}: {}", String::from_utf8_lossy(&body));
        stream.write_all(&frames(&[(b'S', b"")])).unwrap();
        assert_eq!(next_message(stream).0, b'Z');
    };
    check(&mut stream, &[(b'P', b"\0FAIL 1\0\0\0"), (b'D', b"S\0"), flush], "", "42703");
    check(&mut stream, &[(b'P', b"\0FAIL 1\0\0\0")], "", "42703"); // nobody asks, and it comes
    check(&mut stream, &[good[0], (b'B', b"\0\0\0\0\0\x01\0\0"), flush], "1", "08P01");
    check(&mut stream, &[good[0], (b'D', b"Sabsent\0"), flush], "1", "26000");
    check(&mut stream, &[good[0], good[1], (b'D', b"Pabsent\0"), flush], "12", "34000");
    check(&mut stream, &[good[0], good[1], (b'E', b"absent\0\0\0\0\0"), flush], "12", "34000");
    check(&mut stream, &[broken[0], broken[1], broken[2], flush], "12D", "58030");
    // A body that is no message of its kind.
    check(&mut stream, &[(b'P', b"cut short"), flush], "", "08P01");
    // What follows an error is skipped, and after Sync the next statement works.
    check(&mut stream, &[(b'P', b"\0FAIL 1\0\0\0"), flush, good[0], good[1], flush], "", "42703");
    stream.write_all(&frames(&[good[0], good[1], good[2], (b'S', b"")])).unwrap();
    let answers: String = (0..5).map(|_| char::from(next_message(&mut stream).0)).collect();
    assert_eq!(answers, "12DCZ");
}

#[test]
fn cancel_and_vanished_clients() {
    let door = Door::open();
    door.run(async {
        let (client, task) = door.client().await;
        let token = client.cancel_token();
        for how in ["SLEEP", "SELECT endless"] {
            let (ended, cancelled) = tokio::join!(client.simple_query(how), async {
                door.service.wait_running().await;
                token.cancel_query(NoTls).await
            });
            cancelled.unwrap();
            assert_eq!(ended.err().unwrap().code().unwrap().code(), "57014", "{how}");
        }
        // A wrong key cancels nobody.
        let cancels = door.service.cancels.load(Ordering::SeqCst);
        let mut stream = door.raw();
        stream.write_all(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 1, 2, 3, 4]).unwrap();
        assert!(read_all(stream).is_empty());
        assert_eq!(door.service.cancels.load(Ordering::SeqCst), cancels);
        // A client that goes away stops its statement.
        let running = client.simple_query("SLEEP");
        tokio::select! {
            _ = running => panic!("slept through"),
            () = door.service.wait_running() => {}
        }
        task.abort();
        drop(client);
    });
    eventually("the session of a client that went away ends", || door.service.sessions.load(Ordering::SeqCst) == 0);
    door.still_serves();
}

/// A client that does not read stops the query: batches are not pulled ahead of it.
#[test]
fn slow_client_holds_the_query() {
    let door = Door::open();
    // Its output is a pipe that nobody reads.
    let mut psql = Command::new(psql_path());
    psql.args(["-X", "-At", &door.url(), "-c", "\\copy (SELECT endless) TO STDOUT"]).stdout(std::process::Stdio::piped());
    let mut psql = psql.spawn().unwrap();
    let batches = || door.service.batches.load(Ordering::SeqCst);
    eventually("batches flow", || batches() > 0);
    let mut last = batches();
    eventually("the query stands still", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut last, batches()) == batches()
    });
    assert!(last < 10_000, "{last} batches pulled for a client that reads nothing");
    let _ = psql.kill();
    let _ = psql.wait();
    door.still_serves();
}

#[test]
fn panics_end_one_session_only() {
    let door = Door::open();
    let panics = metrics::PANICS.get();
    let other = door.run(door.client());
    for sql in ["PANIC prepare", "PANIC execute", "SELECT panic"] {
        let (good, _, err) = door.psql(&["-v", "VERBOSITY=verbose", "-c", sql]);
        assert!(!good && err.contains("XX000"), "{err}");
    }
    assert_eq!(metrics::PANICS.get(), panics + 3);
    assert_eq!(door.run(other.0.query_one("SELECT one", &[])).unwrap().get::<_, i32>(0), 1);
}

#[test]
fn clean_stop() {
    let mut door = Door::open();
    let (client, _task) = door.run(door.client());
    let stop = door.stop.take().unwrap();
    let sleeping = door.run(async {
        let sleeping = client.simple_query("SLEEP");
        tokio::pin!(sleeping);
        tokio::select! {
            _ = &mut sleeping => panic!("slept through"),
            () = door.service.wait_running() => {}
        }
        drop(stop);
        sleeping.await
    });
    assert!(sleeping.is_err());
    let done = door.done.take().unwrap();
    door.run(done).unwrap();
    assert!(TcpStream::connect(door.address).is_err());
}

#[test]
fn python_drivers() {
    let Some(python) = std::env::var_os("MAINSTEM_TEST_PYTHON") else {
        eprintln!("SKIPPED: MAINSTEM_TEST_PYTHON names no interpreter with tests/python/requirements-pgwire.txt");
        return;
    };
    let door = Door::open();
    for script in ["psycopg_check.py", "asyncpg_check.py"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(script);
        let out = Command::new(&python).arg(script).arg(door.url()).output().unwrap();
        assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }
}
