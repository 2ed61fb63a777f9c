-- Limits: all or nothing, reserve and settle, selectors, subjects, shadow.  Windows of a minute hardly
-- refill while this runs; counts are small against the time it takes.
\set VERBOSITY default
SET client_min_messages = warning;
SELECT llm_stat_reset();
CREATE ROLE regress_llm_a;
CREATE ROLE regress_llm_b;

INSERT INTO llm_model (model, output_burndown) VALUES ('m', 5), ('other', 1);
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, rpm, max_tokens, parameters) VALUES
	('three', 'mock', 'm', 'x', 3, 10, '{"reply": "ok"}'),
	('rest', 'mock', 'other', 'x', NULL, 10, '{"reply": "ok"}');
INSERT INTO llm_target (target, shard, model, model_id, max_tokens, parameters) VALUES
	('tokens', 'mock', 'm', 'x', 100, '{"reply": "ok", "input_tokens": 10, "output_tokens": 10}');
INSERT INTO llm_route (route, tier, target) VALUES ('three', 0, 'three'), ('spill', 0, 'three'), ('spill', 1, 'rest'), ('tokens', 0, 'tokens'), ('rest', 0, 'rest');
INSERT INTO llm_tenant (tenant, route) VALUES ('three', 'three'), ('spill', 'spill'), ('tokens', 'tokens'), ('q1', 'rest'), ('q2', 'rest');

-- no quota row: refused, with a hint that shows the INSERT; a superuser may turn that off
SELECT llm_invoke('three', 'x');
SET pgllm.require_quota = off;

-- a target's own limit: LM001 alone, next candidate with a fallback; strict windows are the default
SELECT response, sqlstate, target, fallback_depth FROM generate_series(1, 5) i, LATERAL llm_try_invoke('spill', 'x' || i) r;
SELECT target, attempts, refused_locally FROM llm_stat_target ORDER BY 1;
SELECT sqlstate, attempts, regexp_replace(error, 'retry_after_ms=\d+', 'retry_after_ms=N') FROM llm_try_invoke('three', 'x');
SELECT scope, name, dimension, kind, max, available, waiters, next_refill_ms > 50000 AS refill_in_a_minute FROM llm_bucket WHERE name = 'three';
SELECT target, eligible, reason, wait_ms > 50000 AS waits FROM llm_explain('spill', 'x');

-- all or nothing: the smaller quota refuses, the larger one keeps its units
INSERT INTO llm_quota (tenant, rpm, window_kind) VALUES ('q1', 2, 'strict'), ('q1', 100, 'strict');
SELECT sqlstate, count(*) FROM generate_series(1, 10) i, LATERAL llm_try_invoke('q1', 'x' || i) r GROUP BY 1 ORDER BY 1;
SELECT max, available FROM llm_bucket WHERE scope = 'quota' AND max IN (2, 100) ORDER BY max;
SELECT regexp_replace(error, 'quota \d+', 'quota N', 'i') ~ 'requests per minute: 2' AS names_the_limit, attempts FROM llm_try_invoke('q1', 'x');

-- larger than the capacity: a distinct error, at once
INSERT INTO llm_quota (tenant, tpm) VALUES ('q2', 50);
SELECT sqlstate, error ~ 'larger than a quota' AS distinct_error FROM llm_try_invoke('q2', 'x', '{"max_tokens": 100}');
DELETE FROM llm_quota;

-- tokens are reserved as input + max_tokens and settled to input + output * burndown
INSERT INTO llm_quota (tenant, tpm, window_kind) VALUES ('tokens', 200, 'strict');
SELECT sqlstate FROM llm_try_invoke('tokens', 'x');
SELECT max, available FROM llm_bucket WHERE dimension = 'tokens' AND scope = 'quota' AND max = 200; -- 200 - (10 + 10 * 5)
SELECT sqlstate FROM llm_try_invoke('tokens', 'x');
SELECT sqlstate FROM llm_try_invoke('tokens', 'x'); -- 80 left, 109 to reserve
SELECT max, available FROM llm_bucket WHERE dimension = 'tokens' AND scope = 'quota' AND max = 200;
-- a settlement may go into debt
UPDATE llm_target SET max_tokens = 20 WHERE target = 'tokens';
UPDATE llm_quota SET tpm = 150;
SELECT sqlstate FROM llm_try_invoke('tokens', 'x');
SELECT available FROM llm_bucket WHERE dimension = 'tokens' AND scope = 'quota' AND max = 150;
DELETE FROM llm_quota;

-- one bucket per row, per tenant, per role; selectors
GRANT USAGE ON SCHEMA public TO public;
SELECT llm_grant_tenant('q1', 'public'), llm_grant_tenant('q2', 'public');
INSERT INTO llm_quota (rpm, per, window_kind) VALUES (2, 'role', 'strict');
SET ROLE regress_llm_a;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('q1', 'x' || i) r GROUP BY 1 ORDER BY 1;
SET ROLE regress_llm_b;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('q1', 'x' || i) r GROUP BY 1 ORDER BY 1;
RESET ROLE;
DELETE FROM llm_quota;
INSERT INTO llm_quota (rpm, per, window_kind) VALUES (2, 'tenant', 'strict');
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('q1', 'x' || i) r GROUP BY 1 ORDER BY 1;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('q2', 'x' || i) r GROUP BY 1 ORDER BY 1;
DELETE FROM llm_quota;
INSERT INTO llm_quota (role, rpm, window_kind) VALUES ('regress_llm_a', 1, 'strict');
SET ROLE regress_llm_a;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('q1', 'x' || i) r GROUP BY 1 ORDER BY 1;
RESET ROLE;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('q1', 'x' || i) r GROUP BY 1 ORDER BY 1;
DELETE FROM llm_quota;
-- a quota of a model, and one that says next_tier, send the call to the next candidate
UPDATE llm_target SET rpm = NULL;
INSERT INTO llm_quota (model, rpm, window_kind) VALUES ('m', 1, 'strict');
SELECT target, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('spill', 'x' || i) r GROUP BY 1 ORDER BY 1;
DELETE FROM llm_quota;

-- shadow: counted, not enforced; a changed limit keeps its usage
INSERT INTO llm_quota (tenant, rpm, window_kind, mode) VALUES ('q2', 1, 'strict', 'shadow');
SELECT llm_stat_reset();
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('q2', 'x' || i) r GROUP BY 1 ORDER BY 1;
SELECT shadow_refusals FROM llm_stat_tenant WHERE tenant = 'q2';
UPDATE llm_quota SET mode = 'enforce', rpm = 3;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('q2', 'x' || i) r GROUP BY 1 ORDER BY 1;
DELETE FROM llm_quota;

-- waiting is opt-in and bounded: 600 a minute is one every 100 ms
INSERT INTO llm_quota (tenant, rpm, burst_requests, on_exceed) VALUES ('q1', 600, 1, 'wait');
SELECT count(*) FILTER (WHERE sqlstate IS NULL) AS served, count(*) FILTER (WHERE queue_ms > 0) AS waited
FROM generate_series(1, 4) i, LATERAL llm_try_invoke('q1', 'x' || i) r;
SELECT count(*) FILTER (WHERE (result).sqlstate IS NULL) AS served FROM llm_invoke_many('q1', ARRAY['a', 'b', 'c', 'd']);
UPDATE llm_quota SET rpm = 1;
SELECT sqlstate FROM llm_try_invoke('q1', 'x', '{"max_wait_ms": 10}');
SELECT sum(waiters) FROM llm_bucket;
SELECT count(*) FROM llm_lease;
SELECT waits FROM llm_stat_tenant WHERE tenant = 'q1';

-- a statement is not refused because of its own calls in flight
DELETE FROM llm_quota;
INSERT INTO llm_quota (tenant, max_inflight) VALUES ('q1', 3);
UPDATE llm_target SET parameters = '{"latency_ms": 5}' WHERE target = 'rest';
SELECT (result).sqlstate, count(*) FROM llm_invoke_many('q1', ARRAY(SELECT 'x' || i FROM generate_series(1, 20) i)) GROUP BY 1;
SET pgllm.max_concurrency = 4;
SELECT (result).sqlstate, count(*) FROM llm_invoke_many('q1', ARRAY(SELECT 'x' || i FROM generate_series(1, 60) i), '{"max_wait_ms": 0}') GROUP BY 1;
RESET pgllm.max_concurrency;
SELECT dimension, max, available, waiters FROM llm_bucket WHERE scope = 'quota' AND dimension = 'in_flight';

SELECT llm_revoke_tenant('q1', 'public'), llm_revoke_tenant('q2', 'public'), llm_revoke_tenant('q2', 'public');
SET ROLE regress_llm_a;
SELECT llm_invoke('q1', 'x');
RESET ROLE;
DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
REVOKE ALL ON FUNCTION llm_invoke(text, text, jsonb), llm_try_invoke(text, text, jsonb),
	llm_invoke_many(text, text[], jsonb), llm_explain(text, text, jsonb), llm_render(text, text, jsonb),
	llm_invoke_array(text, text[], jsonb), llm_try_invoke_array(text, text[], jsonb), llm_invoke_query(text, text, jsonb),
	llm_estimate(text, text, jsonb) FROM PUBLIC;
DROP ROLE regress_llm_a, regress_llm_b;
