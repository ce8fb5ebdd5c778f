//! The real psql, psycopg 3 and asyncpg against the Postgres door.

use mainstem_testkit::{Mainstem, MainstemOptions, Postgres, sakila};
use std::path::Path;
use std::process::Command;

/// Runs commands in psql and returns all that it printed; fails on an error in any.
fn psql(postgres: &Postgres, mainstem: &Mainstem, text: &str) -> String {
    // The program of the fixture's version; the address is the server's.
    let mut command = postgres.tool("psql", "main");
    command.env_remove("PGHOST").env_remove("PGPORT").env_remove("PGUSER");
    command.args(["-X", "-v", "ON_ERROR_STOP=1", "-c", text]).arg("-d").arg(mainstem.url());
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !printed.contains("ERROR"), "{text}: {printed}");
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_drivers_are_at_home() {
    let postgres = Postgres::start_default().unwrap();
    let url = sakila::load(&postgres).unwrap();
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    mainstem.capture("shop", &url).await.unwrap();
    let check = |text: &str, words: &[&str]| {
        let printed = psql(&postgres, &mainstem, text);
        for word in words {
            assert!(printed.contains(word), "{text}: {word:?} is not in:\n{printed}");
        }
    };
    check("\\l", &["main"]);
    check("\\dn", &["shop", "mainstem"]);
    check("\\dt shop.*", &["film", "rental", "customer"]);
    check("\\d shop.film", &["film_id", "integer", "title", "rental_rate", "numeric(4,2)", "timestamp without time zone"]);
    check("\\d shop.payment", &["amount", "numeric(5,2)"]);
    check("\\d shop.film_actor", &["Indexes:", "\"film_actor_pkey\" PRIMARY KEY, btree (actor_id, film_id)"]);
    check("\\di shop.*", &["film_pkey", "index"]);
    check("\\dt+ shop.film", &["film", "table"]);
    check("\\l+", &["main"]);
    // A parent of partitions is a table with its parts, and has a definition.
    check("\\dt shop.payment", &["payment", "table"]);
    check("\\d+ shop.payment", &["amount", "Child tables:", "shop.payment_p2007_01"]);
    check("\\d shop.payment_p2007_01", &["Inherits: shop.payment"]);
    check("SELECT pg_get_viewdef('shop.payment'::regclass)", &["FROM shop.payment_p2007_01"]);
    // Its partitions have no key.
    check(
        "SELECT changes, changes_hint FROM mainstem.source_tables WHERE table_name = 'payment_p2007_01'",
        &["inserts only", "ALTER TABLE \"public\".\"payment_p2007_01\" REPLICA IDENTITY FULL;"],
    );
    check("SELECT changes, changes_hint IS NULL AS fine FROM mainstem.source_tables WHERE table_name = 'film'", &["all", "t"]);
    check("SELECT count(*) FROM shop.payment_p2007_01", &["NOTICE:  shop.payment_p2007_01 shows inserts only"]);
    check(
        "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey) \
         WHERE indrelid = 'shop.film_actor'::regclass AND indisprimary",
        &["actor_id", "film_id"],
    );
    check(
        "SELECT column_name FROM information_schema.key_column_usage WHERE table_name = 'film_actor'",
        &["actor_id", "film_id"],
    );
    check("BEGIN; SAVEPOINT a; ROLLBACK TO a; COMMIT", &["COMMIT"]);
    check("\\d", &["film"]);
    check("\\conninfo", &["main"]);
    check("SHOW SOURCES", &["shop", "streaming"]);
    check("SELECT count(*) FROM shop.film", &["1000"]);
    check("SELECT count(*) FROM shop.payment", &["16049"]);
    check("SELECT sum(amount) FROM shop.payment p JOIN shop.rental r USING (rental_id)", &["67416.51"]);
    check("SET search_path = shop; SELECT title FROM film WHERE film_id = 1", &["ACADEMY DINOSAUR"]);
    check("SELECT table_schema, table_name FROM information_schema.tables WHERE table_name = 'film'", &["shop"]);

    let python = std::env::var("MAINSTEM_TEST_PYTHON").expect("MAINSTEM_TEST_PYTHON: `cargo xtask test` makes and names it");
    for script in ["psycopg_client.py", "asyncpg_client.py"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
        let output = Command::new(&python).arg(script).arg(mainstem.url()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
