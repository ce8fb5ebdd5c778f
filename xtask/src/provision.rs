//! What tests, demo and benches need beside Rust: PostgreSQL's programs and Python with pinned readers. Found when there, installed
//! when missing; with everything there nothing touches the network.

use crate::run;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest PostgreSQL that we capture from.
const POSTGRES_MAJOR_MIN: u32 = 14;
/// Server, client, load generator, and the reference reader of the benches.
const POSTGRES_PROGRAMS: [&str; 5] = ["postgres", "initdb", "psql", "pgbench", "pg_recvlogical"];
/// Debian's switch for the cluster that its package would otherwise make and start.
const CREATECLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// rustfmt and clippy, which a minimal Rust leaves out.
pub fn rust_components(root: &Path) -> Result<(), String> {
    if ["fmt", "clippy"].iter().all(|tool| run::output(run::cargo(root).args([tool, "--version"])).is_some()) {
        return Ok(());
    }
    if run::find_in_path("rustup").is_none() {
        return Err("rustfmt and clippy are missing: install those of your Rust".to_owned());
    }
    run::must(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]).current_dir(root))
}

/// The directory with PostgreSQL's programs, installed first when there is none.
pub fn postgres() -> Result<PathBuf, String> {
    if let Some(dir) = find_postgres() {
        return Ok(dir);
    }
    eprintln!("xtask: no PostgreSQL found, installing Debian's package");
    // The cluster switch is a file of `postgresql-common`, so that comes first; then nothing is created, nothing is started.
    apt_install(&["postgresql-common"])?;
    let switch = format!(
        "grep -qs '^create_main_cluster = false' {CREATECLUSTER} || echo 'create_main_cluster = false' >> {CREATECLUSTER}"
    );
    run::must(as_root("sh")?.args(["-c", &switch]))?;
    apt_install(&["postgresql"])?;
    find_postgres().ok_or_else(|| {
        format!(
            "PostgreSQL {POSTGRES_MAJOR_MIN} or newer is needed, with {}: install it and put its directory of programs into PATH",
            POSTGRES_PROGRAMS.join(", ")
        )
    })
}

/// The newest of Debian's installations, else what PATH has.
fn find_postgres() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(major, dir): &(u32, PathBuf)| *major >= POSTGRES_MAJOR_MIN && has_all(dir))
        .collect();
    found.sort();
    found
        .pop()
        .map(|(_, dir)| dir)
        .or_else(|| run::find_in_path("initdb").filter(|dir| has_all(dir) && major(dir) >= POSTGRES_MAJOR_MIN))
}

fn has_all(dir: &Path) -> bool {
    POSTGRES_PROGRAMS.iter().all(|program| dir.join(program).exists())
}

fn major(dir: &Path) -> u32 {
    let text = run::output(Command::new(dir.join("postgres")).arg("--version")).unwrap_or_default();
    major_of(&text)
}

/// From `postgres (PostgreSQL) 15.14 (Debian ...)` or `... 18beta1`; 0 when it is not that.
fn major_of(version: &str) -> u32 {
    let number = version.split_whitespace().nth(2).unwrap_or_default();
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// PATH with PostgreSQL's programs first: Debian links only some of them into a directory of PATH.
pub fn path_with(postgres: &Path) -> OsString {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(postgres.to_path_buf()).chain(std::env::split_paths(&old));
    std::env::join_paths(all).unwrap_or(old)
}

/// The Python of an environment with the packages of `tests/python/requirements*.txt`, or None when there are no such files.
///
/// Its directory is named by the pins, so an unchanged set is never installed again and two checkouts do not disturb each other.
pub fn python(root: &Path) -> Result<Option<PathBuf>, String> {
    let files = requirements(root)?;
    if files.is_empty() {
        return Ok(None);
    }
    let mut pins = String::new();
    for file in &files {
        pins += &std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    }
    let base = base_python()?;
    let version = run::output(Command::new(&base).arg("--version")).unwrap_or_default();
    let dir = cache()?.join(format!("python-{:016x}", fingerprint(&format!("{version}{pins}"))));
    let python = dir.join("bin/python");
    let complete = dir.join("complete");
    if complete.exists() && python.exists() {
        return Ok(Some(python));
    }
    eprintln!("xtask: installing the Python packages of tests/python into {}", dir.display());
    run::must(Command::new(&base).args(["-m", "venv", "--clear"]).arg(&dir))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    for file in &files {
        pip.arg("--requirement").arg(file);
    }
    run::must(&mut pip)?;
    std::fs::write(&complete, pins).map_err(|e| format!("cannot write {}: {e}", complete.display()))?;
    Ok(Some(python))
}

fn requirements(root: &Path) -> Result<Vec<PathBuf>, String> {
    let dir = root.join("tests/python");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).into_iter().flatten() {
        let path = entry.map_err(|e| format!("cannot list {}: {e}", dir.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("requirements") && name.ends_with(".txt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A Python that can make virtual environments; Debian keeps that half in a package of its own.
fn base_python() -> Result<PathBuf, String> {
    let usable = || {
        let dir = run::find_in_path("python3")?;
        let python = dir.join("python3");
        run::output(Command::new(&python).args(["-c", "import ensurepip, venv"])).map(|_| python)
    };
    if let Some(python) = usable() {
        return Ok(python);
    }
    eprintln!("xtask: no Python 3 with venv found, installing Debian's package");
    apt_install(&["python3", "python3-venv"])?;
    usable().ok_or_else(|| "Python 3 with the modules venv and ensurepip is needed: install it".to_owned())
}

fn cache() -> Result<PathBuf, String> {
    let home = || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".cache"));
    let dir = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()).or_else(home);
    let dir = dir.ok_or("HOME is not set: set it, or XDG_CACHE_HOME to a directory for downloads")?.join("mainstem");
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    Ok(dir)
}

/// FNV-1a: the same in every release of Rust, unlike the standard hasher.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn apt_install(packages: &[&str]) -> Result<(), String> {
    if run::find_in_path("apt-get").is_none() {
        return Err(format!("this is not a Debian: install {} by hand, then run it again", packages.join(" ")));
    }
    // Lists are refreshed only when the package is not in them: an up-to-date machine saves the minute.
    if run::output(Command::new("apt-cache").args(["show", "--no-all-versions"]).args(packages))
        .is_none_or(|text| text.is_empty())
    {
        run::must(as_root("apt-get")?.args(["-qq", "update"]))?;
    }
    let install = |packages: &[&str]| -> Result<bool, String> {
        run::passes(
            as_root("env")?
                .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "--no-install-recommends"])
                .arg("install")
                .args(packages),
        )
    };
    if install(packages)? {
        return Ok(());
    }
    // Stale lists name versions that the mirror no longer has.
    run::must(as_root("apt-get")?.args(["-qq", "update"]))?;
    if install(packages)? { Ok(()) } else { Err(format!("apt-get could not install {}", packages.join(" "))) }
}

/// The program as root: directly when we are, else through sudo without a question.
fn as_root(program: &str) -> Result<Command, String> {
    if run::output(Command::new("id").arg("-u")).is_some_and(|uid| uid.trim() == "0") {
        return Ok(Command::new(program));
    }
    if run::output(Command::new("sudo").args(["-n", "true"])).is_some() {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        return Ok(command);
    }
    Err("packages are missing and we are not root: install `postgresql python3 python3-venv` and run it again".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_are_read() {
        let check = |text: &str, expected: u32| assert_eq!(major_of(text), expected, "{text}");
        check("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", 15);
        check("postgres (PostgreSQL) 18beta1", 18);
        check("postgres (PostgreSQL) 9.6.24", 9);
        check("", 0);
    }

    #[test]
    fn pins_decide_the_environment() {
        assert_eq!(fingerprint(""), 0xcbf2_9ce4_8422_2325);
        assert_ne!(fingerprint("duckdb==1.5.5"), fingerprint("duckdb==1.5.6"));
    }
}
