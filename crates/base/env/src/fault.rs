//! Named places at which a test can have the process killed: recovery is only proven where it was made to happen.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

struct Armed {
    name: String,
    hits_left: AtomicI64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Kills the own process with SIGKILL when `MAINSTEM_FAILPOINT=<name>[:n]` names this place and this is its n-th hit (1 when left out).
/// Otherwise one atomic load.
pub fn point(name: &str) {
    if let Some(armed) = ARMED.get_or_init(armed)
        && armed.name == name
        && armed.hits_left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // stderr is unbuffered: the test that armed the point sees that it was hit.
        eprintln!("mainstem: failpoint {name} hit, killing the process");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

fn armed() -> Option<Armed> {
    let text = std::env::var("MAINSTEM_FAILPOINT").ok()?;
    let (name, hits) = match text.rsplit_once(':') {
        Some((name, hits)) => (name, hits.parse().ok()?),
        None => (text.as_str(), 1),
    };
    Some(Armed { name: name.to_string(), hits_left: AtomicI64::new(hits) })
}
