//! Appends to the log in process, against what the disk does with the same bytes in the same minute.

use crate::disk;
use crate::report::{Report, Row};
use bytes::Bytes;
use mainstem_env::Env;
use mainstem_eventlog::{Cleanup, EventLog, PartitionAppend, RecordBatchBuilder, TopicConfig, TopicPartition};
use mainstem_log::{LocalLog, LogSettings};
use mainstem_testkit::Result;
use std::sync::Arc;
use std::time::Instant;

const TOPIC: &str = "bench.public.rows";
const BULK_APPENDS: u32 = 128;
const LONE_APPENDS: usize = 500;
/// Appends under way at a time in the second bulk figure: what a writer that encodes beside the log has.
const AT_ONCE: u32 = 4;

pub async fn appends(report: &mut Report) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = LocalLog::open(Env::real(), &directory.path().join("log"), LogSettings::default())?;
    let config = TopicConfig { partitions: 1, cleanup: Cleanup::Delete, retention_ms: None, retention_bytes: None };
    log.create_topic(TOPIC, config).await?;
    let large = batch(1 << 20);
    // Warm both, then disk and log in turn: its rate changes from second to second.
    let (mut limit, mut one, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..4 {
        let rates =
            (disk::bulk_mib_per_second(directory.path())?, bulk(&log, &large, 1).await?, bulk(&log, &large, AT_ONCE).await?);
        if round > 0 {
            limit.push(rates.0);
            one.push(rates.1);
            more.push(rates.2);
        }
    }
    let (limit, one, more) = (median(limit), median(one), median(more));
    let ratio = one / limit;
    report.add(Row {
        what: "log append, 1 MiB, fsync, against the disk's own rate",
        figure: format!("{ratio:.2}"),
        floor: ">= 0.5",
        met: ratio >= 0.5,
        terms: format!(
            "in process, one at a time {one:.0} MiB/s, {AT_ONCE} under way {more:.0} MiB/s; write + fdatasync of 1 MiB {limit:.0} MiB/s"
        ),
    });
    let small = batch(100);
    let (mut syncs, mut lone) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        syncs.push(disk::lone_sync_ms(directory.path())?);
        lone.push(lone_ms(&log, &small).await?);
    }
    let (sync, lone) = (median(syncs), median(lone));
    report.add(Row {
        what: "log append, lone, above one fdatasync",
        figure: format!("{:.2} ms", lone - sync),
        floor: "<= 0.5 ms",
        met: lone - sync <= 0.5,
        terms: format!("100 bytes, median: {lone:.2} ms, fdatasync of 4 KiB {sync:.2} ms"),
    });
    log.close().await;
    Ok(())
}

/// A record batch of about this many bytes that do not compress.
fn batch(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let value: Vec<u8> = (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let mut builder = RecordBatchBuilder::new(0).uncompressed();
    builder.push(0, Some(b"key"), Some(&value), &[]);
    builder.finish()
}

fn append(batches: &Bytes) -> Vec<PartitionAppend> {
    vec![PartitionAppend { to: TopicPartition::new(TOPIC, 0), batches: batches.clone(), records: 1 }]
}

async fn bulk(log: &Arc<LocalLog>, batches: &Bytes, at_once: u32) -> Result<f64> {
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..at_once {
        let (log, batches) = (log.clone(), batches.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..BULK_APPENDS / at_once {
                log.append(append(&batches), None).await?;
            }
            Ok::<_, mainstem_testkit::Failure>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(f64::from(BULK_APPENDS) / started.elapsed().as_secs_f64())
}

async fn lone_ms(log: &Arc<LocalLog>, batches: &Bytes) -> Result<f64> {
    let mut times = Vec::with_capacity(LONE_APPENDS);
    for _ in 0..LONE_APPENDS {
        let started = Instant::now();
        log.append(append(batches), None).await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
