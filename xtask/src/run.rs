//! Starting other programs: one place that says what failed and how it ended.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs it with our own terminal; true when it ended with 0.
pub fn passes(command: &mut Command) -> Result<bool, String> {
    let status = command.status().map_err(|e| format!("cannot start {}: {e}", shown(command)))?;
    Ok(status.success())
}

/// Runs it with our own terminal; an error when it did not end with 0.
pub fn must(command: &mut Command) -> Result<(), String> {
    if passes(command)? { Ok(()) } else { Err(format!("failed: {}", shown(command))) }
}

/// What it printed to stdout, or None when it is not there or did not end with 0.
pub fn output(command: &mut Command) -> Option<String> {
    let out = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The first directory of PATH that holds the program.
pub fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|dir| dir.join(program).is_file())
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
