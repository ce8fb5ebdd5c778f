//! What generators of SQL send is answered, however long a chain or deep a nesting they make, and nothing panics.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // a test builds its world by hand

#[allow(dead_code)] // it has more than is needed here
mod world;

use futures::StreamExt;
use mainstem_query::metrics;
use mainstem_testkit::shapes::{self, Shape};
use mainstem_types::Result;
use mainstem_types::sql::{Outcome, SqlSession};
use std::sync::Arc;
use world::World;

/// Runs every statement of a text to its end.
async fn run(session: &Arc<dyn SqlSession>, sql: &str) -> Result<()> {
    for statement in session.split(sql)? {
        if let Outcome::Rows { mut batches, .. } = session.prepare(&statement, &[]).await?.execute(Vec::new()).await? {
            while let Some(batch) = batches.next().await {
                batch?;
            }
        }
    }
    Ok(())
}

/// What is wrong with a shape at the size that must be answered.
async fn check(session: &Arc<dyn SqlSession>, Shape { name, answered, sql }: &Shape) -> Option<String> {
    if *answered == 0 {
        return None;
    }
    let error = run(session, &sql(*answered)).await.err()?;
    Some(format!("{name} {answered}: {error:?}"))
}

fn check_all(shapes: &[Shape]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wrong = runtime.block_on(async {
        let world = World::new();
        let mut wrong = Vec::new();
        for shape in shapes {
            wrong.extend(check(&world.session().await, shape).await);
        }
        wrong
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(metrics::PANICS.get(), 0);
}

#[test]
fn texts_of_the_sizes_that_clients_send_are_answered() {
    check_all(shapes::texts());
}
