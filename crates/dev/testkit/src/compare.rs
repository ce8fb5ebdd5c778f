//! Compares every table of a source with its copy by content, over SQL on both sides.
//!
//! Rows come as text through the simple protocol: the source's own text form of every value is what the copy has to show. Order does
//! not matter; a table is summed up as count and sum of row hashes, and read again row by row only when those differ.

use crate::Result;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Where a table of the source is on the other side.
#[derive(Clone, Debug)]
pub enum Naming {
    /// Under the same name: Postgres against Postgres.
    Same,
    /// As live table of this source: `public.film` is `shop.film`, `sales.orders` is `shop_sales.orders`.
    Source(String),
}

impl Naming {
    pub fn of(&self, schema: &str, table: &str) -> String {
        match self {
            Naming::Same => format!("{}.{}", quote(schema), quote(table)),
            Naming::Source(name) if schema == "public" => format!("{}.{}", quote(name), quote(table)),
            Naming::Source(name) => format!("{}.{}", quote(&format!("{name}_{schema}")), quote(table)),
        }
    }
}

/// What was compared and found equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    pub tables: u64,
    pub rows: u64,
}

/// A table of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub name: String,
    pub columns: Vec<String>,
}

/// Fails with the first differing rows of every table that differs, or when a table is missing. Nothing may change meanwhile.
pub async fn compare(source: &Client, copy: &Client, naming: &Naming) -> Result<Compared> {
    compare_where(source, copy, naming, |_| true).await
}

/// The same for some of the tables.
pub async fn compare_where(source: &Client, copy: &Client, naming: &Naming, wanted: impl Fn(&Table) -> bool) -> Result<Compared> {
    pin(source).await?;
    // The copy's forms are the defaults; it need not know every setting.
    let _ = copy.batch_execute("SET TimeZone = 'UTC'").await;
    let mut compared = Compared::default();
    let mut differences = Vec::new();
    for table in tables(source).await?.into_iter().filter(wanted) {
        match compare_table(source, copy, naming, &table).await {
            Ok(rows) => {
                compared.tables += 1;
                compared.rows += rows;
            }
            Err(error) => differences.push(format!("{}.{}: {}", table.schema, table.name, describe(&error))),
        }
    }
    if differences.is_empty() { Ok(compared) } else { Err(differences.join("\n").into()) }
}

async fn pin(source: &Client) -> Result<()> {
    source
        .batch_execute(
            "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; \
             SET bytea_output = 'hex'; SET row_security = off; SET lc_monetary = 'C'",
        )
        .await?;
    Ok(())
}

/// Permanent ordinary and partitioned tables outside system schemas, with the columns that are replicated (none generated).
pub async fn tables(source: &Client) -> Result<Vec<Table>> {
    let rows = source
        .query(
            "SELECT n.nspname::text, c.relname::text, \
                    array(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                          AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname NOT LIKE 'pg\\_%' \
               AND n.nspname <> 'information_schema' ORDER BY 1, 2",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|r| Table { schema: r.get(0), name: r.get(1), columns: r.get(2) }).collect())
}

async fn compare_table(source: &Client, copy: &Client, naming: &Naming, table: &Table) -> Result<u64> {
    let theirs = naming.of(&table.schema, &table.name);
    let columns = columns_of(copy, &theirs).await?;
    // Postgres beside Postgres shows generated columns too; a live table has exactly those of the list.
    if columns != table.columns && !(matches!(naming, Naming::Same) && table.columns.iter().all(|c| columns.contains(c))) {
        return Err(format!("columns are {columns:?}, expected {:?}", table.columns).into());
    }
    let list = table.columns.iter().map(|c| quote(c)).collect::<Vec<_>>().join(", ");
    let ours_sql = format!("SELECT {list} FROM {}", Naming::Same.of(&table.schema, &table.name));
    let theirs_sql = format!("SELECT {list} FROM {theirs}");
    let (ours, theirs) = futures::future::try_join(sum(source, &ours_sql), sum(copy, &theirs_sql)).await?;
    if ours == theirs {
        return Ok(ours.0);
    }
    let mut message = format!("source has {} rows, copy has {}", ours.0, theirs.0);
    explain(source, copy, &ours_sql, &theirs_sql, table, &mut message).await?;
    Err(message.into())
}

async fn columns_of(client: &Client, table: &str) -> Result<Vec<String>> {
    for message in client.simple_query(&format!("SELECT * FROM {table} LIMIT 0")).await? {
        if let SimpleQueryMessage::RowDescription(columns) = message {
            return Ok(columns.iter().map(|c| c.name().to_owned()).collect());
        }
    }
    Err("no row description".into())
}

/// Count and order-insensitive checksum of what a query returns.
async fn sum(client: &Client, sql: &str) -> Result<(u64, u64)> {
    let (mut count, mut total) = (0u64, 0u64);
    each_row(client, sql, |row| {
        let mut hasher = DefaultHasher::new();
        for index in 0..row.len() {
            row.get(index).hash(&mut hasher);
        }
        count += 1;
        total = total.wrapping_add(hasher.finish());
    })
    .await?;
    Ok((count, total))
}

async fn each_row(client: &Client, sql: &str, mut see: impl FnMut(&tokio_postgres::SimpleQueryRow)) -> Result<()> {
    let mut stream = std::pin::pin!(client.simple_query_raw(sql).await?);
    while let Some(message) = stream.next().await {
        if let SimpleQueryMessage::Row(row) = message? {
            see(&row);
        }
    }
    Ok(())
}

type Row = Vec<Option<String>>;

async fn explain(source: &Client, copy: &Client, ours: &str, theirs: &str, table: &Table, message: &mut String) -> Result<()> {
    let mut balance: BTreeMap<Row, i64> = BTreeMap::new();
    each_row(source, ours, |row| *balance.entry(owned(row)).or_default() += 1).await?;
    each_row(copy, theirs, |row| *balance.entry(owned(row)).or_default() -= 1).await?;
    balance.retain(|_, n| *n != 0);
    for (what, side) in [("only in the source", 1), ("only in the copy", -1)] {
        let rows: Vec<_> = balance.iter().filter(|(_, n)| n.signum() == side).collect();
        write!(message, "\n  {what}: {} rows", rows.len())?;
        for (row, n) in rows.iter().take(3) {
            write!(message, "\n    {}x {}", n.abs(), show(row, &table.columns))?;
        }
    }
    Ok(())
}

fn owned(row: &tokio_postgres::SimpleQueryRow) -> Row {
    (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()
}

fn show(row: &Row, columns: &[String]) -> String {
    let mut text = String::new();
    for (column, value) in columns.iter().zip(row) {
        let value = match value {
            None => "NULL".to_owned(),
            Some(v) if v.chars().count() > 60 => format!("{:?}... ({} bytes)", v.chars().take(60).collect::<String>(), v.len()),
            Some(v) => format!("{v:?}"),
        };
        let _ = write!(text, "{column}={value} ");
    }
    text
}

/// A database error with its message: `tokio_postgres` prints `db error` alone.
pub fn describe(error: &crate::Failure) -> String {
    match error.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error()) {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

/// An identifier, quoted.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Postgres;

    const TABLES: &str = "CREATE TABLE t (id int, \"Größe\" numeric(10,2), note text, g int GENERATED ALWAYS AS (id + 1) STORED); \
                          CREATE SCHEMA \"Odd S\"; CREATE TABLE \"Odd S\".\"a\"\"b\" (x float8); \
                          INSERT INTO t VALUES (1, 1.50, ''), (1, 1.50, ''), (2, NULL, NULL); INSERT INTO \"Odd S\".\"a\"\"b\" VALUES ('NaN'), (1e300)";

    #[tokio::test]
    async fn finds_every_kind_of_difference() {
        let postgres = Postgres::start_default().unwrap();
        postgres.create_database("ours").unwrap();
        postgres.psql("ours", TABLES).unwrap();
        let source = postgres.connect("ours").await.unwrap();
        let check = async |name: &str, change: &str, expected: Result<Compared, &[&str]>| {
            postgres.create_database(name).unwrap();
            postgres.psql(name, &format!("{TABLES}; {change}")).unwrap();
            let copy = postgres.connect(name).await.unwrap();
            match (compare(&source, &copy, &Naming::Same).await, expected) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
                (Err(error), Err(parts)) => {
                    for part in parts {
                        assert!(error.to_string().contains(part), "{change}: {part:?} is not in {error}");
                    }
                }
                (found, wanted) => panic!("{change}: {found:?}, expected {wanted:?}"),
            }
        };
        check("equal", "SELECT 1", Ok(Compared { tables: 2, rows: 5 })).await;
        // Order does not matter.
        check(
            "order",
            "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 1.50, ''), (1, 1.50, '')",
            Ok(Compared { tables: 2, rows: 5 }),
        )
        .await;
        check(
            "gone",
            "DELETE FROM t WHERE id = 2",
            Err(&["public.t: source has 3 rows, copy has 2", "only in the source: 1 rows", "id=\"2\""]),
        )
        .await;
        check("twice", "INSERT INTO t VALUES (2, NULL, NULL)", Err(&["copy has 4", "only in the copy: 1 rows", "Größe=NULL"]))
            .await;
        check("null", "UPDATE t SET note = '' WHERE id = 2", Err(&["only in the copy: 1 rows", "note=\"\""])).await;
        check("scale", "ALTER TABLE t ALTER \"Größe\" TYPE numeric(10,1)", Err(&["Größe=\"1.5\""])).await;
        // As many rows, the same rows, other multiplicities.
        check(
            "multiset",
            "DELETE FROM t; INSERT INTO t VALUES (1, 1.50, ''), (2, NULL, NULL), (2, NULL, NULL)",
            Err(&["source has 3 rows, copy has 3"]),
        )
        .await;
        check("missing", "DROP TABLE t", Err(&["public.t: relation \"public.t\" does not exist (42P01)"])).await;
        check("column", "ALTER TABLE t DROP COLUMN note", Err(&["columns are", "expected [\"id\", \"Größe\", \"note\"]"])).await;
        check("odd", "UPDATE \"Odd S\".\"a\"\"b\" SET x = 1e301 WHERE x < 'NaN'", Err(&["Odd S.a\"b", "x=\"1e+301\""])).await;
    }

    #[test]
    fn names_live_tables() {
        let shop = Naming::Source("shop".into());
        assert_eq!(shop.of("public", "film"), "\"shop\".\"film\"");
        assert_eq!(shop.of("Sales", "a\"b"), "\"shop_Sales\".\"a\"\"b\"");
    }
}
