//! SQL as the doors see it. Doors translate protocols to these calls and never name the engine behind them.

use crate::error::Result;
use crate::ids::Principal;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::sync::Arc;

/// Opens sessions. Implemented by `query`.
#[async_trait]
pub trait SqlService: Send + Sync {
    /// `database` is a warehouse's name; an unknown one is an error with SQLSTATE 3D000.
    async fn open(&self, client: ClientInfo) -> Result<Arc<dyn SqlSession>>;
}

/// Who is on the other side of a door.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    pub principal: Principal,
    pub database: String,
    pub application: String,
    pub address: String,
    /// Number by which the door knows this session (Postgres: backend pid); shown in `mainstem.sessions`.
    pub number: i32,
}

/// One client's session. Statements of one session run one after another; `cancel` may be called from anywhere.
#[async_trait]
pub trait SqlSession: Send + Sync {
    /// Splits a text into statements, keeping each one's exact text. Errors carry the position in the whole text.
    fn split(&self, sql: &str) -> Result<Vec<String>>;

    /// Parses and plans one statement. `parameter_types` are those the client declared; None = to be inferred.
    async fn prepare(&self, sql: &str, parameter_types: &[Option<DataType>]) -> Result<Arc<dyn PreparedStatement>>;

    /// As `prepare`, of a statement without parameters that is executed once and at once: it sees what there is now.
    async fn prepare_once(&self, sql: &str) -> Result<Arc<dyn PreparedStatement>> {
        self.prepare(sql, &[]).await
    }

    /// Stops the running statement; it ends with SQLSTATE 57014. Nothing happens when none runs.
    fn cancel(&self);

    /// Columns of an open cursor (`DECLARE`), which the Postgres protocol describes as a portal.
    fn cursor(&self, name: &str) -> Option<SchemaRef>;

    /// The value of a run-time setting (`SHOW name`), for ParameterStatus.
    fn setting(&self, name: &str) -> Option<String>;

    /// I = idle, T = in a transaction block, E = in a failed one.
    fn transaction_status(&self) -> u8;

    /// Tells the session that the statement that ran last failed in the door (so that a transaction block fails).
    fn fail_transaction(&self);
}

/// A planned statement; may be executed many times.
#[async_trait]
pub trait PreparedStatement: Send + Sync {
    fn parameter_types(&self) -> &[DataType];
    /// The Postgres name of a parameter's type where its Arrow type does not say it (`uuid`, `jsonb`, `oid[]`); else empty.
    fn parameter_source(&self, at: usize) -> &str;
    /// Columns it returns; None for commands. A field's metadata `mainstem.source_type` names its Postgres type where the
    /// Arrow type does not say it (uuid, json, jsonb, ...).
    fn columns(&self) -> Option<SchemaRef>;
    /// `parameters` are one-row arrays' values in `parameter_types` order.
    async fn execute(&self, parameters: Vec<Parameter>) -> Result<Outcome>;
}

/// A parameter's value: a one-row Arrow array of the parameter's type.
pub type Parameter = arrow::array::ArrayRef;

/// What a statement did.
pub enum Outcome {
    /// Rows follow. Batches have exactly the schema of `PreparedStatement::columns`.
    Rows { schema: SchemaRef, batches: BoxStream<'static, Result<RecordBatch>>, notices: Vec<String> },
    /// A command's tag (`CREATE SOURCE`, `SET`, `BEGIN`) and its notices.
    Done { tag: String, notices: Vec<String> },
    /// An empty statement.
    Empty,
}
