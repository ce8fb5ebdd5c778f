//! Benchmarks: `mainstem-benches main-job [--full] [ROW...]` prints the table of `docs/benchmarks.md`, each figure beside its peer or
//! the physical limit, measured in the same run on the same machine.
#![allow(clippy::disallowed_methods)] // measures the real machine

mod disk;
mod latency;
mod log;
mod main_job;
mod report;
mod scan;
mod world;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("main-job") => {}
        other => {
            eprintln!(
                "benches: unknown benchmark {}; there is `main-job [--full] [{}]`",
                other.unwrap_or(""),
                main_job::ROWS.join("|")
            );
            return ExitCode::from(2);
        }
    }
    let (flags, rows): (Vec<String>, Vec<String>) = arguments.partition(|a| a.starts_with("--"));
    let full = flags.iter().any(|f| f == "--full");
    match main_job::run(full, &rows).await {
        Ok(report) => {
            println!("{}", report.markdown());
            if report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::FAILURE
        }
    }
}
