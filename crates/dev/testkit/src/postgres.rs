//! A throw-away PostgreSQL server: our sources are tested against the real thing.
//!
//! Calls block (a start takes about half a second) except those that return a client. A watchdog process ends the server and
//! removes its directory when the test process goes away, however it goes.

use crate::Result;
use crate::process::{Watchdog, children_of, free_port, run, send, wait_for};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The superuser of every fixture and its password.
pub const USER: &str = "postgres";
pub const PASSWORD: &str = "secret";

/// How `pg_hba.conf` lets clients in over TCP. The Unix socket is always open (`trust`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    Trust,
    Password,
    Md5,
    #[default]
    Scram,
}

impl Auth {
    fn method(self) -> &'static str {
        match self {
            Auth::Trust => "trust",
            Auth::Password => "password",
            Auth::Md5 => "md5",
            Auth::Scram => "scram-sha-256",
        }
    }
}

/// What the server is started with. The default is a logical-replication source that does not fsync.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// The `bin` directory of the version to run; None = the newest (see [`installed`]), or what `MAINSTEM_TEST_POSTGRES` names.
    pub binaries: Option<PathBuf>,
    /// `postgresql.conf` lines; a later one wins over ours.
    pub settings: Vec<(String, String)>,
    pub auth: Auth,
    /// Serve TLS with a certificate for `tls_names`, signed by a CA of its own (`Postgres::ca_file`).
    pub tls: bool,
    /// With `tls`: refuse plain connections (`hostssl` lines only).
    pub tls_only: bool,
    /// Subject alternative names; None = `IP:127.0.0.1,DNS:localhost`.
    pub tls_names: Option<String>,
    /// Run with fsync on.
    pub durable: bool,
}

impl PostgresOptions {
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// How `stop` ends the server, as in `pg_ctl stop -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to leave.
    Smart,
    /// Rolls back, checkpoints, leaves.
    Fast,
    /// Leaves at once; the next start recovers.
    Immediate,
}

/// A running server. Dropping it stops it and removes its directory.
pub struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
    tls: bool,
    account: Option<Account>,
    server: Option<Child>,
    watchdog: Option<Watchdog>,
}

/// A server that stands still.
pub struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| send(*pid, rustix::process::Signal::CONT));
    }
}

/// The system account that runs the server when we are root, which Postgres refuses.
#[derive(Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Starts a server of its own on a free port of 127.0.0.1.
    pub fn start(options: PostgresOptions) -> Result<Self> {
        let binaries = options.binaries.clone().map_or_else(binaries, Ok)?;
        let account = account()?;
        let template = template(&binaries, account)?;
        let directory = tempfile::Builder::new().prefix("mainstem-pg-").tempdir()?.keep();
        let mut postgres = Self { binaries, directory, port: 0, tls: options.tls, account, server: None, watchdog: None };
        postgres.watchdog = Some(Watchdog::start(&postgres.directory, "data/postmaster.pid", "QUIT")?);
        give(&postgres.directory, account)?;
        let data = postgres.data_directory();
        run(postgres.command("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(&data))?;
        if options.tls {
            postgres.make_certificates(options.tls_names.as_deref().unwrap_or("IP:127.0.0.1,DNS:localhost"))?;
        }
        postgres.write_hba(&options)?;
        let mut attempts = 0;
        loop {
            postgres.port = free_port()?;
            postgres.write_settings(&options)?;
            match postgres.launch() {
                Ok(()) => break,
                Err(error) if attempts == 3 => return Err(error),
                Err(_) => attempts += 1,
            }
        }
        if options.auth == Auth::Md5 {
            postgres.psql("postgres", "SET password_encryption = 'md5'; ALTER USER postgres PASSWORD 'secret'")?;
        }
        Ok(postgres)
    }

    /// With nothing special.
    pub fn start_default() -> Result<Self> {
        Self::start(PostgresOptions::default())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `postgres://postgres:secret@127.0.0.1:<port>/<database>`, with `sslmode=require` when the server speaks TLS.
    pub fn url(&self, database: &str) -> String {
        let mode = if self.tls { "?sslmode=require" } else { "" };
        self.url_as(USER, PASSWORD, database) + mode
    }

    /// The same address for another role; no parameters.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The certificate of the authority that signed the server's (with `tls`).
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Where the Unix socket is: `host=<this>` in a connection string; needs no password.
    pub fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("postgres.log")).unwrap_or_default()
    }

    /// Process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// A program of this server's version (`psql`, `pgbench`, `pg_recvlogical`, ...) with its connection in the environment.
    pub fn tool(&self, name: &str, database: &str) -> Command {
        let own = self.binaries.join(name);
        // Some distributions of the server come without its clients: any version's will do.
        let mut command = if own.exists() { Command::new(own) } else { Command::new(name) };
        command
            .env("PGHOST", &self.directory)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", USER)
            .env("PGDATABASE", database)
            .env("PGCLIENTENCODING", "UTF8")
            .stdin(Stdio::null());
        command
    }

    /// A client over the Unix socket (no password, no TLS). Its connection task ends with it.
    pub async fn connect(&self, database: &str) -> Result<tokio_postgres::Client> {
        connect(&self.config(database)).await
    }

    /// What `connect` uses, for workers that connect again by themselves.
    pub fn config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.directory).port(self.port).user(USER).dbname(database);
        config
    }

    /// Makes a database and returns its URL.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.psql("postgres", &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")))?;
        Ok(self.url(name))
    }

    /// Runs SQL text with psql, stopping at the first error; returns rows unaligned, one per line.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        run(self.tool("psql", database).args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    /// Runs a script file with psql, stopping at the first error.
    pub fn execute_script(&self, database: &str, script: &Path) -> Result<()> {
        run(self.tool("psql", database).args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"]).arg(script))?;
        Ok(())
    }

    /// Ends the server, keeping its data. Nothing happens when it is not running.
    pub fn stop(&mut self, mode: StopMode) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let signal = match mode {
            StopMode::Smart => rustix::process::Signal::TERM,
            StopMode::Fast => rustix::process::Signal::INT,
            StopMode::Immediate => rustix::process::Signal::QUIT,
        };
        send(server.id(), signal);
        wait_for(&mut server, Duration::from_secs(60))
    }

    /// Starts a stopped server again: same data, same port.
    pub fn start_again(&mut self) -> Result<()> {
        if self.server.is_some() { Ok(()) } else { self.launch() }
    }

    /// A clean restart (fast stop).
    pub fn restart(&mut self) -> Result<()> {
        self.stop(StopMode::Fast)?;
        self.start_again()
    }

    /// kill -9 of the server and all its processes: what a power cut leaves when `durable` is set.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let children = children_of(server.id());
        for pid in std::iter::once(server.id()).chain(children) {
            send(pid, rustix::process::Signal::KILL);
        }
        wait_for(&mut server, Duration::from_secs(10))
    }

    /// Stops the server and all its processes in their tracks, until what is returned is dropped: connections stay, nothing answers.
    pub fn freeze(&self) -> Frozen {
        let pids: Vec<u32> = self.pid().into_iter().flat_map(|pid| std::iter::once(pid).chain(children_of(pid))).collect();
        pids.iter().for_each(|pid| send(*pid, rustix::process::Signal::STOP));
        Frozen(pids)
    }

    /// Copies the data of the stopped server aside, as a snapshot of its volume would.
    pub fn save(&self) -> Result<()> {
        self.replace(&self.data_directory(), &self.directory.join("saved"))
    }

    /// Puts the stopped server back to what it was at `save`.
    pub fn go_back(&mut self) -> Result<()> {
        self.replace(&self.directory.join("saved"), &self.data_directory())
    }

    fn replace(&self, from: &Path, to: &Path) -> Result<()> {
        if self.server.is_some() {
            return Err("the server runs: its files would not fit each other".into());
        }
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        run(self.command("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to)).map(drop)
    }

    /// The stopped server's next start recovers as from a backup and ends on a new timeline, as a promoted standby does. It lets nobody in
    /// before: under a hot standby it would be ready, and read-only for a moment.
    pub fn leave_timeline(&self) -> Result<()> {
        let settings = fs::read_to_string(self.data_directory().join("postgresql.auto.conf"))?;
        self.write("data/postgresql.auto.conf", &format!("{settings}restore_command = 'false'\nhot_standby = off\n"))?;
        self.write("data/recovery.signal", "")
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        as_account(Command::new(program), self.account)
    }

    fn write_settings(&self, options: &PostgresOptions) -> Result<()> {
        let durable = if options.durable { "on" } else { "off" };
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nwal_level = logical\n\
             max_replication_slots = 20\nmax_wal_senders = 20\nmax_connections = 100\nfsync = {durable}\n\
             synchronous_commit = on\nfull_page_writes = {durable}\nshared_buffers = 64MB\nmax_wal_size = 4GB\n\
             log_min_messages = warning\nlog_line_prefix = '%m [%p] '\nautovacuum_naptime = 10s\n",
            self.port,
            self.directory.display()
        );
        if options.tls {
            writeln!(
                text,
                "ssl = on\nssl_cert_file = '{0}/server.crt'\nssl_key_file = '{0}/server.key'",
                self.directory.display()
            )?;
        }
        for (name, value) in &options.settings {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        self.write("data/postgresql.auto.conf", &text)
    }

    fn write_hba(&self, options: &PostgresOptions) -> Result<()> {
        let kind = if options.tls_only { "hostssl" } else { "host" };
        let method = options.auth.method();
        let text = format!(
            "local all all trust\nlocal replication all trust\n{kind} all all 127.0.0.1/32 {method}\n\
             {kind} replication all 127.0.0.1/32 {method}\n"
        );
        self.write("data/pg_hba.conf", &text)
    }

    /// Replaces the rules for TCP clients while the server runs.
    pub fn set_hba(&self, lines: &str) -> Result<()> {
        self.write("data/pg_hba.conf", &format!("local all all trust\nlocal replication all trust\n{lines}\n"))?;
        if let Some(pid) = self.pid() {
            send(pid, rustix::process::Signal::HUP);
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        give(&path, self.account)
    }

    fn launch(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("postgres.log"))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut server = self
            .command(self.binaries.join("postgres"))
            .arg("-D")
            .arg(self.data_directory())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        loop {
            if let Some(status) = server.try_wait()? {
                return Err(format!("postgres ended at start ({status}); its log:\n{}", self.log()).into());
            }
            if self.is_ready(server.id()) {
                break;
            }
            if Instant::now() > deadline {
                let _ = server.kill();
                return Err(format!("postgres is not ready after 60 s; its log:\n{}", self.log()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.server = Some(server);
        Ok(())
    }

    /// Line 8 of `postmaster.pid` says so; line 1 must be ours, not a leftover's.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(self.data_directory().join("postmaster.pid")) else { return false };
        let lines: Vec<&str> = text.lines().collect();
        lines.first().is_some_and(|l| l.trim() == pid.to_string()) && lines.get(7).is_some_and(|l| l.trim() == "ready")
    }

    fn make_certificates(&self, names: &str) -> Result<()> {
        let script = format!(
            "set -e; cd '{}'; umask 077
             new() {{ openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }}
             new ca; openssl req -x509 -new -key ca.key -days 3650 -subj '/CN=Mainstem test authority' -out ca.crt
             new server; openssl req -new -key server.key -subj '/CN=mainstem-test' -out server.csr
             printf 'subjectAltName={names}\\nbasicConstraints=CA:FALSE\\n' > server.ext
             openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile server.ext -out server.crt
             chmod 644 ca.crt server.crt",
            self.directory.display()
        );
        run(self.command("sh").args(["-c", &script])).map_err(|e| format!("cannot make certificates with openssl: {e}"))?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.stop(StopMode::Immediate);
        drop(self.watchdog.take());
    }
}

/// Opens a session without TLS; its connection task ends with the client.
pub async fn connect(config: &tokio_postgres::Config) -> Result<tokio_postgres::Client> {
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// The programs of the server in `MAINSTEM_TEST_POSTGRES` (a `bin` directory), else of the newest one installed: Debian's place
/// first, then PATH.
fn binaries() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MAINSTEM_TEST_POSTGRES") {
        return Ok(PathBuf::from(path));
    }
    if let Some((_, path)) = installed().pop() {
        return Ok(path);
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).find(|p| p.join("initdb").exists()).ok_or_else(|| {
        "no PostgreSQL server found: install the package `postgresql` (initdb in /usr/lib/postgresql/*/bin or PATH)".into()
    })
}

/// The majors in Debian's place with their `bin` directories, oldest first.
pub fn installed() -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, path): &(u32, PathBuf)| path.join("initdb").exists())
        .collect();
    found.sort();
    found
}

fn account() -> Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    for name in ["postgres", "nobody"] {
        for line in passwd.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [user, _, uid, gid, ..] = fields[..]
                && user == name
            {
                return Ok(Some(Account { uid: uid.parse()?, gid: gid.parse()? }));
            }
        }
    }
    Err("running as root, and there is neither a `postgres` nor a `nobody` account to run the server".into())
}

fn as_account(mut command: Command, account: Option<Account>) -> Command {
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command.current_dir("/");
    command
}

fn give(path: &Path, account: Option<Account>) -> Result<()> {
    if let Some(account) = account {
        std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))?;
    }
    Ok(())
}

/// A data directory as initdb leaves it, made once per machine and server version, then copied.
fn template(binaries: &Path, account: Option<Account>) -> Result<PathBuf> {
    let version = run(Command::new(binaries.join("postgres")).arg("--version"))?;
    let version: String = version.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let owner = account.map_or_else(|| rustix::process::geteuid().as_raw(), |a| a.uid);
    let place = std::env::temp_dir().join(format!("mainstem-pg-template-{owner}-{}", version.trim_end_matches('-')));
    if place.join("PG_VERSION").exists() {
        return Ok(place);
    }
    let work = tempfile::Builder::new().prefix("mainstem-pg-initdb-").tempdir()?;
    give(work.path(), account)?;
    let password = work.path().join("password");
    fs::write(&password, PASSWORD)?;
    give(&password, account)?;
    let fresh = work.path().join("data");
    let mut initdb = as_account(Command::new(binaries.join("initdb")), account);
    initdb.args(["--no-sync", "-U", USER, "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--pwfile"]);
    run(initdb.arg(&password).arg("-D").arg(&fresh))?;
    // Somebody else may have been first: theirs is as good.
    if let Err(error) = fs::rename(&fresh, &place)
        && !place.join("PG_VERSION").exists()
    {
        return Err(format!("cannot keep the template at {}: {error}", place.display()).into());
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_stops_crashes_and_cleans_up() {
        let mut postgres = Postgres::start(PostgresOptions { durable: true, ..Default::default() }).unwrap();
        let directory = postgres.directory.clone();
        postgres.psql("postgres", "CREATE TABLE t (i int); INSERT INTO t VALUES (1)").unwrap();
        postgres.restart().unwrap();
        postgres.psql("postgres", "INSERT INTO t VALUES (2)").unwrap();
        postgres.kill().unwrap();
        postgres.start_again().unwrap();
        assert_eq!(postgres.psql("postgres", "SELECT string_agg(i::text, ',') FROM t").unwrap().trim(), "1,2");
        assert_eq!(postgres.psql("postgres", "SHOW wal_level").unwrap().trim(), "logical");
        assert!(postgres.psql("postgres", "SELECT 1/0").unwrap_err().to_string().contains("division by zero"));
        postgres.stop(StopMode::Fast).unwrap();
        postgres.save().unwrap();
        postgres.start_again().unwrap();
        assert!(postgres.go_back().is_err(), "under a server that runs");
        postgres.psql("postgres", "INSERT INTO t VALUES (3)").unwrap();
        postgres.stop(StopMode::Fast).unwrap();
        postgres.go_back().unwrap();
        postgres.start_again().unwrap();
        assert_eq!(postgres.psql("postgres", "SELECT string_agg(i::text, ',') FROM t").unwrap().trim(), "1,2");
        drop(postgres);
        assert!(!directory.exists());
    }

    #[test]
    fn lets_in_as_told() {
        let check = |options: PostgresOptions, url: fn(&Postgres) -> String, expected: Result<(), &str>| {
            let postgres = Postgres::start(options).unwrap();
            let outcome =
                run(Command::new(postgres.binaries.join("psql")).args(["-X", "-A", "-t", "-c", "SELECT 1"]).arg(url(&postgres)));
            match expected {
                Ok(()) => assert_eq!(outcome.unwrap().trim(), "1"),
                Err(text) => assert!(outcome.as_ref().is_err_and(|e| e.to_string().contains(text)), "{outcome:?}"),
            }
        };
        let with = |auth| PostgresOptions { auth, ..Default::default() };
        let tls = PostgresOptions { tls: true, tls_only: true, ..Default::default() };
        check(with(Auth::Scram), |p| p.url("postgres"), Ok(()));
        check(with(Auth::Md5), |p| p.url("postgres"), Ok(()));
        check(with(Auth::Password), |p| p.url("postgres"), Ok(()));
        check(with(Auth::Trust), |p| p.url_as("postgres", "wrong", "postgres"), Ok(()));
        check(with(Auth::Scram), |p| p.url_as("postgres", "wrong", "postgres"), Err("password authentication failed"));
        check(tls.clone(), |p| p.url("postgres"), Ok(()));
        check(tls.clone(), |p| p.url_as("postgres", "secret", "postgres") + "?sslmode=disable", Err("no pg_hba.conf entry"));
        let verified = |p: &Postgres| {
            format!("{}?sslmode=verify-full&sslrootcert={}", p.url_as("postgres", "secret", "postgres"), p.ca_file().display())
        };
        check(tls.clone(), verified, Ok(()));
        check(PostgresOptions { tls_names: Some("DNS:elsewhere".into()), ..tls }, verified, Err("does not match host name"));
    }

    #[tokio::test]
    async fn connects_and_runs_scripts() {
        let postgres = Postgres::start_default().unwrap();
        let url = postgres.create_database("shop \"x\"").unwrap();
        assert!(url.starts_with("postgres://postgres:secret@127.0.0.1:"));
        let script = postgres.socket_directory().join("s.sql");
        std::fs::write(&script, "CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 3);").unwrap();
        postgres.execute_script("shop \"x\"", &script).unwrap();
        let client = postgres.connect("shop \"x\"").await.unwrap();
        assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 3);
    }
}
