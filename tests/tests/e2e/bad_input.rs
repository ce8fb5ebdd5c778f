//! Everything a user can get wrong: a clear error with a code that has its page, nothing lost, and the server goes on.

use crate::{World, value};
use mainstem_testkit::mainstem::explain;
use mainstem_testkit::{Mainstem, MainstemOptions, Postgres, PostgresOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use tokio_postgres::Client;

/// The stable code in a message (`[PG-004] ...`); fails when there is none or it has no page.
fn code_of(message: &str) -> String {
    let is_code = |word: &&str| {
        word.split_once('-').is_some_and(|(area, number)| {
            !area.is_empty()
                && area.chars().all(|c| c.is_ascii_uppercase())
                && number.len() == 3
                && number.chars().all(|c| c.is_ascii_digit())
        })
    };
    let code = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').find(is_code);
    let code = code.unwrap_or_else(|| panic!("no error code in: {message}"));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/errors/{code}.md"));
    assert!(page.exists(), "{code} has no page in docs/errors: {message}");
    code.to_owned()
}

/// The statement is refused with a code, its text contains all `words`, and the session goes on.
async fn refused(client: &Client, sql: &str, words: &[&str]) {
    let error = client.batch_execute(sql).await.err().unwrap_or_else(|| panic!("was not refused: {sql}"));
    assert!(error.as_db_error().is_some(), "{sql} broke the connection: {error:?}");
    let text = explain(error).to_string();
    code_of(&text);
    for word in words {
        assert!(text.to_lowercase().contains(&word.to_lowercase()), "{sql}: {word:?} is not in: {text}");
    }
    assert!(!text.contains("secret-password"), "a password is shown: {text}");
    assert_eq!(value(client, "SELECT 1").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_cannot_be() {
    let world = World::new(PostgresOptions::default());
    let port = world.postgres.port();
    world
        .postgres
        .psql("shop", "CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE weak LOGIN PASSWORD 'secret-password'")
        .unwrap();
    let client = world.mainstem.connect().await.unwrap();
    let (good, weak) = (world.postgres.url("shop"), world.postgres.url_as("weak", "secret-password", "shop"));
    let closed = mainstem_testkit::process::free_port().unwrap();
    let create = |url: &str, with: &str| format!("CREATE SOURCE shop FROM '{url}' {with}");

    refused(&client, &create("nonsense", ""), &[]).await;
    refused(&client, &create("gopher://a/b", ""), &[]).await;
    refused(&client, &create(&format!("postgres://postgres:secret-password@127.0.0.1:{closed}/shop"), ""), &["127.0.0.1"]).await;
    refused(&client, &create("postgres://postgres:secret-password@no-such-host.invalid/shop", ""), &["no-such-host"]).await;
    refused(&client, &create(&format!("postgres://postgres:secret-password@127.0.0.1:{port}/shop"), ""), &["password"]).await;
    refused(&client, &create(&format!("postgres://postgres:secret@127.0.0.1:{port}/absent"), ""), &["absent"]).await;
    refused(&client, &create(&weak, ""), &["replication"]).await;
    refused(&client, &create(&good, "WITH (tables = 'absent.*')"), &["absent"]).await;
    refused(&client, &create(&good, "WITH (tabels = 'public.*')"), &["tables"]).await;
    refused(&client, &create(&good, "WITH (tables = '')"), &["empty", "*.*"]).await;
    refused(&client, "CREATE SOURCE mainstem FROM 'postgres://a@b/c'", &["mainstem"]).await;
    assert_eq!(value(&client, "SELECT count(*) FROM mainstem.sources").await.as_deref(), Some("0"));

    client.batch_execute(&create(&good, "")).await.map_err(explain).unwrap();
    refused(&client, &create(&good, ""), &["shop"]).await;
    client.batch_execute(&create(&good, "").replace("SOURCE", "SOURCE IF NOT EXISTS")).await.map_err(explain).unwrap();
    refused(&client, "DROP SOURCE shop", &["cascade"]).await;
    refused(&client, "WAIT FOR SOURCE absent", &["absent"]).await;
    refused(&client, "RESYNC SOURCE shop TABLE public.absent", &["absent"]).await;
    // Nothing shows the password: neither here nor in the log.
    let shown = value(&client, "SHOW CREATE SOURCE shop").await.unwrap_or_default();
    assert!(!shown.contains("postgres:secret@"), "{shown}");
    assert!(!world.mainstem.log().contains("secret-password"));
    assert_eq!(world.compare().await.tables, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_level_and_check() {
    let postgres = Postgres::start(PostgresOptions::default().set("wal_level", "replica")).unwrap();
    postgres.psql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let client = mainstem.connect().await.unwrap();
    refused(&client, &format!("CREATE SOURCE shop FROM '{}'", postgres.url("postgres")), &["wal_level"]).await;
    let output = mainstem.command("check").arg(postgres.url("postgres")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("wal_level") && text.to_uppercase().contains("ALTER SYSTEM"), "{text}");
    code_of(&text);
    let good = Postgres::start_default().unwrap();
    good.psql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let output = mainstem.command("check").arg(good.url("postgres")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The script that the check prints is all that it then still asks for.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_check_asks_for_is_enough() {
    let postgres = Postgres::start_default().unwrap();
    postgres.create_database("app").unwrap();
    let tables =
        "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE visits (page text); CREATE ROLE reader LOGIN PASSWORD 'pw'";
    postgres.psql("app", tables).unwrap();
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let url = postgres.url_as("reader", "pw", "app");
    let check = |arguments: &[&str]| {
        let output = mainstem.command("check").arg(&url).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, text) = check(&["--name", "shop"]);
    assert_eq!(code, Some(1), "{text}");
    let script: String = text.lines().skip_while(|line| !line.starts_with("-- Run as")).map(|line| format!("{line}\n")).collect();
    let (script, then) = script.split_once("-- Then: ").expect("a script");
    assert!(then.contains("'mainstem_shop, mainstem_shop_append'"), "{then}");
    postgres.psql("app", script).unwrap();
    let publications = "publication=mainstem_shop, mainstem_shop_append";
    assert_eq!(check(&["--name", "shop", "--with", publications]).0, Some(0), "{}", check(&["--with", publications]).1);
    for (arguments, word) in
        [(["--with", "publication"], "OPTION=VALUE"), (["--with", "tabels=x"], "tables"), (["--name", "A b"], "a-z")]
    {
        let (code, text) = check(&arguments);
        assert!(code == Some(1) && text.contains(word), "{arguments:?}: {text}");
    }
}

/// Starts a second server and returns what it said when it ended with a failure.
fn refused_start(options: MainstemOptions) -> String {
    let mut mainstem = Mainstem::prepare(options).unwrap();
    let text = mainstem.start_again().unwrap_err().to_string();
    assert!(text.contains("ended before it was ready"), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_that_cannot_be() {
    let running = Mainstem::start(MainstemOptions::default()).unwrap();
    let check = |options: MainstemOptions, words: &[&str]| {
        let text = refused_start(options);
        code_of(&text);
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
    };
    let config = |text: &str| MainstemOptions { config: Some(text.to_owned()), ..Default::default() };
    check(config("pg_listne = \"127.0.0.1:1\"\n"), &["pg_listne", "pg_listen"]);
    check(config("pg_listen = 7\n"), &["pg_listen"]);
    check(config("this is not toml"), &["mainstem.toml"]);
    check(MainstemOptions::default().arg("--source").arg("nonsense"), &[]);
    let data = running.data_directory().display().to_string();
    let second = Mainstem::prepare(MainstemOptions::default()).unwrap();
    // Later flags would be refused as given twice: this one starts by hand.
    let output = in_use(&second, &data);
    code_of(&output);
    assert!(output.contains(&data), "{output}");
    let port = running.pg_port().to_string();
    let mut taken = std::process::Command::new(mainstem_testkit::mainstem::binary().unwrap());
    let directory = tempfile::tempdir().unwrap();
    taken.args(["start", "--http-listen", "off", "--pg-listen", &format!("127.0.0.1:{port}"), "--data"]).arg(directory.path());
    let output = failing_output(&mut taken);
    code_of(&output);
    assert!(output.contains(&port), "{output}");
    // Written by a version that is to come.
    let mut newer = Mainstem::start(MainstemOptions::default()).unwrap();
    newer.stop().unwrap();
    std::fs::write(newer.data_directory().join("VERSION"), "999\n").unwrap();
    let text = newer.start_again().unwrap_err().to_string();
    assert!(text.contains("999"), "{text}");
    code_of(&text);
    assert_eq!(running.get("/healthz").unwrap().0, 200);
}

fn in_use(second: &Mainstem, data: &str) -> String {
    let mut command = std::process::Command::new(mainstem_testkit::mainstem::binary().unwrap());
    let listen = |port: u16| format!("127.0.0.1:{port}");
    command.args([
        "start",
        "--data",
        data,
        "--pg-listen",
        &listen(second.pg_port()),
        "--http-listen",
        &listen(second.http_port()),
    ]);
    failing_output(&mut command)
}

/// Output of a program that has to end by itself with a failure within ten seconds.
fn failing_output(command: &mut std::process::Command) -> String {
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    for _ in 0..200 {
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(!status.success(), "{text}");
            return text;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    panic!("did not end: {command:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_errors_have_state_and_place() {
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let client = mainstem.connect().await.unwrap();
    let check = async |sql: &str, state: &str, position: Option<u32>| {
        let error = client.simple_query(sql).await.err().unwrap_or_else(|| panic!("no error: {sql}"));
        let db = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}")).clone();
        assert_eq!(db.code().code(), state, "{sql}: {db:?}");
        if let Some(position) = position {
            assert_eq!(db.position(), Some(&tokio_postgres::error::ErrorPosition::Original(position)), "{sql}: {db:?}");
        }
        assert_eq!(value(&client, "SELECT 1").await.as_deref(), Some("1"));
    };
    check("SELEC 1", "42601", Some(1)).await;
    check("SELECT 1 +", "42601", None).await;
    check("SELECT * FROM absent", "42P01", None).await;
    check("SELECT absent FROM mainstem.sources", "42703", None).await;
    check("SELECT absent(1)", "42883", None).await;
    check("SELECT 1/0", "22012", None).await;
    check("CREATE SOURCE", "42601", None).await;
    check("SELECT 'open", "42601", None).await;
    // Nobody writes to live tables.
    assert!(client.simple_query("INSERT INTO mainstem.sources VALUES (1)").await.is_err());
    let mut config = mainstem.config();
    let state = |e: mainstem_testkit::Failure| {
        e.downcast_ref::<tokio_postgres::Error>()
            .and_then(|e| e.code())
            .map(|c| c.code().to_owned())
            .unwrap_or_else(|| e.to_string())
    };
    let wrong = mainstem_testkit::postgres::connect(config.clone().password("wrong")).await;
    assert_eq!(wrong.err().map(state).as_deref(), Some("28P01"));
    let absent = mainstem_testkit::postgres::connect(config.dbname("absent")).await;
    assert_eq!(absent.err().map(state).as_deref(), Some("3D000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_broken_clients() {
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let client = mainstem.connect().await.unwrap();
    let garbage: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        // A length of two gigabytes.
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        // Protocol 3.0, then nothing more.
        &[0, 0, 0, 8, 0, 3, 0, 0],
        // A good start packet followed by noise instead of a password.
        b"\0\0\0\x1d\0\x03\0\0user\0admin\0database\0m\0\0\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad",
        b"",
    ];
    for bytes in garbage {
        for port in [mainstem.pg_port(), mainstem.http_port()] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.read(&mut [0; 1024]);
        }
        assert_eq!(value(&client, "SELECT 1").await.as_deref(), Some("1"));
    }
    // Cancelled in the middle: 57014, and the session goes on.
    let cancel = client.cancel_token();
    let long = "SELECT count(*) FROM generate_series(1, 100000) a(x), generate_series(1, 100000) b(y) WHERE (a.x + b.y) % 7 = 3";
    let stopper = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cancel.cancel_query(tokio_postgres::NoTls).await
    });
    let error = tokio::time::timeout(Duration::from_secs(30), client.simple_query(long)).await.unwrap().unwrap_err();
    stopper.await.unwrap().unwrap();
    assert_eq!(error.code().map(|c| c.code()), Some("57014"), "{error:?}");
    assert_eq!(value(&client, "SELECT 1").await.as_deref(), Some("1"));
    // A client that goes away in the middle of a result.
    for _ in 0..5 {
        let other = mainstem.connect().await.unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(100), other.simple_query(long)).await;
        drop(other);
    }
    assert_eq!(value(&client, "SELECT 1").await.as_deref(), Some("1"));
    assert_eq!(mainstem.get("/healthz").unwrap().0, 200);
}
