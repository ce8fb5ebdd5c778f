//! Commands that need no running server: the pre-flight of a database, and looking into a data directory.

use crate::codes;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::registry;
use mainstem_connector::{Severity, SourceSettings, no_connector};
use mainstem_env::Env;
use mainstem_eventlog::{EventLog, PartitionInfo, PartitionReader};
use mainstem_log::LocalLog;
use mainstem_types::{Error, Result, SourceName};
use std::process::ExitCode;
use std::sync::Arc;

/// `mainstem check URL`: exit code 1 when capture would fail.
pub async fn check(env: Env, config: &Config, url: &str, name: &str, options: &[String]) -> Result<ExitCode> {
    let url = match url.strip_prefix("env:") {
        Some(name) => std::env::var(name)
            .map_err(|_| Error::fix(codes::NO_SOURCE_URL, format!("environment variable {name} is not set")))?,
        None => url.to_string(),
    };
    let connectors = registry::connectors();
    let connector = connectors.iter().find(|c| c.accepts(&url));
    let connector = connector.ok_or_else(|| no_connector(codes::CHECK_FAILED, &url, &connectors))?;
    let name = SourceName::new(name).map_err(|e| Error::fix(codes::CHECK_FAILED, e))?;
    let form = |given: &String| {
        let (option, value) = given.split_once('=').ok_or_else(|| {
            Error::fix(codes::CHECK_FAILED, format!("`--with {given}` has no value")).hint("Write --with OPTION=VALUE.")
        })?;
        Ok((option.trim().to_string(), value.trim().to_string()))
    };
    let options = connector.spec().check(options.iter().map(form).collect::<Result<_>>()?)?;
    // The directory is asked for its free space only.
    let spool_dir = Some(config.data.join("spool"));
    let settings = SourceSettings { name, url, options, owned: Default::default(), spool_dir };
    let source = connector.open(env, settings)?;
    let findings = source.check().await?;
    for finding in &findings {
        let word = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Fatal => "error",
        };
        println!("{word}[{}]: {}", finding.code, finding.message);
        if let Some(fix) = &finding.fix {
            println!("  fix: {fix}");
        }
    }
    if let Some(script) = source.administrator_script(&findings).await? {
        println!("\nWhat an administrator can run once, so that no more rights are needed:\n\n{script}");
    }
    let fatal = findings.iter().any(|f| f.severity == Severity::Fatal);
    println!("{}", if fatal { "not ready: fix what is marked as error" } else { "ready to be captured" });
    Ok(if fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub fn open(env: Env, config: &Config) -> Result<(DataDir, Arc<LocalLog>)> {
    let data = DataDir::open(&env, &config.data)?;
    let log = LocalLog::open(env, &data.path.join("log"), config.log.clone())?;
    Ok((data, log))
}

pub async fn list(env: Env, config: &Config) -> Result<()> {
    let (_data, log) = open(env, config)?;
    for p in log.partitions() {
        println!("{}\toffsets {} to {}\t{} bytes", p.at, p.start, p.end, p.bytes);
    }
    log.close().await;
    Ok(())
}

pub async fn describe(env: Env, config: &Config, topic: &str) -> Result<()> {
    let (_data, log) = open(env, config)?;
    for p in partitions(&log, topic)? {
        println!("{}\tstart {}\tend {}\tbytes {}\tcleanup.policy {:?}", p.at, p.start, p.end, p.bytes, p.config.cleanup);
    }
    log.close().await;
    Ok(())
}

/// One line a record: offset, time, key and value as text where they are text, else as hexadecimal digits.
pub async fn read(env: Env, config: &Config, topic: &str) -> Result<()> {
    let (_data, log) = open(env, config)?;
    for p in partitions(&log, topic)? {
        let mut reader = PartitionReader::new(&*log, p.at.clone(), p.start);
        while reader.next() < p.end {
            let Some(records) = reader.records().await? else { break };
            for record in records {
                println!(
                    "{}\t{}\t{}\t{}\t{}",
                    p.at,
                    record.offset,
                    record.time_ms,
                    shown(record.key.as_deref()),
                    shown(record.value.as_deref())
                );
            }
        }
    }
    log.close().await;
    Ok(())
}

fn shown(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_string(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(|c: char| c.is_control()) => text.to_string(),
            _ => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        },
    }
}

fn partitions(log: &LocalLog, topic: &str) -> Result<Vec<PartitionInfo>> {
    let found: Vec<_> = log.partitions().into_iter().filter(|p| p.at.topic.as_ref() == topic).collect();
    match found.is_empty() {
        true => Err(Error::fix(codes::CHECK_FAILED, format!("there is no topic `{topic}`")).hint("Run `mainstem topic list`.")),
        false => Ok(found),
    }
}

/// Reads every record of the log: batch checksums are compared on the way. Exit code 1 when something is damaged.
pub async fn verify(env: Env, config: &Config) -> Result<ExitCode> {
    let (_data, log) = open(env, config)?;
    let mut damaged = 0;
    for p in log.partitions() {
        match verify_partition(&log, &p).await {
            Ok(count) => println!("ok       {}\t{count} records", p.at),
            Err(error) => {
                damaged += 1;
                println!("DAMAGED  {}\t{}", p.at, error.chain());
            }
        }
    }
    log.close().await;
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify_partition(log: &LocalLog, p: &PartitionInfo) -> Result<u64> {
    let (mut reader, mut count) = (PartitionReader::new(log, p.at.clone(), p.start), 0);
    while reader.next() < p.end {
        let records = reader.records().await?;
        let none = || Error::corrupt(codes::DAMAGED, format!("nothing can be read at offset {}", reader.next()));
        count += records.ok_or_else(none)?.len() as u64;
    }
    Ok(count)
}
