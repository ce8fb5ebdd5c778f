//! Ways to a server: certificates as libpq judges them, what hosts print into URLs, servers that do not answer, tables that go meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests
#![allow(clippy::disallowed_methods)] // tests run on the real machine

mod replica;

use mainstem_connector::{Finding, Severity};
use mainstem_testkit::{Postgres, PostgresOptions};
use mainstem_types::ErrorKind;
use replica::{begin, open};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs a shell script in a directory.
fn shell(directory: &Path, script: &str) {
    let done = Command::new("sh").current_dir(directory).args(["-ec", script]).output().unwrap();
    assert!(done.status.success(), "{script}:\n{}", String::from_utf8_lossy(&done.stderr));
}

/// Makes a root, another root, and what `server` says, in `made`; then serves that.
fn serve(postgres: &Postgres, server: &str) {
    let directory = postgres.ca_file().parent().unwrap().join("made");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    let roots = "for root in root other; do openssl req -new -x509 -days 30 -newkey rsa:2048 -nodes -subj /CN=$root -keyout $root.key \
                 -out $root.crt; done; openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out server.key";
    shell(&directory, &format!("{roots}; {server}"));
    for file in ["server.crt", "server.key"] {
        // Written over, so that owner and mode stay as the server wants them.
        std::fs::write(directory.with_file_name(file), std::fs::read(directory.join(file)).unwrap()).unwrap();
    }
    postgres.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    // The next connection may still be served by what was loaded before: wait until the server shows the new one.
    let shown = |postgres: &Postgres| {
        let script = format!(
            "openssl s_client -starttls postgres -connect 127.0.0.1:{} </dev/null 2>/dev/null | openssl x509",
            postgres.port()
        );
        Command::new("sh").args(["-c", &script]).output().unwrap().stdout
    };
    let wanted = Command::new("openssl").args(["x509", "-in"]).arg(directory.join("server.crt")).output().unwrap().stdout;
    while shown(postgres) != wanted {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Each certificate by each mode, as libpq says it and as we do.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_judged_as_by_libpq() {
    let postgres = Postgres::start(PostgresOptions { tls: true, tls_only: true, ..Default::default() }).unwrap();
    let directory = postgres.ca_file().parent().unwrap().join("made");
    let request = "openssl req -new -key server.key -out server.csr";
    let sign = "openssl x509 -req -in server.csr -CA root.crt -CAkey root.key -CAcreateserial -days 30 -out server.crt";
    let by_root =
        |subject: &str, extensions: &str| format!("{request} -subj {subject}; printf '{extensions}' > ext; {sign} -extfile ext");
    let selfmade = "openssl req -new -x509 -key server.key -days 30 -out server.crt";
    // (how it is made, the trusted file, whether verify-ca and verify-full accept it for `localhost`)
    let cases = [
        (format!("{selfmade} -subj /CN=localhost"), "server.crt", true, true),
        (format!("{selfmade} -subj /CN=localhost"), "root.crt", false, false),
        (format!("{selfmade} -subj /CN=elsewhere"), "server.crt", true, false),
        (format!("{selfmade} -subj /CN=elsewhere -addext subjectAltName=DNS:localhost"), "server.crt", true, true),
        (format!("{selfmade} -subj /CN=localhost -addext subjectAltName=DNS:elsewhere"), "server.crt", true, false),
        // Of version 1, as the server's manual makes it.
        (format!("{request} -subj /CN=localhost; {sign}"), "root.crt", true, true),
        (format!("{request} -subj /CN=localhost; {sign}"), "other.crt", false, false),
        (format!("{request} -subj /CN=localhost; {sign}"), "server.crt", false, false),
        (by_root("/CN=localhost", "basicConstraints=CA:TRUE"), "root.crt", true, true),
        (by_root("/CN=localhost", "extendedKeyUsage=clientAuth"), "root.crt", false, false),
        (by_root("/CN=localhost", "basicConstraints=CA:TRUE\\nextendedKeyUsage=clientAuth"), "root.crt", false, false),
        (by_root("/CN=elsewhere", "subjectAltName=DNS:localhost"), "root.crt", true, true),
        (by_root("/CN=localhost", "subjectAltName=IP:127.0.0.1"), "root.crt", true, true),
        (by_root("/CN=*.localhost", "basicConstraints=CA:FALSE"), "root.crt", true, false),
    ];
    for (made, trusted, chain, full) in cases {
        serve(&postgres, &made);
        let trusted = directory.join(trusted);
        for (mode, accepted) in [("require", chain), ("verify-ca", chain), ("verify-full", full)] {
            let url = format!(
                "postgres://postgres:secret@localhost:{}/postgres?sslmode={mode}&sslrootcert={}",
                postgres.port(),
                trusted.display()
            );
            let psql = postgres.tool("psql", "postgres").args(["-X", "-c", "SELECT 1", &url]).output().unwrap();
            let case = format!("{mode} with {} and {made}", trusted.display());
            assert_eq!(psql.status.success(), accepted, "libpq, {case}: {}", String::from_utf8_lossy(&psql.stderr));
            let got = open(&url, &[]).head().await;
            assert_eq!(got.as_ref().err().map(|e| e.code().id), (!accepted).then_some("PG-007"), "{case}: {got:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_ours_is_shown_to_who_asks() {
    let postgres = Postgres::start(PostgresOptions { tls: true, tls_only: true, ..Default::default() }).unwrap();
    serve(
        &postgres,
        "openssl req -new -x509 -key server.key -days 30 -subj /CN=localhost -out server.crt; \
        openssl req -new -newkey rsa:2048 -nodes -keyout client.key -subj /CN=postgres -out client.csr; \
        openssl x509 -req -in client.csr -CA root.crt -CAkey root.key -CAcreateserial -days 30 -out client.crt",
    );
    let directory = postgres.ca_file().parent().unwrap().join("made");
    std::fs::write(postgres.ca_file(), std::fs::read(directory.join("root.crt")).unwrap()).unwrap();
    let hba = postgres.data_directory().join("pg_hba.conf");
    std::fs::write(&hba, "local all all trust\nhostssl all all all cert\nhostssl replication all all cert\n").unwrap();
    postgres.psql("postgres", &format!("ALTER SYSTEM SET ssl_ca_file = '{}'", postgres.ca_file().display())).unwrap();
    postgres.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    let url = format!("postgres://postgres@localhost:{}/postgres?sslmode=require", postgres.port());
    let ours = format!("{url}&sslcert={0}/client.crt&sslkey={0}/client.key", directory.display());
    let mut last = None;
    for _ in 0..100 {
        last = open(&ours, &[]).head().await.err();
        if last.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // the server takes its new rules with the next turn of its loop
    }
    assert!(last.is_none(), "{last:?}");
    open(&url, &[]).head().await.expect_err("a login without a certificate");
    let broken = open(&format!("{url}&sslcert={0}/client.crt&sslkey={0}/client.csr", directory.display()), &[]).head().await;
    assert_eq!(broken.unwrap_err().code().id, "PG-007");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hosts_print_into_urls_is_no_obstacle() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("app").unwrap();
    postgres.psql("app", "CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let notes = async |query: &str| -> Vec<String> {
        let findings = open(&format!("{url}?{query}"), &[]).check().await.unwrap();
        assert!(findings.iter().all(|f| f.severity != Severity::Fatal), "{query}: {findings:#?}");
        let ignored = |f: &Finding| f.severity == Severity::Note && f.message.contains("in the URL");
        findings.into_iter().filter(ignored).map(|f| f.message).collect()
    };
    assert_eq!(
        notes("options=-c%20search_path%3Dpublic%20-c%20DateStyle%3DGerman&sslmode=prefer&connect_timeout=5").await,
        [""; 0]
    );
    assert_eq!(notes("target_session_attrs=read-write&gssencmode=prefer&channel_binding=prefer").await, [""; 0]);
    assert_eq!(notes("keepalives=1&keepalives_idle=30&schema=public&pgbouncer=true&connection_limit=1").await.len(), 5);
    // The options of the URL do not reach how values are printed.
    let printed = open(&format!("{url}?options=-c%20DateStyle%3DGerman%20-c%20search_path%3Dpublic"), &[]);
    postgres.psql("app", "CREATE TABLE d (id int PRIMARY KEY, at date); INSERT INTO d VALUES (1, '2024-02-29')").unwrap();
    let (replica, _stream) = begin(&printed).await;
    assert!(replica.rows.values().flatten().any(|row| row.contains(&Some("2024-02-29".into()))), "{:?}", replica.rows);
    let nobody = format!("postgres://postgres:secret@127.0.0.1:1,127.0.0.1:{}/app", postgres.port());
    open(&nobody, &[]).head().await.unwrap();
    let tls = open(&format!("{url}?ssl=true"), &[]).head().await.unwrap_err();
    assert_eq!(tls.code().id, "PG-007");
    let bound = open(&format!("{url}?channel_binding=require"), &[]).head().await.unwrap_err();
    assert_eq!(bound.code().id, "PG-003");
}

/// A process that was stopped keeps its connections and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_left_with_the_statements_to_run() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("app").unwrap();
    postgres.psql("app", "CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let source = open(&url, &[]);
    let (_replica, stream) = begin(&source).await;
    drop(stream);
    let frozen = postgres.freeze();
    let left = tokio::time::timeout(Duration::from_secs(60), source.remove()).await.expect("an answer").unwrap_err();
    assert_eq!(left.kind(), ErrorKind::Retry);
    let hint = left.hint_text().unwrap_or_default();
    assert!(hint.contains("pg_drop_replication_slot") && hint.contains("DROP PUBLICATION"), "{hint}");
    drop(frozen);
    source.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_come_and_go_hold_nothing_up() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("app").unwrap();
    postgres.psql("app", "CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let client = postgres.connect("app").await.unwrap();
    let coming_and_going = tokio::spawn(async move {
        for n in 0.. {
            let sql = format!("CREATE TABLE brief{n} (id int PRIMARY KEY, v text); DROP TABLE IF EXISTS brief{}", n - 3);
            client.batch_execute(&sql).await.unwrap();
        }
    });
    let source = open(&url, &[]);
    for round in 0..30 {
        let fatal: BTreeSet<_> =
            source.check().await.unwrap().into_iter().filter(|f| f.severity == Severity::Fatal).map(|f| f.message).collect();
        assert_eq!(fatal, BTreeSet::new(), "round {round}");
        source.prepare(None).await.unwrap();
        source.discover().await.unwrap();
    }
    coming_and_going.abort();
}
