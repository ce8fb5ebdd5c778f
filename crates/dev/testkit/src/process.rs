//! Processes of fixtures: run, signal, wait, clean up after, and what `/proc` says they cost.

use crate::{Failure, Result};
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that outlives us by a moment: when we are gone, or drop it, it ends the server whose pid is in a file and removes the
/// server's directory.
pub(crate) struct Watchdog(Child);

impl Watchdog {
    /// `pid_file` is relative to `directory`; its first line is a process id. `signal` is a name for kill(1).
    pub(crate) fn start(directory: &Path, pid_file: &str, signal: &str) -> Result<Self> {
        let script = "cat >/dev/null; pid=$(head -n 1 \"$0/$1\" 2>/dev/null); \
                      if [ -n \"$pid\" ]; then kill -$2 $pid 2>/dev/null; \
                      for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $pid 2>/dev/null || break; sleep 0.2; done; fi; rm -rf \"$0\"";
        let child = Command::new("sh")
            .args(["-c", script])
            .arg(directory)
            .args([pid_file, signal])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// User and system CPU time that a process has used, seconds; its children's are not in it.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // USER_HZ is 100 on every Linux that Rust runs on.
    Some(ticks as f64 / 100.0)
}

/// Resident memory of a process now, bytes.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    status_field(pid, "VmRSS:")
}

/// The highest resident memory that a process has had, bytes.
pub fn rss_peak_bytes(pid: u32) -> Option<u64> {
    status_field(pid, "VmHWM:")
}

fn status_field(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A port that nobody listens on, outside the range from which outgoing connections take theirs.
pub fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = rand::random_range(15_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port between 15000 and 32000 on 127.0.0.1".into())
}

/// Runs a program to its end and returns what it printed; an error carries its error output.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|e| format!("cannot run {}: {e}", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    Err(Failure::from(format!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

pub(crate) fn send(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

pub(crate) fn wait_for(child: &mut Child, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(format!("process {} did not end within {limit:?} and was killed", child.id()).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name in parentheses may hold anything: fields count from after the last one.
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok()) == Some(parent)
        })
        .collect()
}
