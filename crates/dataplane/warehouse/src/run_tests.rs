//! Runs are sorted, whole and read back, however their entries came.
#![allow(clippy::disallowed_methods)] // a test damages files of its own

use super::*;
use mainstem_env::RealDisk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const FORM: u64 = 7;

/// Few keys, so that equal ones meet.
fn keys(random: &mut StdRng, count: usize) -> Vec<u128> {
    (0..count).map(|_| u128::from(random.random_range(0..50u32)) << 100).collect()
}

fn entries(run: &Run) -> Vec<Entry> {
    (0..run.len()).map(|at| (run.key(at), run.addr(at))).collect()
}

fn build(dir: &Path, name: &str, segment: u32, chunk_entries: usize, parts: &[Vec<u128>]) -> Run {
    let mut builder = RunBuilder::new(&RealDisk, dir.join(name), segment, FORM);
    builder.chunk_entries = chunk_entries;
    let mut row = 0;
    for part in parts {
        builder.add(part.clone(), row).unwrap();
        row += part.len() as u32;
    }
    builder.finish().unwrap()
}

#[test]
fn a_run_has_its_entries_sorted_whatever_the_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..40 {
        let parts: Vec<Vec<u128>> = (0..random.random_range(0..5)).map(|n| keys(&mut random, n * 9)).collect();
        let chunk = random.random_range(1..60);
        let run = build(dir.path(), &format!("{round}.run"), 3, chunk, &parts);
        let all = parts.concat();
        let mut wanted: Vec<Entry> = all.iter().zip(0..).map(|(key, row)| (*key, RowAddr { segment: 3, row })).collect();
        wanted.sort_unstable();
        assert_eq!(entries(&run), wanted, "{} entries in chunks of {chunk}", all.len());
        assert_eq!(run.segments, [3]);
        assert_eq!(RealDisk.list(dir.path()).unwrap().len(), round + 1, "chunks are left over");
    }
}

#[test]
fn merged_runs_have_what_is_kept_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(2);
    for round in 0..40 {
        let count = random.random_range(0..7u32);
        let runs: Vec<Arc<Run>> = (0..count)
            .map(|segment| {
                let size = random.random_range(0..200);
                let part = keys(&mut random, size);
                Arc::new(build(dir.path(), &format!("{round}-{segment}.run"), segment, 1000, &[part]))
            })
            .collect();
        let gone = random.random_range(0..7);
        let kept = |at: &RowAddr| at.segment != gone && !at.row.is_multiple_of(3);
        let path = dir.path().join(format!("{round}-merged.run"));
        let merged = Run::merge(&RealDisk, &path, &runs, kept, &[1, 2], FORM).unwrap();
        let mut wanted: Vec<Entry> = runs.iter().flat_map(|run| entries(run)).filter(|(_, at)| kept(at)).collect();
        wanted.sort_unstable();
        assert_eq!(entries(&merged), wanted);
        let again = Run::open(&RealDisk, &path, FORM).unwrap().unwrap();
        assert_eq!((entries(&again), again.segments), (wanted, vec![1, 2]));
    }
}

#[test]
fn broken_bytes_are_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = build(dir.path(), "whole.run", 1, 1000, &[keys(&mut StdRng::seed_from_u64(3), 20)]);
    let whole = std::fs::read(&run.path).unwrap();
    let broken = dir.path().join("broken.run");
    let check = |bytes: &[u8], form: u64, good: bool| {
        std::fs::write(&broken, bytes).unwrap();
        assert_eq!(Run::open(&RealDisk, &broken, form).unwrap().is_some(), good);
    };
    check(&whole, FORM, true);
    check(&whole, FORM + 1, false);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        check(&bytes, FORM, false);
        check(&whole[..at], FORM, false);
    }
    // Written but for its header, as a crash may leave it.
    let mut bytes = whole.clone();
    bytes[..HEADER].fill(0);
    check(&bytes, FORM, false);
}
