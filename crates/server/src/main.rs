//! The mainstem binary: command line, start, stop. No logic of its own.

mod codes;
mod config;
mod data_dir;
mod disk;
mod facts;
mod logging;
mod offline;
mod registry;
mod status;
mod users;
mod wiring;

use clap::{Args, Parser, Subcommand};
use config::{Config, Layers, Loaded};
use mainstem_env::Env;
use mainstem_types::control::{Declaration, SourceDeclaration};
use mainstem_types::{Error, Principal, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wiring::Server;

#[derive(Parser)]
#[command(name = "mainstem", version, about = "Production tables in SQL, live.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server.
    Start(Start),
    /// Look at a database before capturing it: what is missing, and the statement that mends it.
    Check {
        /// postgres://user:password@host:port/database; or the name of an environment variable that holds it, as `env:NAME`.
        url: String,
        /// The name that the source will have; its slot and publications are named after it.
        #[arg(long, default_value = "check")]
        name: String,
        /// An option that the source will have, as in WITH: `--with tables=public.*`. May be given several times.
        #[arg(long = "with", value_name = "OPTION=VALUE")]
        options: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Look into the log of a stopped server.
    Topic {
        #[command(subcommand)]
        command: Topic,
        #[command(flatten)]
        place: Place,
    },
    /// Read everything in a stopped server's data directory and compare checksums.
    Verify {
        #[command(flatten)]
        place: Place,
    },
    /// Show sources, lag and tables of a running server, as its HTTP endpoint tells them (/status).
    Status {
        #[command(flatten)]
        place: Place,
        /// Its HTTP address, HOST:PORT [default: `http_listen` of the configuration].
        #[arg(long, value_name = "ADDRESS")]
        http_listen: Option<String>,
    },
    /// Users of a stopped server.
    User {
        #[command(subcommand)]
        command: User,
        #[command(flatten)]
        place: Place,
    },
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum Topic {
    /// All topics: their partitions, offsets and sizes.
    List,
    /// One topic: its partitions and its cleanup policy.
    Describe { topic: String },
    /// Its records, one per line: partition, offset, time in milliseconds, key, value.
    Read { topic: String },
}

#[derive(Subcommand)]
enum User {
    /// Set a password, also a lost one; makes the user when there is none. Reads it from MAINSTEM_PASSWORD, or from standard input.
    SetPassword { name: String },
}

#[derive(Args)]
struct Place {
    /// Data directory; made when missing [default: data].
    #[arg(long, global = true, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Configuration file [default: mainstem.toml in the current directory, when there is one].
    #[arg(long, global = true, value_name = "FILE", env = "MAINSTEM_CONFIG")]
    config: Option<PathBuf>,
    /// Any other option, e.g. `--set warehouse.flush_interval_ms=10000`; config/default.toml shows all with their defaults. May be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
struct Start {
    #[command(flatten)]
    place: Place,
    /// A source to create when it is not there: NAME=URL, or NAME alone to read the URL from MAINSTEM_SOURCE_<NAME> (a URL on the
    /// command line shows in `ps`). May be repeated [default: none].
    #[arg(long = "source", value_name = "NAME[=URL]")]
    sources: Vec<String>,
    /// Where PostgreSQL clients connect, HOST:PORT; a bare PORT is one of 127.0.0.1, and "off" closes it [default: 127.0.0.1:7432].
    #[arg(long, value_name = "ADDRESS")]
    pg_listen: Option<String>,
    /// Where HTTP is served (/, /status, /readyz, /healthz, /metrics), in the same form [default: 127.0.0.1:7080].
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error[{}]: {}", error.code().id, error.message());
            let chain = error.chain();
            if let Some((_, causes)) = chain.split_once(error.message()).filter(|(_, causes)| !causes.is_empty()) {
                eprintln!("cause{causes}");
            }
            if let Some(hint) = error.hint_text() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    mainstem_env::raise_open_files();
    let env = Env::real();
    match command {
        Command::Version => println!("mainstem {}", env!("CARGO_PKG_VERSION")),
        Command::Start(start) => serve(env, start).await?,
        Command::Check { url, name, options, place } => {
            let config = configure(&env, &place, Vec::new())?.config;
            return offline::check(env, &config, &url, &name, &options).await;
        }
        Command::Topic { command, place } => {
            let config = configure(&env, &place, Vec::new())?.config;
            match command {
                Topic::List => offline::list(env, &config).await?,
                Topic::Describe { topic } => offline::describe(env, &config, &topic).await?,
                Topic::Read { topic } => offline::read(env, &config, &topic).await?,
            }
        }
        Command::User { command: User::SetPassword { name }, place } => {
            let config = configure(&env, &place, Vec::new())?.config;
            users::set_password(env, &config, &name).await?;
        }
        Command::Status { place, http_listen } => {
            let flags = http_listen.map(|listen| ("http_listen".to_string(), listen)).into_iter().collect();
            let config = configure(&env, &place, flags)?.config;
            return status::show(&config.http_listen).await;
        }
        Command::Verify { place } => {
            let config = configure(&env, &place, Vec::new())?.config;
            return offline::verify(env, &config).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn configure(env: &Env, place: &Place, mut flags: Vec<(String, String)>) -> Result<Loaded> {
    let bad_set = |text: &str| Error::fix(codes::BAD_VALUE, format!("--set takes KEY=VALUE, not `{text}`"));
    for text in &place.set {
        let (key, value) = text.split_once('=').ok_or_else(|| bad_set(text))?;
        flags.push((key.to_string(), value.to_string()));
    }
    flags.extend(place.data.iter().map(|data| ("data".to_string(), data.display().to_string())));
    let usual = Path::new("mainstem.toml");
    let file = place.config.as_deref().or_else(|| env.disk.exists(usual).then_some(usual));
    let file = file.map(|path| read_file(env, path)).transpose()?;
    let environment = std::env::vars().filter(|(name, _)| name.starts_with("MAINSTEM_")).collect();
    Config::load(Layers { file, environment, flags })
}

fn read_file(env: &Env, path: &Path) -> Result<(String, String)> {
    let name = path.display().to_string();
    let bytes = env
        .disk
        .read(path)
        .map_err(|e| Error::fix(codes::FILE_UNREADABLE, format!("cannot read the configuration file {name}")).caused_by(e))?;
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}

async fn serve(env: Env, start: Start) -> Result<()> {
    let mut flags = Vec::new();
    flags.extend(start.pg_listen.map(|listen| ("pg_listen".to_string(), listen)));
    flags.extend(start.http_listen.map(|listen| ("http_listen".to_string(), listen)));
    let loaded = configure(&env, &start.place, flags)?;
    logging::start(&loaded.config);
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let wanted = start.sources.iter().map(|text| wanted_source(text)).collect::<Result<Vec<_>>>()?;
    let data = loaded.config.data.display().to_string();
    let variable = |name: &str| std::env::var(name).ok();
    let server = Server::start(env, loaded, variable("MAINSTEM_SECRET_KEY")).await?;
    for declaration in wanted {
        let outcome = server.control.execute(&Principal::admin(), declaration).await?;
        outcome.notices.iter().for_each(|notice| tracing::info!("{notice}"));
    }
    let made_password = server.open(variable("MAINSTEM_ADMIN_PASSWORD")).await?;
    banner(&server, &data, made_password);
    stop_signal(&server).await;
    tracing::info!("stopping");
    server.stop().await
}

fn wanted_source(text: &str) -> Result<Declaration> {
    let (name, url) = match text.split_once('=') {
        Some((name, url)) => (name.to_string(), url.to_string()),
        None => {
            let variable = format!("MAINSTEM_SOURCE_{}", text.to_uppercase());
            let missing = || {
                Error::fix(codes::NO_SOURCE_URL, format!("--source {text} has no URL"))
                    .hint(format!("Write --source {text}=postgres://..., or set {variable}."))
            };
            (text.to_string(), std::env::var(&variable).map_err(|_| missing())?)
        }
    };
    Ok(Declaration::Source(SourceDeclaration::Create { name, if_not_exists: true, url, options: BTreeMap::new() }))
}

fn banner(server: &Server, data: &str, made_password: Option<String>) {
    println!("mainstem {} is ready (data: {data})", env!("CARGO_PKG_VERSION"));
    if let Some(address) = server.pg {
        println!("  SQL    psql postgresql://admin@{address}/main");
    }
    if let Some(address) = server.http {
        println!("  HTTP   http://{address}/readyz  http://{address}/metrics");
    }
    if let Some(password) = made_password {
        println!("  admin's password, shown only now: {password}");
        println!(
            "         another one: ALTER USER admin PASSWORD '...'; if it is lost, stop the server: mainstem user set-password admin"
        );
    }
    if !server.has_sources() {
        println!("next: CREATE SOURCE shop FROM 'postgres://user:password@host:5432/database';");
    }
}

/// SIGTERM or SIGINT. SIGHUP looks at the TLS files at once, and says what came of it.
async fn stop_signal(server: &Server) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => match server.tls.as_ref().map(|tls| tls.reload()) {
                Some(Err(error)) => tracing::warn!(error = error.chain(), "the new TLS certificate is not taken, the old one stays"),
                _ => tracing::info!("SIGHUP: the TLS files were looked at; other options need a restart"),
            },
        }
    }
}
