//! Every file of the corpus, and a bounded number of damages to it: read or refused. What `cargo xtask fuzz` finds lands in the corpus
//! and is replayed here for good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)] // a test, on the real disk

use mainstem_fuzz::{TARGETS, Target};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Damaged inputs per target: some seconds for all of them, unoptimised.
const DAMAGED: usize = 3000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(corpus().join(target)).unwrap_or_else(|e| panic!("corpus/{target}: {e}")) {
        let path = entry.unwrap().path();
        files.push((path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()));
    }
    files.sort();
    files
}

/// A change as storage or a wire may make it, or a cut and a join as libFuzzer makes it.
fn damage(bytes: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, [0, 1, 0x7f, 0x80, 0xff, b'\'', b'\\'][random.random_range(0..7)]),
            4 if !other.is_empty() => {
                let from = random.random_range(0..other.len());
                let upto = random.random_range(from..=other.len().min(from + 64));
                bytes.splice(at..at, other[from..upto].iter().copied());
            }
            _ if at + 4 <= bytes.len() => bytes[at..at + 4].copy_from_slice(&random.random::<u32>().to_be_bytes()),
            _ => bytes.push(random.random()),
        }
    }
}

fn replay(target: Target) {
    let files = files(target.name);
    let show = |what: &str, bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_err() {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{}: {what} panics; its bytes in hexadecimal: {hex}", target.name);
        }
    };
    for (name, bytes) in &files {
        show(name, bytes);
    }
    let mut random = StdRng::seed_from_u64(8);
    for _ in 0..DAMAGED {
        let (name, mut bytes) = files[random.random_range(0..files.len())].clone();
        damage(&mut bytes, &files[random.random_range(0..files.len())].1, &mut random);
        show(&format!("{name}, damaged"), &bytes);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(mainstem_fuzz::target(stringify!($name)).unwrap());
        })*
        /// One test per target, so that they run side by side and a name says which failed.
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    postgres_pgoutput postgres_copy postgres_value log_batch log_files envelope control_records delta_commit delta_vector
    index_run sql_statements pgwire_messages pgwire_parameter pgwire_scram
}

#[test]
fn every_target_has_its_corpus_and_its_test() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let folders: BTreeSet<String> =
        std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(names, folders);
    assert_eq!(names, TESTED.iter().map(|name| (*name).to_owned()).collect());
}
