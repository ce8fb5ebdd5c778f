//! Builds a program with what it needs and becomes it: Ctrl-C, signals and the exit code then belong to the program alone.

use crate::{provision, run};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Optimised per package (see the root manifest), so that one build serves tests, demo and benches.
const PROFILE: &str = "dev";

/// Shows the main job on a throw-away Postgres. Arguments go on to `mainstem-demo`.
pub fn demo(root: &Path, args: &[String]) -> Result<bool, String> {
    become_program(root, "mainstem-demo", args)
}

/// Measures. Arguments go on to `mainstem-benches`.
pub fn bench(root: &Path, args: &[String]) -> Result<bool, String> {
    // What DataFusion alone does with our files; its crate is the only one that may name it.
    run::must(run::cargo(root).args(["build", "--profile", PROFILE, "--workspace", "--example", "scan"]))?;
    become_program(root, "mainstem-benches", args)
}

fn become_program(root: &Path, bin: &str, args: &[String]) -> Result<bool, String> {
    let postgres = provision::postgres()?;
    eprintln!("xtask: building mainstem and {bin} (profile {PROFILE}; the first time takes a while)");
    let server = build(root, "mainstem")?;
    let program = build(root, bin)?;
    let error = Command::new(&program)
        .args(args)
        .current_dir(root)
        .env("PATH", provision::path_with(&postgres))
        .env("MAINSTEM_BIN", &server)
        .env("MAINSTEM_PROFILE", PROFILE)
        .exec();
    Err(format!("cannot start {}: {error}", program.display()))
}

/// Builds one program and says where cargo put it. `--workspace` keeps the libraries' features those of `cargo xtask test`: for one
/// package alone cargo would choose fewer, and compile Arrow and DataFusion a second time.
pub fn build(root: &Path, bin: &str) -> Result<PathBuf, String> {
    build_with(run::cargo(root), bin, &[])
}

/// The same by a cargo that was given an environment, with further options.
pub fn build_with(mut command: Command, bin: &str, options: &[&str]) -> Result<PathBuf, String> {
    command.args(["build", "--profile", PROFILE, "--workspace", "--bin", bin]).args(options);
    command.args(["--message-format", "json-render-diagnostics"]);
    let out = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cannot start cargo: {e}"))?;
    if !out.status.success() {
        return Err(format!("`{bin}` does not build"));
    }
    executable(&String::from_utf8_lossy(&out.stdout), bin).ok_or_else(|| format!("cargo built no program `{bin}`"))
}

/// The path of the program in cargo's messages, one JSON object per line.
fn executable(messages: &str, bin: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == bin)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"mainstem"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"mainstem"},"executable":"/t/mainstem"}"#,
        );
        assert_eq!(executable(messages, "mainstem"), Some(PathBuf::from("/t/mainstem")));
        assert_eq!(executable(messages, "absent"), None);
    }
}
