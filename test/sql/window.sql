-- What may be in flight on a quota domain: bursts of throttles, time-outs, what says nothing.
SET client_min_messages = warning;
SET pgllm.require_quota = off;
SET pgllm.max_concurrency = 5;
SET pgllm.memo_size = 0;
INSERT INTO llm_model (model) VALUES ('window');
INSERT INTO llm_shard (shard, provider) VALUES ('w', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, timeout_ms, parameters) VALUES
	('burst', 'w', 'window', 'x', NULL, '{"script": ["throttled", "throttled", "throttled", "throttled", "throttled"], "retry_after_ms": 1, "latency_ms": 20}'),
	('short', 'w', 'window', 'x', NULL, '{"script": ["unavailable", "ok", "ok", "ok", "unavailable"], "retry_after_ms": 1, "latency_ms": 20}'),
	('late', 'w', 'window', 'x', 50, '{"script": ["hang", "hang", "hang", "hang", "hang"]}'),
	('alone', 'w', 'window', 'x', 50, '{"script": ["hang"]}'),
	('spent', 'w', 'window', 'x', NULL, '{"script": ["quota_exhausted", "quota_exhausted"], "retry_after_ms": 1, "latency_ms": 20}'),
	('broken', 'w', 'window', 'x', NULL, '{"script": ["server_error", "server_error"], "latency_ms": 20}');
INSERT INTO llm_route (route, target) SELECT t, t FROM unnest('{burst,short,late,alone,spent,broken}'::text[]) t;
INSERT INTO llm_tenant (tenant, route) SELECT t, t FROM unnest('{burst,short,late,alone,spent,broken}'::text[]) t;
CREATE VIEW domains AS SELECT name, in_flight, in_flight_limit IS NOT NULL AS bounded, decreases, decrease_cause,
	decreased_at > now() - interval '1 hour' AS lately FROM llm_breaker WHERE scope = 'domain';

-- five at once are thrown back: one congestion, one retry paid for, and all are answered in the end
SELECT count((result).response), sum((result).attempts) FROM llm_invoke_many('burst', ARRAY(SELECT 'x' || i FROM generate_series(1, 5) i));
SELECT * FROM domains WHERE name = 'burst';
SELECT scope, name, dimension, kind, max > 0 AS max, max = available AS available, waiters FROM llm_bucket WHERE name = 'burst';
SELECT throttled, retry_budget FROM llm_stat_target, llm_breaker WHERE target = 'burst' AND name = 'burst';
-- two of five: three were taken
SELECT count((result).response), sum((result).attempts) FROM llm_invoke_many('short', ARRAY(SELECT 'x' || i FROM generate_series(1, 5) i));
SELECT * FROM domains WHERE name = 'short';
-- time-outs are a sign, but not that of an attempt alone
SELECT count((result).response), sum((result).attempts) FROM llm_invoke_many('late', ARRAY(SELECT 'x' || i FROM generate_series(1, 5) i));
SELECT * FROM domains WHERE name = 'late';
SELECT sqlstate FROM llm_try_invoke('alone', 'x');
-- an account without quota and a server that fails say nothing about what is in flight
SELECT count((result).response) FROM llm_invoke_many('spent', ARRAY['x1', 'x2'], '{"timeout_ms": 500}');
SELECT count((result).response) FROM llm_invoke_many('broken', ARRAY['x1', 'x2']);
SELECT name, bounded, decreases, decrease_cause FROM domains WHERE name IN ('alone', 'spent', 'broken') ORDER BY name;
-- an operator knows better
SELECT llm_breaker_reset('burst');
SELECT * FROM domains WHERE name = 'burst';
SELECT count(*) FROM llm_bucket WHERE name = 'burst';
DROP VIEW domains;
DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy; DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
