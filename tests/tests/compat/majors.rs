//! The main job with every major of PostgreSQL that is installed (Debian's directories): random changes, then equal by content.

use mainstem_testkit::chaos::{Chaos, ChaosOptions, create_tables};
use mainstem_testkit::compare::{Naming, compare};
use mainstem_testkit::mainstem::wait_for_source;
use mainstem_testkit::postgres::installed;
use mainstem_testkit::{Mainstem, MainstemOptions, Postgres, PostgresOptions};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_installed_major_is_captured() {
    let majors = installed();
    assert!(!majors.is_empty(), "no PostgreSQL in /usr/lib/postgresql");
    for (major, binaries) in majors {
        println!("PostgreSQL {major}");
        let postgres = Postgres::start(PostgresOptions { binaries: Some(binaries), ..Default::default() }).unwrap();
        postgres.create_database("shop").unwrap();
        let source = postgres.connect("shop").await.unwrap();
        create_tables(&source).await.unwrap();
        let mainstem = Mainstem::start(MainstemOptions::default().flush_every_ms(1000)).unwrap();
        let copy = mainstem.capture("shop", &postgres.url("shop")).await.unwrap();
        let chaos = Chaos::start(postgres.config("shop"), ChaosOptions { large_rows: 5000, ..Default::default() });
        chaos.progress(500).await.unwrap();
        chaos.stop().await.unwrap();
        wait_for_source(&copy, "shop", Duration::from_secs(120)).await.unwrap();
        if let Err(error) = compare(&source, &copy, &Naming::Source("shop".into())).await {
            panic!("PostgreSQL {major}: the warehouse differs from its source:\n{error}");
        }
    }
}
