//! PostgreSQL: logical replication into change batches, and a copy beside it.
