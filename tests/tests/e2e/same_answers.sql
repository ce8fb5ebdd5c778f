SELECT ts::text, tz::text, d::text, n::text, b::text, iv::text FROM kinds ORDER BY id
SELECT nn::text, f4::text, f8::text, i8::text, tm::text, u::text, c::text FROM kinds ORDER BY id
SELECT 'at ' || ts || ' and ' || n || ' and ' || d FROM kinds WHERE id < 3 ORDER BY id
SELECT concat(d, ' ', ts, ' ', b, ' ', n, ' ', f8) FROM kinds WHERE id < 3 ORDER BY id
SELECT to_char(ts, 'YYYY-MM-DD HH24:MI:SS'), to_char(ts, 'DD Mon YYYY'), to_char(ts, 'FMDay, FMMonth DD HH12:MI AM') FROM kinds ORDER BY id
SELECT to_char(d, 'YYYY-MM'), to_char(d, 'Q'), to_char(d, 'IYYY-IW'), to_char(d, 'Dy') FROM kinds ORDER BY id
SELECT to_char(n, 'FM999,999.00'), to_char(n, '999.99'), to_char(i4, '0000'), to_char(12345.678, 'FM999G999D99') FROM kinds ORDER BY id
SELECT pg_typeof(i4), pg_typeof(t), pg_typeof(n), pg_typeof(ts), pg_typeof(tz), pg_typeof(d), pg_typeof(b), pg_typeof(f8) FROM kinds WHERE id = 1
SELECT pg_typeof(count(*)), pg_typeof(sum(i4)), pg_typeof(sum(i8)), pg_typeof(avg(i4)), pg_typeof(sum(n)), pg_typeof(avg(f8)) FROM kinds
SELECT j -> 'a', j ->> 'a', j -> 'b' ->> 'c', j #>> '{b,c}', j -> 'l' -> 0 FROM kinds WHERE id = 1
SELECT jb -> 'a', jb ->> 'a', jb -> 'b' ->> 'c', jb #>> '{b,c}', jb #> '{b}', jb -> 'l' ->> 1 FROM kinds WHERE id = 1
SELECT id FROM kinds WHERE jb ->> 'a' = '1'
SELECT (jb ->> 'a')::int + 1 FROM kinds WHERE id = 1
SELECT jb -> 0, jb ->> 1, jb ->> 2, jb -> 2 FROM kinds WHERE id = 4
SELECT jsonb_array_length(jb -> 'l') FROM kinds WHERE id = 1
SELECT current_setting('server_version_num')::int >= 150000
-- differs: set_config is missing
SELECT set_config('application_name', 'x', false)
SELECT extract(epoch FROM ts), extract(year FROM d), extract(dow FROM d), extract(week FROM d) FROM kinds ORDER BY id
-- differs: intervals of the source are text here
SELECT extract(epoch FROM tz), extract(epoch FROM iv), extract(second FROM ts), extract(hour FROM tm) FROM kinds ORDER BY id
SELECT date_part('month', ts), date_part('isodow', d), date_part('doy', d), date_part('quarter', d) FROM kinds ORDER BY id
-- differs: date_trunc of a date stays without a zone
SELECT date_trunc('month', ts), date_trunc('day', tz), date_trunc('year', d) FROM kinds ORDER BY id
-- differs: texts of times without seconds cannot be read
SELECT age(timestamp '2024-03-01', timestamp '2023-01-31'), age(timestamp '2024-02-29', timestamp '2024-02-28 12:00')
SELECT now() - interval '1 day' < now(), current_date - 1 < current_date
SELECT d + 1, d - 1, d - date '2000-01-01', d + interval '1 month', ts + interval '1 day 2 hours', ts - ts FROM kinds ORDER BY id
-- differs: interval constants with a clock part cannot be read
SELECT interval '1 day' * 2, interval '90 minutes', interval '1 year 2 months 3 days 04:05:06.7'
SELECT ts - timestamp '2024-01-01' FROM kinds WHERE id = 1
SELECT generate_series FROM generate_series(1, 5)
SELECT g FROM generate_series(1, 10, 3) AS g
SELECT g::date FROM generate_series(date '2024-01-01', date '2024-01-03', interval '1 day') AS t(g)
SELECT generate_series(1, 3)
SELECT string_agg(name, ', ' ORDER BY name) FROM category
SELECT string_agg(DISTINCT rating::text, '|' ORDER BY rating::text) FROM film
SELECT array_agg(category_id ORDER BY category_id DESC) FROM category WHERE category_id < 5
SELECT array_agg(name ORDER BY name) FROM category WHERE category_id < 4
-- differs: enums are ordered as text
SELECT DISTINCT ON (rating) rating, film_id, title FROM film ORDER BY rating, film_id
SELECT count(*) FILTER (WHERE length > 100), count(*), sum(length) FILTER (WHERE rating = 'PG') FROM film
SELECT film_id, row_number() OVER (PARTITION BY rating ORDER BY film_id), rank() OVER (ORDER BY length DESC, film_id) FROM film ORDER BY film_id LIMIT 5
SELECT film_id, length, lag(length) OVER (ORDER BY film_id), lead(length, 2, 0) OVER (ORDER BY film_id), sum(length) OVER (ORDER BY film_id) FROM film ORDER BY film_id LIMIT 5
SELECT film_id, avg(length) OVER (ORDER BY film_id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM film ORDER BY film_id LIMIT 5
SELECT DISTINCT rating, ntile(4) OVER (ORDER BY rating) FROM (SELECT DISTINCT rating::text FROM film) s ORDER BY 1
SELECT count(*) FROM film WHERE title ILIKE '%dino%'
SELECT title FROM film WHERE title ~* '^aca' ORDER BY 1
SELECT title FROM film WHERE title SIMILAR TO '(ACADEMY|ZORRO)%' ORDER BY 1
SELECT count(*) FROM film WHERE title !~ 'A' AND title NOT ILIKE '%z%'
SELECT c.name, f.n FROM category c, LATERAL (SELECT count(*) AS n FROM film_category fc WHERE fc.category_id = c.category_id) f ORDER BY 1 LIMIT 4
-- differs: LATERAL with LIMIT cannot be decorrelated by the engine
SELECT c.name, f.title FROM category c CROSS JOIN LATERAL (SELECT title FROM film_category fc JOIN film USING (film_id) WHERE fc.category_id = c.category_id ORDER BY title LIMIT 1) f ORDER BY 1 LIMIT 4
VALUES (1, 'a'), (2, 'b')
SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS v(x, y) ORDER BY x
WITH f AS (SELECT film_id, length FROM film WHERE length > 180) SELECT count(*), max(length) FROM f
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n) FROM t
WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t
SELECT count(*) FROM film WHERE film_id = ANY('{1,2,3}')
SELECT count(*) FROM film WHERE film_id = ANY(ARRAY[1,2,3])
SELECT count(*) FROM category WHERE name = ANY('{Action,Comedy}')
SELECT count(*) FROM film WHERE film_id <> ALL(ARRAY[1,2,3])
-- differs: quotients have 16 places, Postgres's between 16 and 20
SELECT 7 / 2, -7 / 2, 7 % 3, -7 % 3, 7.0 / 2, 1 / 3.0
-- differs: quotients have 16 places, Postgres's between 16 and 20
SELECT 10.0 / 3, 1.00 / 7, 2::numeric / 3, 100::numeric(10,2) / 8
SELECT avg(length), sum(length), avg(rental_rate), sum(rental_rate) FROM film
-- differs: enums are ordered as text
SELECT rating, avg(length), count(*) FROM film GROUP BY rating ORDER BY rating
-- differs: numeric without precision is text here
SELECT avg(i4), avg(i8), sum(i8), avg(nn), sum(nn), avg(f4), sum(f4) FROM kinds
-- differs: numeric without precision is text here
SELECT sum(n * n), n * nn FROM kinds GROUP BY n, nn ORDER BY 1
-- differs: length() of char(n) counts its spaces
SELECT c = 'ab', c = 'ab   ', length(c), c || '|' FROM kinds ORDER BY id
SELECT t FROM kinds ORDER BY t
SELECT t FROM kinds ORDER BY t DESC
SELECT t FROM kinds ORDER BY t NULLS FIRST
SELECT t FROM kinds ORDER BY t DESC NULLS LAST
SELECT upper(t), lower(t), initcap(t), length(t), substring(t FROM 2 FOR 2), left(t, 2), right(t, 2) FROM kinds ORDER BY id
SELECT FILM.TITLE FROM Film WHERE Film_Id = 1
SELECT title AS "Títle ü" FROM film WHERE film_id = 1
-- differs: numeric functions keep the argument's scale
SELECT round(2.5), round(-2.5), round(2.567, 2), trunc(2.567, 1), ceil(1.2), floor(-1.2), abs(-3)
-- differs: sign is missing
SELECT round(2.5::float8), round(3.5::float8), power(2, 10), sqrt(2), mod(7, 3), sign(-2.5)
SELECT 2 ^ 3, 5 # 3, 5 & 3, 5 | 3, 1 << 4, ~5
SELECT greatest(1, 2, NULL), least(3, 2), coalesce(NULL, 5), nullif(1, 1)
SELECT 1.0, 1.50, 1e3, 100000000000000000000, 0.1 + 0.2, 0.1::float8 + 0.2::float8
SELECT 1::bool, 'yes'::bool, 'f'::bool, true AND NULL, NOT false
-- differs: numeric without precision has ten places
SELECT '12'::int + 1, '1.5'::numeric * 2, '2024-01-01'::date, '10:00'::time, '{1,2}'::int[]
SELECT 3.7::int, 2.5::int, 3.5::int, -2.5::int, 2.5::float8::int, '  7 '::int
SELECT position('b' IN 'abc'), strpos('abc', 'c'), replace('aXbX', 'X', '-'), split_part('a,b,c', ',', 2), repeat('ab', 3), reverse('abc')
SELECT trim('  x '), btrim('xxaxx', 'x'), ltrim('  a'), rtrim('a  '), lpad('7', 3, '0'), rpad('7', 3, '*')
SELECT md5('a'), encode('abc'::bytea, 'hex'), encode('abc'::bytea, 'base64'), ascii('a'), chr(65)
SELECT regexp_replace('abc123', '[0-9]+', 'X'), regexp_match('abc123', '[0-9]+'), substring('abc123' FROM '[0-9]+')
SELECT translate('12345', '143', 'ax'), overlay('abcdef' PLACING 'XX' FROM 2 FOR 3), starts_with('abc', 'ab'), concat_ws('-', 'a', NULL, 'b')
-- differs: format() is missing
SELECT format('%s has %s', 'x', 3)
-- differs: quote_literal is missing
SELECT quote_ident('a b'), quote_literal('x''y')
-- differs: arrays of the source are text here until the types RFC has them
SELECT array_length(ia, 1), ia[1], ta[2], cardinality(ia), array_to_string(ta, ',') FROM kinds ORDER BY id
SELECT ia, ta FROM kinds ORDER BY id
-- differs: arrays of the source are text here until the types RFC has them
SELECT unnest(ia) FROM kinds WHERE id = 1
-- differs: arrays of the source are text here until the types RFC has them
SELECT id, x FROM kinds, unnest(ia) AS x ORDER BY id, x
-- differs: arrays of the source are text here until the types RFC has them
SELECT 2 = ANY(ia), ia @> ARRAY[1] FROM kinds ORDER BY id
SELECT count(DISTINCT rating), count(rating), min(title), max(title) FROM film
-- differs: enums are ordered as text
SELECT rating, count(*) FROM film GROUP BY ROLLUP (rating) ORDER BY 1
-- differs: enums are ordered as text
SELECT rating, rental_rate, count(*) FROM film GROUP BY GROUPING SETS ((rating), (rental_rate)) ORDER BY 1, 2
SELECT rating, count(*) AS n FROM film GROUP BY 1 HAVING count(*) > 200 ORDER BY n DESC
SELECT rating FROM film GROUP BY rating ORDER BY count(*) DESC
SELECT film_id FROM film EXCEPT SELECT film_id FROM inventory ORDER BY 1 LIMIT 5
SELECT film_id FROM film INTERSECT SELECT film_id FROM inventory ORDER BY 1 LIMIT 5
SELECT a.first_name FROM actor a WHERE EXISTS (SELECT 1 FROM film_actor fa WHERE fa.actor_id = a.actor_id AND fa.film_id = 1) ORDER BY 1
SELECT title FROM film WHERE length = (SELECT max(length) FROM film) ORDER BY 1
SELECT title FROM film WHERE film_id IN (SELECT film_id FROM film_actor WHERE actor_id = 1) ORDER BY 1 LIMIT 3
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY length) FROM film
-- differs: percentile_disc is missing
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY length) FROM film
-- differs: mode() is missing
SELECT mode() WITHIN GROUP (ORDER BY rating::text) FROM film
-- differs: statistics are double precision
SELECT stddev(length), variance(length), stddev_pop(length), corr(length, rental_rate::float8) FROM film
SELECT bool_and(b), bool_or(b), every(b) FROM kinds
SELECT CASE WHEN length < 60 THEN 'short' WHEN length < 120 THEN 'medium' ELSE 'long' END AS k, count(*) FROM film GROUP BY 1 ORDER BY 1
-- differs: quotients have 16 places, Postgres's between 16 and 20
SELECT rental_rate, rental_rate * 2, rental_rate / 3, rental_rate + 1, -rental_rate FROM film WHERE film_id = 1
-- differs: texts of times without seconds cannot be read
SELECT timestamp '2024-01-01 10:00' AT TIME ZONE 'UTC', tz AT TIME ZONE 'UTC' FROM kinds ORDER BY id
SELECT tz AT TIME ZONE 'Europe/Berlin' FROM kinds ORDER BY id
-- differs: named arguments and make_interval are missing
SELECT make_date(2024, 2, 29), to_date('2024-03-01', 'YYYY-MM-DD'), to_timestamp(0), make_interval(days => 3)
-- differs: to_number is missing
SELECT to_timestamp('2024-03-01 12:30', 'YYYY-MM-DD HH24:MI'), to_number('1,234.5', '9,999.9')
SELECT ts BETWEEN '1999-01-01' AND '2000-01-01', d > '2000-01-01', ts::date, ts::time FROM kinds ORDER BY id
-- differs: OVERLAPS is missing
SELECT (date '2024-01-01', date '2024-06-01') OVERLAPS (date '2024-03-01', date '2024-09-01')
SELECT b IS TRUE, b IS NOT TRUE, b IS UNKNOWN, t IS DISTINCT FROM 'beta' FROM kinds ORDER BY id
SELECT (1, 2) = (1, 2), (1, 2) < (1, 3), (film_id, title) IN ((1, 'ACADEMY DINOSAUR')) FROM film WHERE film_id = 1
SELECT f.film_id, f.title, i.inventory_id FROM film f LEFT JOIN inventory i USING (film_id) WHERE i.inventory_id IS NULL ORDER BY 1 LIMIT 3
SELECT count(*) FROM film NATURAL JOIN film_category
SELECT count(*) FROM customer c FULL JOIN staff s ON c.email = s.email
SELECT title FROM film ORDER BY length DESC, title LIMIT 3 OFFSET 2
SELECT title FROM film ORDER BY film_id FETCH FIRST 2 ROWS ONLY
SELECT special_features FROM film WHERE film_id < 3 ORDER BY film_id
-- differs: arrays of the source are text here until the types RFC has them
SELECT title FROM film WHERE 'Trailers' = ANY(special_features) ORDER BY film_id LIMIT 3
SELECT rating FROM film WHERE rating = 'PG-13' LIMIT 1
-- differs: length of bytea is missing
SELECT bin, encode(bin, 'hex'), length(bin) FROM kinds ORDER BY id
-- differs: json constructors are missing
SELECT to_json(1), json_build_object('a', 1), row_to_json(r) FROM (SELECT 1 AS x) r
-- differs: set-returning json functions are missing
SELECT jsonb_object_keys('{"a":1}'::jsonb)
-- differs: char(n) keeps its spaces in ||
SELECT i4::text || 'x', i4::varchar(1), 'abcdef'::varchar(3), 'ab'::char(4) || '|', 5::char FROM kinds WHERE id = 1
SELECT 1 WHERE 'a' < 'B'
-- differs: width_bucket, div and gcd of numerics are missing
SELECT width_bucket(5.35, 0.024, 10.06, 5), div(7, 2), gcd(12, 18), factorial(5), ln(2.0), log(100)
SELECT random() < 1, length(gen_random_uuid()::text)
SELECT tablename FROM pg_tables WHERE tablename = 'film'
SELECT count(*) FROM information_schema.columns WHERE table_name = 'film'
-- differs: numeric without precision, interval and arrays are text here
SELECT column_name, data_type, is_nullable, character_maximum_length, numeric_precision, numeric_scale FROM information_schema.columns WHERE table_name = 'kinds' ORDER BY ordinal_position
SELECT kc.column_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kc USING (constraint_name, table_name) WHERE tc.table_name = 'film_actor' AND tc.constraint_type = 'PRIMARY KEY' ORDER BY kc.ordinal_position
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indrelid = 'film_actor'::regclass AND i.indisprimary ORDER BY 1
SELECT conname, contype, conkey FROM pg_constraint WHERE conrelid = 'film_actor'::regclass AND contype = 'p'
SELECT 1/0
SELECT 'x'::int
SELECT nope FROM film
SELECT * FROM nope
SELECT nope(1)
-- differs: integer constants are bigint
SELECT 2147483647 + 1
SELECT 300::int2, 40000::int2
SELECT 9223372036854775807 + 1
-- differs: unreadable dates are 22P02, not 22007
SELECT 'abc'::date
SELECT title, count(*) FROM film
SELECT * FROM film WHERE
SELECT count(*) FROM film f JOIN inventory i ON film_id = film_id
