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
mod source_block;
mod spool;
mod stream;
mod url;
mod value;
mod wire;

use async_trait::async_trait;
use mainstem_connector::{Connector, Source, SourceSettings, Spec};
use mainstem_env::Env;
use mainstem_types::Result;
use mainstem_types::metrics::Metric;
use std::sync::Arc;

/// What the server's registry lists.
pub fn connector() -> Arc<dyn Connector> {
    Arc::new(Postgres)
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

    fn database(&self, url: &str) -> String {
        let path = url.split_once("://").map_or("", |(_, rest)| rest).split_once('/').map_or("", |(_, path)| path);
        path.split('?').next().unwrap_or("").to_string()
    }

    fn default_schema(&self, _: &str) -> String {
        "public".to_string()
    }

    fn metrics(&self) -> &'static [&'static dyn Metric] {
        metrics::all()
    }

    fn open(&self, env: Env, settings: SourceSettings) -> Result<Arc<dyn Source>> {
        let settings = settings::Settings::parse(&settings)?;
        Ok(Arc::new(source::PostgresSource::new(env, settings)))
    }
}
