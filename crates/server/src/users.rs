//! Who may log in: SCRAM verifiers in `_mainstem.users`. `admin` is the only user yet.

use crate::codes;
use mainstem_env::Env;
use mainstem_eventlog::{Cleanup, EventLog, PartitionAppend, RecordBatchBuilder, TopicConfig, TopicPartition, records};
use mainstem_pgwire::Credentials;
use mainstem_pgwire::scram::{ITERATIONS, Verifier};
use mainstem_types::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

const USER_TOPIC: &str = "_mainstem.users";
pub const ADMIN: &str = "admin";

/// All users with their verifiers; no password is kept.
pub struct Users(BTreeMap<String, Verifier>);

impl Credentials for Users {
    fn verifier(&self, user: &str) -> Option<Verifier> {
        self.0.get(user).cloned()
    }
}

/// Reads the users; makes `admin` at the first start. Returns the password that was made and is shown once, if one was.
pub async fn open(env: &Env, log: &Arc<dyn EventLog>, given: Option<String>) -> Result<(Users, Option<String>)> {
    let config = TopicConfig { partitions: 1, cleanup: Cleanup::Compact, retention_ms: None, retention_bytes: None };
    log.create_topic(USER_TOPIC, config).await?;
    let mut users = read(&**log).await?;
    if users.contains_key(ADMIN) {
        return Ok((Users(users), None));
    }
    let (password, made) = match given {
        Some(password) => (password, None),
        None => {
            let password: String = env.random::<12>().iter().map(|b| format!("{b:02x}")).collect();
            (password.clone(), Some(password))
        }
    };
    let verifier = Verifier::new(&password, env.random(), ITERATIONS);
    let now_ms = env.clock.now_us() / 1000;
    let mut batch = RecordBatchBuilder::new(now_ms);
    batch.push(now_ms, Some(ADMIN.as_bytes()), Some(verifier.to_string().as_bytes()), &[]);
    let part = PartitionAppend { to: TopicPartition::new(USER_TOPIC, 0), records: batch.records(), batches: batch.finish() };
    log.append(vec![part], None).await?;
    users.insert(ADMIN.to_string(), verifier);
    Ok((Users(users), made))
}

async fn read(log: &dyn EventLog) -> Result<BTreeMap<String, Verifier>> {
    let damaged = || Error::corrupt(codes::USERS, format!("a record of {USER_TOPIC} cannot be read"));
    let at = TopicPartition::new(USER_TOPIC, 0);
    let mut users = BTreeMap::new();
    let mut offset = 0;
    loop {
        let fetched = log.read(&at, offset, 1 << 20).await?;
        if fetched.batches.is_empty() {
            return Ok(users);
        }
        for record in records(&fetched.batches)? {
            offset = record.offset + 1;
            let (Some(key), Some(value)) = (record.key, record.value) else { continue };
            let text = std::str::from_utf8(&value).map_err(|_| damaged())?;
            let verifier = text.parse().map_err(|_| damaged())?;
            users.insert(String::from_utf8_lossy(&key).into_owned(), verifier);
        }
    }
}
