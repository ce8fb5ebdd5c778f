//! Relations as `pg_catalog` shows them now, and the type of ours for each column (`docs/rfcs/0005-types.md`). Read in one snapshot,
//! so that columns, indexes and tables agree.

use crate::metrics;
use crate::shown::{self, Shown};
use crate::wire::{Cells, Row, Session, quote_name, quote_text};
use mainstem_types::{Column, ColumnId, ColumnType, Identity, Result, TableBody, TableName, TableSchema, UpstreamId};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A relation that could be captured, or whose absence needs a reason.
#[derive(Clone, Debug)]
pub struct Relation {
    pub oid: u32,
    pub name: TableName,
    /// `pg_class.relkind`.
    pub kind: u8,
    /// `p`ermanent, `u`nlogged, `t`emporary.
    pub persistence: u8,
    /// `pg_class.relreplident`.
    pub replica_identity: u8,
    pub filenode: u32,
    pub rows_estimated: Option<i64>,
    /// Directly above it, in the order in which it inherits.
    pub parents: Vec<u32>,
    pub row_security: bool,
    pub columns: Vec<CatalogColumn>,
    /// Generated columns, which the log does not carry.
    pub generated: Vec<(ColumnId, String)>,
    /// By what the values of columns are printed beside themselves; known after a read of the whole catalog only.
    pub shown: BTreeMap<ColumnId, BTreeSet<u32>>,
    /// Some are printed as names of catalog entries.
    pub shows_names: bool,
    indexes: Vec<Index>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogColumn {
    pub column: Column,
    /// As the log names it: a domain's own oid.
    pub type_oid: u32,
    pub type_modifier: i32,
    /// The transaction that last changed its row in `pg_attribute`.
    pub changed_by: u32,
}

#[derive(Clone, Debug)]
struct Index {
    primary: bool,
    replica_identity: bool,
    immediate: bool,
    columns: Vec<ColumnId>,
}

const RELATIONS: &str = "SELECT 'r', c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, \
    coalesce(pg_relation_filenode(c.oid), 0), c.reltuples::bigint, \
    (SELECT string_agg(i.inhparent::text, ' ' ORDER BY i.inhseqno) FROM pg_inherits i WHERE i.inhrelid = c.oid), c.relrowsecurity \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r','p','v','m','f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

const COLUMNS: &str = "SELECT 'c', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '', \
    CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END, t.typname, tn.nspname, t.typtype, \
    e.typname, en.nspname, a.xmin \
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace \
    LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' LEFT JOIN pg_namespace en ON en.oid = e.typnamespace \
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r','p','v','m','f') \
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

const INDEXES: &str = "SELECT 'i', i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate, i.indkey::text, i.indnkeyatts \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE i.indisunique AND i.indisvalid AND i.indislive AND i.indpred IS NULL AND i.indexprs IS NULL \
    AND c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

const DOMAINS: &str = "SELECT 'd', t.oid, t.typbasetype, t.typtypmod, b.typname, bn.nspname, b.typtype, e.typname, en.nspname \
    FROM pg_type t JOIN pg_type b ON b.oid = t.typbasetype JOIN pg_namespace bn ON bn.oid = b.typnamespace \
    LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A' LEFT JOIN pg_namespace en ON en.oid = e.typnamespace \
    WHERE t.typtype = 'd'";

/// A text that is another one when anything changed that `read` shows (statistics apart) or that is in these publications: the
/// transactions that wrote those catalog rows, hashed by the server. Temporary tables, which come and go all the time, do not count.
/// `names`: values are printed as names of catalog entries, so that all names count.
pub async fn fingerprint(session: &mut Session, publications: &[String], names: bool) -> Result<String> {
    let publications: Vec<String> = publications.iter().map(|p| quote_text(p)).collect();
    let publications = publications.join(", ");
    let hash = |row: &str, seed: &str| format!("coalesce(bit_xor(hashtextextended({row}.xmin::text, {seed})), 0), count(*)");
    let sql = format!(
        "WITH c AS MATERIALIZED (SELECT oid, xmin FROM pg_class WHERE oid >= 16384 AND relkind IN ('r','p','v','m','f','c') \
         AND relpersistence <> 't') SELECT concat_ws(' ', \
         (SELECT concat_ws(' ', {}) FROM c), \
         (SELECT concat_ws(' ', {}) FROM pg_attribute a JOIN c ON c.oid = a.attrelid WHERE a.attnum > 0), \
         (SELECT concat_ws(' ', {}) FROM pg_index i JOIN c ON c.oid = i.indrelid), \
         (SELECT concat_ws(' ', {}) FROM pg_type t WHERE t.oid >= 16384 AND t.typtype IN ('b','d','e','r','m') AND t.typcategory <> 'A'), \
         (SELECT concat_ws(' ', {}) FROM pg_namespace n WHERE n.nspname !~ '^pg_'), \
         (SELECT concat_ws(' ', {}) FROM pg_inherits h), \
         (SELECT concat_ws(' ', {}) FROM pg_publication p WHERE p.pubname IN ({publications})), \
         (SELECT concat_ws(' ', {}) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
         WHERE p.pubname IN ({publications})), (SELECT concat_ws(' ', {}) FROM pg_enum e){})",
        hash("c", "c.oid::bigint"),
        hash("a", "a.attrelid::bigint * 2048 + a.attnum"),
        hash("i", "i.indexrelid::bigint"),
        hash("t", "t.oid::bigint"),
        hash("n", "n.oid::bigint"),
        hash("h", "h.inhrelid::bigint"),
        hash("p", "p.oid::bigint"),
        hash("r", "r.oid::bigint"),
        hash("e", "e.oid::bigint"),
        if names { shown::names_fingerprint(hash) } else { String::new() },
    );
    let row = session.query_one(&sql).await?;
    Ok(Cells(&row).text(0)?.to_string())
}

/// All relations outside system schemas, by oid; or those of `only`.
pub async fn read(session: &mut Session, only: Option<&[u32]>) -> Result<BTreeMap<u32, Relation>> {
    let shown = if only.is_none() { shown::statement() } else { String::new() };
    let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}; {shown}; COMMIT", statements(only));
    let rows = session.query(&sql).await?;
    if only.is_none() {
        metrics::CATALOG_READS.add(1);
    }
    relations(rows)
}

/// The same in the session's open transaction, as its snapshot shows them.
pub async fn read_within(session: &mut Session, only: &[u32]) -> Result<BTreeMap<u32, Relation>> {
    relations(session.query(&statements(Some(only))).await?)
}

fn statements(only: Option<&[u32]>) -> String {
    let list = only.map(|oids| oids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "));
    let and = |column: &str| list.as_ref().map_or(String::new(), |list| format!(" AND {column} IN ({list})"));
    format!(
        "{DOMAINS}; {RELATIONS}{}; {COLUMNS}{} ORDER BY a.attrelid, a.attnum; {INDEXES}{} ORDER BY i.indrelid, i.indexrelid",
        and("c.oid"),
        and("a.attrelid"),
        and("i.indrelid")
    )
}

fn relations(rows: Vec<Row>) -> Result<BTreeMap<u32, Relation>> {
    let mut domains = HashMap::new();
    let mut relations = BTreeMap::new();
    let mut shown = Shown::default();
    for row in rows {
        let cells = Cells(&row);
        match cells.text(0)? {
            "d" => {
                domains.insert(cells.number(1)?, Domain::read(&cells)?);
            }
            "r" => {
                let relation = Relation::read(&cells)?;
                relations.insert(relation.oid, relation);
            }
            "c" => {
                let oid = cells.number(1)?;
                if let Some(relation) = relations.get_mut(&oid) {
                    relation.add_column(&cells, &domains)?;
                }
            }
            "i" => {
                let oid = cells.number(1)?;
                if let Some(relation) = relations.get_mut(&oid) {
                    relation.indexes.push(Index::read(&cells)?);
                }
            }
            _ => shown.add(&cells)?,
        }
    }
    for relation in relations.values_mut() {
        for column in &relation.columns {
            if let Some(by) = shown.by(column.type_oid) {
                relation.shows_names |= by.names;
                relation.shown.insert(column.column.id, by.facts);
            }
        }
    }
    Ok(relations)
}

struct Domain {
    base: u32,
    modifier: i32,
    base_type: TypeName,
}

#[derive(Clone)]
struct TypeName {
    schema: String,
    name: String,
    element: Option<(String, String)>,
    /// `b`ase, `e`num, `d`omain, ...
    class: u8,
}

impl TypeName {
    /// `int4`, `public.mpaa_rating`, `int4[]`.
    fn shown(&self) -> String {
        let qualified = |schema: &str, name: &str| match schema {
            "pg_catalog" => name.to_string(),
            _ => format!("{schema}.{name}"),
        };
        match &self.element {
            Some((schema, name)) => format!("{}[]", qualified(schema, name)),
            None => qualified(&self.schema, &self.name),
        }
    }

    /// What it is held as. Whatever has no type of its own is its exact text.
    fn kind(&self, modifier: i32) -> ColumnType {
        if self.schema != "pg_catalog" {
            return ColumnType::Text;
        }
        match self.name.as_str() {
            "bool" => ColumnType::Bool,
            "int2" => ColumnType::Int16,
            "int4" => ColumnType::Int32,
            "int8" => ColumnType::Int64,
            "float4" => ColumnType::Float32,
            "float8" => ColumnType::Float64,
            "bytea" => ColumnType::Bytes,
            "date" => ColumnType::Date,
            "time" => ColumnType::Time,
            "timestamp" => ColumnType::Timestamp,
            "timestamptz" => ColumnType::TimestampTz,
            "numeric" => numeric(modifier),
            _ => ColumnType::Text,
        }
    }
}

/// numeric(p,s) with 1 <= p <= 38 and 0 <= s <= p is exact in 128 bits; any other numeric is its text.
fn numeric(modifier: i32) -> ColumnType {
    if modifier < 4 {
        return ColumnType::Text;
    }
    let precision = ((modifier - 4) >> 16) & 0xffff;
    // Since 15 the scale is signed, in 11 bits.
    let scale = (((modifier - 4) & 0x7ff) ^ 1024) - 1024;
    if (1..=38).contains(&precision) && (0..=precision).contains(&scale) {
        return ColumnType::Decimal { precision: precision as u8, scale: scale as i8 };
    }
    ColumnType::Text
}

impl Domain {
    fn read(cells: &Cells<'_>) -> Result<Self> {
        let element = cells.get(7).zip(cells.get(8)).map(|(name, schema)| (schema.to_string(), name.to_string()));
        let base_type =
            TypeName { name: cells.text(4)?.to_string(), schema: cells.text(5)?.to_string(), class: cells.byte(6)?, element };
        Ok(Self { base: cells.number(2)?, modifier: cells.number(3)?, base_type })
    }
}

impl Index {
    fn read(cells: &Cells<'_>) -> Result<Self> {
        let count: usize = cells.number(6)?;
        let columns = cells.text(5)?.split_ascii_whitespace().take(count).filter_map(|n| n.parse().ok()).map(ColumnId).collect();
        Ok(Self { primary: cells.flag(2), replica_identity: cells.flag(3), immediate: cells.flag(4), columns })
    }
}

impl Relation {
    fn read(cells: &Cells<'_>) -> Result<Self> {
        let rows: i64 = cells.number(8)?;
        Ok(Self {
            oid: cells.number(1)?,
            name: TableName::new(cells.text(2)?, cells.text(3)?),
            kind: cells.byte(4)?,
            persistence: cells.byte(5)?,
            replica_identity: cells.byte(6)?,
            filenode: cells.number(7)?,
            rows_estimated: (rows >= 0).then_some(rows),
            parents: cells.get(9).unwrap_or("").split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect(),
            row_security: cells.flag(10),
            columns: Vec::new(),
            generated: Vec::new(),
            shown: BTreeMap::new(),
            shows_names: false,
            indexes: Vec::new(),
        })
    }

    fn add_column(&mut self, cells: &Cells<'_>, domains: &HashMap<u32, Domain>) -> Result<()> {
        let name = cells.text(3)?;
        if cells.flag(7) {
            self.generated.push((ColumnId(cells.number(2)?), name.to_string()));
            return Ok(());
        }
        let type_oid: u32 = cells.number(4)?;
        let type_modifier: i32 = cells.number(5)?;
        let element = cells.get(12).zip(cells.get(13)).map(|(name, schema)| (schema.to_string(), name.to_string()));
        let declared =
            TypeName { name: cells.text(9)?.to_string(), schema: cells.text(10)?.to_string(), class: cells.byte(11)?, element };
        // A domain is held as what it stands on and keeps its own name.
        let (mut held, mut oid, mut modifier) = (declared.clone(), type_oid, type_modifier);
        while held.class == b'd' {
            let Some(domain) = domains.get(&oid) else { break };
            if modifier < 0 {
                modifier = domain.modifier;
            }
            (held, oid) = (domain.base_type.clone(), domain.base);
        }
        self.columns.push(CatalogColumn {
            column: Column {
                id: ColumnId(cells.number(2)?),
                name: name.into(),
                kind: held.kind(modifier),
                not_null: cells.flag(6),
                source_type: declared.shown().into(),
                pg_type: None,
                type_modifier: modifier,
                missing_value: cells.get(8).map(Into::into),
            },
            type_oid,
            type_modifier,
            changed_by: cells.number(14)?,
        });
        Ok(())
    }

    /// Its file, which transactions made its columns what they are, by which entry of a publication its updates come, which columns the log
    /// does not carry, and by what values are printed.
    pub fn body(&self, published: u64) -> TableBody {
        let columns: Vec<u8> =
            self.columns.iter().flat_map(|c| [c.column.id.0.to_be_bytes(), c.changed_by.to_be_bytes()].concat()).collect();
        let digest = Sha256::digest(&columns);
        let columns = digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let hidden = self.generated.iter().map(|(id, _)| *id).collect();
        TableBody { file: u64::from(self.filenode), columns, published, hidden, shown: self.shown.clone() }
    }

    /// Its name as SQL has it.
    pub fn quoted(&self) -> String {
        quoted(&self.name)
    }

    /// Whether all columns are ones that the log carries.
    fn usable(&self, index: &&Index) -> bool {
        index.columns.iter().all(|id| self.columns.iter().any(|c| c.column.id == *id))
    }

    fn primary(&self) -> Option<&Index> {
        self.indexes.iter().find(|i| i.primary && i.immediate).filter(|i| self.usable(i))
    }

    /// By what rows are found again (decision 16). Under FULL old rows come whole, so a primary key serves where there is one.
    pub fn identity(&self) -> Identity {
        let index = match self.replica_identity {
            b'd' | b'f' => self.primary(),
            b'i' => self.indexes.iter().find(|i| i.replica_identity && i.immediate).filter(|i| self.usable(i)),
            _ => None,
        };
        match index {
            Some(index) => Identity::Key { columns: index.columns.clone() },
            None if self.replica_identity == b'f' => Identity::WholeRow,
            None => Identity::AppendOnly,
        }
    }

    /// Debezium's choice: the primary key, else the first unique index over columns that cannot be NULL.
    fn record_key(&self) -> Vec<ColumnId> {
        let not_null =
            |i: &&Index| i.columns.iter().all(|id| self.columns.iter().any(|c| c.column.id == *id && c.column.not_null));
        let primary = self.indexes.iter().find(|i| i.primary);
        primary
            .or_else(|| self.indexes.iter().find(not_null))
            .filter(|i| self.usable(i))
            .map_or(Vec::new(), |i| i.columns.clone())
    }

    pub fn schema(&self, version: u32) -> TableSchema {
        TableSchema {
            upstream: UpstreamId(u64::from(self.oid)),
            name: self.name.clone(),
            version,
            columns: self.columns.iter().map(|c| c.column.clone()).collect(),
            identity: self.identity(),
            record_key: self.record_key(),
        }
    }

    /// Why it cannot be captured at all; None when it can.
    pub fn excluded(&self) -> Option<&'static str> {
        match (self.kind, self.persistence) {
            (b'v', _) => Some("a view: its tables are captured, not itself"),
            (b'm', _) => Some("a materialized view: the log has no changes of it"),
            (b'f', _) => Some("a foreign table: its rows are on another server"),
            (b'p', _) => Some("a partitioned table: its partitions are captured, and it is a view over them"),
            (_, b'u') => Some("unlogged: the log has no changes of it"),
            (_, b't') => Some("temporary"),
            _ if self.columns.is_empty() => Some("it has no column that the log carries"),
            _ => None,
        }
    }
}

/// A table's name as SQL has it.
pub fn quoted(name: &TableName) -> String {
    format!("{}.{}", quote_name(&name.schema), quote_name(&name.name))
}

/// All relations above one in a tree of partitions or inheritance, the nearest first.
pub fn ancestors(relations: &BTreeMap<u32, Relation>, oid: u32) -> Vec<&Relation> {
    let mut found: Vec<&Relation> = Vec::new();
    let mut below = relations.get(&oid);
    let mut next = 0;
    while let Some(relation) = below {
        for parent in relation.parents.iter().filter_map(|oid| relations.get(oid)) {
            if !found.iter().any(|known| known.oid == parent.oid) {
                found.push(parent);
            }
        }
        below = found.get(next).copied();
        next += 1;
    }
    found
}

/// `schema` behind an Arc with another version.
pub fn versioned(mut schema: TableSchema, version: u32) -> Arc<TableSchema> {
    schema.version = version;
    Arc::new(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_modifiers() {
        let modifier = |p: i32, s: i32| ((p << 16) | (s & 0x7ff)) + 4;
        let check = |p, s, expected| assert_eq!(numeric(modifier(p, s)), expected, "numeric({p},{s})");
        check(10, 2, ColumnType::Decimal { precision: 10, scale: 2 });
        check(38, 38, ColumnType::Decimal { precision: 38, scale: 38 });
        check(39, 0, ColumnType::Text);
        check(5, -2, ColumnType::Text);
        check(2, 4, ColumnType::Text);
        assert_eq!(numeric(-1), ColumnType::Text);
    }
}
