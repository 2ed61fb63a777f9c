-- Routing: weights, stickiness, fallback by cause, authority at every hop.
\set VERBOSITY default
SET client_min_messages = warning;
SET pgllm.require_quota = off;
SELECT llm_stat_reset();

INSERT INTO llm_model (model, context_window) VALUES ('small', 1000), ('large', 100000);
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('small', 'input', 1), ('small', 'output', 1), ('large', 'input', 9), ('large', 'output', 9);
INSERT INTO llm_shard (shard, provider, region) VALUES ('us', 'mock', 'us-east-1'), ('eu', 'mock', 'eu-west-1');
INSERT INTO llm_target (target, shard, model, model_id, max_tokens, parameters) VALUES
	('a', 'us', 'small', 'x', 10, '{}'), ('b', 'us', 'small', 'x', 10, '{}'), ('c', 'eu', 'large', 'x', 10, '{}'),
	('bad', 'us', 'small', 'x', 10, '{"script": ["server_error"], "repeat": true}'),
	('full', 'us', 'small', 'x', 10, '{"script": ["throttled"], "repeat": true}'),
	('short', 'us', 'small', 'x', 10, '{"script": ["context_too_long"], "repeat": true}'),
	('locked', 'us', 'small', 'x', 10, '{"script": ["auth"], "repeat": true}'),
	('gone', 'us', 'small', 'x', 10, '{"script": ["not_found"], "repeat": true}'),
	('prim', 'us', 'small', 'x', 10, '{"script": ["refusal"], "repeat": true}');
INSERT INTO llm_route (route, tier, target, weight) VALUES
	('weighted', 0, 'a', 3), ('weighted', 0, 'b', 1), ('weighted', 0, 'c', 2),
	('sticky', 0, 'a', 1), ('sticky', 0, 'b', 1), ('sticky', 0, 'c', 1),
	('price', 0, 'c', 1), ('price', 0, 'a', 1),
	('never', 0, 'full', 1), ('never', 1, 'a', 1);
INSERT INTO llm_route (route, tier, target) SELECT t, 0, t FROM unnest('{bad,full,short,locked,gone,prim}'::text[]) t;
INSERT INTO llm_route (route, tier, target) SELECT t, 1, 'a' FROM unnest('{bad,full,short,locked,gone,prim}'::text[]) t;
INSERT INTO llm_route (route, tier, target) VALUES ('short', 2, 'c');
UPDATE llm_route_policy SET strategy = route WHERE route IN ('sticky', 'price');
UPDATE llm_route_policy SET spill = 'never' WHERE route = 'never';
INSERT INTO llm_tenant (tenant, route, extra_routes) VALUES ('t', 'weighted', '{sticky,price,never,bad,full,short,locked,gone,prim}');

-- smooth weighted round robin: over W picks counts equal weights, interleaved
SELECT string_agg(target, '' ORDER BY i) FROM generate_series(1, 12) i, LATERAL llm_try_invoke('t', 'x' || i) r;
SELECT target, count(*) FROM generate_series(1, 600) i, LATERAL llm_try_invoke('t', 'x' || i) r GROUP BY 1 ORDER BY 1;

-- sticky: a key keeps its target, keys spread
SELECT count(DISTINCT target) FROM generate_series(1, 20) i, LATERAL llm_try_invoke('t', 'x' || i, '{"route": "sticky", "sticky_key": "user 1"}') r;
SELECT target, count(*) > 50 AS has_a_share FROM generate_series(1, 300) i, LATERAL llm_try_invoke('t', 'x' || i, jsonb_build_object('route', 'sticky', 'sticky_key', 'user ' || i)) r GROUP BY 1 ORDER BY 1;
SELECT target FROM llm_try_invoke('t', 'x', '{"route": "price"}');

-- fallback by cause: what was tried, who answered
SELECT name, r.target, r.sqlstate, r.attempts, r.fallback_depth
FROM unnest('{bad,full,short,locked,gone,prim,never}'::text[]) name,
	LATERAL llm_try_invoke('t', 'x', jsonb_build_object('route', name, 'timeout_ms', 300)) r;
-- a throttled domain cools down: the second call does not ask it again
SELECT attempts FROM llm_stat_target WHERE target = 'full';
SELECT r.target, r.attempts FROM llm_try_invoke('t', 'x', '{"route": "full"}') r;
SELECT attempts FROM llm_stat_target WHERE target = 'full';
SELECT scope, name, state, cooling_for_ms > 0 AS cooling, strikes FROM llm_breaker WHERE name IN ('full', 'bad') ORDER BY name;
-- the caller may forbid fallback, and ask for a model
SELECT r.target, r.sqlstate, r.attempts FROM llm_try_invoke('t', 'x', '{"route": "gone", "allow_fallback": false}') r;
SELECT r.target FROM llm_try_invoke('t', 'x', '{"route": "short", "model": "large"}') r;
SELECT llm_invoke('t', 'x', '{"route": "gone", "model": "large"}');

-- authority holds for every candidate, fallbacks included
UPDATE llm_tenant SET geographies = '{eu}';
SELECT tier, target, geography, eligible, reason FROM llm_explain('t', 'x', '{"route": "short"}');
SELECT target, count(*) FROM generate_series(1, 5) i, LATERAL llm_try_invoke('t', 'x' || i) r GROUP BY 1;
SELECT error, sqlstate, attempts FROM llm_try_invoke('t', 'x', '{"route": "bad"}');
UPDATE llm_tenant SET geographies = NULL, models = '{small}';
SELECT target, count(*) FROM generate_series(1, 8) i, LATERAL llm_try_invoke('t', 'x' || i) r GROUP BY 1 ORDER BY 1;
UPDATE llm_tenant SET models = NULL;
UPDATE llm_shard SET enabled = false WHERE shard = 'us';
SELECT target, eligible, reason FROM llm_explain('t', 'x') ORDER BY target;
UPDATE llm_shard SET enabled = true;
UPDATE llm_route SET enabled = false WHERE route = 'weighted' AND target <> 'b';
SELECT target FROM llm_try_invoke('t', 'x');
UPDATE llm_tenant SET enabled = false;
SELECT llm_invoke('t', 'x');
UPDATE llm_tenant SET enabled = true;

-- breaker: five failures open it, then the fallback answers without a try
SELECT llm_stat_reset();
UPDATE llm_route_policy SET max_attempts = 2 WHERE route = 'bad';
SELECT count(*) FILTER (WHERE target = 'a') AS answered FROM generate_series(1, 10) i, LATERAL llm_try_invoke('t', 'x' || i, '{"route": "bad"}') r;
SELECT state, opened FROM llm_breaker WHERE name = 'bad';
SELECT attempts <= 5 AS stopped_trying FROM llm_stat_target WHERE target = 'bad';

SELECT llm_breaker_reset('bad'), llm_breaker_reset('no such name');
SELECT state, opened, failures, retry_budget FROM llm_breaker WHERE name = 'bad';

-- a caller in a hurry does not open the breaker for everybody
UPDATE llm_target SET parameters = '{"latency_ms": 40}' WHERE target = 'c';
SELECT r.sqlstate, count(*) FROM generate_series(1, 8) i, LATERAL llm_try_invoke('t', 'x' || i, '{"route": "sticky", "model": "large", "timeout_ms": 1}') r GROUP BY 1;
SELECT state, failures FROM llm_breaker WHERE name = 'c';

-- the doctor
SELECT kind, name, ok, regexp_replace(message, '[0-9.]+ ms', 'N ms') AS message FROM llm_check() WHERE name IN ('us', 'a', 'gone', 't');

DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
