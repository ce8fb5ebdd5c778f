//! The same statements on the source and on Mainstem: same rows as text, or the same SQLSTATE.
//!
//! `same_answers.sql` has one statement a line. A line `-- differs: reason` marks the next statement as a known difference; it must still
//! differ, so that the list stays true. `-- since 15` marks one that older servers do not know.

use mainstem_testkit::{Mainstem, MainstemOptions, Postgres, sakila};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Rows as text, or the error's SQLSTATE.
async fn answer(client: &Client, sql: &str) -> Vec<String> {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => return vec![format!("ERROR {}", error.code().map_or("?", |state| state.code()))],
    };
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_postgres() {
    let postgres = Postgres::start_default().unwrap();
    let url = sakila::load(&postgres).unwrap();
    let (source, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    source.batch_execute(include_str!("kinds.sql")).await.unwrap();
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    let copy = mainstem.capture("shop", &url).await.unwrap();
    copy.batch_execute("SET search_path = shop").await.unwrap();
    let version = answer(&source, "SELECT current_setting('server_version_num')::int / 10000").await;
    let version: u32 = version.first().and_then(|text| text.parse().ok()).unwrap();
    let (mut wrong, mut known, mut since, mut asked) = (Vec::new(), None, 0, 0);
    for line in include_str!("same_answers.sql").lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(reason) = line.strip_prefix("-- differs: ") {
            known = Some(reason);
            continue;
        }
        if let Some(first) = line.strip_prefix("-- since ") {
            since = first.parse().unwrap();
            continue;
        }
        if version < std::mem::take(&mut since) {
            continue;
        }
        asked += 1;
        let (expected, found) = (answer(&source, line).await, answer(&copy, line).await);
        match known.take() {
            None if expected != found => wrong.push(format!("{line}\n  Postgres {expected:?}\n  Mainstem {found:?}")),
            Some(reason) if expected == found => wrong.push(format!("{line}\n  no longer differs ({reason})")),
            _ => {}
        }
    }
    connection.abort();
    assert!(asked > 100 && wrong.is_empty(), "{} of {asked} statements:\n{}", wrong.len(), wrong.join("\n"));
}
