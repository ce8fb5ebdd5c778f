//! Which files are rewritten: few remain, each row is written a few times over, and large whole files rest.

use super::*;
use roaring::RoaringBitmap;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn settings() -> WarehouseSettings {
    WarehouseSettings { compact_file_bytes: 128 * MIB, compact_files_min: 8, compact_dead_percent: 50, ..Default::default() }
}

/// `files`: weight, rows, dead rows.
fn check(files: &[(u64, u64, u64)], chosen: &[u32]) {
    let candidate = |(segment, (weight, rows, dead)): (u32, &(u64, u64, u64))| Candidate {
        segment,
        weight: *weight,
        rows: *rows,
        dead: *dead,
    };
    let choice = choose((0..).zip(files).map(candidate).collect(), &settings());
    assert_eq!(choice.segments, chosen, "{files:?}");
}

#[test]
fn small_files_and_dead_ones_are_chosen() {
    check(&[], &[]);
    check(&[(MIB, 10, 0); 7], &[]);
    check(&[(MIB, 10, 0); 8], &[0, 1, 2, 3, 4, 5, 6, 7]);
    // A larger one stays until there is as much beside it, and smaller ones go along.
    check(&[[(20 * MIB, 10, 0)].as_slice(), &[(MIB, 10, 0); 8]].concat(), &[1, 2, 3, 4, 5, 6, 7, 8]);
    check(&[[(8 * MIB, 10, 0); 7].as_slice(), &[(MIB, 10, 0); 8]].concat(), &(0..15).collect::<Vec<_>>());
    // What would become too large rests.
    check(&[(17 * MIB, 10, 0); 20], &[]);
    // Bytes of dead rows do not make a file large.
    check(&[[(2 * MIB, 10, 5)].as_slice(), &[(MIB, 10, 0); 7]].concat(), &(0..8).collect::<Vec<_>>());
    check(&[(MIB, 10, 4); 1], &[]);
    check(&[(MIB, 10, 5); 1], &[0]);
    check(&[(500 * MIB, 10, 9), (100 * MIB, 10, 9)], &[1]);
    check(&[(500 * MIB, 10, 9)], &[0]);
    check(&[(60 * MIB, 10, 9), (60 * MIB, 10, 8), (60 * MIB, 10, 7)], &[0, 1]);
    // A tiny one costs nothing by its dead rows.
    check(&[(1000, 10, 9)], &[]);
    // Nothing that a directory may hold makes it fail.
    check(&[(u64::MAX / 4, u32::MAX.into(), u32::MAX.into()), (0, 0, 0)], &[0]);
}

#[test]
fn rows_that_died_are_found_in_the_new_file() {
    let mut random = 1u32;
    let mut next = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 8
    };
    for _ in 0..50 {
        let rows = next() % 200_000;
        let dead: RoaringBitmap = (0..rows).filter(|_| next().is_multiple_of(3)).collect();
        let died: Vec<u32> = (0..rows).filter(|row| !dead.contains(*row) && next().is_multiple_of(5)).collect();
        let now = died.iter().copied().collect::<RoaringBitmap>() | &dead;
        let base = next() % 1000;
        let live: Vec<u32> = (0..rows).filter(|row| !dead.contains(*row)).collect();
        let wanted: Vec<u32> = died.iter().map(|row| base + live.binary_search(row).unwrap() as u32).collect();
        let moved = Moved { segment: 1, dead: Arc::new(dead), base };
        assert_eq!(moved.died(&now).collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn files_stay_few_and_rows_are_rarely_rewritten() {
    for (flush, fan) in [(20_000, 8), (20_000, 2), (300_000, 8), (5 * MIB, 8), (5 * MIB, 4), (1, 8)] {
        let settings = WarehouseSettings { compact_files_min: fan, ..settings() };
        let (mut files, mut next, mut written, mut flushed) = (Vec::<Candidate>::new(), 0, 0, 0);
        let mut random = 1u64;
        let mut most_small = 0;
        for _ in 0..3000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let weight = flush / 2 + (random >> 33) % flush.max(1) + 1;
            flushed += weight.max(128 << 10);
            files.push(Candidate { segment: next, weight, rows: weight, dead: 0 });
            let choice = choose(files.clone(), &settings);
            let (chosen, rest): (Vec<_>, Vec<_>) = files.into_iter().partition(|f| choice.segments.contains(&f.segment));
            files = rest;
            if !chosen.is_empty() {
                let weight: u64 = chosen.iter().map(|f| f.weight).sum();
                assert!(weight <= settings.compact_file_bytes);
                written += weight;
                files.push(Candidate { segment: next + 1, weight, rows: weight, dead: 0 });
            }
            next += 2;
            let small = files.iter().filter(|f| f.weight < settings.compact_file_bytes / fan).count();
            most_small = most_small.max(small);
        }
        let times = written as f64 / flushed as f64;
        println!("flushes of {flush}, {fan}: {most_small} small files, rows written again {times:.2} times");
        // Each time into a file `fan` times larger, from the smallest size that counts to the largest.
        assert!(times <= 1024f64.ln() / (fan as f64).ln(), "{times}");
        assert!(most_small as f64 <= 1.0 + 1024f64.ln() / (fan as f64 / (fan as f64 - 1.0)).ln(), "{most_small}");
    }
}
