//! What every figure starts from: a Postgres with pgbench's tables and a source over it.

use mainstem_testkit::mainstem::{explain, wait_for_source};
use mainstem_testkit::process::run as run_program;
use mainstem_testkit::{Mainstem, Postgres, PostgresOptions, Result};
use std::time::Duration;
use tokio_postgres::Client;

/// A Postgres with `pgbench -i` of this scale (100,000 accounts each) and a marker table, in database `bench`.
pub fn source(scale: u32) -> Result<Postgres> {
    let options = PostgresOptions { durable: true, ..PostgresOptions::default() };
    let postgres = Postgres::start(options.set("shared_buffers", "256MB"))?;
    postgres.create_database("bench")?;
    run_program(postgres.tool("pgbench", "bench").args(["-i", "-q", "-s", &scale.to_string()]))?;
    postgres.psql("bench", "CREATE TABLE marker (id int PRIMARY KEY, n bigint); INSERT INTO marker VALUES (1, 0)")?;
    Ok(postgres)
}

pub async fn create(mainstem: &Mainstem, postgres: &Postgres, with: &str) -> Result<Client> {
    let client = mainstem.connect().await?;
    let statement = format!("CREATE SOURCE b FROM '{}' {with}", postgres.url("bench"));
    client.batch_execute(&statement).await.map_err(explain)?;
    wait_for_source(&client, "b", Duration::from_secs(600)).await?;
    Ok(client)
}

pub fn pid(mainstem: &Mainstem) -> Result<u32> {
    Ok(mainstem.pid().ok_or("mainstem is not running")?)
}

pub fn mebibytes(bytes: Option<u64>) -> f64 {
    bytes.map_or(f64::NAN, |b| b as f64 / (1 << 20) as f64)
}
