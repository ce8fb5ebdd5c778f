-- Tables of the random workload. Each stands for one difficulty; src/chaos.rs says which statements meet it.
CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(14,2) NOT NULL);
INSERT INTO accounts SELECT g, 1000 FROM generate_series(1, 100) g;
CREATE TABLE pair_left (id int PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE pair_right (id int PRIMARY KEY, v bigint NOT NULL);
INSERT INTO pair_left SELECT g, g FROM generate_series(1, 200) g;
INSERT INTO pair_right SELECT g, g FROM generate_series(1, 200) g;
CREATE TABLE tick_head (id int PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE tick_log (n bigint PRIMARY KEY);
INSERT INTO tick_head VALUES (1, 0);

CREATE TABLE keyed (id int PRIMARY KEY, v text, n int);
INSERT INTO keyed SELECT g, 'v' || g, g FROM generate_series(1, 300) g;
CREATE TABLE toasty (id int PRIMARY KEY, small int, big text, other text);
ALTER TABLE toasty ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
INSERT INTO toasty SELECT g, g, repeat(md5(g::text), 300), NULL FROM generate_series(1, 100) g;
CREATE TABLE composite (region text, code varchar(10), n bigint, v text, PRIMARY KEY (region, code, n));
INSERT INTO composite SELECT 'r' || g % 5, '', g, NULL FROM generate_series(1, 100) g;
CREATE TABLE by_index (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL, v text);
CREATE UNIQUE INDEX by_index_ab ON by_index (b, a);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_ab;
INSERT INTO by_index SELECT g, g, 'b' || g, 'v' FROM generate_series(1, 100) g;
CREATE TABLE full_rows (a int, b text, c float8, big text);
ALTER TABLE full_rows ALTER big SET STORAGE EXTERNAL;
ALTER TABLE full_rows REPLICA IDENTITY FULL;
INSERT INTO full_rows SELECT g % 7, NULL, 0.5, CASE WHEN g % 3 = 0 THEN repeat('x', 5000) END FROM generate_series(1, 60) g;
CREATE TABLE full_keyed (id int PRIMARY KEY, v text, big text);
ALTER TABLE full_keyed ALTER big SET STORAGE EXTERNAL;
ALTER TABLE full_keyed REPLICA IDENTITY FULL;
INSERT INTO full_keyed SELECT g, 'v', repeat(md5(g::text), 200) FROM generate_series(1, 50) g;
CREATE TABLE append_only (at timestamptz, what text);
CREATE TABLE emptied_a (id serial PRIMARY KEY, v text);
CREATE TABLE emptied_b (id serial PRIMARY KEY, v text);
CREATE TABLE measurements (id int, day date, v float8, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE measurements_old PARTITION OF measurements FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE measurements_new PARTITION OF measurements FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE measurements_rest PARTITION OF measurements DEFAULT;
INSERT INTO measurements SELECT g, date '2024-06-01' + g, g FROM generate_series(1, 300) g;
CREATE TABLE animal (id int PRIMARY KEY, name text);
CREATE TABLE dog (breed text, PRIMARY KEY (id)) INHERITS (animal);
INSERT INTO animal SELECT g, 'animal' || g FROM generate_series(1, 50) g;
INSERT INTO dog SELECT 1000 + g, 'dog' || g, NULL FROM generate_series(1, 50) g;
CREATE SCHEMA "Odd Schema";
CREATE TABLE "Odd Schema"."Weird Näme" ("Größe" int PRIMARY KEY, "select" text, "a.b" numeric(12,3), "😀 ""x""" text);
INSERT INTO "Odd Schema"."Weird Näme" SELECT g, 'sélect', g / 8.0, '😀' FROM generate_series(1, 50) g;
CREATE TABLE big (id bigint PRIMARY KEY, w int, t text);

CREATE TYPE mood AS ENUM ('sad', 'ok', 'Very Happy, "indeed"');
CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE types (
    id int PRIMARY KEY, bo bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n38 numeric(38,10), n5 numeric(5,2), n10 numeric(10),
    te text, vc varchar(20), ch char(5), by bytea, da date, ti time, ts timestamp, tz timestamptz, ts0 timestamp(0), uu uuid,
    js json, jb jsonb, en mood,
    nu numeric, iv interval, tt timetz, ip inet, ci cidr, ma macaddr, mo money, bi bit(5), vb varbit, po point, ra int4range,
    tv tsvector, ia int[], ta text[], oi oid, ls pg_lsn, dom positive, co pair, xm xml, na name, q "char"
);
