//! What the printed form of a column's values depends on beside the values: labels of enums, columns of composites, the names behind
//! `reg*` values. Such a change writes nothing into the log, and yet the same rows are printed differently after it.

use crate::wire::Cells;
use mainstem_types::Result;
use std::collections::{BTreeSet, HashMap};

/// Types whose values are numbers of catalog entries and are printed as their names.
const NAMING: &str = "'regclass'::regtype, 'regtype'::regtype, 'regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, \
    'regoperator'::regtype, 'regrole'::regtype, 'regnamespace'::regtype, 'regconfig'::regtype, 'regdictionary'::regtype, \
    'regcollation'::regtype, 'aclitem'::regtype";

/// Oids from here on are given to users' objects.
const FIRST_USER_OID: u32 = 16384;

/// A statement with two kinds of rows: ('u', type of a column, type that it is made of), and ('f', type, a fact that it is printed by, as a
/// number). A fact that stays is the same number, so an added label or table leaves those that were there.
pub fn statement() -> String {
    // Each catalog entry as values of the type name it.
    let named = |kind: &str, entries: &str| {
        format!(
            " UNION ALL SELECT 'f', '{kind}'::regtype::oid, hashtext(concat_ws(' ', o.oid, o.oid::{printed})) FROM {entries} \
             AND EXISTS (SELECT FROM made WHERE part = '{kind}'::regtype)",
            printed = if kind == "aclitem" { "regrole" } else { kind },
        )
    };
    let lasting = |catalog: &str| format!("{catalog} o WHERE o.oid >= {FIRST_USER_OID}");
    let relations = "pg_class o WHERE o.oid >= 16384 AND o.relpersistence <> 't' AND o.relkind <> 't'";
    let names: String = [
        named("regclass", relations),
        named("regtype", &lasting("pg_type")),
        named("regproc", &lasting("pg_proc")),
        named("regprocedure", &lasting("pg_proc")),
        named("regoper", &lasting("pg_operator")),
        named("regoperator", &lasting("pg_operator")),
        named("regrole", "pg_roles o WHERE true"),
        named("aclitem", "pg_roles o WHERE true"),
        named("regnamespace", "pg_namespace o WHERE o.nspname !~ '^pg_(temp|toast)'"),
        named("regconfig", &lasting("pg_ts_config")),
        named("regdictionary", &lasting("pg_ts_dict")),
        named("regcollation", &lasting("pg_collation")),
    ]
    .concat();
    format!(
        "WITH RECURSIVE made(whole, part) AS (SELECT DISTINCT t.oid, t.oid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         JOIN pg_type t ON t.oid = a.atttypid WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= {FIRST_USER_OID} \
         AND a.attnum > 0 AND (t.oid >= {FIRST_USER_OID} OR t.oid IN ({NAMING}) OR t.typelem IN ({NAMING})) \
         UNION SELECT m.whole, s.part FROM made m CROSS JOIN LATERAL ( \
         SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END FROM pg_type t WHERE t.oid = m.part \
         UNION ALL SELECT a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 \
         WHERE t.oid = m.part AND t.typtype = 'c' \
         UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE m.part IN (r.rngtypid, r.rngmultitypid)) s(part) WHERE s.part <> 0) \
         SELECT 'u', whole, part::bigint FROM made \
         UNION ALL SELECT 'f', e.enumtypid, hashtext(concat_ws(' ', e.oid, e.xmin, e.enumlabel)) FROM pg_enum e \
         WHERE e.enumtypid IN (SELECT part FROM made) \
         UNION ALL SELECT 'f', t.oid, hashtext(string_agg(concat_ws(' ', a.attnum, a.atttypid, a.attisdropped), ',' ORDER BY a.attnum)) \
         FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 \
         WHERE t.typtype = 'c' AND t.oid IN (SELECT part FROM made) GROUP BY t.oid{names}"
    )
}

/// For the catalog's fingerprint, where `reg*` values are: whatever may give their entries another name.
pub fn names_fingerprint(hash: impl Fn(&str, &str) -> String) -> String {
    let lasting = ["pg_type", "pg_proc", "pg_operator", "pg_ts_config", "pg_ts_dict", "pg_collation"].map(|catalog| {
        format!(", (SELECT concat_ws(' ', {}) FROM {catalog} x WHERE x.oid >= {FIRST_USER_OID})", hash("x", "x.oid::bigint"))
    });
    let relations = hash("x", "x.oid::bigint");
    format!(
        "{}, (SELECT concat_ws(' ', {relations}) FROM pg_class x WHERE x.oid >= {FIRST_USER_OID} AND x.relpersistence <> 't'), \
         (SELECT bit_xor(hashtextextended(rolname, oid::bigint)) FROM pg_roles)",
        lasting.concat()
    )
}

/// What the rows of `statement` say.
#[derive(Default)]
pub struct Shown {
    /// The types that one is made of, itself included.
    parts: HashMap<u32, Vec<u32>>,
    facts: HashMap<u32, Vec<u32>>,
}

impl Shown {
    pub fn add(&mut self, cells: &Cells<'_>) -> Result<()> {
        let of: u32 = cells.number(1)?;
        match cells.text(0)? {
            "u" => self.parts.entry(of).or_default().push(cells.number(2)?),
            _ => self.facts.entry(of).or_default().push(cells.number::<i32>(2)? as u32),
        }
        Ok(())
    }

    /// By what values of a type are printed beside themselves; None where there is nothing.
    pub fn by(&self, kind: u32) -> Option<ShownBy> {
        let parts = self.parts.get(&kind)?;
        let facts: BTreeSet<u32> = parts.iter().filter_map(|part| self.facts.get(part)).flatten().copied().collect();
        let names = parts.iter().any(|part| *part < FIRST_USER_OID && self.facts.contains_key(part));
        (!facts.is_empty()).then_some(ShownBy { facts, names })
    }
}

/// What values of a type are printed by.
pub struct ShownBy {
    pub facts: BTreeSet<u32>,
    /// Names of catalog entries are among them.
    pub names: bool,
}
