//! PostgreSQL: logical replication into change batches, and a copy beside it.
//!
//! `wire` speaks to the server; `catalog`, `shown` and `registry` know its tables; `value`, `rows`, `pgoutput` and `decoder` turn text into
//! Arrow; `database` is what all share; `stream`, `bulk` and `copiers` (over `copy`) are the ways to read; `prepare`, `published` and `preflight` see to the server's side.

mod bulk;
mod catalog;
pub mod codes;
mod copiers;
mod copy;
mod database;
mod decoder;
mod feedback;
#[doc(hidden)]
pub mod fuzz;
mod look_ahead;
pub mod metrics;
mod pgoutput;
mod position;
mod preflight;
mod prepare;
mod published;
mod registry;
mod rows;
mod settings;
mod shown;
mod source;
mod spool;
mod stream;
mod url;
mod value;
mod wire;

use async_trait::async_trait;
use mainstem_connector::{Connector, Source, SourceSettings, Spec};
use mainstem_env::Env;
use mainstem_types::Result;
use std::sync::Arc;

/// What the server's registry lists.
pub fn connector() -> Arc<dyn Connector> {
    Arc::new(Postgres)
}

/// One script for an administrator (decision 5): role, grants and publications for what `settings` would capture. Needs the
/// database, where it looks up the tables. After it ran, a source with the options it names needs no further human step.
pub async fn administrator_script(env: Env, settings: &SourceSettings) -> Result<String> {
    let source = source::PostgresSource::new(env, settings::Settings::parse(settings)?);
    preflight::administrator_script(source.inner()).await
}

struct Postgres;

#[async_trait]
impl Connector for Postgres {
    fn spec(&self) -> &'static Spec {
        &settings::SPEC
    }

    fn accepts(&self, url: &str) -> bool {
        settings::SPEC.schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
    }

    fn open(&self, env: Env, settings: SourceSettings) -> Result<Arc<dyn Source>> {
        let settings = settings::Settings::parse(&settings)?;
        Ok(Arc::new(source::PostgresSource::new(env, settings)))
    }
}
