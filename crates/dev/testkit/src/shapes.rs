//! Statements that grow: what generators send by the thousand and what a hostile client sends on purpose, as one table for all tests.
//!
//! The law for each of them at every size: it is answered, or refused with a code that says that it is too large, and nobody else notices.

/// A family of statements, one for each size.
pub struct Shape {
    pub name: &'static str,
    /// Sizes up to this one must be answered; larger ones may be refused.
    pub answered: usize,
    /// The statement's text, or several statements with semicolons between. Needs no tables.
    pub sql: fn(usize) -> String,
}

/// SQLSTATEs that say "too large", "too deep", "too many" or "too much at the moment".
pub const REFUSALS: [&str; 6] = ["54000", "54001", "54011", "53200", "53000", "53100"];

/// Statements whose text grows.
pub fn texts() -> &'static [Shape] {
    TEXTS
}

/// Statements of one length whose values grow.
pub fn values() -> &'static [Shape] {
    VALUES
}

/// All shapes.
pub fn all() -> impl Iterator<Item = &'static Shape> {
    TEXTS.iter().chain(VALUES)
}

const fn shape(name: &'static str, answered: usize, sql: fn(usize) -> String) -> Shape {
    Shape { name, answered, sql }
}

fn list(n: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..n.max(1)).map(item).collect::<Vec<_>>().join(between)
}

fn nested(n: usize, before: &str, core: &str, after: &str) -> String {
    format!("{}{core}{}", before.repeat(n), after.repeat(n))
}

const ONE: &str = "(SELECT 1 AS x, 2 AS y) t";

const TEXTS: &[Shape] = &[
    // Chains: as deep as they are long, without a parenthesis.
    shape("sum", 200, |n| format!("SELECT {}", list(n, "+", |_| "1".into()))),
    shape("concatenation", 200, |n| format!("SELECT {}", list(n, " || ", |_| "'x'".into()))),
    shape("casts", 100, |n| format!("SELECT 1{}", "::int".repeat(n))),
    shape("is null", 50, |n| format!("SELECT (1 IS NULL){}", " IS NULL".repeat(n))),
    shape("json path", 50, |n| format!("SELECT '{{}}'::jsonb{}", "->'a'".repeat(n))),
    shape("minus", 50, |n| format!("SELECT {}1", "- ".repeat(n))),
    shape("not", 50, |n| format!("SELECT {}true", "NOT ".repeat(n))),
    shape("or", 1500, |n| format!("SELECT x FROM {ONE} WHERE {}", list(n, " OR ", |at| format!("x = {at}")))),
    shape("and", 1500, |n| format!("SELECT x FROM {ONE} WHERE {}", list(n, " AND ", |at| format!("x <> {}", at + 2)))),
    shape("or of pairs", 1000, |n| {
        format!("SELECT x FROM {ONE} WHERE {}", list(n, " OR ", |at| format!("(x = {at} AND y = {})", at + 1)))
    }),
    shape("like or", 500, |n| {
        format!("SELECT 1 FROM (SELECT 'a' AS x) t WHERE {}", list(n, " OR ", |at| format!("x LIKE '%{at}%'")))
    }),
    shape("in numbers", 10_000, |n| format!("SELECT x FROM {ONE} WHERE x IN ({})", list(n, ",", |at| at.to_string()))),
    shape("in texts", 10_000, |n| {
        format!("SELECT 1 FROM (SELECT 'a' AS x) t WHERE x IN ({})", list(n, ",", |at| format!("'{at}'")))
    }),
    shape("union all", 600, |n| list(n, " UNION ALL ", |at| format!("SELECT {at}"))),
    shape("union", 100, |n| list(n, " UNION ", |at| format!("SELECT {at}"))),
    shape("intersect", 20, |n| list(n, " INTERSECT ", |_| "SELECT 1".into())),
    // Nesting.
    shape("parentheses", 100, |n| format!("SELECT {}", nested(n, "(", "1", ")"))),
    shape("replace", 50, |n| format!("SELECT {}", nested(n, "replace(", "'x'", ",'a','b')"))),
    shape("coalesce", 100, |n| format!("SELECT {}", nested(n, "coalesce(NULL, ", "1", ")"))),
    // Of a column, which nothing folds away.
    shape("coalesce of a column", 100, |n| format!("SELECT {} FROM (VALUES (1)) AS t(x)", nested(n, "coalesce(", "x", ", 1)"))),
    shape("coalesce in sums", 6, |n| format!("SELECT {} FROM (VALUES (1)) AS t(x)", nested(n, "coalesce(1 + ", "x", ", 1)"))),
    shape("between", 8, |n| format!("SELECT {} FROM (VALUES (1)) AS t(x)", nested(n, "(", "x", " BETWEEN 0 AND 1)::int"))),
    shape("in", 8, |n| format!("SELECT {} FROM (VALUES (1)) AS t(x)", nested(n, "(", "x", " IN (0, 1, 2))::int"))),
    shape("nullif", 8, |n| format!("SELECT {} FROM (VALUES (1)) AS t(x)", nested(n, "nullif(", "x", ", 2)"))),
    shape("greatest", 50, |n| format!("SELECT {}", nested(n, "greatest(0, ", "1", ")"))),
    shape("position", 10, |n| format!("SELECT {}", nested(n, "position('1' IN (", "'1'", ")::text)"))),
    shape("position by commas", 0, |n| format!("SELECT {}", nested(n, "position(", "'1'", ", '1')"))),
    shape("case", 50, |n| format!("SELECT {}", nested(n, "CASE WHEN true THEN ", "1", " END"))),
    shape("array", 5, |n| format!("SELECT {}", nested(n, "ARRAY[", "1", "]"))),
    shape("row", 5, |n| format!("SELECT {}", nested(n, "ROW(", "1", ")"))),
    shape("interval", 5, |n| format!("SELECT {}", nested(n, "interval '1 day' + (", "interval '1 day'", ")"))),
    shape("extract", 5, |n| format!("SELECT {}", nested(n, "extract(day FROM now() + interval '1 day' * ", "1", ")"))),
    shape("in expression", 5, |n| format!("SELECT {}", nested(n, "1 IN ((", "1", ")::int)"))),
    shape("in query", 0, |n| format!("SELECT {}", nested(n, "1 IN (SELECT (", "1", ")::int)"))),
    shape("subqueries in from", 55, |n| format!("{}SELECT 1 AS x{}", "SELECT * FROM (".repeat(n), ") t".repeat(n))),
    shape("scalar subqueries", 6, |n| format!("SELECT {}", nested(n, "(SELECT ", "1", ")"))),
    shape("exists", 6, |n| format!("SELECT 1 WHERE {}", nested(n, "EXISTS (SELECT 1 WHERE ", "true", ")"))),
    shape("joins in parentheses", 10, |n| {
        format!("SELECT 1 FROM {}", nested(n, "(", "(SELECT 1 AS x) t CROSS JOIN (SELECT 1 AS y) u", ")"))
    }),
    shape("queries in joins in parentheses", 3, |n| {
        format!("SELECT 1 FROM {}", nested(n, "((SELECT 1 FROM ", "(SELECT 1 AS x) t", ") a CROSS JOIN (SELECT 1 AS y) b)"))
    }),
    shape("tables made from tables", 20, |n| {
        format!("WITH t0 AS (SELECT 1 AS x) {} SELECT * FROM t{n}", list_of_ctes(n, |at| format!("SELECT x FROM t{at}")))
    }),
    shape("tables made from two of each", 6, |n| {
        let twice = |at: usize| format!("SELECT a.x FROM t{at} a CROSS JOIN t{at} b");
        format!("WITH t0 AS (SELECT 1 AS x) {} SELECT count(*) FROM t{n}", list_of_ctes(n, twice))
    }),
    // Width.
    shape("columns", 1600, |n| format!("SELECT {}", list(n, ",", |at| at.to_string()))),
    shape("rows of values", 1000, |n| format!("SELECT count(*) FROM (VALUES {}) t(x)", list(n, ",", |at| format!("({at})")))),
    shape("cross joins", 30, |n| format!("SELECT 1 FROM {}", list(n, " CROSS JOIN ", |at| format!("(SELECT 1 AS x{at}) t{at}")))),
    shape("joins", 20, |n| {
        let on = |at: usize| if at == 0 { String::new() } else { format!(" ON t{at}.x = t{}.x", at - 1) };
        format!("SELECT 1 FROM {}", list(n, " JOIN ", |at| format!("(SELECT 1 AS x) t{at}{}", on(at))))
    }),
    shape("whens", 200, |n| format!("SELECT CASE {} END FROM {ONE}", list(n, " ", |at| format!("WHEN x = {at} THEN {at}")))),
    shape("arguments", 90, |n| format!("SELECT concat({})", list(n, ",", |at| format!("'{at}'")))),
    shape("elements", 1000, |n| format!("SELECT ARRAY[{}]", list(n, ",", |at| at.to_string()))),
    shape("order by", 100, |n| format!("SELECT x FROM {ONE} ORDER BY {}", list(n, ",", |at| format!("x + {at}")))),
    shape("group by", 100, |n| format!("SELECT count(*) FROM {ONE} GROUP BY {}", list(n, ",", |at| format!("x + {at}")))),
    shape("windows", 20, |n| {
        format!("SELECT {} FROM {ONE}", list(n, ",", |at| format!("row_number() OVER (ORDER BY x + {at}) AS c{at}")))
    }),
    shape("cube", 5, |n| {
        let names = |n: usize| list(n, ",", |at| format!("c{at}"));
        let columns = list(n, ",", |at| format!("1 AS c{at}"));
        format!("SELECT count(*) FROM (SELECT {columns}) t GROUP BY CUBE ({})", names(n))
    }),
    shape("rollup", 20, |n| {
        let names = |n: usize| list(n, ",", |at| format!("c{at}"));
        let columns = list(n, ",", |at| format!("1 AS c{at}"));
        format!("SELECT count(*) FROM (SELECT {columns}) t GROUP BY ROLLUP ({})", names(n))
    }),
    // Text.
    shape("statements", 100, |n| "SELECT 1;".repeat(n)),
    shape("semicolons", 100_000, |n| ";".repeat(n)),
    shape("spaces", 100_000, |n| format!("SELECT{}1", " ".repeat(n.max(1)))),
    shape("comments in comments", 20, |n| format!("SELECT 1 {}", nested(n, "/*", " ", "*/"))),
    shape("a long literal", 100_000, |n| format!("SELECT length('{}')", "x".repeat(n))),
    shape("a long name", 60, |n| format!("SELECT 1 AS {}", "x".repeat(n.max(1)))),
    shape("open parentheses", 0, |n| format!("SELECT {}", "(".repeat(n))),
    shape("open brackets", 0, |n| format!("SELECT {}", "ARRAY[".repeat(n))),
];

const VALUES: &[Shape] = &[
    shape("repeat", 100_000, |n| format!("SELECT length(repeat('x', {n}))")),
    shape("replace of every character", 100, |n| format!("SELECT length(replace(repeat('x', {n}), 'x', repeat('y', {n})))")),
    shape("regexp_replace of every character", 100, |n| {
        format!("SELECT length(regexp_replace(repeat('x', {n}), 'x', repeat('y', {n}), 'g'))")
    }),
    shape("translate", 10_000, |n| format!("SELECT length(translate(repeat('x', {n}), 'x', 'y'))")),
    shape("lpad", 10_000, |n| format!("SELECT length(lpad('x', {n}, 'ab'))")),
    shape("format", 10_000, |n| format!("SELECT length(format('%{n}s', 'x'))")),
    shape("concat", 10_000, |n| format!("SELECT length(concat(repeat('x', {n}), repeat('x', {n}), repeat('x', {n})))")),
    shape("array_fill by repetition", 1000, |n| format!("SELECT cardinality(array_repeat(1, {n}))")),
    shape("series as an array", 1000, |n| format!("SELECT cardinality(generate_series(1, {n}))")),
    shape("string_agg", 1000, |n| format!("SELECT length(string_agg(repeat('x', 1000), ',')) FROM generate_series(1, {n})")),
    shape("array_agg as text", 1000, |n| format!("SELECT length(array_agg(x)::text) FROM generate_series(1, {n}) AS t(x)")),
    shape("text per row", 1000, |n| format!("SELECT max(length(repeat('x', 10000) || x)) FROM generate_series(1, {n}) AS t(x)")),
    shape("distinct", 1000, |n| format!("SELECT count(DISTINCT md5(x::text)) FROM generate_series(1, {n}) AS t(x)")),
    shape("product", 100, |n| format!("SELECT count(*) FROM generate_series(1, {n}) a CROSS JOIN generate_series(1, {n}) b")),
    shape("split", 1000, |n| format!("SELECT cardinality(string_to_array(repeat('x,', {n}), ','))")),
];

fn list_of_ctes(n: usize, of: impl Fn(usize) -> String) -> String {
    (1..=n).map(|at| format!(", t{at} AS ({})", of(at - 1))).collect()
}
