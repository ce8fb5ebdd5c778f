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
SELECT current_setting('server_version_num')::int >= 140000
SELECT set_config('application_name', 'x', false)
SELECT extract(epoch FROM ts), extract(year FROM d), extract(dow FROM d), extract(week FROM d) FROM kinds ORDER BY id
-- differs: intervals of the source are text here
SELECT extract(epoch FROM tz), extract(epoch FROM iv), extract(second FROM ts), extract(hour FROM tm) FROM kinds ORDER BY id
SELECT date_part('month', ts), date_part('isodow', d), date_part('doy', d), date_part('quarter', d) FROM kinds ORDER BY id
SELECT date_trunc('month', ts), date_trunc('day', tz), date_trunc('year', d) FROM kinds ORDER BY id
SELECT age(timestamp '2024-03-01', timestamp '2023-01-31'), age(timestamp '2024-02-29', timestamp '2024-02-28 12:00')
SELECT now() - interval '1 day' < now(), current_date - 1 < current_date
SELECT d + 1, d - 1, d - date '2000-01-01', d + interval '1 month', ts + interval '1 day 2 hours', ts - ts FROM kinds ORDER BY id
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
SELECT 7 / 2, -7 / 2, 7 % 3, -7 % 3, 7.0 / 2, 1 / 3.0
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
SELECT round(2.5), round(-2.5), round(2.567, 2), trunc(2.567, 1), ceil(1.2), floor(-1.2), abs(-3)
SELECT round(2.5::float8), round(3.5::float8), power(2, 10), sqrt(2), mod(7, 3), sign(-2.5)
SELECT 2 ^ 3, 5 # 3, 5 & 3, 5 | 3, 1 << 4, ~5
SELECT greatest(1, 2, NULL), least(3, 2), coalesce(NULL, 5), nullif(1, 1)
SELECT 1.0, 1.50, 1e3, 100000000000000000000, 0.1 + 0.2, 0.1::float8 + 0.2::float8
SELECT 1::bool, 'yes'::bool, 'f'::bool, true AND NULL, NOT false
SELECT '12'::int + 1, '1.5'::numeric * 2, '2024-01-01'::date, '10:00'::time, '{1,2}'::int[]
SELECT 3.7::int, 2.5::int, 3.5::int, -2.5::int, 2.5::float8::int, '  7 '::int
SELECT position('b' IN 'abc'), strpos('abc', 'c'), replace('aXbX', 'X', '-'), split_part('a,b,c', ',', 2), repeat('ab', 3), reverse('abc')
SELECT trim('  x '), btrim('xxaxx', 'x'), ltrim('  a'), rtrim('a  '), lpad('7', 3, '0'), rpad('7', 3, '*')
SELECT md5('a'), encode('abc'::bytea, 'hex'), encode('abc'::bytea, 'base64'), ascii('a'), chr(65)
SELECT regexp_replace('abc123', '[0-9]+', 'X'), regexp_match('abc123', '[0-9]+'), substring('abc123' FROM '[0-9]+')
SELECT translate('12345', '143', 'ax'), overlay('abcdef' PLACING 'XX' FROM 2 FOR 3), starts_with('abc', 'ab'), concat_ws('-', 'a', NULL, 'b')
SELECT format('%s has %s', 'x', 3)
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
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY length) FROM film
-- differs: mode() is missing
SELECT mode() WITHIN GROUP (ORDER BY rating::text) FROM film
-- differs: statistics are double precision
SELECT stddev(length), variance(length), stddev_pop(length), corr(length, rental_rate::float8) FROM film
SELECT bool_and(b), bool_or(b), every(b) FROM kinds
SELECT CASE WHEN length < 60 THEN 'short' WHEN length < 120 THEN 'medium' ELSE 'long' END AS k, count(*) FROM film GROUP BY 1 ORDER BY 1
SELECT rental_rate, rental_rate * 2, rental_rate / 3, rental_rate + 1, -rental_rate FROM film WHERE film_id = 1
SELECT timestamp '2024-01-01 10:00' AT TIME ZONE 'UTC', tz AT TIME ZONE 'UTC' FROM kinds ORDER BY id
SELECT tz AT TIME ZONE 'Europe/Berlin' FROM kinds ORDER BY id
SELECT make_date(2024, 2, 29), to_date('2024-03-01', 'YYYY-MM-DD'), to_timestamp(0), make_interval(days => 3)
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
SELECT 'abc'::date
SELECT title, count(*) FROM film
SELECT * FROM film WHERE
SELECT count(*) FROM film f JOIN inventory i ON film_id = film_id
SELECT '2024-13-01'::date
SELECT '2024-02-30'::date
SELECT '2024-02-30 10:00'::timestamp
SELECT 'x'::timestamp
SELECT '25:00'::time
SELECT '10:61'::time
SELECT 'nonsense'::interval
SELECT '2024-01-01 25:00:00'::timestamp
SELECT 'x'::timestamptz
SELECT date '2024-02-30'
SELECT count(*) FROM film WHERE last_update > 'yesterdayish'
SELECT count(*) FROM kinds WHERE d = '2024-99-01'
SELECT t::date FROM kinds
SELECT make_date(2024, 13, 1)
SELECT 'x'::bool
SELECT 'x'::numeric
SELECT 'x'::uuid
SELECT 'x'::jsonb
SELECT '1.5'::int
SELECT '99999999999'::int
SELECT '1e400'::float8
SELECT 100000::smallint
SELECT 1.0/0
SELECT 1.0::float8/0
SELECT 5 % 0
SELECT mod(5, 0)
SELECT sqrt(-1)
SELECT ln(0)
SELECT ln(-1)
SELECT power(0, -1)
SELECT power(-8, 1.0/3)
SELECT log(0)
SELECT chr(0)
SELECT left('abc', -1), right('abc', -1), substr('abc', -1, 3), substring('abc' from 0 for 2)
SELECT repeat('a', -1), lpad('abc', 2), rpad('abc', 2), lpad('a', 5, 'xy'), lpad('abc', -1)
SELECT split_part('a,b,c', ',', -1)
SELECT split_part('a,b,c', ',', 0)
SELECT regexp_replace('aXbXc', 'X', '-', 'g'), regexp_replace('foo bar', '(\w+) (\w+)', '\2 \1')
SELECT regexp_matches('foobarbequebaz', 'ba.', 'g')
SELECT regexp_split_to_array('a1b2c3', '[0-9]')
SELECT regexp_split_to_table('a1b2c3', '[0-9]')
SELECT string_to_array('a,b,,c', ','), string_to_array('a,b,,c', ',', ''), array_to_string(ARRAY['a',NULL,'c'], '-', '*')
-- since 15
SELECT regexp_count('abcabc', 'b'), regexp_instr('abcabc', 'b'), regexp_substr('abcabc', 'b.'), regexp_like('abc', 'B', 'i')
SELECT 'abc' LIKE 'a_c', 'abc' LIKE 'A%', 'a%c' LIKE 'a\%c', 'abc' NOT LIKE 'x%', 'a\c' LIKE 'a\\c', 'abc' LIKE 'a!%c' ESCAPE '!'
SELECT 'a' ~ '[[:alpha:]]', 'x1' ~ '\d', 'ab' ~ '^(a|b)+$', 'foo' ~ 'fo{2}', 'a.b' ~ 'a\.b'
SELECT 'abc' ^@ 'ab'
SELECT NULL::text LIKE 'a', 'a' LIKE NULL
SELECT c FROM kinds WHERE c IN ('ab', 'x') ORDER BY id
SELECT count(*) FROM kinds a JOIN kinds b ON a.c = b.c
SELECT c, count(*) FROM kinds GROUP BY c ORDER BY c
SELECT DISTINCT c FROM kinds ORDER BY c
SELECT count(DISTINCT c), min(c), max(c) FROM kinds
SELECT CASE c WHEN 'ab' THEN 1 ELSE 0 END FROM kinds ORDER BY id
SELECT coalesce(c, 'none'), nullif(c, 'ab') FROM kinds ORDER BY id
SELECT c FROM kinds WHERE c BETWEEN 'a' AND 'b' ORDER BY id
SELECT 7 / 2, -7 / 2, 7 % -3, -7 % 3, 7.5 % 2, -7.5 % 2, 7 / 2.0, 7::float8 / 2
SELECT 1/3::numeric, 10/4.0, 22/7.0, 1000000/3.0, 0.001/3, 100000000000/7.0, 1/7::numeric(10,4), 2/3.000000000000000000000
SELECT avg(rental_rate), avg(length), avg(rental_rate * 1000), avg(rental_rate / 3), avg(film_id::bigint) FROM film
SELECT sum(length), sum(rental_rate), sum(film_id::bigint), sum(length::float8), sum(rental_rate * length) FROM film
SELECT avg(amount), sum(amount), sum(amount * 1.19), avg(amount * 1.19), sum(amount) / count(*), round(avg(amount), 2) FROM payment
SELECT customer_id, avg(amount), sum(amount) / 7 FROM payment GROUP BY 1 ORDER BY 1 LIMIT 5
SELECT round(avg(amount), 4), round(sum(amount) * 0.333, 1), trunc(avg(amount), 3), ceil(avg(amount)), floor(avg(amount)) FROM payment
SELECT round(stddev(length)::numeric, 6), round(variance(amount)::numeric, 6) FROM film, (SELECT 1.5 amount) x
SELECT 1.10 + 2.205, 1.10 * 2.205, 1.1 - 1.1, -1.50, 1.5e2, 1e-3, 1.50::numeric(10,1), 1.45::numeric(3,1), 123.456::numeric(10,2)
SELECT round(1.005, 2), round(2.5), round(3.5), round(-2.5), round(1234.567, -2), round(2.5::float8), round(0.5::float8), trunc(-2.7), trunc(2.789, 2), ceil(-0.5), floor(-0.5), sign(-3), sign(2.5), abs(-2.50)
SELECT pi(), degrees(pi()), radians(180), sin(0), cos(0), atan2(1, 1), cot(1)
SELECT 5::float8, 5.0::float8, 1e15::float8, 1e16::float8, 123456789.123::float8, 0.1::float4, 1/3::float8, 'NaN'::float8, 'Infinity'::float8, '-inf'::float8
SELECT greatest(1, 2.5), least('a', 'b'), greatest(NULL, NULL), greatest(date '2024-01-01', date '2023-01-01')
SELECT 2147483647::int + 1::int
SELECT -2147483648::int
SELECT 9223372036854775808
SELECT 32767::int2 + 1::int2
SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) t(x)
SELECT 1 UNION ALL SELECT NULL ORDER BY 1
SELECT 'a' UNION SELECT NULL ORDER BY 1 NULLS FIRST
SELECT * FROM (VALUES (1), (NULL), (3)) v(x) ORDER BY x
SELECT * FROM (VALUES (1), (NULL), (3)) v(x) ORDER BY x DESC
SELECT * FROM (VALUES (1), (NULL), (3)) v(x) ORDER BY x DESC NULLS LAST
SELECT x, rank() OVER (ORDER BY x DESC) FROM (VALUES (1), (NULL), (3)) v(x) ORDER BY 2
SELECT x, row_number() OVER (ORDER BY x), count(*) OVER (), sum(x) OVER (ORDER BY x ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM (VALUES (1), (NULL), (3)) v(x) ORDER BY x
SELECT x, first_value(x) OVER w, last_value(x) OVER w, nth_value(x, 2) OVER w FROM generate_series(1, 4) x WINDOW w AS (ORDER BY x DESC) ORDER BY x
SELECT x, lag(x) OVER (ORDER BY x), lag(x, 2, -1) OVER (ORDER BY x), lead(x) OVER (ORDER BY x) FROM generate_series(1, 4) x ORDER BY x
SELECT x, ntile(3) OVER (ORDER BY x), percent_rank() OVER (ORDER BY x), cume_dist() OVER (ORDER BY x), dense_rank() OVER (ORDER BY x / 2) FROM generate_series(1, 5) x ORDER BY x
SELECT x, sum(x) FILTER (WHERE x > 2) OVER (ORDER BY x) FROM generate_series(1, 4) x ORDER BY x
SELECT rating, sum(length) OVER (PARTITION BY rating ORDER BY film_id ROWS 2 PRECEDING) FROM film WHERE film_id < 20 ORDER BY film_id
SELECT rating::text, count(*) FROM film GROUP BY ROLLUP (rating::text) ORDER BY 1
SELECT rental_rate, rental_duration, count(*) FROM film GROUP BY GROUPING SETS ((rental_rate, rental_duration), (rental_rate), ()) ORDER BY 1, 2, 3
SELECT count(*) FROM film WHERE rating BETWEEN 'PG' AND 'R'
SELECT film_id, rating FROM film ORDER BY rating, film_id LIMIT 5
SELECT count(*) FROM film WHERE rating IN ('PG', 'R')
SELECT rating::text FROM film GROUP BY rating::text ORDER BY 1
SELECT string_agg(DISTINCT rating::text, ',') FROM film
SELECT format('%s %I %L', 'a', 'b c', 'd''e'), format('%10s|%-10s|', 'a', 'b'), format('%2$s %1$s', 'a', 'b'), format('%%'), format('%s', NULL)
SELECT to_number('1,234.50', '9,999.99'), to_number('12', '99'), to_number('-1.5', 'S9.9'), to_number('$1,234', 'L9,999')
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY length), percentile_disc(0.5) WITHIN GROUP (ORDER BY length), percentile_disc(0.9) WITHIN GROUP (ORDER BY amount) FROM film, (SELECT amount FROM payment WHERE customer_id = 1) p
SELECT rating::text, percentile_cont(0.25) WITHIN GROUP (ORDER BY length) FROM film GROUP BY 1 ORDER BY 1
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY title) FROM film
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY length DESC) FROM film
SELECT to_char(timestamp '2024-02-09 03:04:05.678', 'YYYY-MM-DD HH24:MI:SS.MS'), to_char(date '2024-02-09', 'FMMonth FMDDth, YYYY'), to_char(timestamp '2024-02-09 15:04:05', 'HH12:MI am'), to_char(interval '26 hours', 'HH24:MI')
SELECT to_char(1234.5::float8, '9999.99'), to_char(42::bigint, 'FM0000'), to_char(0.1, 'FM90.00%'), to_char(-0.01, 'S0.00'), to_char(100, 'L999')
SELECT date_trunc('week', timestamp '2024-02-29 12:34:56'), date_trunc('quarter', date '2024-05-05'), date_trunc('decade', timestamp '2024-02-29'), date_trunc('hour', timestamptz '2024-02-29 12:34:56+00'), date_trunc('day', interval '3 days 05:00:00')
SELECT date_trunc('month', rental_date) AS m, count(*) FROM rental GROUP BY 1 ORDER BY 1
SELECT date_trunc('day', timestamptz '2024-02-29 23:30:00+00', 'Europe/Berlin')
SELECT extract(epoch FROM interval '1 day 2 hours'), extract(day FROM interval '40 days'), extract(hour FROM timestamp '2024-01-01 13:00'), extract(isodow FROM date '2024-02-25'), extract(century FROM date '2024-01-01'), extract(microseconds FROM time '01:02:03.5'), extract(epoch FROM timestamp '2024-01-01'), extract(epoch FROM date '2024-01-01'), extract(second FROM timestamp '2024-01-01 00:00:01.25'), extract(milliseconds FROM timestamp '2024-01-01 00:00:01.25')
SELECT age(timestamp '2024-03-01', timestamp '2023-01-31'), age(date '2024-01-01', date '2023-12-31'), age(timestamp '2024-01-01 10:00', timestamp '2024-01-02 12:00')
SELECT date '2024-01-31' + interval '1 month', date '2024-03-31' - interval '1 month', timestamp '2024-01-01' + interval '1 year 2 mons 3 days 04:05:06', date '2024-01-01' + 30, date '2024-03-01' - date '2024-02-01', timestamp '2024-03-01 12:00' - timestamp '2024-02-01', interval '1 day' + interval '25 hours', interval '3 days' * 1.5, interval '1 day' / 2, -interval '1 day', time '10:00' + interval '90 minutes', date '2024-01-01' + time '10:00'
SELECT interval '1 day' > interval '23 hours', interval '1 month' = interval '30 days', interval '1 year' = interval '12 months', interval '1 day' < interval '1 month'
SELECT interval '1' day, interval '2-3' year to month, interval '1 02:03:04', interval 'P1Y2M3DT4H5M6S', interval '-1 day +02:00', interval '1.5 hours', interval '2 weeks', '1 day ago'::interval
SELECT justify_hours(interval '27 hours'), justify_days(interval '35 days'), justify_interval(interval '1 mon -1 hour'), make_interval(days => 3), make_interval(1, 2)
SELECT timestamp '2024-01-01 10:00' AT TIME ZONE 'Europe/Berlin', timestamptz '2024-07-01 10:00+00' AT TIME ZONE 'America/New_York', timestamptz '2024-01-01 10:00+02', timestamp '2024-01-01 10:00+02', '2024-01-01T10:00:00Z'::timestamptz
SELECT '10:00'::time, '10:00:00.5'::time, '10:00 PM'::time, '2024-01-01 10:00:00'::time
SELECT string_agg(x, ','), sum(y), avg(y), count(y), max(y), bool_and(y > 1), array_agg(y) FROM (SELECT 'a' x, 1 y WHERE false) s
SELECT count(*), count(t), count(DISTINCT b), sum(i2), sum(i4), sum(i8), avg(i2), max(d), min(ts), max(tm), bool_or(b) FROM kinds
SELECT bit_and(i4), bit_or(i4), bit_xor(i4) FROM kinds
SELECT json_agg(name ORDER BY name), jsonb_agg(category_id ORDER BY category_id), json_object_agg(category_id, name) FROM category WHERE category_id < 3
SELECT '{"a": {"b": [1, 2]}}'::jsonb #> '{a,b,1}', '{"a": 1}'::jsonb ? 'a', '{"a": 1, "b": 2}'::jsonb @> '{"a": 1}', '[1,2]'::jsonb -> -1, '{"a":null}'::jsonb -> 'a', '{"a":null}'::jsonb ->> 'a', '{"b":1,"a":2}'::jsonb, '{"b":1,  "a":2}'::json
SELECT jsonb_array_elements('[1, "a", null]'::jsonb), jsonb_array_elements_text('[1, "a", null]'::jsonb)
SELECT c.name, f.n FROM category c, LATERAL (SELECT count(*) n, max(film_id) m FROM film_category fc WHERE fc.category_id = c.category_id) f ORDER BY 1 LIMIT 3
SELECT c.name, (SELECT f.title FROM film f JOIN film_category fc USING (film_id) WHERE fc.category_id = c.category_id ORDER BY f.title LIMIT 1) FROM category c ORDER BY 1 LIMIT 3
SELECT name, (SELECT max(film_id) FROM film_category fc WHERE fc.category_id = c.category_id) FROM category c ORDER BY 1 LIMIT 3
SELECT DISTINCT ON (customer_id) customer_id, payment_id, amount FROM payment ORDER BY customer_id, amount DESC, payment_id LIMIT 5
SELECT DISTINCT ON (rental_rate) rental_rate, title FROM film ORDER BY rental_rate, title DESC
SELECT count(*) FROM (SELECT DISTINCT customer_id, staff_id FROM payment) s
SELECT * FROM generate_series(5, 1, -2)
SELECT * FROM generate_series(1, 0)
SELECT generate_series(1, 3), generate_series(1, 2)
SELECT d::date FROM generate_series(timestamp '2024-01-30', timestamp '2024-03-01', interval '1 month') d
SELECT count(*) FROM generate_series(timestamptz '2024-01-01', timestamptz '2024-01-02', interval '1 hour')
SELECT unnest(ARRAY[1, 2]), unnest(ARRAY['a', 'b', 'c'])
SELECT title FROM film WHERE film_id IN (1, NULL)
SELECT count(*) FROM film WHERE film_id NOT IN (1, NULL)
SELECT count(*) FROM film WHERE film_id NOT IN (SELECT film_id FROM inventory)
SELECT count(*) FROM customer WHERE customer_id NOT IN (SELECT NULL::int)
SELECT NULL = NULL, NULL IS NOT DISTINCT FROM NULL, NULL AND false, NULL OR true, 1 IN (1, NULL), 2 IN (1, NULL), 2 NOT IN (1, NULL)
SELECT count(*) FROM film f WHERE EXISTS (SELECT 1 FROM inventory i WHERE i.film_id = f.film_id AND i.store_id = 2) AND NOT EXISTS (SELECT 1 FROM inventory i WHERE i.film_id = f.film_id AND i.store_id = 1)
SELECT count(*) FROM film f WHERE f.length = ANY (SELECT length FROM film WHERE rating = 'G')
SELECT a.n, b.n FROM (VALUES (1), (2)) a(n) FULL JOIN (VALUES (2), (3)) b(n) ON a.n = b.n ORDER BY 1, 2
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) x(id, v) JOIN (VALUES (1, 'c')) y(id, w) USING (id)
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) x(id, v) NATURAL LEFT JOIN (VALUES (1, 'c')) y(id, w) ORDER BY 1
SELECT count(*) FROM film a JOIN film b ON a.film_id < b.film_id AND a.length = b.length
WITH RECURSIVE t(n, p) AS (SELECT 1, '1'::text UNION ALL SELECT n + 1, p || ',' || (n + 1) FROM t WHERE n < 5) SELECT * FROM t ORDER BY n
WITH a AS (SELECT 1 x), b AS (SELECT x + 1 y FROM a) SELECT * FROM a, b
WITH t AS MATERIALIZED (SELECT count(*) c FROM film) SELECT c FROM t
SELECT title FROM film ORDER BY length DESC NULLS LAST, 1 LIMIT 3
SELECT length, count(*) c FROM film GROUP BY length HAVING count(*) > 9 ORDER BY c DESC, length
SELECT upper(title) u FROM film WHERE film_id < 3 ORDER BY u
SELECT title AS t FROM film WHERE film_id < 4 ORDER BY length(title)
SELECT first_name || ' ' || last_name AS name FROM actor ORDER BY last_name || first_name LIMIT 3
SELECT sum(amount) FROM payment GROUP BY customer_id ORDER BY sum(amount) DESC LIMIT 3
SELECT count(*), count(*) * 100.0 / sum(count(*)) OVER () FROM film GROUP BY rental_rate ORDER BY 1
SELECT date_trunc('month', payment_date)::date, sum(amount), sum(sum(amount)) OVER (ORDER BY date_trunc('month', payment_date)::date) FROM payment GROUP BY 1 ORDER BY 1
SELECT CASE WHEN length > 100 THEN 'long' END FROM film WHERE film_id < 4 ORDER BY film_id
SELECT CASE 1 WHEN 1 THEN 'a' ELSE 2::text END, CASE WHEN false THEN 1 ELSE 2.5 END
SELECT concat('a', NULL, 1), concat_ws(',', 'a', NULL, 'b'), 'a' || NULL, 'a' || 1, 1 || 'a'
SELECT initcap('hello wORLD-foo'), reverse('abc'), translate('abc', 'ab', 'x'), ascii('é'), chr(233), bit_length('é'), octet_length('é'), char_length('é'), md5('x'), sha256('x')::text
SELECT quote_ident('Ab'), quote_literal('a''b'), quote_nullable(NULL), to_hex(255), encode('\xdeadbeef'::bytea, 'hex'), decode('3q2+7w==', 'base64'), '\x41'::bytea
SELECT 'a'::text < 'B', 'a' < 'b', 'Z' < 'a', 'é' > 'z', 'a ' < 'a!'
SELECT 1::bool, 0::bool, 't'::bool, true::int, true::text, 'on'::bool, bool 'no'
SELECT 1::text || 'x', 1.50::text, true::text, NULL::text, 1e10::float8::text, date '2024-01-01'::text, 12::varchar(1)
SELECT cast('12' AS int), int '12', '12'::bigint, ' 12 '::int, '0x1F'::text, '1_000'::text
SELECT sum(title) FROM film
SELECT title FROM film GROUP BY rating
SELECT title, max(length) FROM film
SELECT film.nope FROM film
SELECT x.title FROM film
SELECT count(*) FROM film WHERE count(*) > 1
SELECT (SELECT film_id FROM film)
SELECT 1 WHERE 1
SELECT ARRAY[1, 'a']
SELECT f(1)
SELECT 1 +
SELCT 1
SELECT "Title" FROM film
SELECT 'film'::regclass::text
SELECT octet_length(repeat('x', 1000)), length(repeat('ab', 3))
SELECT FROM film WHERE film_id = 1
SELECT ALL 1
SELECT name FROM category ORDER BY name COLLATE "C" LIMIT 2
SELECT film_id, title FROM film WHERE (film_id, title) > (998, 'A') ORDER BY film_id, title
SELECT a.* FROM category a WHERE a.category_id = 1
SELECT count(*) FROM film TABLESAMPLE SYSTEM (100)
SELECT bool 't' IS TRUE, 1 IS NULL, NULL ISNULL, 1 NOTNULL
SELECT '1'::int = 1, '1' = 1, 1 = 1.0, 'a' = 'a ', 1::float8 = 1.0
SELECT array_agg(name) FROM (SELECT name FROM category ORDER BY length(name), name LIMIT 5) q
SELECT return_date - rental_date d, count(*) FROM rental WHERE customer_id < 3 GROUP BY 1 ORDER BY 1 DESC LIMIT 3
SELECT id FROM kinds WHERE nn BETWEEN 1 AND 10
SELECT id FROM kinds WHERE bin = '\x00ff'
SELECT id FROM kinds WHERE u = '11111111-2222-3333-4444-555555555555'
SELECT id FROM kinds WHERE jb @> '{"a": 1}'
SELECT count(*) FROM rental WHERE rental_date::date = '2005-05-24'
SELECT count(*) FROM rental WHERE rental_date >= '2005-05-24' AND rental_date < '2005-05-25 12:00'
SELECT count(*) FROM rental WHERE rental_date IN ('2005-05-24 22:53:30', '2005-05-24 22:54:33')
SELECT count(*) FROM film WHERE film_id < '10'
SELECT count(*) FROM film WHERE film_id IN ('1', '2')
SELECT count(*) FROM film WHERE rental_rate = '0.99'
SELECT count(*) FROM film WHERE rental_rate > 0.99::float8
SELECT sum(amount) FILTER (WHERE amount > 5) / sum(amount) * 100 FROM payment
SELECT round(100.0 * count(*) FILTER (WHERE length > 100) / count(*), 1) FROM film
SELECT sum(length) / count(*), sum(length)::numeric / count(*), sum(length) * 1.0 / count(*) FROM film
SELECT (sum(amount) / count(*))::numeric(10,2), avg(amount)::text, 'avg: ' || avg(amount) FROM payment
SELECT extract(year FROM rental_date)::int y, to_char(rental_date, 'YYYY-MM') m, count(*) FROM rental GROUP BY 1, 2 ORDER BY 1, 2
SELECT date_trunc('week', rental_date)::date w, count(*) FROM rental GROUP BY w ORDER BY w LIMIT 3
SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY amount) FROM payment
SELECT customer_id, sum(amount) s, rank() OVER (ORDER BY sum(amount) DESC) FROM payment GROUP BY 1 ORDER BY 3, 1 LIMIT 3
SELECT amount, amount - lag(amount) OVER (ORDER BY payment_id) FROM payment ORDER BY payment_id LIMIT 3
SELECT avg(amount) OVER (ORDER BY payment_id ROWS 6 PRECEDING) FROM payment ORDER BY payment_id LIMIT 3
SELECT stddev(length)::numeric(10,4) FROM film
SELECT max(amount) - min(amount), max(payment_date)::date - min(payment_date)::date FROM payment
SELECT EXISTS (SELECT 1 FROM film WHERE length > 1000), NOT EXISTS (SELECT 1 FROM film)
SELECT film_id FROM film WHERE special_features::text LIKE '%Trailers%' ORDER BY 1 LIMIT 2
SELECT lower(first_name) || '@x.com' FROM customer WHERE last_name LIKE 'S%' ORDER BY customer_id LIMIT 2
SELECT left(title, 3), right(title, 3), substr(title, 2, 3), substring(title from 2 for 3), length(title) FROM film WHERE film_id = 5
SELECT * FROM (SELECT rating::text, count(*) c FROM film GROUP BY 1) a WHERE c > 200 ORDER BY 1
SELECT c.name, count(*), round(avg(f.length), 1), min(f.title), max(f.rental_rate) FROM category c JOIN film_category fc USING (category_id) JOIN film f USING (film_id) GROUP BY c.name ORDER BY 2 DESC, 1 LIMIT 3
SELECT date '2024-03-31' + interval '1 month', date '2024-01-31' + interval '1 mon', timestamp '2024-03-30 12:00' + interval '-1 month'
SELECT count(*) FROM film f1 CROSS JOIN film f2 WHERE f1.film_id < 10 AND f2.film_id < 10
SELECT (SELECT count(*) FROM film) - (SELECT count(*) FROM inventory)
SELECT i, i % 3 = 0 FROM generate_series(1, 4) i ORDER BY i % 3, i
SELECT ARRAY[1,2] && ARRAY[2,3], ARRAY[1,2] @> ARRAY[2], ARRAY[1] <@ ARRAY[1,2]
SELECT array_length(string_to_array('a,b,c', ','), 1), (string_to_array('a,b,c', ','))[2]
SELECT '2024-01-01'::date - 1, '2024-01-01'::date < '2024-02-01', date '2024-01-01' BETWEEN '2023-12-31' AND '2024-01-02'
SELECT true::int + 1, (1 = 1)::text, 't'::bool AND NOT 'f'::bool
SELECT -5 / 2, -5 % 2, 5 / -2, abs(-5), -(-5), 2 - -2
SELECT 10 / 4, 10 / 4.0, 10 / 4::float8, 10::numeric / 4, 10 % 4.5
SELECT length(NULL), upper(NULL), NULL || 'a', 1 + NULL
SELECT '1' || 2, 1 || '2', 'a' || true, 'x' || NULL
SELECT title FROM film WHERE title SIMILAR TO '%(ACE|ZOO)%' ORDER BY 1
SELECT position('A' IN title) p, count(*) FROM film GROUP BY 1 ORDER BY 1 LIMIT 3
SELECT first_name, count(*) FROM actor GROUP BY first_name HAVING count(*) > 3 ORDER BY 2 DESC, 1
SELECT film_id, CASE WHEN length < 60 THEN 'short' WHEN length BETWEEN 60 AND 120 THEN 'mid' ELSE 'long' END FROM film ORDER BY film_id LIMIT 3
SELECT count(*) FROM payment WHERE payment_date >= date '2007-02-01' AND payment_date < date '2007-02-01' + interval '1 month'
SELECT count(*) FROM payment WHERE extract(month FROM payment_date) = 2
SELECT CASE WHEN 1 = 1 THEN 1 ELSE 1 / 0 END
SELECT 1 / nullif(0, 0)
SELECT x FROM (VALUES ('b'), ('a'), (NULL)) v(x) ORDER BY x DESC NULLS LAST
SELECT string_agg(x::text, ',' ORDER BY x) FROM generate_series(1, 5) x
SELECT count(DISTINCT (customer_id, staff_id)) FROM payment
SELECT sum(DISTINCT amount), avg(DISTINCT amount), count(DISTINCT amount) FROM payment
SELECT regexp_replace(title, '([A-Z])([A-Z]+)', '\1-\2', 'g') FROM film WHERE film_id = 1
SELECT to_char(sum(amount), 'FM999,999.00'), to_char(avg(amount), '9.99') FROM payment
SELECT 0.1 + 0.2 = 0.3, 0.1::float8 + 0.2::float8 = 0.3::float8, 1e-10, 123456789012345678901234567890
SELECT 1.5::int, 2.5::int, -1.5::int, 1.5::float8::int, '12.5'::numeric::int
SELECT ROUND(5.5), ROUND(6.5), ROUND(-5.5), round(2.345, 2), round(1e3, 2)
SELECT (SELECT f.title FROM film f JOIN film_category fc USING (film_id) WHERE fc.category_id = c.category_id ORDER BY f.title LIMIT 1) FROM category c ORDER BY c.name LIMIT 3
SELECT f.title, (SELECT l.name FROM language l WHERE l.language_id = f.language_id) FROM film f ORDER BY 1 LIMIT 2
SELECT c.name, (SELECT fc.film_id FROM film_category fc WHERE fc.category_id = c.category_id) FROM category c
SELECT c.customer_id, EXISTS (SELECT 1 FROM rental r WHERE r.customer_id = c.customer_id AND r.return_date IS NULL) FROM customer c ORDER BY 1 LIMIT 12
SELECT array_remove(ARRAY[1, 2, 1], 1), array_replace(ARRAY[1, 2, 1], 1, 3), array_cat(ARRAY[1], ARRAY[2]), array_position(ARRAY['a', 'b'], 'b'), array_prepend(0, ARRAY[1])
SELECT avg(return_date - rental_date) FROM rental WHERE customer_id < 100
SELECT to_date('01/03/2024', 'DD/MM/YYYY'), to_date('5 Mar 2024', 'DD Mon YYYY'), to_timestamp('20240301', 'YYYYMMDD'), to_timestamp('2024-03-01 12:30:15.5', 'YYYY-MM-DD HH24:MI:SS.MS'), to_timestamp(1700000000.5)
SELECT to_date('2024-13-45', 'YYYY-MM-DD')
SELECT to_date('abc', 'YYYY-MM-DD')
SELECT title FROM film WHERE title LIKE 'A/_%' ESCAPE '/' OR title LIKE 'ZOO%' ESCAPE '!' ORDER BY 1
SELECT name ISNULL, name NOTNULL FROM category WHERE category_id = 1
SELECT 'film'::regclass::text
SELECT round(1e3, 2), 1e3, 1.5e-3, 1e3::int, 2e0 * 3
-- differs: enums are ordered as text
SELECT count(*) FROM film WHERE rating > 'PG'
-- differs: values of one column share a scale
SELECT 1 AS a UNION SELECT 2.5 ORDER BY 1
-- differs: an ORDER BY inside a subquery does not order what is aggregated outside
SELECT string_agg(name, ',') FROM (SELECT name FROM category ORDER BY name DESC) q
-- differs: LATERAL with LIMIT cannot be decorrelated by the engine
SELECT c.customer_id, p.amount FROM customer c LEFT JOIN LATERAL (SELECT amount FROM payment p WHERE p.customer_id = c.customer_id ORDER BY amount DESC, payment_id LIMIT 2) p ON true WHERE c.customer_id < 4 ORDER BY 1, 2
-- differs: EXCLUDE in window frames is missing
SELECT x, sum(x) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM generate_series(1, 4) x ORDER BY x
