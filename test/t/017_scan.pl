# 017_scan.pl - many calls in flight inside one statement, and nothing else changes
#
# Each statement runs twice, with pgllm.concurrent_scan off and on, over the same rows: the same rows
# come out in the same order, or the same error; as many calls are made as the table below says, and
# with the scan on they really overlap.  Odd rows take longer than even ones, so answers never come in
# the order of their rows.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pgllm_cluster('scan', conf => <<'CONF');
pgllm.statement_max_calls = -1
pgllm.ledger_sync = off
pgllm.memo_size = 0
max_prepared_transactions = 0
CONF

setup_mock($node, 'a', quick => { parameters => { echo => \1, latency_ms => 1 } });
insert_rows($node,
	llm_target => [
		{ target => 'slow', shard => 'a_shard', model => 'a_quick', model_id => 'x', parameters => { echo => \1, latency_ms => 9 } },
		{ target => 'bad', shard => 'a_shard', model => 'a_quick', model_id => 'x', parameters => { script => ['bad_request'], repeat => \1 } } ],
	llm_route => [ { route => 'slow', target => 'slow' }, { route => 'bad', target => 'bad' } ]);
$node->safe_psql('postgres', <<'SQL');
UPDATE llm_tenant SET extra_routes = '{slow,bad}' WHERE tenant = 'a';
CREATE TABLE seed AS SELECT i AS id, i % 5 AS g, 'doc ' || i AS body, CASE WHEN i % 2 = 0 THEN '{}' ELSE '{"route": "slow"}' END::jsonb AS o
	FROM generate_series(1, 40) i;
CREATE TABLE docs (LIKE seed); CREATE TABLE other (id int, t text); CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, t text);
CREATE TABLE parts (LIKE seed) PARTITION BY LIST (g);
CREATE TABLE parts0 PARTITION OF parts FOR VALUES IN (0, 1); CREATE TABLE parts2 (extra int, LIKE seed);
ALTER TABLE parts2 DROP COLUMN extra; ALTER TABLE parts ATTACH PARTITION parts2 FOR VALUES IN (2, 3, 4);
CREATE INDEX ON docs (id); CREATE INDEX ON parts (g);
CREATE TABLE pairs AS SELECT i AS id, i % 3 AS k FROM generate_series(1, 10) i;
ANALYZE;
CREATE FUNCTION f(t text, o jsonb) RETURNS text LANGUAGE sql AS $$ SELECT llm_invoke('a', t, o) $$;
CREATE FUNCTION ask(tenant text, prompt text, options jsonb DEFAULT '{}') RETURNS text LANGUAGE c VOLATILE PARALLEL RESTRICTED AS '$libdir/pgllm', 'pgl_llm_invoke';
CREATE FUNCTION pl(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN llm_invoke('a', t); END $$;
CREATE FUNCTION noisy(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (t) VALUES (t); RETURN t; END $$;
CREATE FUNCTION inner_select(i int) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN RETURN (SELECT string_agg(llm_invoke('a', body || ' in ' || i), ',' ORDER BY id) FROM seed WHERE id <= 3); END $$;
CREATE FUNCTION on_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (t) VALUES (llm_invoke('a', 'row ' || NEW.id)); RETURN NEW; END $$;
CREATE FUNCTION on_statement() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO log (t) SELECT llm_invoke('a', 'changed ' || body, o) FROM changed ORDER BY id; RETURN NULL; END $$;
CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM docs WHERE g < 3;
CREATE VIEW answers AS SELECT id, llm_invoke('a', body, o) AS answer FROM docs;
CREATE TYPE pair AS (a int, b text);
SQL

my $session = new_session($node);
my $calls = "SELECT coalesce(sum(attempts), 0) FROM llm_stat_target";

# The statement and what it leaves in tables, as text, and how many calls that took.
sub run
{
	my ($sql, $on) = @_;
	my ($before, $result, $left, $after);

	$session->query("DEALLOCATE ALL; SET pgllm.concurrent_scan = $on");
	$session->query('BEGIN; TRUNCATE docs, other, log, parts; INSERT INTO docs SELECT * FROM seed ORDER BY id;'
		  . ' INSERT INTO parts SELECT * FROM seed; ALTER SEQUENCE log_n_seq RESTART; SAVEPOINT s');
	$before = $session->value($calls);
	$result = $session->query($sql);
	$after = $session->value($calls) if !$result->{sqlstate};
	$left = $result->{sqlstate} ? '' : $session->value('SELECT string_agg(r, E\'\n\') FROM (SELECT d::text AS r FROM docs d'
		  . ' UNION ALL SELECT o::text FROM other o UNION ALL SELECT l::text FROM log l UNION ALL SELECT p::text FROM (SELECT * FROM parts ORDER BY id) p) s');
	$session->query('ROLLBACK');
	$after //= $session->value($calls);
	return { result => join("\n", map { $_ // '' } @$result{qw(out sqlstate message)}), left => $left, calls => $after - $before };
}

# Is the scan in its plan?  Of several statements, the one that has the calls.
sub has_scan
{
	my ($sql) = @_;
	my ($statement) = grep { /\b(?:llm_\w+|ask|f|answers)\b/ } split /;\s*/, $sql;
	my $plan;

	$statement =~ s/^\s*(?:COPY \((.*)\) TO STDOUT|DECLARE .*? FOR|CREATE TABLE \w+ AS|PREPARE .*? AS)/$1 \/\/ ''/e;
	$plan = $session->query("BEGIN; EXPLAIN (COSTS OFF) $statement");
	$session->query('ROLLBACK');
	return ($plan->{out} // '') =~ /ConcurrentCalls/ ? 1 : 0;
}

# name, calls, statement; further keys: on (calls with the scan on, where they differ), scan (0: serial)
my @statements = (
	[ 'target list', 40, q{SELECT id, llm_invoke('a', body, o) FROM docs} ],
	[ 'inside an expression', 40, q{SELECT id, upper(llm_invoke('a', body, o)) || '!' || id FROM docs} ],
	[ 'all columns and the whole row', 40, q{SELECT d, d.*, ctid IS NOT NULL, tableoid::regclass, llm_invoke('a', body, o) FROM docs d} ],
	[ 'several calls', 80, q{SELECT llm_invoke('a', body, o), id, llm_invoke('a', 'again ' || body, o) FROM docs} ],
	[ 'nested calls', 80, q{SELECT id, llm_invoke('a', 'outer ' || llm_invoke('a', body, o)) FROM docs} ],
	[ 'nested twice', 120, q{SELECT id, llm_invoke('a', llm_invoke('a', llm_invoke('a', body, o) || '1') || '2') FROM docs} ],
	[ 'rows', 40, q{SELECT id, (llm_try_invoke('a', body, o)).response FROM docs} ],
	[ 'NULL prompts', 32, q{SELECT id, llm_invoke('a', CASE WHEN g > 0 THEN body END, o) FROM docs} ],
	[ 'a function of another name', 40, q{SELECT id, ask('a', body, o) FROM docs} ],
	[ 'an inlined wrapper', 40, q{SELECT id, f(body, o) FROM docs} ],
	[ 'a wrapper in PL/pgSQL', 40, q{SELECT id, pl(body) FROM docs}, scan => 0 ],
	[ 'arrays, rows, json', 160, q{SELECT ARRAY[llm_invoke('a', body, o), 'x'], ROW(id, llm_invoke('a', body || 2, o))::pair, jsonb_build_object('a', llm_invoke('a', body || 3, o)) ->> 'a', (ARRAY[llm_invoke('a', body || 4)])[1] FROM docs} ],
	[ 'IN and ANY', 40, q{SELECT id, llm_invoke('a', body, o) IN ('doc 1', 'doc 2') FROM docs} ],
	[ 'GREATEST, NULLIF, IS DISTINCT', 120, q{SELECT greatest(llm_invoke('a', body, o), 'e'), nullif(llm_invoke('a', body || 1), 'x'), llm_invoke('a', body || 2) IS DISTINCT FROM 'doc 12' FROM docs} ],

	[ 'WHERE', 40, q{SELECT id FROM docs WHERE llm_invoke('a', body, o) < 'doc 3'} ],
	[ 'WHERE, cheap clauses first', 16, q{SELECT id FROM docs WHERE llm_invoke('a', body, o) < 'doc 3' AND g < 2} ],
	[ 'WHERE and target list', 62, q{SELECT id, llm_invoke('a', 'list ' || body) FROM docs WHERE llm_invoke('a', body, o) < 'doc 3'} ],
	[ 'two calls in WHERE', 62, q{SELECT id FROM docs WHERE llm_invoke('a', body, o) < 'doc 3' AND llm_invoke('a', 'second ' || body) > 'a'} ],
	[ 'OR', 58, q{SELECT id FROM docs WHERE llm_invoke('a', body, o) < 'doc 3' OR llm_invoke('a', 'second ' || body) = 'second doc 5'} ],
	[ 'NOT', 40, q{SELECT id FROM docs WHERE NOT (llm_invoke('a', body, o) < 'doc 3')} ],
	[ 'WHERE by an index', 20, q{SELECT id, llm_invoke('a', body, o) FROM docs WHERE id > 20 ORDER BY id} ],

	[ 'CASE', 8, q{SELECT id, CASE WHEN g = 1 THEN llm_invoke('a', body, o) ELSE 'no' END FROM docs} ],
	[ 'CASE, all branches', 40, q{SELECT id, CASE g WHEN 1 THEN llm_invoke('a', body, o) WHEN 2 THEN llm_invoke('a', 'two ' || body) ELSE llm_invoke('a', 'else ' || body) END FROM docs} ],
	[ 'CASE over a call', 48, q{SELECT id, CASE llm_invoke('a', g::text, o) WHEN '1' THEN llm_invoke('a', body) WHEN '2' THEN 'two' END FROM docs} ],
	[ 'CASE with a condition that calls', 72, q{SELECT id, CASE WHEN g = 0 THEN 'zero' WHEN llm_invoke('a', body, o) < 'doc 2' THEN 'small' WHEN llm_invoke('a', 'b' || body, o) < 'bdoc 3' THEN 'middle' ELSE llm_invoke('a', 'c' || body) END FROM docs}, any => 1 ],
	[ 'CASE guards errors', 32, q{SELECT id, CASE WHEN g <> 3 THEN llm_invoke('a', (100 / (g - 3))::text || body, o) END FROM docs} ],
	[ 'CASE WHEN false', 0, q{SELECT CASE WHEN id < 0 THEN llm_invoke('a', body, o) END FROM docs} ],
	[ 'COALESCE', 20, q{SELECT coalesce(CASE WHEN id % 2 = 0 THEN 'given' END, llm_invoke('a', body, o)) FROM docs} ],
	[ 'COALESCE after a call', 48, q{SELECT coalesce(llm_invoke('a', CASE WHEN g > 0 THEN body END, o), llm_invoke('a', 'second ' || body), 'never'), coalesce(llm_invoke('a', CASE WHEN g > 3 THEN 'x' || body END), 'none') FROM docs} ],
	[ 'AND and OR in the list', 28, q{SELECT id, g > 2 AND llm_invoke('a', body, o) > 'doc 2', g < 2 AND (g = 1 OR llm_invoke('a', 'o' || body) > 'x') , g = 9 AND llm_invoke('a', 'never') > '' FROM docs}, any => 1 ],
	[ 'strict functions do not guard', 40, q{SELECT nullif(id, id)::text || llm_invoke('a', body, o) FROM docs} ],

	[ 'ORDER BY a call', 40, q{SELECT id FROM docs ORDER BY llm_invoke('a', body, o) DESC} ],
	[ 'ORDER BY a column', 40, q{SELECT id, llm_invoke('a', body, o) FROM docs ORDER BY g, id DESC} ],
	[ 'DISTINCT', 40, q{SELECT DISTINCT llm_invoke('a', g::text, o) AS x FROM docs ORDER BY x} ],
	[ 'DISTINCT ON', 40, q{SELECT DISTINCT ON (g) g, llm_invoke('a', body, o) FROM docs ORDER BY g, 2} ],
	[ 'GROUP BY a call', 40, q{SELECT llm_invoke('a', g::text, o) AS x, count(*) FROM docs GROUP BY 1 ORDER BY 1} ],
	[ 'aggregates over calls', 40, q{SELECT g, string_agg(llm_invoke('a', body, o), ',' ORDER BY id) FROM docs GROUP BY g ORDER BY g} ],
	[ 'one aggregate', 40, q{SELECT count(llm_invoke('a', body, o)) FROM docs} ],
	[ 'two aggregates', 80, q{SELECT min(llm_invoke('a', body, o)), max(length(llm_invoke('a', body || '!', o))) FROM docs} ],
	[ 'FILTER', 16, q{SELECT g, string_agg(llm_invoke('a', body, o), ',' ORDER BY id) FILTER (WHERE id <= 16) FROM docs GROUP BY g ORDER BY g} ],
	[ 'FILTER by a call', 56, q{SELECT string_agg(llm_invoke('a', 'x' || body), ',' ORDER BY id) FILTER (WHERE llm_invoke('a', body, o) < 'doc 24') FROM docs}, any => 1 ],
	[ 'a call over an aggregate', 5, q{SELECT llm_invoke('a', string_agg(body, ',' ORDER BY id)) FROM docs GROUP BY g ORDER BY g} ],
	[ 'a call over an aggregate over calls', 45, q{SELECT g, llm_invoke('a', 'sum ' || string_agg(llm_invoke('a', body, o), ',' ORDER BY id)) FROM docs GROUP BY g ORDER BY g} ],
	[ 'HAVING with an aggregate', 5, q{SELECT g FROM docs GROUP BY g HAVING llm_invoke('a', min(body)) < 'doc 13' ORDER BY g} ],
	[ 'grouping sets', 40, q{SELECT g, id % 2, count(llm_invoke('a', body, o)), grouping(g) FROM docs GROUP BY GROUPING SETS ((g), (id % 2), ()) ORDER BY 1, 2, 4}, any => 1 ],
	[ 'window function over a call', 40, q{SELECT id, string_agg(llm_invoke('a', body, o), ',') OVER (PARTITION BY g ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM docs ORDER BY id}, off => 70 ],
	[ 'a call over a window function', 40, q{SELECT id, llm_invoke('a', 'rank ' || rank() OVER (PARTITION BY g ORDER BY id), o) FROM docs ORDER BY id} ],

	[ 'LIMIT', 3, q{SELECT id, llm_invoke('a', body, o) FROM docs LIMIT 3} ],
	[ 'ORDER BY and LIMIT', 3, q{SELECT id, llm_invoke('a', body, o) FROM docs ORDER BY g DESC, id LIMIT 3} ],
	[ 'LIMIT and OFFSET', 8, q{SELECT id, llm_invoke('a', body, o) FROM docs ORDER BY id LIMIT 3 OFFSET 5}, on => 3 ],
	[ 'LIMIT above a filter', 26, q{SELECT id FROM docs WHERE llm_invoke('a', body, o) > 'doc 23' LIMIT 20}, any => 1 ],
	[ 'LIMIT ALL', 40, q{SELECT llm_invoke('a', body, o) FROM docs LIMIT ALL} ],
	[ 'LIMIT 0', 0, q{SELECT llm_invoke('a', body, o) FROM docs LIMIT 0} ],
	[ 'LIMIT above a join', 6, q{SELECT d.id, p.id, llm_invoke('a', d.body || p.id, o) FROM docs d, pairs p WHERE d.g = p.k ORDER BY d.id, p.id LIMIT 6} ],
	[ 'FETCH FIRST WITH TIES', 9, q{SELECT g, llm_invoke('a', body, o) FROM docs ORDER BY g FETCH FIRST 3 ROWS WITH TIES}, more => 16 ],

	[ 'subquery', 40, q{SELECT count(*), min(x) FROM (SELECT id, llm_invoke('a', body, o) AS x FROM docs OFFSET 0) s WHERE x > 'doc 2'} ],
	[ 'LATERAL', 40, q{SELECT id, x FROM docs, LATERAL llm_invoke('a', body, o) AS x} ],
	[ 'LATERAL row', 40, q{SELECT id, r.response, r.sqlstate FROM docs, LATERAL llm_try_invoke('a', body, o) r} ],
	[ 'LATERAL with a filter', 40, q{SELECT id, x FROM docs, LATERAL llm_invoke('a', body, o) AS x WHERE x > 'doc 2'} ],
	[ 'LEFT JOIN LATERAL', 40, q{SELECT id, r.response FROM docs LEFT JOIN LATERAL llm_try_invoke('a', body, o) r ON true ORDER BY id} ],
	[ 'LATERAL subquery', 40, q{SELECT id, s.x, s.y FROM docs, LATERAL (SELECT llm_invoke('a', body, o) AS x, g + 1 AS y OFFSET 0) s} ],
	[ 'join', 40, q{SELECT d.id, p.id, llm_invoke('a', d.body || p.id, o) FROM docs d JOIN pairs p ON p.id = d.id % 10 + 1 ORDER BY d.id} ],
	[ 'join condition', 40, q{SELECT d.id, p.id FROM docs d JOIN pairs p ON p.id = d.id % 10 + 1 AND llm_invoke('a', d.body || p.id, o) > 'doc 2' ORDER BY d.id} ],
	[ 'outer join', 40, q{SELECT d.id, p.id, llm_invoke('a', d.body || coalesce(p.id, 0), o) FROM docs d LEFT JOIN pairs p ON p.id = d.id ORDER BY d.id} ],
	[ 'outer join condition', 10, q{SELECT d.id, p.id FROM docs d LEFT JOIN pairs p ON p.id = d.id AND llm_invoke('a', d.body || p.id, o) > 'doc 2' ORDER BY d.id}, scan => 0 ],
	[ 'EXISTS', 40, q{SELECT id FROM docs d WHERE EXISTS (SELECT 1 FROM pairs p WHERE p.id = d.id % 10 + 1 AND llm_invoke('a', d.body, d.o) > '') ORDER BY id}, scan => undef ],
	[ 'scalar subquery', 40, q{SELECT id, (SELECT llm_invoke('a', d.body, d.o)) FROM docs d}, scan => undef ],
	[ 'array subquery', 40, q{SELECT ARRAY(SELECT llm_invoke('a', body, o) FROM docs ORDER BY id)} ],
	[ 'CTE', 40, q{WITH c AS MATERIALIZED (SELECT id, llm_invoke('a', body, o) AS x FROM docs) SELECT count(*), min(x) FROM c} ],
	[ 'CTE used twice', 40, q{WITH c AS (SELECT id, llm_invoke('a', body, o) AS x FROM docs) SELECT count(*) FROM c a JOIN c b USING (id)} ],
	[ 'CTE cut short', 3, q{WITH c AS MATERIALIZED (SELECT id, llm_invoke('a', body, o) AS x FROM docs) SELECT * FROM c LIMIT 3}, more => 4 ],
	[ 'recursive CTE', 12, q{WITH RECURSIVE r (n, i, t) AS (SELECT 0, id, body FROM docs WHERE id <= 4 UNION ALL SELECT n + 1, i, llm_invoke('a', t || n) FROM r WHERE n < 3) SELECT * FROM r ORDER BY n, i} ],
	[ 'UNION ALL', 80, q{SELECT id, llm_invoke('a', body, o) FROM docs UNION ALL SELECT id, llm_invoke('a', 'u' || body) FROM docs} ],
	[ 'UNION', 80, q{SELECT llm_invoke('a', g::text, o) AS x FROM docs UNION SELECT llm_invoke('a', (g + 1)::text) FROM docs ORDER BY x} ],
	[ 'partitions', 40, q{SELECT id, llm_invoke('a', body, o) FROM parts} ],
	[ 'partitions, ordered', 40, q{SELECT id, llm_invoke('a', body, o) FROM parts ORDER BY id} ],
	[ 'view', 40, q{SELECT * FROM answers} ],
	[ 'security barrier', 24, q{SELECT id, llm_invoke('a', body, o) FROM barrier WHERE llm_invoke('a', 'w' || body) < 'w'}, on => 24 ],
	[ 'VALUES', 3, q{SELECT llm_invoke('a', x) FROM (VALUES ('a'), ('b'), ('c')) v (x)} ],
	[ 'set-returning function of a call', 40, q{SELECT id, regexp_split_to_table(llm_invoke('a', body, o), ' ') FROM docs} ],
	[ 'a call beside a set-returning function', 80, q{SELECT id, unnest(ARRAY[1, 2]), llm_invoke('a', body, o) FROM docs}, off => 120 ],
	[ 'function scan, values of unnest', 4, q{SELECT x, llm_invoke('a', x) FROM unnest(ARRAY['a', 'b', 'c', 'd']) AS x} ],
	[ 'generate_series', 25, q{SELECT i, llm_invoke('a', 'n' || i, CASE WHEN i % 2 = 0 THEN '{"route": "slow"}' ELSE '{}' END::jsonb) FROM generate_series(1, 25) i} ],
	[ 'no FROM', 2, q{SELECT llm_invoke('a', 'one', '{"route": "slow"}'), llm_invoke('a', 'two')} ],
	[ 'no FROM, one call', 1, q{SELECT llm_invoke('a', 'one')}, scan => 0 ],

	[ 'INSERT SELECT', 40, q{INSERT INTO other SELECT id, llm_invoke('a', body, o) FROM docs} ],
	[ 'INSERT SELECT with defaults', 40, q{INSERT INTO log (t) SELECT llm_invoke('a', body, o) FROM docs ORDER BY id} ],
	[ 'INSERT VALUES', 2, q{INSERT INTO other VALUES (1, llm_invoke('a', 'one')), (2, llm_invoke('a', 'two'))}, scan => 0 ],
	[ 'INSERT RETURNING', 40, q{INSERT INTO other SELECT id, body FROM docs RETURNING id, llm_invoke('a', t)} ],
	[ 'INSERT and RETURNING with calls', 80, q{INSERT INTO other SELECT id, llm_invoke('a', body, o) FROM docs RETURNING id, llm_invoke('a', 'r' || t)} ],
	[ 'CREATE TABLE AS', 40, q{CREATE TABLE made AS SELECT id, llm_invoke('a', body, o) AS x FROM docs; INSERT INTO other SELECT * FROM made} ],
	[ 'UPDATE', 40, q{UPDATE docs SET body = llm_invoke('a', 'new ' || body, o)} ],
	[ 'UPDATE FROM', 10, q{UPDATE docs d SET body = llm_invoke('a', d.body || p.k, o) FROM pairs p WHERE p.id = d.id} ],
	[ 'UPDATE WHERE', 60, q{UPDATE docs SET body = llm_invoke('a', 'new ' || body) WHERE llm_invoke('a', body, o) < 'doc 28'}, any => 1 ],
	[ 'UPDATE RETURNING', 80, q{UPDATE docs SET body = llm_invoke('a', 'new ' || body, o) RETURNING id, llm_invoke('a', 'r' || body)} ],
	[ 'UPDATE partitions', 40, q{UPDATE parts SET body = llm_invoke('a', 'new ' || body, o)} ],
	[ 'UPDATE moves rows', 40, q{UPDATE parts SET g = length(llm_invoke('a', body, o)) % 5} ],
	[ 'UPDATE of several columns', 40, q{UPDATE docs SET (g, body) = (SELECT k, 'x' || k FROM pairs p WHERE p.id = docs.id), o = jsonb_build_object('x', llm_invoke('a', body, o))}, scan => 0 ],
	[ 'DELETE', 40, q{DELETE FROM docs WHERE llm_invoke('a', body, o) > 'doc 28'} ],
	[ 'DELETE RETURNING', 8, q{DELETE FROM docs WHERE g = 1 RETURNING id, llm_invoke('a', body, o)} ],
	[ 'INSERT ON CONFLICT', 40, q{CREATE UNIQUE INDEX ON other (id); INSERT INTO other VALUES (3, 'old'); INSERT INTO other SELECT id, llm_invoke('a', body, o) FROM docs ON CONFLICT (id) DO UPDATE SET t = 'again ' || excluded.t}, scan => undef ],
	[ 'MERGE', 40, q{MERGE INTO other t USING (SELECT id, llm_invoke('a', body, o) AS x FROM docs OFFSET 0) s ON t.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.x)} ],
	[ 'data-modifying CTE', 40, q{WITH c AS (UPDATE docs SET body = llm_invoke('a', 'new ' || body, o) RETURNING id) SELECT count(*) FROM c} ],
	[ 'data-modifying CTE, not read', 40, q{WITH c AS (INSERT INTO other SELECT id, llm_invoke('a', body, o) FROM docs RETURNING id) SELECT 1} ],
	[ 'FOR UPDATE', 40, q{SELECT id, llm_invoke('a', body, o) FROM docs FOR UPDATE} ],
	[ 'FOR UPDATE SKIP LOCKED LIMIT', 3, q{SELECT id, llm_invoke('a', body, o) FROM docs ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 3} ],
	[ 'row triggers', 80, q{CREATE TRIGGER t BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION on_change(); UPDATE docs SET body = llm_invoke('a', body, o)} ],
	[ 'statement trigger', 80, q{CREATE TRIGGER t AFTER UPDATE ON docs REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION on_statement(); UPDATE docs SET body = llm_invoke('a', body, o)} ],

	[ 'COPY TO', 40, q{COPY (SELECT id, llm_invoke('a', body, o) FROM docs) TO STDOUT} ],
	[ 'prepared, generic', 20, q{SET LOCAL plan_cache_mode = force_generic_plan; PREPARE p (int, text) AS SELECT id, llm_invoke('a', $2 || body, o) FROM docs WHERE id <= $1; EXECUTE p (20, 'x')}, scan => undef ],
	[ 'LIMIT of a parameter', 7, q{SET LOCAL plan_cache_mode = force_generic_plan; PREPARE q (int) AS SELECT id, llm_invoke('a', body, o) FROM docs LIMIT $1; EXECUTE q (7)}, scan => undef ],
	[ 'cursor, all', 40, q{DECLARE c CURSOR FOR SELECT id, llm_invoke('a', body, o) FROM docs; FETCH ALL FROM c} ],
	[ 'cursor, some', 5, q{DECLARE c CURSOR FOR SELECT id, llm_invoke('a', body, o) FROM docs; FETCH 3 FROM c; FETCH 2 FROM c; CLOSE c} ],
	[ 'scroll cursor', 5, q{DECLARE c SCROLL CURSOR FOR SELECT id, llm_invoke('a', body, o) FROM docs; FETCH 5 FROM c; FETCH BACKWARD 3 FROM c; FETCH FORWARD 2 FROM c}, more => 10, off => 10 ],
	[ 'cursor with hold', 40, q{DECLARE c CURSOR WITH HOLD FOR SELECT id, llm_invoke('a', body, o) FROM docs; FETCH 3 FROM c}, more => 40, scan => 1, off => 3 ],
	[ 'CURRENT OF, locked', 3, q{DECLARE c CURSOR FOR SELECT id, llm_invoke('a', body, o) FROM docs FOR UPDATE; FETCH 3 FROM c; UPDATE docs SET body = 'here' WHERE CURRENT OF c} ],
	[ 'PL/pgSQL loop', 40, q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT id, llm_invoke('a', body, o) AS x FROM docs LOOP INSERT INTO other VALUES (r.id, r.x); END LOOP; END $$}, scan => undef ],
	[ 'PL/pgSQL loop, left early', 3, q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT id, llm_invoke('a', body, o) AS x FROM docs LOOP INSERT INTO other VALUES (r.id, r.x); EXIT WHEN r.id = 3; END LOOP; END $$}, scan => undef, more => 18, off => 10 ],
	[ 'PL/pgSQL expression', 3, q{DO $$ DECLARE x text; BEGIN x := llm_invoke('a', 'one'); x := x || (SELECT llm_invoke('a', 'two')); SELECT llm_invoke('a', 'three') INTO x; INSERT INTO other VALUES (1, x); END $$}, scan => undef ],
	[ 'a volatile function beside', 40, q{SELECT id, noisy(body), llm_invoke('a', body, o) FROM docs} ],
	[ 'a volatile function in the prompt', 40, q{SELECT id, llm_invoke('a', noisy(body), o) FROM docs}, scan => 0 ],
	[ 'nextval beside', 40, q{SELECT id, nextval('log_n_seq'), llm_invoke('a', body, o) FROM docs} ],
	[ 'nextval in the prompt', 40, q{SELECT id, llm_invoke('a', 'n' || nextval('log_n_seq'), o) FROM docs} ],
	[ 'a function that runs such a statement', 15, q{SELECT id, inner_select(id) FROM docs WHERE id <= 5}, scan => undef ],
	[ 'a call whose prompt runs such a statement', 20, q{CREATE FUNCTION pg_temp.st(i int) RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN inner_select(i); END $$; SELECT id, llm_invoke('a', pg_temp.st(id), o) FROM docs WHERE id <= 5}, scan => undef ],
	[ 'parallel plan below', 40, q{SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0; SELECT count(*), min(llm_invoke('a', body, o)) FROM seed}, scan => undef ],
	[ 'JIT', 40, q{SET LOCAL jit = on; SET LOCAL jit_above_cost = 0; SET LOCAL jit_optimize_above_cost = 0; SELECT id, upper(llm_invoke('a', body, o)) FROM docs WHERE g < 9}, scan => undef ],

	[ 'an error in the middle', undef, q{SELECT id, llm_invoke('a', body, CASE WHEN id = 20 THEN '{"route": "bad"}' ELSE o END) FROM docs} ],
	[ 'an error that is not reached', 3, q{SELECT id, llm_invoke('a', body, CASE WHEN id = 7 THEN '{"route": "bad"}' ELSE o END) FROM docs LIMIT 3} ],
	[ 'two errors: the first row counts', undef, q{SELECT id, llm_invoke('a', CASE WHEN id = 25 THEN '' ELSE body END, CASE WHEN id = 24 THEN '{"route": "bad"}' ELSE o END) FROM docs} ],
	[ 'a mistake in the middle', undef, q{SELECT id, llm_invoke('a', CASE WHEN id = 20 THEN '' ELSE body END, o) FROM docs} ],
	[ 'a mistake that is not reached', 2, q{SELECT id, llm_invoke('a', CASE WHEN id = 3 THEN '' ELSE body END, o) FROM docs LIMIT 2} ],
	[ 'an unknown tenant', undef, q{SELECT id, llm_invoke('nobody', body, o) FROM docs} ],
	[ 'an error in an argument', undef, q{SELECT id, llm_invoke('a', (1 / (id - 20))::text || body, o) FROM docs} ],
	[ 'a failed row as data', 39, q{SELECT id, (r).response, (r).sqlstate FROM (SELECT id, llm_try_invoke('a', body, CASE WHEN id = 20 THEN '{"route": "bad"}' ELSE o END) AS r FROM docs OFFSET 0) s}, any => 1 ],
);

foreach my $case (@statements)
{
	my ($name, $calls_made, $sql, %opt) = @$case;
	my $off = run($sql, 'off');
	my $on = run($sql, 'on');
	my $scan;

	is($on->{result}, $off->{result}, "$name: same result");
	is($on->{left}, $off->{left}, "$name: same rows left in tables");
	if (defined $calls_made && !$opt{any})
	{
		is($off->{calls}, $opt{off} // $calls_made, "$name: calls one after the other");
		if (defined $opt{more}) { cmp_ok($on->{calls}, '<=', $opt{more}, "$name: bounded look-ahead"); }
		else { is($on->{calls}, $opt{on} // $calls_made, "$name: calls in flight together"); }
	}
	elsif (defined $calls_made) { is($on->{calls}, $off->{calls}, "$name: as many calls"); }
	else { cmp_ok($on->{calls}, '<=', $off->{calls} + 32, "$name: no more calls than a window"); }
	next if exists $opt{scan} && !defined $opt{scan};
	$session->query('SET pgllm.concurrent_scan = on');
	($scan) = has_scan($sql);
	is($scan, $opt{scan} // 1, "$name: " . (($opt{scan} // 1) ? 'in the scan' : 'left as it is'));
}
ok(nothing_held($node), 'nothing is held in the end');
$session->quit;
$node->stop;
done_testing();
