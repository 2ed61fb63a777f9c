-- llm_stat_activity after each statement: what it did, and that it has ended.  What others see while a statement runs is in
-- test/t/019_progress.pl.
\set VERBOSITY terse
SET client_min_messages = warning;
SET compute_query_id = on;
INSERT INTO llm_model (model) VALUES ('m'), ('free');
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('m', 'input', 1), ('m', 'output', 10);
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES
	('good', 'mock', 'm', 'x', '{"echo": true, "input_tokens": 10, "output_tokens": 5}'),
	('bad', 'mock', 'm', 'x', '{"script": ["bad_request"], "repeat": true}'),
	('again', 'mock', 'm', 'x', '{"script": ["unavailable", "ok"], "repeat": true, "input_tokens": 10, "output_tokens": 5}'),
	('unpriced', 'mock', 'free', 'x', '{"input_tokens": 10, "output_tokens": 5}');
INSERT INTO llm_route (route, target) VALUES ('good', 'good'), ('bad', 'bad'), ('again', 'again'), ('unpriced', 'unpriced');
INSERT INTO llm_tenant (tenant, route, extra_routes) VALUES ('t', 'good', '{bad,again,unpriced}');
INSERT INTO llm_quota (rpm) VALUES (1000000);
CREATE TABLE docs AS SELECT i AS id, 'doc ' || i AS body FROM generate_series(1, 20) i;
ANALYZE docs;

SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = 'llm_stat_activity'::regclass AND attnum > 0 ORDER BY attnum;

-- a session that has not called is not shown
SELECT count(*) FROM llm_stat_activity WHERE pid = pg_backend_pid();

CREATE VIEW did AS SELECT state, statement_ended >= statement_since AND query_id <> 0 AS ended, rows_done AS done, rows_expected AS expected,
	rows_per_second > 0 AS rate, eta, calls, memo_hits AS memo, journal_hits AS journal, failed, retries, fallbacks AS fall, input_tokens AS input,
	output_tokens AS output, cost, unpriced, in_flight AS out
FROM llm_stat_activity WHERE pid = pg_backend_pid();

-- one call; a statement that calls nothing takes nothing away
SELECT llm_invoke('t', 'one');
SELECT * FROM did;
SELECT * FROM did;
-- rows of a scan, filtered ones too, and of several
SELECT count(llm_invoke('t', body)) FROM docs;
SELECT * FROM did;
SELECT count(*) FROM docs WHERE llm_invoke('t', body) < 'doc 2';
SELECT * FROM did;
SELECT count(llm_invoke('t', body)) FROM (SELECT body FROM docs UNION ALL SELECT 'more' FROM generate_series(1, 5)) s;
SELECT * FROM did;
SELECT body, llm_invoke('t', body) FROM docs ORDER BY id LIMIT 2;
SELECT * FROM did;
-- in a function as part of its statement; one at a time, nothing is expected
CREATE FUNCTION ask(p text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN llm_invoke('t', p); END $$;
SELECT count(ask(body)) FROM docs;
SELECT * FROM did;
DO $$ DECLARE r record; BEGIN FOR r IN SELECT llm_invoke('t', body) FROM docs LOOP PERFORM ask('here'); END LOOP; END $$;
SELECT * FROM did;
SET pgllm.concurrent_scan = off;
SELECT count(llm_invoke('t', body)) FROM docs;
SELECT * FROM did;
RESET pgllm.concurrent_scan;
-- batches
SELECT count(*) FROM llm_invoke_many('t', ARRAY['a', NULL, 'b', 'a']);
SELECT * FROM did;
SELECT array_length(llm_invoke_array('t', ARRAY['a', 'b']), 1);
SELECT * FROM did;
SELECT count(*) FROM llm_invoke_query('t', 'SELECT id, body FROM docs WHERE id > 15');
SELECT * FROM did;
INSERT INTO docs SELECT ord, (result).response FROM llm_invoke_many('t', ARRAY['x', 'y']);
SELECT * FROM did;
DELETE FROM docs WHERE body IN ('x', 'y');
-- each FETCH is a statement
BEGIN;
DECLARE c CURSOR FOR SELECT llm_invoke('t', body) FROM docs;
FETCH 3 FROM c \g /dev/null
SELECT done, expected FROM did;
FETCH ALL FROM c \g /dev/null
SELECT done, expected FROM did;
COMMIT;

-- failures, retries, fallbacks, hits, no price
SELECT sqlstate, count(*) FROM docs, LATERAL llm_try_invoke('t', body, CASE WHEN id % 4 = 0 THEN '{"route": "bad"}' ELSE '{}' END::jsonb) GROUP BY 1 ORDER BY 1;
SELECT * FROM did;
SELECT llm_invoke('t', 'retry', '{"route": "again"}');
SELECT * FROM did;
SELECT count(llm_invoke('t', (id % 2)::text)) FROM docs;
SELECT * FROM did;
SELECT llm_invoke('t', 'no price', '{"route": "unpriced"}');
SELECT * FROM did;
SET pgllm.statement_max_calls = 3;
SELECT count((result).response) FROM llm_invoke_many('t', ARRAY['a', 'b', 'c', 'd', 'e']);
SELECT * FROM did;
RESET pgllm.statement_max_calls;

-- a statement that fails has ended, in a transaction and in a savepoint too
SELECT llm_invoke('t', 'x', '{"route": "bad"}');
SELECT state, ended, done, calls, failed FROM did;
BEGIN;
SAVEPOINT s;
SELECT llm_invoke('t', body), 1 / (id - 20) FROM docs;
ROLLBACK TO s;
SELECT state, ended, done, expected, calls FROM did;
COMMIT;
-- an error that is caught is not the end
DO $$ BEGIN PERFORM llm_invoke('t', 'before'); BEGIN PERFORM llm_invoke('t', 'x', '{"route": "bad"}'); EXCEPTION WHEN OTHERS THEN END;
	RAISE WARNING 'state %', (SELECT state FROM did); PERFORM llm_invoke('t', 'after'); END $$;
SELECT state, ended, done, calls, failed FROM did;
-- triggers at COMMIT
CREATE TABLE late (i int);
CREATE FUNCTION call_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM ask('late'); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION call_late();
BEGIN;
INSERT INTO late VALUES (1);
COMMIT;
SELECT state, ended, done, calls FROM did;

-- own roles, or pg_read_all_stats
CREATE ROLE progress_other;
SET ROLE progress_other;
SELECT count(*) FROM llm_stat_activity WHERE pid = pg_backend_pid();
RESET ROLE;
GRANT pg_read_all_stats TO progress_other;
SET ROLE progress_other;
SELECT count(*) FROM llm_stat_activity WHERE pid = pg_backend_pid();
RESET ROLE;
DROP ROLE progress_other;

DROP TABLE late, docs;
DROP VIEW did;
DROP FUNCTION ask(text), call_late();
DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
