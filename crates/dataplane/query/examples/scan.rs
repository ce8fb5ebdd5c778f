//! `scan DIRECTORY ROUNDS SQL...`: plain DataFusion over the Parquet files below a directory, as table `t`. Prints the best milliseconds of
//! each statement and its first row: the peer of our own scans in `benches`, here because this crate alone names DataFusion.
#![allow(clippy::disallowed_methods)] // measures the real machine

use arrow::util::display::array_value_to_string;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::ListingOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;
use std::time::Instant;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(rounds)) = (arguments.next(), arguments.next().and_then(|n| n.parse::<u32>().ok())) else {
        return Err(DataFusionError::Plan("usage: scan DIRECTORY ROUNDS SQL...".into()));
    };
    let context = SessionContext::new_with_config(SessionConfig::new());
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    context.register_listing_table("t", format!("{directory}/"), options, None, None).await?;
    for sql in arguments {
        let (mut best, mut answer) = (f64::MAX, String::new());
        for _ in 0..rounds {
            let started = Instant::now();
            let batches = context.sql(&sql).await?.collect().await?;
            best = best.min(started.elapsed().as_secs_f64() * 1000.0);
            let Some(first) = batches.iter().find(|b| b.num_rows() > 0) else { continue };
            let cells: Result<Vec<_>, _> = first.columns().iter().map(|c| array_value_to_string(c, 0)).collect();
            answer = cells?.join("|");
        }
        println!("{best:.3}\t{answer}");
    }
    Ok(())
}
