//! The project's chores as one program, so that a fresh machine needs nothing but Rust: `cargo xtask demo|test|compat|fuzz|bench|tidy`.
//!
//! Kept to two small dependencies: it is compiled before anything else can start.
// A tool for developers works on the real machine; the simulated world of `mainstem-env` is for the product.
#![allow(clippy::disallowed_methods)]

mod fuzz;
mod launch;
mod provision;
mod run;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  demo [--check] [--seconds N]   a throw-away Postgres with a running shop, Mainstem beside it, live; --check compares and exits
  test [-p PACKAGE]... [NAME]    tidy, rustfmt, clippy, then every test (or those of the packages and with the name given)
  bench [main-job] [OPTIONS]     the measurements of docs/benchmarks.md
  compat [NAME]                  the heavy suites: hostile statements of every shape and size, every installed PostgreSQL
  fuzz [TARGET]... [--seconds N] the decoders with coverage, N seconds each; findings become files of fuzz/corpus
  tidy                           the house rules that no compiler checks

Missing tools (PostgreSQL, Python readers) are installed first; with everything there no network is used.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let root = root();
    let outcome = match command.as_str() {
        "demo" => launch::demo(&root, &rest),
        "test" => test::test(&root, &rest),
        "bench" => launch::bench(&root, &rest),
        "compat" => test::compat(&root, &rest),
        "fuzz" => fuzz::fuzz(&root, &rest),
        "tidy" => tidy::run(&root).map(|violations| violations == 0),
        "" | "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(true)
        }
        other => Err(format!("no command `{other}`\n\n{USAGE}")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::from(2)
        }
    }
}

/// The repository: the directory above this package. Cargo says at run time which checkout it is, for two may share a build directory.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(PathBuf::from).unwrap_or(package)
}
