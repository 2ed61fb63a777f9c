-- The calling functions on the mock provider: answers, NULLs, options, errors, labels, counts.
\set VERBOSITY default
SET client_min_messages = warning;
SELECT llm_stat_reset();

INSERT INTO llm_model (model, context_window, max_output_tokens, output_burndown) VALUES ('m', 10000, 5000, 5);
INSERT INTO llm_price (model, component, usd_per_million, valid_from) VALUES
	('m', 'input', 1, '-infinity'), ('m', 'output', 5, '-infinity'),
	('m', 'input', 3, '2020-01-01'), ('m', 'output', 15, '2020-01-01'), ('m', 'input', 99, '2999-01-01');
INSERT INTO llm_shard (shard, provider, region) VALUES ('mock', 'mock', 'eu-west-1');
INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES
	('echo', 'mock', 'm', 'echo', '{"echo": true}'),
	('count', 'mock', 'm', 'count', '{"reply": "counted"}'),
	('usage', 'mock', 'm', 'usage', '{"reply": "used", "input_tokens": 1000, "output_tokens": 100}'),
	('fail', 'mock', 'm', 'fail', '{"script": ["bad_request", "refusal", "bad_reply", "length", "context_too_long"], "repeat": true, "reply": "cut"}');
INSERT INTO llm_route (route, target) VALUES ('echo', 'echo'), ('count', 'count'), ('usage', 'usage'), ('fail', 'fail');
INSERT INTO llm_tenant (tenant, route, extra_routes) VALUES ('demo', 'echo', '{count,usage,fail}');
INSERT INTO llm_quota (tenant, rpm) VALUES ('demo', 1000000);

SELECT llm_invoke('demo', 'hello');
SELECT response, error, sqlstate, finish_reason, route, target, shard, region, model, attempts,
	fallback_depth, source, input_tokens, output_tokens, cost, call_id IS NOT NULL AS has_id
FROM llm_try_invoke('demo', 'x', '{"route": "usage"}');
SELECT ord, (result).response, (result).sqlstate FROM llm_invoke_many('demo', ARRAY['a', NULL, 'c', 'd']);
SELECT count(*) FROM llm_invoke_many('demo', '{}');
SELECT count(*) FROM llm_invoke_many('demo', NULL);
SELECT bool_and((result).response = 'p' || ord) AS in_order, count(*)
FROM llm_invoke_many('demo', ARRAY(SELECT 'p' || i FROM generate_series(1, 1000) i));

-- NULL prompt: NULL, no call.  Mistakes of the caller raise, also in llm_try_invoke.
SELECT llm_invoke('demo', NULL) IS NULL AS is_null, (SELECT r IS NULL FROM llm_try_invoke('demo', NULL) r) AS row_is_null;
SELECT llm_invoke(NULL, 'x');
SELECT llm_try_invoke(NULL, 'x');
SELECT llm_invoke('nobody', 'x');
SELECT llm_try_invoke('demo', '');
SELECT llm_invoke_many('demo', ARRAY['a', '']);
SELECT llm_invoke('demo', 'x', '{"maxtokens": 5}');
SELECT llm_invoke('demo', 'x', '[]');
SELECT llm_invoke('demo', 'x', '{"max_tokens": 0}');
SELECT llm_invoke('demo', 'x', '{"max_tokens": 1.5}');
SELECT llm_invoke('demo', 'x', '{"max_tokens": "5"}');
SELECT llm_invoke('demo', 'x', '{"temperature": 3}');
SELECT llm_invoke('demo', 'x', '{"stop": "x"}');
SELECT llm_invoke('demo', 'x', '{"stop": [1]}');
SELECT llm_invoke('demo', 'x', '{"system": {"a": 1}}');
SELECT llm_invoke('demo', 'x', '{"route": "elsewhere"}');
SELECT llm_invoke('demo', 'x', '{"model": "unknown"}');
SELECT llm_invoke('demo', 'x', '{"max_tokens": null, "stop": ["a", "b"], "temperature": 0, "top_p": 1}');

-- failures: an ERROR here, data there
SELECT llm_invoke('demo', 'x', '{"route": "fail"}');
SELECT error, sqlstate, finish_reason FROM llm_try_invoke('demo', 'x', '{"route": "fail"}');
SELECT error, sqlstate FROM llm_try_invoke('demo', 'x', '{"route": "fail"}');
SELECT response, error, sqlstate, finish_reason FROM llm_try_invoke('demo', 'x', '{"route": "fail"}');
SELECT error, sqlstate FROM llm_try_invoke('demo', 'x', '{"route": "fail"}');
SELECT sqlstate FROM llm_try_invoke('demo', 'too many tokens', '{"route": "usage", "max_tokens": 5001}');
SELECT error, sqlstate FROM llm_try_invoke('demo', repeat('x', 60000), '{"route": "usage"}');
SELECT llm_invoke('demo', repeat('long ', 100), '{"max_tokens": 10}');
SELECT llm_invoke('demo', repeat('long ', 100), '{"max_tokens": 10, "allow_truncated": true}');

-- SQLSTATE class LM is usable in PL/pgSQL
DO $$
BEGIN
	PERFORM llm_invoke('demo', repeat('long ', 100), '{"max_tokens": 10}');
EXCEPTION WHEN SQLSTATE 'LM008' THEN
	RAISE WARNING 'caught %: %', SQLSTATE, SQLERRM;
END
$$;

-- no call is made by EXPLAIN, PREPARE, views, or rows that nobody asked for
SELECT llm_stat_reset();
CREATE TABLE docs AS SELECT i AS id, 'doc ' || i AS body FROM generate_series(1, 10) i;
EXPLAIN (COSTS OFF) SELECT llm_invoke('demo', body, '{"route": "count"}') FROM docs;
PREPARE p AS SELECT llm_invoke('demo', body, '{"route": "count"}') FROM docs;
CREATE VIEW v AS SELECT llm_invoke('demo', body, '{"route": "count"}') FROM docs;
SELECT target, eligible, reserved_tokens, wait_ms, array_length(limits, 1) FROM llm_explain('demo', 'x', '{"route": "count"}');
SELECT llm_render('demo', 'x', '{"route": "count"}');
SELECT attempts FROM llm_stat_target WHERE target = 'count';
SELECT CASE WHEN id = 3 THEN llm_invoke('demo', body, '{"route": "count"}') END FROM docs WHERE id <= 3;
SELECT llm_invoke('demo', body, '{"route": "count"}') FROM docs ORDER BY id LIMIT 2;
SELECT count(*) FROM docs WHERE llm_invoke('demo', body, '{"route": "count"}') = 'counted' AND id <= 4;
SELECT r.response, r.target FROM docs, LATERAL llm_try_invoke('demo', body, '{"route": "count"}') r WHERE id = 1;
SELECT attempts, successes, in_flight FROM llm_stat_target WHERE target = 'count'; -- 1 + 2 + 4 + 1
SELECT count(*) FROM llm_lease;
SELECT calls, successes, refused, failures, retries, fallbacks FROM llm_stat_tenant WHERE tenant = 'demo';

-- where no visible query asks for a call, none is made
CREATE MATERIALIZED VIEW mv AS SELECT llm_invoke('demo', body, '{"route": "count"}') AS answer FROM docs WITH NO DATA;
REFRESH MATERIALIZED VIEW mv;
ALTER TABLE docs ADD COLUMN answer text DEFAULT llm_invoke('demo', 'x', '{"route": "count"}');
CREATE TABLE checked (t text CHECK (llm_invoke('demo', t, '{"route": "count"}') IS NOT NULL));
COPY checked FROM stdin;
a
\.
CREATE DOMAIN described AS text;
CREATE TABLE describes AS SELECT 'x'::described AS d;
ALTER DOMAIN described ADD CHECK (llm_invoke('demo', VALUE, '{"route": "count"}') IS NOT NULL);
DROP TABLE describes; DROP DOMAIN described;
SET pgllm.in_utility = allow;
REFRESH MATERIALIZED VIEW mv;
RESET pgllm.in_utility;
CREATE FUNCTION label() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.body := llm_invoke('demo', NEW.body, '{"route": "count"}');
	RETURN NEW;
END $$;
CREATE TRIGGER label BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION label();
COPY docs (id, body) FROM stdin;
11	from a trigger
\.
SELECT body FROM docs WHERE id = 11;
SELECT attempts FROM llm_stat_target WHERE target = 'count'; -- 8 + 10 + 1

-- an answer survives neither ROLLBACK nor does its count vanish
BEGIN;
SELECT llm_invoke('demo', 'x', '{"route": "count"}');
ROLLBACK;
BEGIN READ ONLY;
SELECT llm_invoke('demo', 'x', '{"route": "count"}');
COMMIT;
SELECT attempts FROM llm_stat_target WHERE target = 'count';

DROP MATERIALIZED VIEW mv; DROP VIEW v; DROP TABLE docs, checked; DROP FUNCTION label;
DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
