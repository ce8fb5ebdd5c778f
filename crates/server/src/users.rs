//! Users at the Postgres door, the first `admin`, and `mainstem user` for a stopped server.

use crate::config::Config;
use crate::offline;
use mainstem_env::Env;
use mainstem_eventlog::EventLog;
use mainstem_identity::{Mechanism, Users, Verifier};
use mainstem_pgwire::Credentials;
use mainstem_types::ids::ADMIN;
use mainstem_types::{Error, Result};
use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;

/// The users as the Postgres door asks for them.
pub struct PgUsers(pub Arc<Users>);

impl Credentials for PgUsers {
    fn verifier(&self, user: &str) -> Option<Verifier> {
        self.0.verifier(user, Mechanism::Sha256)
    }

    fn exists(&self, user: &str) -> bool {
        self.0.exists(user)
    }

    fn is_administrator(&self, user: &str) -> bool {
        user == ADMIN
    }
}

/// Makes `admin` when there is none. Returns the password that was made and is shown once, if one was.
pub async fn make_admin(env: &Env, users: &Users, given: Option<String>) -> Result<Option<String>> {
    if users.exists(ADMIN) {
        return Ok(None);
    }
    let made = given.is_none().then(|| env.random::<12>().iter().map(|b| format!("{b:02x}")).collect::<String>());
    users.set_password(ADMIN, given.as_deref().or(made.as_deref()).unwrap_or_default()).await?;
    Ok(made)
}

/// `mainstem user set-password NAME`: makes the user, too. The data directory's lock sees to it that no server runs.
pub async fn set_password(env: Env, config: &Config, name: &str) -> Result<()> {
    let (_data, log) = offline::open(env.clone(), config)?;
    let face: Arc<dyn EventLog> = log.clone();
    let users = Users::open(env.clone(), face).await?;
    let known = users.exists(name);
    let done = match password(name) {
        Ok(password) => users.set_password(name, &password).await,
        Err(error) => Err(error),
    };
    log.close().await;
    done?;
    println!("{}", if known { "the password is set" } else { "the user is made" });
    Ok(())
}

/// From the environment, or one line of standard input. Never from the command line, which `ps` shows.
fn password(name: &str) -> Result<String> {
    if let Ok(password) = std::env::var("MAINSTEM_PASSWORD") {
        return Ok(password);
    }
    let failed = |cause: std::io::Error| {
        Error::fix(crate::codes::NO_PASSWORD, "no password could be read from standard input")
            .hint("Type it, pipe it in, or set MAINSTEM_PASSWORD.")
            .caused_by(cause)
    };
    let stdin = std::io::stdin();
    let _silent = stdin.is_terminal().then(|| {
        print!("New password for {name}: ");
        let _ = std::io::stdout().flush();
        Silent::new()
    });
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that shows nothing of what is typed, until it is dropped.
struct Silent(Option<rustix::termios::Termios>);

impl Silent {
    fn new() -> Self {
        let Ok(before) = rustix::termios::tcgetattr(std::io::stdin()) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &silent);
        Self(Some(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, before);
            println!();
        }
    }
}
