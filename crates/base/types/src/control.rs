//! What users declare and command, whichever door it comes through, and the trait by which it is done.
//!
//! Whoever reads a command (SQL, the command line, later the API and files) makes a [`Declaration`] of it and hands it to a [`Control`]
//! together with who asks. The server hands out a [`Router`], so nothing is done for anybody before it was decided that they may.

use crate::error::{Code, Error, Result};
use crate::ids::Principal;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The principal may not do this.
pub const NOT_ALLOWED: Code = Code::new("CTL-001", "42501");
/// Nothing in this server answers to this kind of declaration.
pub const NOT_THERE: Code = Code::new("CTL-002", "0A000");

/// Does what is declared. Every call is idempotent after a crash.
#[async_trait]
pub trait Control<D = Declaration>: Send + Sync {
    async fn execute(&self, principal: &Principal, declaration: D) -> Result<Outcome>;
}

/// A message for the user that is not an error (a NOTICE on the wire).
pub type Notice = String;

/// What came of a declaration.
#[derive(Debug, Default)]
pub struct Outcome {
    pub notices: Vec<Notice>,
    /// What a declaration that shows something ([`Declaration::shows`]) shows.
    pub text: Option<String>,
}

impl Outcome {
    pub fn notices(notices: Vec<Notice>) -> Self {
        Self { notices, text: None }
    }
}

/// Parsed but unchecked. `Debug` shows neither passwords nor URLs nor options.
#[derive(Clone)]
pub enum Declaration {
    Source(SourceDeclaration),
    User(UserDeclaration),
}

/// About sources; done by the pipeline.
#[derive(Clone)]
pub enum SourceDeclaration {
    /// Runs the pre-flight, records the desired state durably, starts capture in the background.
    Create {
        name: String,
        if_not_exists: bool,
        url: String,
        options: BTreeMap<String, String>,
    },
    /// Options that are not named stay.
    Alter {
        name: String,
        options: BTreeMap<String, String>,
    },
    Pause {
        name: String,
    },
    Resume {
        name: String,
    },
    /// Rebuilds one table (`schema.name` as in the source) or all in a shadow.
    Resync {
        name: String,
        table: Option<String>,
    },
    Drop {
        name: String,
        if_exists: bool,
        mode: DropMode,
    },
    /// Returns when all that the source had committed at the call (or up to `until`, in the source's text form) is visible to
    /// queries. `timeout` None waits for ever.
    Wait {
        name: String,
        until: Option<String>,
        timeout: Option<Duration>,
    },
    /// Shows the statement that would create it again, without its password.
    ShowCreate {
        name: String,
    },
}

/// What DROP SOURCE does with the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropMode {
    /// Refused while there are tables.
    Restrict,
    /// Tables stay, readable, no longer fed.
    KeepData,
    /// Tables, topics and files go too.
    Cascade,
}

/// About those who may log in. `password` is as it was given: plain, or already a verifier (`SCRAM-SHA-256$4096:...`), as psql's
/// `\password` sends it.
#[derive(Clone)]
pub enum UserDeclaration {
    Create { name: String, password: String },
    Alter { name: String, password: String },
    Drop { name: String, if_exists: bool },
}

impl Declaration {
    /// The tag with which SQL answers when it is done.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Source(source) => match source {
                SourceDeclaration::Create { .. } => "CREATE SOURCE",
                SourceDeclaration::Alter { .. } => "ALTER SOURCE",
                SourceDeclaration::Pause { .. } => "PAUSE SOURCE",
                SourceDeclaration::Resume { .. } => "RESUME SOURCE",
                SourceDeclaration::Resync { .. } => "RESYNC SOURCE",
                SourceDeclaration::Drop { .. } => "DROP SOURCE",
                SourceDeclaration::Wait { .. } => "WAIT",
                SourceDeclaration::ShowCreate { .. } => "SHOW CREATE SOURCE",
            },
            Self::User(UserDeclaration::Create { .. }) => "CREATE ROLE",
            Self::User(UserDeclaration::Alter { .. }) => "ALTER ROLE",
            Self::User(UserDeclaration::Drop { .. }) => "DROP ROLE",
        }
    }

    /// The source or the user that it is about.
    pub fn name(&self) -> &str {
        match self {
            Self::Source(
                SourceDeclaration::Create { name, .. }
                | SourceDeclaration::Alter { name, .. }
                | SourceDeclaration::Pause { name }
                | SourceDeclaration::Resume { name }
                | SourceDeclaration::Resync { name, .. }
                | SourceDeclaration::Drop { name, .. }
                | SourceDeclaration::Wait { name, .. }
                | SourceDeclaration::ShowCreate { name },
            )
            | Self::User(
                UserDeclaration::Create { name, .. } | UserDeclaration::Alter { name, .. } | UserDeclaration::Drop { name, .. },
            ) => name,
        }
    }

    /// The name of the column in which a text is shown, if it shows one.
    pub fn shows(&self) -> Option<&'static str> {
        match self {
            Self::Source(SourceDeclaration::ShowCreate { .. }) => Some("create_source"),
            _ => None,
        }
    }
}

impl fmt::Debug for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.tag(), shown_name(self.name()))
    }
}

/// A name as messages may repeat it. What stands in a name's place by mistake may be a URL with its password.
pub fn shown_name(name: &str) -> &str {
    match name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ')) {
        true => name,
        false => "(not shown: it has signs that no name has)",
    }
}

/// The control of everything, from those of its parts. Decides first.
pub struct Router {
    pub sources: Arc<dyn Control<SourceDeclaration>>,
    /// None: there is only `admin`.
    pub users: Option<Arc<dyn Control<UserDeclaration>>>,
}

#[async_trait]
impl Control for Router {
    async fn execute(&self, principal: &Principal, declaration: Declaration) -> Result<Outcome> {
        decide(principal, &declaration)?;
        match declaration {
            Declaration::Source(declaration) => self.sources.execute(principal, declaration).await,
            Declaration::User(user) => match &self.users {
                Some(users) => users.execute(principal, user).await,
                None => Err(Error::fix(NOT_THERE, format!("{} is not supported yet", Declaration::User(user).tag()))
                    .hint("`admin` is the only user.")),
            },
        }
    }
}

/// Whether a principal may declare this: `admin` everything, everybody a password of their own, until policies decide.
fn decide(principal: &Principal, declaration: &Declaration) -> Result<()> {
    let own = |user: &UserDeclaration| matches!(user, UserDeclaration::Alter { name, .. } if **name == *principal.0);
    if principal.is_admin() || matches!(declaration, Declaration::User(user) if own(user)) {
        return Ok(());
    }
    Err(Error::denied(NOT_ALLOWED, format!("permission denied: {principal} may not {}", declaration.tag()))
        .hint("Ask an administrator of this server."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_admin_declares_and_everybody_has_a_password_of_their_own() {
        let alter = |name: &str| Declaration::User(UserDeclaration::Alter { name: name.into(), password: "geheim".into() });
        let pause = || Declaration::Source(SourceDeclaration::Pause { name: "shop".into() });
        let check = |who: &str, what: Declaration, expected: bool| {
            assert_eq!(decide(&Principal(who.into()), &what).is_ok(), expected, "{who}: {what:?}");
        };
        check("admin", pause(), true);
        check("admin", alter("eve"), true);
        check("eve", alter("eve"), true);
        check("eve", alter("Eve"), false);
        check("eve", alter("admin"), false);
        check("eve", pause(), false);
        check("eve", Declaration::User(UserDeclaration::Drop { name: "eve".into(), if_exists: false }), false);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let url = "postgres://u:geheim@h/d".to_string();
        let options = BTreeMap::from([("sslpassword".to_string(), "geheim".to_string())]);
        let source = |name: &str| {
            Declaration::Source(SourceDeclaration::Create {
                name: name.into(),
                if_not_exists: false,
                url: url.clone(),
                options: options.clone(),
            })
        };
        assert_eq!(format!("{:?}", source("shop")), "CREATE SOURCE shop");
        assert!(!format!("{:?}", source(&url)).contains("geheim"));
        let user = Declaration::User(UserDeclaration::Create { name: "eve".into(), password: "geheim".into() });
        assert_eq!(format!("{user:?}"), "CREATE ROLE eve");
    }
}
