//! Sakila, a DVD rental shop: 21 tables, inheritance, an enum, a domain, tsvector, arrays, bytea, triggers; 46,000 rows.

use crate::Result;
use crate::postgres::Postgres;
use std::path::Path;

/// Makes database `sakila` and fills it; returns its URL.
pub fn load(postgres: &Postgres) -> Result<String> {
    load_as(postgres, "sakila")
}

/// The same in a database of another name.
pub fn load_as(postgres: &Postgres, database: &str) -> Result<String> {
    let url = postgres.create_database(database)?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    postgres.execute_script(database, &data.join("sakila-postgres-schema.sql"))?;
    postgres.execute_script(database, &data.join("sakila-postgres-data.sql"))?;
    postgres.psql(database, "ANALYZE")?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_its_rows() {
        let postgres = Postgres::start_default().unwrap();
        load(&postgres).unwrap();
        let count = |table: &str| postgres.psql("sakila", &format!("SELECT count(*) FROM {table}")).unwrap().trim().to_owned();
        for (table, rows) in [("film", "1000"), ("rental", "16044"), ("payment", "16049"), ("customer", "599"), ("actor", "200")]
        {
            assert_eq!(count(table), rows, "{table}");
        }
    }
}
