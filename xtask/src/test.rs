//! Everything that a change must pass, in the order of cost, with one summary at the end.

use crate::{launch, provision, run, tidy};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Tests start servers of their own: more at once than this only makes them wait for each other.
const TEST_THREADS_MAX: usize = 4;

pub fn test(root: &Path, args: &[String]) -> Result<bool, String> {
    let selection = Selection::parse(args)?;
    let started = Instant::now();
    let mut summary = Summary::default();
    summary.step("tidy", || tidy::run(root).map(|violations| violations == 0));
    let mut tools = None;
    summary.step("tools", || {
        provision::rust_components(root)?;
        tools = Some((provision::postgres()?, provision::python(root)?));
        Ok(true)
    });
    summary.step("rustfmt", || run::passes(run::cargo(root).args(["fmt", "--all", "--check"])));
    let compiles = summary.step("clippy", || {
        let mut clippy = run::cargo(root);
        clippy.arg("clippy").args(&selection.packages).args(["--all-targets", "--", "--deny", "warnings"]);
        run::passes(&mut clippy)
    });
    let mut counts = Counts::default();
    match tools {
        Some((postgres, python)) if compiles => {
            summary.step("tests", || {
                let mut tests = run::cargo(root);
                tests.arg("test").args(&selection.packages).arg("--no-fail-fast").args(&selection.rest);
                tests.env("PATH", provision::path_with(&postgres));
                if selection.runs_the_binary() {
                    tests.env("MAINSTEM_BIN", launch::build(root, "mainstem")?);
                }
                if let Some(python) = python {
                    tests.env("MAINSTEM_TEST_PYTHON", python);
                }
                if std::env::var_os("RUST_TEST_THREADS").is_none() {
                    let cores = std::thread::available_parallelism().map_or(1, usize::from);
                    tests.env("RUST_TEST_THREADS", cores.clamp(2, TEST_THREADS_MAX).to_string());
                }
                run_tests(&mut tests, &mut counts)
            });
        }
        _ => summary.skip("tests", "not run: a step before failed"),
    }
    println!("\n{}", summary.text());
    println!("{} passed, {} failed, {} ignored; {} s", counts.passed, counts.failed, counts.ignored, started.elapsed().as_secs());
    Ok(summary.good())
}

/// The suites that are too heavy for every run, against the built binary; arguments go on to them.
pub fn compat(root: &Path, args: &[String]) -> Result<bool, String> {
    let postgres = provision::postgres()?;
    let mut suites = run::cargo(root);
    suites.args(["test", "--workspace", "--test", "compat", "--"]).args(args).args(["--nocapture", "--test-threads", "1"]);
    suites.env("PATH", provision::path_with(&postgres)).env("MAINSTEM_BIN", launch::build(root, "mainstem")?);
    run::passes(&mut suites)
}

/// What cargo is told to check: everything, or the packages named.
#[derive(Debug, Default, PartialEq, Eq)]
struct Selection {
    packages: Vec<String>,
    rest: Vec<String>,
}

impl Selection {
    fn parse(args: &[String]) -> Result<Self, String> {
        let mut selection = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "-p" || arg == "--package" {
                let package = args.next().ok_or("-p needs the name of a package, as in `-p mainstem-log`")?;
                selection.packages.extend(["--package".to_owned(), package.clone()]);
            } else {
                selection.rest.push(arg.clone());
            }
        }
        if selection.packages.is_empty() {
            selection.packages.push("--workspace".to_owned());
        }
        Ok(selection)
    }

    /// Whether a test may start the real binary; the tests of one engine do not wait for its build.
    fn runs_the_binary(&self) -> bool {
        ["--workspace", "mainstem-server", "mainstem-tests"].iter().any(|all| self.packages.iter().any(|package| package == all))
    }
}

/// Shows the tests' output as it comes and adds up their result lines.
fn run_tests(command: &mut Command, counts: &mut Counts) -> Result<bool, String> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cannot start cargo: {e}"))?;
    let mut out = std::io::stdout();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(|reader| reader.split(b'\n')) {
        let line = line.map_err(|e| format!("cannot read the tests' output: {e}"))?;
        counts.add(&String::from_utf8_lossy(&line));
        // A closed terminal does not stop the tests.
        let _ = out.write_all(&line).and_then(|()| out.write_all(b"\n"));
    }
    let status = child.wait().map_err(|e| format!("cannot wait for cargo: {e}"))?;
    Ok(status.success())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; any other line counts nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result:").and_then(|rest| rest.split_once('.')) else { return };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[derive(Default)]
struct Summary {
    steps: Vec<(String, bool)>,
}

impl Summary {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<bool, String>) -> bool {
        eprintln!("xtask: {name}");
        let started = Instant::now();
        let outcome = work();
        let seconds = started.elapsed().as_secs();
        let (good, note) = match outcome {
            Ok(true) => (true, String::new()),
            Ok(false) => (false, "FAILED".to_owned()),
            Err(message) => (false, format!("FAILED: {message}")),
        };
        self.steps.push((format!("{name:<8} {seconds:>5} s  {}", if good { "ok" } else { &note }), good));
        good
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.steps.push((format!("{name:<8}          {why}"), false));
    }

    fn good(&self) -> bool {
        self.steps.iter().all(|(_, good)| *good)
    }

    fn text(&self) -> String {
        self.steps.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: nonsense",
        ] {
            counts.add(line);
        }
        assert_eq!(counts, Counts { passed: 4, failed: 2, ignored: 1 });
    }

    #[test]
    fn packages_select_and_the_rest_goes_on() {
        let check = |args: &str, packages: &str, rest: &str| {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            let selection = Selection::parse(&args).unwrap();
            assert_eq!((selection.packages.join(" "), selection.rest.join(" ")), (packages.to_owned(), rest.to_owned()));
        };
        check("", "--workspace", "");
        check("-p mainstem-log torn_tail", "--package mainstem-log", "torn_tail");
        check("-p a -p b -- --nocapture", "--package a --package b", "-- --nocapture");
        assert!(Selection::parse(&["-p".to_owned()]).is_err());
        let runs = |args: &[&str]| {
            Selection::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()).unwrap().runs_the_binary()
        };
        assert!(runs(&[]) && runs(&["-p", "mainstem-tests"]) && !runs(&["-p", "mainstem-log"]));
    }

    #[test]
    fn a_failed_or_skipped_step_fails_the_whole() {
        let mut summary = Summary::default();
        assert!(summary.step("one", || Ok(true)) && summary.good());
        summary.skip("two", "not run");
        assert!(!summary.good());
        let mut summary = Summary::default();
        summary.step("one", || Err("no apt-get".to_owned()));
        assert!(!summary.good() && summary.text().contains("FAILED: no apt-get"));
    }
}
