//! `cargo xtask fuzz`: runs the decoders' targets with coverage for a bounded time. Findings become files of
//! `fuzz/corpus`, which `cargo xtask test` replays.

use crate::{launch, run};
use std::path::Path;
use std::process::Command;

const SECONDS: u64 = 60;
/// Long enough for every message worth reading; longer inputs only make a run slower.
const INPUT_BYTES_MAX: u64 = 8192;
/// A decoder that takes longer for so little is a finding.
const INPUT_SECONDS_MAX: u64 = 5;
const MEMORY_MIB_MAX: u64 = 2048;

pub fn fuzz(root: &Path, args: &[String]) -> Result<bool, String> {
    let chosen = Chosen::parse(args, &targets(root)?)?;
    eprintln!("xtask: building the targets with coverage (libFuzzer is C++: it needs g++ or clang++)");
    let program = build(root)?;
    let mut clean = true;
    for target in &chosen.targets {
        let corpus = root.join("fuzz/corpus").join(target);
        // What a run learns stays in the build directory for the next one: thousands of files that no reader of the repository needs.
        let learned = program.with_file_name("fuzz-corpus").join(target);
        std::fs::create_dir_all(&learned).map_err(|e| format!("cannot create {}: {e}", learned.display()))?;
        eprintln!("xtask: {target}, {} s", chosen.seconds);
        let found = format!("{}/found-", corpus.display());
        let mut fuzzer = Command::new(&program);
        fuzzer.env("MAINSTEM_FUZZ_TARGET", target).arg(format!("-artifact_prefix={found}"));
        fuzzer.args([
            format!("-max_total_time={}", chosen.seconds),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
            "-print_final_stats=1".to_owned(),
            "-verbosity=0".to_owned(),
        ]);
        if !run::passes(fuzzer.arg(&learned).arg(&corpus))? {
            eprintln!(
                "xtask: {target} has a finding, kept as {found}*: `cargo xtask test -p mainstem-fuzz {target}` shows it again"
            );
            clean = false;
        }
    }
    Ok(clean)
}

/// The program of all targets; only the workspace's own crates are compiled anew for it.
fn build(root: &Path) -> Result<std::path::PathBuf, String> {
    let mut cargo = run::cargo(root);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", root.join("fuzz/rustc-with-coverage"));
    launch::build_with(cargo, "mainstem-fuzz", &["--features", "mainstem-fuzz/libfuzzer"])
}

/// A target is a folder of the corpus.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let dir = root.join("fuzz/corpus");
    let entries = std::fs::read_dir(&dir).map_err(|e| format!("cannot list {}: {e}", dir.display()))?;
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    targets: Vec<String>,
    /// Per target.
    seconds: u64,
}

impl Chosen {
    fn parse(args: &[String], all: &[String]) -> Result<Self, String> {
        let mut chosen = Self { targets: Vec::new(), seconds: SECONDS };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seconds" => {
                    let seconds = args.next().and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
                    chosen.seconds = seconds.ok_or("--seconds needs a number above 0: the time for each target")?;
                }
                name if all.iter().any(|target| target == name) => chosen.targets.push(name.to_owned()),
                name => return Err(format!("no target `{name}`; there are: {}", all.join(", "))),
            }
        }
        if chosen.targets.is_empty() {
            chosen.targets = all.to_vec();
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_choose_targets_and_time() {
        let all = ["a".to_owned(), "b".to_owned()];
        let check = |args: &str, expected: Option<(&str, u64)>| {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            let chosen = Chosen::parse(&args, &all).ok();
            let shown = chosen.map(|chosen| (chosen.targets.join(" "), chosen.seconds));
            assert_eq!(shown, expected.map(|(targets, seconds)| (targets.to_owned(), seconds)), "{args:?}");
        };
        check("", Some(("a b", SECONDS)));
        check("b --seconds 5", Some(("b", 5)));
        check("c", None);
        check("--seconds", None);
        check("--seconds 0", None);
    }
}
