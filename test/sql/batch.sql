-- Many calls at once: llm_invoke_many, llm_invoke_array, llm_try_invoke_array, llm_invoke_query.
-- Order, NULL, errors, limits of the statement, privileges, and all of it inside one another.
\set VERBOSITY default
SET client_min_messages = warning;
SELECT llm_stat_reset();

INSERT INTO llm_model (model) VALUES ('m');
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES
	('echo', 'mock', 'm', 'x', '{"echo": true}'),
	('at_once', 'mock', 'm', 'x', '{"echo": true}'),
	('soon', 'mock', 'm', 'x', '{"echo": true, "latency_ms": 3}'),
	('later', 'mock', 'm', 'x', '{"echo": true, "latency_ms": 40}'),
	('third_fails', 'mock', 'm', 'x', '{"script": ["ok", "ok", "refusal", "ok"], "repeat": true}'),
	('slow_third', 'mock', 'm', 'x', '{"script": ["ok", "ok", "refusal"], "latency_ms": 40}'),
	('late_failure', 'mock', 'm', 'x', '{"script": ["server_error", "refusal", "bad_request"]}'),
	('refuse_and_hang', 'mock', 'm', 'x', '{"script": ["refusal", "hang", "hang", "hang"], "latency_ms": 30}'),
	('hang', 'mock', 'm', 'x', '{"script": ["hang"], "repeat": true}');
INSERT INTO llm_route_policy (route, max_attempts) VALUES ('third_fails', 1), ('slow_third', 1), ('late_failure', 2);
INSERT INTO llm_route (route, target) VALUES ('echo', 'echo'), ('mixed', 'at_once'), ('mixed', 'soon'), ('mixed', 'later'),
	('third_fails', 'third_fails'), ('slow_third', 'slow_third'),
	('late_failure', 'late_failure'), ('refuse_and_hang', 'refuse_and_hang'), ('hang', 'hang');
INSERT INTO llm_tenant (tenant, route, extra_routes) VALUES ('t', 'echo', '{mixed,third_fails,slow_third,late_failure,refuse_and_hang,hang}'), ('other', 'echo', '{}');
INSERT INTO llm_quota (rpm) VALUES (1000000);

CREATE FUNCTION calls() RETURNS bigint LANGUAGE sql AS $$
	SELECT coalesce(sum(attempts), 0)::bigint FROM llm_stat_target $$;
CREATE FUNCTION reset() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM llm_stat_reset(); END $$;

-- in the order of the prompts, whatever the order of answers
SELECT count(*), bool_and(ord = i AND (result).response = 'p' || i) AS in_order, count(DISTINCT (result).target)
FROM (SELECT row_number() OVER () AS i, * FROM llm_invoke_many('t', ARRAY(SELECT 'p' || i FROM generate_series(1, 200) i), '{"route": "mixed"}')) s;
SELECT llm_invoke_array('t', ARRAY(SELECT 'p' || i FROM generate_series(1, 200) i), '{"route": "mixed"}')
	= ARRAY(SELECT 'p' || i FROM generate_series(1, 200) i) AS in_order;
SELECT bool_and((r[i]).response = 'p' || i) AS in_order, count(*)
FROM llm_try_invoke_array('t', ARRAY(SELECT 'p' || i FROM generate_series(1, 200) i), '{"route": "mixed"}') AS r, generate_series(1, 200) AS i;
SELECT count(*), bool_and(key = i::text AND (result).response = 'p' || i) AS in_order
FROM (SELECT row_number() OVER () AS i, * FROM llm_invoke_query('t', 'SELECT i, ''p'' || i FROM generate_series(1, 200) i', '{"route": "mixed"}')) s;
SELECT calls();
SELECT reset();

-- arrays: bounds, NULL, nothing
SELECT llm_invoke_array('t', ARRAY['a', NULL, 'c']);
SELECT llm_invoke_array('t', '[5:7]={a,NULL,c}'), array_dims(llm_try_invoke_array('t', '[5:7]={a,NULL,c}'));
SELECT (r[1]).response, r[2] IS NULL AS no_call, (r[3]).sqlstate FROM llm_try_invoke_array('t', ARRAY['a', NULL, 'c']) r;
SELECT llm_invoke_array('t', '{}'), llm_try_invoke_array('t', '{}'), llm_invoke_array('t', NULL) IS NULL AS a, llm_try_invoke_array('t', NULL) IS NULL AS b;
SELECT llm_invoke_array('t', '{NULL,NULL}'), llm_try_invoke_array('t', '{NULL}');
SELECT llm_invoke_array('t', '{{a,b},{c,d}}');
SELECT llm_try_invoke_array('t', '{{a,b},{c,d}}');
SELECT llm_invoke_array('t', ARRAY['a', '']);
SELECT llm_invoke_array(NULL, ARRAY['a']);
SELECT llm_try_invoke_array('nobody', ARRAY['a']);
SELECT llm_invoke_array('t', ARRAY['a'], '{"maxtokens": 1}');
SELECT calls();
SELECT reset();

-- queries: keys of any type, NULL, nothing
SELECT key, (result).response, result IS NULL AS no_call FROM llm_invoke_query('t', $$VALUES ('2024-02-01'::date, 'a'), (NULL, 'b'), ('infinity', NULL)$$);
SELECT key, (result).response FROM llm_invoke_query('t', 'SELECT ARRAY[i, i + 1], ''x''::varchar FROM generate_series(1, 2) i ORDER BY i DESC');
SELECT count(*) FROM llm_invoke_query('t', 'SELECT 1, ''x'' WHERE false');
SELECT count(*) FROM llm_invoke_query('t', 'WITH c AS (SELECT i, ''same'' AS p FROM generate_series(1, 300) i) SELECT * FROM c');
SELECT calls(); -- a, b, x, same
SELECT * FROM llm_invoke_query('t', NULL);
SELECT * FROM llm_invoke_query(NULL, 'SELECT 1, ''x''');
SELECT * FROM llm_invoke_query('t', 'SELECT ''x''');
SELECT * FROM llm_invoke_query('t', 'SELECT 1, 2, ''x''');
SELECT * FROM llm_invoke_query('t', 'SELECT ''x'', 1');
SELECT * FROM llm_invoke_query('t', 'SELECT FROM llm_model');
SELECT * FROM llm_invoke_query('t', 'SELECT 1, ''x''; SELECT 2, ''y''');
SELECT * FROM llm_invoke_query('t', '');
SELECT * FROM llm_invoke_query('t', 'SELECT 1, ');
SELECT * FROM llm_invoke_query('t', 'SELECT 1, ''x'' INTO y');
SELECT * FROM llm_invoke_query('nobody', 'SELECT 1, ''x''');
SELECT reset();

-- an empty prompt is named before its call; one that follows it is not sent
SET pgllm.max_concurrency = 1;
SELECT * FROM llm_invoke_query('t', $$VALUES ('k1', 'one'), ('k2', 'two'), ('k3', ''), ('k4', 'four')$$);
SELECT * FROM llm_invoke_query('t', $$SELECT NULL::int, ''$$);
RESET pgllm.max_concurrency;
SELECT calls();

-- read-only: the query neither writes nor locks
CREATE TABLE doc (id int PRIMARY KEY, body text, answer text);
INSERT INTO doc SELECT i, 'doc ' || i FROM generate_series(1, 30) i;
SELECT * FROM llm_invoke_query('t', 'WITH gone AS (DELETE FROM doc RETURNING id, body) SELECT * FROM gone');
SELECT * FROM llm_invoke_query('t', 'SELECT id, body FROM doc FOR UPDATE');
SELECT * FROM llm_invoke_query('t', 'DELETE FROM doc RETURNING id, body');
SELECT * FROM llm_invoke_query('t', 'TRUNCATE doc');
SELECT count(*) FROM doc;
BEGIN READ ONLY;
SELECT count((result).response) FROM llm_invoke_query('t', 'SELECT id, body FROM doc');
SELECT array_length(llm_invoke_array('t', ARRAY['a', 'b']), 1);
COMMIT;

-- errors of the query are errors, and end it all
SELECT * FROM llm_invoke_query('t', 'SELECT i, (100 / (3 - i))::text FROM generate_series(1, 5) i');

-- a failing call: data, or the error of the first in the order of the prompts
SELECT reset();
SELECT ord, (result).response, (result).sqlstate FROM llm_invoke_many('t', ARRAY['a', 'b', 'c', 'd'], '{"route": "third_fails"}');
SELECT key, (result).response, (result).error FROM llm_invoke_query('t', $$VALUES ('a', 'a'), ('b', 'b'), ('c', 'c'), ('d', 'd')$$, '{"route": "third_fails"}');
SELECT (r[2]).response, (r[3]).sqlstate, (r[4]).response FROM llm_try_invoke_array('t', ARRAY['a', 'b', 'c', 'd'], '{"route": "third_fails"}') r;
SELECT llm_invoke_array('t', ARRAY['a', 'b', 'c', 'd'], '{"route": "third_fails"}');
SELECT count(*) FROM llm_lease;
DO $$
BEGIN
	PERFORM llm_invoke_array('t', ARRAY['a', 'b', 'c', 'd'], '{"route": "third_fails"}');
EXCEPTION WHEN SQLSTATE 'LM006' THEN
	RAISE WARNING 'caught %: %', SQLSTATE, SQLERRM;
END $$;
SELECT reset();
-- the first in the order of prompts, though another failed earlier
SELECT llm_invoke_array('t', ARRAY['tried again', 'refused'], '{"route": "late_failure"}');
SELECT calls();
-- and as soon as it is due, whatever else is out
SELECT llm_invoke_array('t', ARRAY['a', 'b', 'c', 'd'], '{"route": "refuse_and_hang"}');
SELECT count(*) FROM llm_lease;
SELECT reset();
-- what comes after a failure is not started
SET pgllm.max_concurrency = 1;
SELECT llm_invoke_array('t', ARRAY(SELECT 'x' || i FROM generate_series(1, 50) i), '{"route": "slow_third"}');
RESET pgllm.max_concurrency;
SELECT calls();
-- an error of the query is caught while calls are out that would take an hour
CREATE FUNCTION hang_or_fail() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM llm_invoke_query('t', 'SELECT i, ''h'' || i FROM generate_series(1, 10) i WHERE 1 / (10 - i) >= 0', '{"route": "hang"}');
	RETURN 'never';
EXCEPTION WHEN division_by_zero THEN
	RETURN 'caught';
END $$;
SELECT hang_or_fail(), calls();
SELECT count(*) FROM llm_lease;
SELECT reset();

-- identical prompts are sent once
SELECT count(*), count(DISTINCT (result).response) FROM llm_invoke_query('t', 'SELECT i, ''q'' || i % 7 FROM generate_series(1, 500) i', '{"route": "mixed"}');
SELECT calls();
SELECT array_length(llm_invoke_array('t', array_fill('same'::text, '{500}'), '{"route": "mixed"}'), 1);
SELECT calls();
SELECT count(*) FROM unnest(llm_invoke_array('t', array_fill('same'::text, '{5}'), '{"sample": true}'));
SELECT calls();
SELECT reset();

-- limits of the statement: data, or raised
SET pgllm.statement_max_calls = 3;
SELECT key, (result).response, (result).sqlstate FROM llm_invoke_query('t', 'SELECT i, ''n'' || i FROM generate_series(1, 5) i');
SELECT calls();
SELECT (r[3]).response, (r[4]).sqlstate FROM llm_try_invoke_array('t', ARRAY['a', 'b', 'c', 'd']) r;
SELECT llm_invoke_array('t', ARRAY['a', 'b', 'c', 'd']);
SELECT calls();
SET pgllm.statement_max_calls = 2500;
SELECT count(*), count((result).response), max(key::int) FROM llm_invoke_query('t', 'SELECT i, ''many'' || i FROM generate_series(1, 2500) i');
SELECT array_length(llm_invoke_array('t', ARRAY(SELECT 'many' || i FROM generate_series(1, 2500) i)), 1);
SELECT calls();
RESET pgllm.statement_max_calls;
SELECT reset();

-- inside one another: each gets its own answers
CREATE FUNCTION ask(prompts text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN array_to_string(llm_invoke_array('t', prompts, '{"route": "mixed"}'), '+');
END $$;
SELECT key, (result).response FROM llm_invoke_query('t', $$
	SELECT i, llm_invoke('t', 'inner ' || i, '{"route": "mixed"}') || ', outer' FROM generate_series(1, 5) i$$, '{"route": "mixed"}');
SELECT key, (result).response FROM llm_invoke_query('t', $$
	SELECT m.ord, (m.result).response || ', outer' FROM llm_invoke_many('t', ARRAY['in a', 'in b', 'in c'], '{"route": "mixed"}') AS m$$);
SELECT bool_and((result).response = format('a%s+b%s', key, key)) AS own, count(*) FROM llm_invoke_query('t', $$
	SELECT i, ask(ARRAY['a' || i, 'b' || i]) FROM generate_series(1, 120) i$$, '{"route": "mixed"}');
SELECT bool_and((result).response = 'deep' || key) AS own, count(*) FROM llm_invoke_query('t', $$
	SELECT key, (result).response FROM llm_invoke_query('t', $q$
		SELECT key, (result).response FROM llm_invoke_query('t', 'SELECT i, ''deep'' || i FROM generate_series(1, 60) i', '{"route": "mixed"}')$q$,
		'{"route": "mixed"}')$$, '{"route": "mixed"}');
-- a function that fails inside, and is caught there, while calls of the outer one are out
CREATE FUNCTION ask_in_vain(i int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM llm_invoke_array('t', ARRAY['v1 ' || i, 'v2 ' || i, 'v3 ' || i, 'v4 ' || i], '{"route": "third_fails"}');
	RETURN 'none';
EXCEPTION WHEN SQLSTATE 'LM006' THEN
	RETURN 'in vain ' || i;
END $$;
SELECT bool_and((result).response = 'in vain ' || key) AS own, count(*) FROM llm_invoke_query('t', $$
	SELECT i, ask_in_vain(i) FROM generate_series(1, 60) i$$, '{"route": "mixed"}');
SELECT count(*) FROM llm_lease;

-- in PL/pgSQL
CREATE FUNCTION loop() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
	seen text := '';
	answers text[];
BEGIN
	FOR r IN SELECT * FROM llm_invoke_query('t', 'SELECT id, body FROM doc ORDER BY id', '{"route": "mixed"}') LOOP
		EXIT WHEN r.key = '4';
		seen := seen || (r.result).response || ';';
	END LOOP;
	answers := llm_invoke_array('t', ARRAY['x', 'y'], '{"route": "mixed"}');
	RETURN seen || array_to_string(answers, ',');
END $$;
SELECT loop();
DO $$
BEGIN
	FOR i IN 1..2 LOOP
		PERFORM loop();
	END LOOP;
END $$;
PREPARE q(text, text[]) AS SELECT (SELECT string_agg(key || (result).response, ',') FROM llm_invoke_query('t', $1)), llm_invoke_array('t', $2);
EXECUTE q('SELECT i, ''p'' FROM generate_series(1, 2) i', '{a,b}');
EXECUTE q('SELECT i, ''p'' FROM generate_series(1, 3) i', '{c}');
DEALLOCATE q;
UPDATE doc SET answer = (a.result).response
FROM llm_invoke_query('t', 'SELECT id, body FROM doc', '{"route": "mixed"}') AS a WHERE doc.id = a.key::int;
SELECT count(*), bool_and(answer = body) FROM doc;
BEGIN;
INSERT INTO doc VALUES (100, 'seen by the next statement');
SELECT (result).response FROM llm_invoke_query('t', 'SELECT id, body FROM doc WHERE id >= 100');
ROLLBACK;
-- a cursor over it; LIMIT saves nothing
BEGIN;
DECLARE c CURSOR FOR SELECT key, (result).response FROM llm_invoke_query('t', 'SELECT id, body FROM doc ORDER BY id');
FETCH 2 FROM c;
ROLLBACK;

-- where no calls may be made, none are
CREATE MATERIALIZED VIEW mv AS SELECT key FROM llm_invoke_query('t', 'SELECT 1, ''x''') WITH NO DATA;
REFRESH MATERIALIZED VIEW mv;
ALTER TABLE doc ADD COLUMN extra text[] DEFAULT llm_invoke_array('t', '{x}');
SELECT * FROM llm_estimate('t', $$SELECT key FROM llm_invoke_query('t', 'SELECT 1, ''x''')$$);
SELECT rows FROM llm_estimate('t', 'SELECT 1 AS a, 2 AS b, ''x'' AS prompt');
EXPLAIN (COSTS OFF) SELECT * FROM llm_invoke_query('t', 'SELECT 1, ''x''');

-- privileges: of the function, of the tenant, and the caller's own on what the query reads
CREATE ROLE regress_llm_batch;
GRANT USAGE ON SCHEMA public TO regress_llm_batch;
SET ROLE regress_llm_batch;
SELECT llm_invoke_array('t', ARRAY['x']);
SELECT llm_try_invoke_array('t', ARRAY['x']);
SELECT llm_invoke_query('t', 'SELECT 1, ''x''');
RESET ROLE;
SELECT llm_grant_tenant('t', 'regress_llm_batch');
SET ROLE regress_llm_batch;
SELECT llm_invoke_array('t', ARRAY['x']);
SELECT (r[1]).response FROM llm_try_invoke_array('t', ARRAY['x']) r;
SELECT key, (result).response FROM llm_invoke_query('t', 'SELECT 1, ''x''');
SELECT llm_invoke_array('other', ARRAY['x']);
SELECT key FROM llm_invoke_query('other', 'SELECT 1, ''x''');
SELECT key FROM llm_invoke_query('t', 'SELECT id, body FROM doc');
RESET ROLE;
-- rows that a policy hides are not asked about
ALTER TABLE doc ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON doc TO regress_llm_batch USING (id <= 2);
GRANT SELECT ON doc TO regress_llm_batch;
SET ROLE regress_llm_batch;
SELECT key, (result).response FROM llm_invoke_query('t', 'SELECT id, body FROM doc ORDER BY id');
RESET ROLE;

SELECT count(*) FROM llm_lease;
DROP MATERIALIZED VIEW mv;
DROP TABLE doc;
DROP FUNCTION calls(), reset(), hang_or_fail(), ask(text[]), ask_in_vain(int), loop();
DELETE FROM llm_tenant_grant;
DROP OWNED BY regress_llm_batch;
DROP ROLE regress_llm_batch;
DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
