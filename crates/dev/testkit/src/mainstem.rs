//! The real server as a process: started, queried, killed, started again on the same data.

use crate::Result;
use crate::postgres::connect;
use crate::process::{Watchdog, free_port, send, wait_for};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Config};

pub const ADMIN_PASSWORD: &str = "admin-secret";

#[derive(Clone, Debug, Default)]
pub struct MainstemOptions {
    /// None: `MAINSTEM_BIN`, else `mainstem` beside the running executable.
    pub binary: Option<PathBuf>,
    /// Further flags after `start --data ... --pg-listen ... --http-listen ...`.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Text of a `mainstem.toml`, given with `--config`.
    pub config: Option<String>,
}

impl MainstemOptions {
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Flushes hot rows to files every so many milliseconds, so that a short test meets files too.
    #[must_use]
    pub fn flush_every_ms(mut self, interval: u64) -> Self {
        self.config = Some(format!("[warehouse]\nflush_interval_ms = {interval}\n"));
        self
    }

    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

/// A server with a data directory of its own. Dropping it kills it and removes the directory.
pub struct Mainstem {
    binary: PathBuf,
    directory: PathBuf,
    pg_port: u16,
    http_port: u16,
    options: MainstemOptions,
    server: Option<Child>,
    _watchdog: Watchdog,
}

impl Mainstem {
    /// Starts on an empty data directory and waits until it is ready.
    pub fn start(options: MainstemOptions) -> Result<Self> {
        let mut mainstem = Self::prepare(options)?;
        mainstem.start_again()?;
        Ok(mainstem)
    }

    /// Everything but the start.
    pub fn prepare(options: MainstemOptions) -> Result<Self> {
        let binary = match &options.binary {
            Some(path) => path.clone(),
            None => binary()?,
        };
        let directory = tempfile::Builder::new().prefix("mainstem-data-").tempdir()?.keep();
        let watchdog = Watchdog::start(&directory, "pid", "KILL")?;
        if let Some(config) = &options.config {
            fs::write(directory.join("mainstem.toml"), config)?;
        }
        Ok(Self { binary, directory, pg_port: free_port()?, http_port: free_port()?, options, server: None, _watchdog: watchdog })
    }

    pub fn pg_port(&self) -> u16 {
        self.pg_port
    }

    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// For psql and drivers.
    pub fn url(&self) -> String {
        format!("postgresql://admin:{ADMIN_PASSWORD}@127.0.0.1:{}/main", self.pg_port)
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.pg_port).user("admin").password(ADMIN_PASSWORD).dbname("main");
        config.connect_timeout(Duration::from_secs(5));
        config
    }

    /// A session as `admin`.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.config()).await
    }

    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// All that it wrote to standard output and standard error, over all starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Replaces or (None) removes an environment variable from the next start on.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.options.environment.retain(|(n, _)| n != name);
        if let Some(value) = value {
            self.options.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Starts the process without waiting until it is ready.
    pub fn launch(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("log"))?;
        let server = self.command("start").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let server = server.map_err(|e| format!("cannot run {}: {e}", self.binary.display()))?;
        fs::write(self.directory.join("pid"), format!("{}\n", server.id()))?;
        self.server = Some(server);
        Ok(())
    }

    /// `mainstem <subcommand>` with this server's data directory, ports and environment (for `start`), not yet spawned.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(subcommand).env("MAINSTEM_ADMIN_PASSWORD", ADMIN_PASSWORD).current_dir(&self.directory);
        // Ours (a demo, a bench), no option of the server.
        command.env_remove("MAINSTEM_PROFILE");
        if subcommand == "start" {
            command.arg("--data").arg(self.data_directory());
            command.args(["--pg-listen", &format!("127.0.0.1:{}", self.pg_port)]);
            command.args(["--http-listen", &format!("127.0.0.1:{}", self.http_port)]);
            if self.options.config.is_some() {
                command.arg("--config").arg(self.directory.join("mainstem.toml"));
            }
            command.args(&self.options.arguments);
        }
        for (name, value) in &self.options.environment {
            command.env(name, value);
        }
        command
    }

    /// Starts on the same data and waits until it is ready.
    pub fn start_again(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready(Duration::from_secs(60))
    }

    /// Waits for `/readyz`; fails when the process ends meanwhile.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if self.get("/readyz").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                return Err(format!("mainstem ended before it was ready ({status}); its log:\n{}", self.log_tail()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("mainstem is not ready after {limit:?}; its log:\n{}", self.log_tail()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.ended(), Ok(None)) && self.server.is_some()
    }

    /// How it ended, when it ended by itself.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(server) = &mut self.server else { return Ok(None) };
        let status = server.try_wait()?;
        if status.is_some() {
            self.server = None;
        }
        Ok(status)
    }

    /// Waits until it ends by itself (a failpoint); fails when it does not.
    pub async fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("mainstem did not end within {limit:?}; its log:\n{}", self.log_tail()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// SIGTERM; fails when it does not end cleanly within 30 s.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        send(server.id(), rustix::process::Signal::TERM);
        wait_for(&mut server, Duration::from_secs(30))?;
        let status = server.wait()?;
        if status.success() { Ok(()) } else { Err(format!("stop ended with {status}; its log:\n{}", self.log_tail()).into()) }
    }

    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Status and body of an HTTP GET.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.http_port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let (head, body) = text.split_once("\r\n\r\n").ok_or("an answer without a header")?;
        let status = head.split_whitespace().nth(1).ok_or("an answer without a status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// Sum of a metric over its labels; None when it is not exported.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let (_, body) = self.get("/metrics")?;
        let values = body.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let labels_end = if rest.starts_with('{') { rest.find('}')? + 1 } else { 0 };
            rest[labels_end..].strip_prefix(' ')?.split_whitespace().next()?.parse::<f64>().ok()
        });
        Ok(values.fold(None, |sum, v| Some(sum.unwrap_or(0.0) + v)))
    }

    /// CREATE SOURCE and WAIT: returns when all that the source has committed is visible.
    pub async fn capture(&self, name: &str, url: &str) -> Result<Client> {
        let client = self.connect().await?;
        client.batch_execute(&format!("CREATE SOURCE {name} FROM '{url}'")).await.map_err(explain)?;
        wait_for_source(&client, name, Duration::from_secs(120)).await?;
        Ok(client)
    }

    /// The last lines of the log, for failure messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Mainstem {
    fn drop(&mut self) {
        let _ = self.kill();
        if std::thread::panicking() {
            eprintln!("--- mainstem's log, last lines ---\n{}", self.log_tail());
        }
    }
}

/// `WAIT FOR SOURCE`, once.
pub async fn wait_for_source(client: &Client, name: &str, timeout: Duration) -> Result<()> {
    let statement = format!("WAIT FOR SOURCE {name} TIMEOUT '{}s'", timeout.as_secs());
    client.batch_execute(&statement).await.map_err(explain)
}

/// A client error with the server's message, code and hint in it.
pub fn explain(error: tokio_postgres::Error) -> crate::Failure {
    match error.as_db_error() {
        Some(db) => {
            let hint = db.hint().map(|h| format!("; hint: {h}")).unwrap_or_default();
            let detail = db.detail().map(|d| format!("; {d}")).unwrap_or_default();
            format!("{} ({}){detail}{hint}", db.message(), db.code().code()).into()
        }
        None => error.into(),
    }
}

/// The server's program: `MAINSTEM_BIN`, else beside the running executable or one level up (tests run from `deps/`).
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MAINSTEM_BIN") {
        return Ok(PathBuf::from(path));
    }
    let executable = std::env::current_exe()?;
    let places = executable.ancestors().skip(1).take(2).map(|d: &Path| d.join("mainstem"));
    places
        .into_iter()
        .find(|p| p.is_file())
        .ok_or_else(|| "no `mainstem` program found: build it (cargo build -p mainstem) or set MAINSTEM_BIN".into())
}
