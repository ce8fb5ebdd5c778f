//! The one list of connectors in the repository.

use mainstem_connector::Connector;
use std::sync::Arc;

pub fn connectors() -> Vec<Arc<dyn Connector>> {
    vec![mainstem_postgres::connector()]
}
