-- Views on the ledger, repricing, list prices, estimates.  Rows of the ledger are made by hand.
\set VERBOSITY default
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET extra_float_digits = 0;

-- what other tests have left there
SELECT llm_flush();
DELETE FROM llm_ledger;

CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
CREATE ROLE regress_gone;
CREATE ROLE regress_monitor IN ROLE pg_read_all_stats;
CREATE ROLE regress_boss IN ROLE regress_alice;

CREATE TABLE ledger_0301 PARTITION OF llm_ledger FOR VALUES FROM ('2026-03-01 00:00Z') TO ('2026-03-02 00:00Z');
CREATE TABLE ledger_0302 PARTITION OF llm_ledger FOR VALUES FROM ('2026-03-02 00:00Z') TO ('2026-03-03 00:00Z');
CREATE TABLE ledger_0303 PARTITION OF llm_ledger FOR VALUES FROM ('2026-03-03 00:00Z') TO ('2026-03-04 00:00Z');

-- one attempt of call number n
CREATE PROCEDURE attempt(n int, attempt int, at timestamptz, outcome text, tenant text, role text,
	target text, model text, input bigint, output bigint, cost bigint, charge text,
	cause text DEFAULT NULL, depth int DEFAULT 0, over boolean DEFAULT false, query bigint DEFAULT 42)
LANGUAGE sql AS $$
	INSERT INTO llm_ledger (started_at, call_id, attempt, outcome, cause, tenant, session_role, role, role_id,
		query_id, route, target, shard, region, geography, model, fallback_depth, reserved_tokens, input_tokens,
		output_tokens, charge, reserved_nano_usd, cost_nano_usd, over_budget, queue_ms, first_byte_ms, total_ms)
	VALUES (at, ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, attempt, outcome, cause, tenant, role,
		role, role::regrole, query, 'chat', target, 'shard-' || target, 'us-east-1', 'us', model, depth, 1000,
		input, output, charge, NULL, cost, over, n, 10 * n, 100 * n)
$$;

-- 1: answered at once; 2: throttled, then answered by the fallback; 3: refused; 4: failed twice;
-- 5: cancelled while out; 6: unknown, and without a price; 7: another role; 8: a role that is gone
CALL attempt(1, 1, '2026-03-01 10:00:00Z', 'success', 'acme', 'regress_alice', 'a', 'big', 100, 50, 1000000, 'usage');
CALL attempt(2, 1, '2026-03-01 10:00:30Z', 'failed', 'acme', 'regress_alice', 'a', 'big', NULL, NULL, 0, 'none', 'throttled');
CALL attempt(2, 2, '2026-03-01 10:00:31Z', 'success', 'acme', 'regress_alice', 'b', 'small', 100, 50, 500000, 'usage', NULL, 1);
CALL attempt(3, 0, '2026-03-01 10:01:00Z', 'refused', 'acme', 'regress_alice', NULL, NULL, NULL, NULL, 0, 'none');
CALL attempt(4, 1, '2026-03-01 11:00:00Z', 'failed', 'acme', 'regress_alice', 'a', 'big', NULL, NULL, 0, 'none', 'server error');
CALL attempt(4, 2, '2026-03-01 11:00:05Z', 'failed', 'acme', 'regress_alice', 'a', 'big', NULL, NULL, 2000000, 'reserved', 'timeout');
CALL attempt(5, 1, '2026-03-02 09:00:00Z', 'cancelled', 'acme', 'regress_alice', 'a', 'big', NULL, NULL, 3000000, 'reserved', NULL, 0, true);
CALL attempt(6, 1, '2026-03-02 09:00:10Z', 'unknown', 'acme', 'regress_alice', 'c', 'new', NULL, NULL, NULL, 'reserved');
CALL attempt(7, 1, '2026-03-02 23:59:59.999999Z', 'success', 'other', 'regress_bob', 'b', 'small', 10, 20, 100000, 'usage', NULL, 0, false, NULL);
CALL attempt(8, 1, '2026-03-03 00:00:00Z', 'success', 'other', 'regress_gone', 'c', 'new', 7, 3, NULL, 'usage', NULL, 0, false, NULL);
DROP ROLE regress_gone;

-- every column has a comment
SELECT c.relname, a.attname
FROM pg_class AS c JOIN pg_attribute AS a ON attrelid = c.oid
WHERE (relname LIKE 'llm\_usage%' OR relname IN ('llm_availability', 'llm_response_time', 'llm_cost', 'llm_throughput', 'llm_ledger_day'))
	AND attnum > 0 AND relkind = 'v' AND col_description(attrelid, attnum) IS NULL;

\pset null -
SELECT day, hour, call_id, attempt, cost_usd FROM llm_usage ORDER BY started_at;
SELECT * FROM llm_usage_by_tenant ORDER BY tenant;
SELECT role, calls, attempts, successes, cost_usd, unpriced FROM llm_usage_by_role ORDER BY role;
SELECT model, calls, attempts, successes, refused, failed, cancelled, unknown, cost_usd, unpriced, reserved_cost_usd
FROM llm_usage_by_model ORDER BY model;
SELECT route, calls, attempts, cost_usd FROM llm_usage_by_route ORDER BY route;
SELECT query_id, calls, attempts, cost_usd FROM llm_usage_by_query ORDER BY query_id;
SELECT day, tenant, calls, attempts, successes, refused, failed, cancelled, unknown, cost_usd, unpriced, over_budget
FROM llm_usage_by_day ORDER BY day, tenant;
\x on
SELECT * FROM llm_availability ORDER BY hour, target NULLS FIRST LIMIT 3;
\x off
SELECT hour, target, calls, attempts, successes, success_rate, fallback_rate, retry_rate, refusal_rate, failed, server_error, timeout
FROM llm_availability ORDER BY hour, target NULLS FIRST;
SELECT * FROM llm_response_time ORDER BY hour, target NULLS FIRST;
SELECT * FROM llm_cost ORDER BY hour, target NULLS FIRST;
SELECT * FROM llm_throughput ORDER BY hour, target NULLS FIRST;

-- who sees what
CREATE VIEW seen AS SELECT
	(SELECT count(*) FROM llm_usage) AS usage, (SELECT sum(calls) FROM llm_usage_by_tenant) AS tenant,
	(SELECT sum(calls) FROM llm_usage_by_role) AS role, (SELECT sum(attempts) FROM llm_usage_by_model) AS model,
	(SELECT sum(calls) FROM llm_usage_by_route) AS route, (SELECT sum(calls) FROM llm_usage_by_query) AS query,
	(SELECT sum(calls) FROM llm_usage_by_day) AS day,
	(SELECT sum(calls) FROM llm_availability WHERE target IS NULL) AS availability,
	(SELECT sum(successes) FROM llm_response_time WHERE target IS NULL) AS response_time,
	(SELECT sum(attempts) FROM llm_cost WHERE target IS NULL) AS cost,
	(SELECT sum(attempts) FROM llm_throughput WHERE target IS NULL) AS throughput;
SELECT pg_get_viewdef('seen') AS seen \gset
SET ROLE regress_alice;
:seen
SET ROLE regress_boss;
:seen
SET ROLE regress_bob;
:seen
SELECT * FROM llm_ledger;
SELECT * FROM llm_ledger_day;
-- a function that tells what it is shown is shown nothing of others
CREATE FUNCTION pg_temp.tell(tenant text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001
AS $$ BEGIN RAISE WARNING 'told of %', tenant; RETURN true; END $$;
SELECT tenant FROM llm_usage WHERE pg_temp.tell(tenant);
SELECT tenant FROM llm_usage_by_day WHERE pg_temp.tell(tenant);
SET ROLE regress_monitor;
:seen
RESET ROLE;

-- a condition on started_at or day reads no other partition
CREATE FUNCTION partitions_read(query text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT json) ' || query INTO plan;
	RETURN ARRAY(
		SELECT DISTINCT scan ->> 'Relation Name'
		FROM jsonb_path_query(plan, 'strict $.**?(exists(@."Relation Name"))') AS scan
		WHERE scan ->> 'Alias' ~ '^l(_[0-9]+)?$' AND (scan ->> 'Actual Loops')::float > 0
			AND scan ->> 'Relation Name' LIKE 'ledger_03%' ORDER BY 1);
END
$$;
SELECT partitions_read('SELECT count(*) FROM llm_usage_by_tenant');
SELECT partitions_read($$SELECT * FROM llm_usage WHERE started_at >= '2026-03-02' AND started_at < '2026-03-03'$$);
SELECT partitions_read($$SELECT * FROM llm_usage_by_day WHERE day = '2026-03-02'$$);
SELECT partitions_read($$SELECT * FROM llm_usage_by_day WHERE day > '2026-03-01'::date + 0 AND tenant = 'acme'$$);
SELECT name, partitions_read(format('SELECT * FROM %I WHERE day = ''2026-03-01''', name))
FROM unnest('{llm_availability,llm_response_time,llm_cost,llm_throughput}'::text[]) AS name;

-- repricing: no price, no cost; what rests on a reservation stays
SELECT * FROM llm_reprice('2026-03-01', '2026-03-04');
SELECT call_id, attempt, charge, cost_nano_usd FROM llm_ledger WHERE charge <> 'none' ORDER BY started_at;
SELECT * FROM llm_reprice('2026-03-01', '2026-03-04');
-- prices come: of 'new' only one, of 'small' one that is only for its geography
INSERT INTO llm_model (model) VALUES ('big'), ('small'), ('new');
INSERT INTO llm_price (model, geography, component, usd_per_million, valid_from) VALUES
	('big', 'any', 'input', 10, '-infinity'), ('big', 'any', 'output', 20, '-infinity'),
	('big', 'eu', 'input', 99, '-infinity'), ('big', 'any', 'input', 99, '2026-04-01'),
	('small', 'any', 'input', 1, '2026-01-01'), ('small', 'any', 'output', 2, '-infinity'),
	('small', 'us', 'input', 3, '-infinity'), ('new', 'any', 'input', 4, '-infinity');
SELECT * FROM llm_reprice('2026-03-01', '2026-03-04');
SELECT call_id, attempt, charge, price_input, price_output, cost_nano_usd
FROM llm_ledger WHERE charge <> 'none' ORDER BY started_at;
-- the missing one: also the reservation that had no price gets its upper bound
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('new', 'output', 5);
SELECT * FROM llm_reprice('2026-03-01', '2026-03-04');
SELECT call_id, charge, cost_nano_usd FROM llm_ledger WHERE model = 'new' ORDER BY started_at;
-- a change that is dated back, and times outside of the interval
INSERT INTO llm_price (model, component, usd_per_million, valid_from) VALUES ('big', 'input', 20, '2026-03-01 10:00Z');
SELECT * FROM llm_reprice('2026-03-02', '2026-03-04');
SELECT * FROM llm_reprice('2026-03-01', '2026-03-01 10:00Z');
BEGIN;
SELECT * FROM llm_reprice('2026-03-01', '2026-03-04');
ROLLBACK;
SELECT * FROM llm_reprice('2026-03-01', '2026-03-04');
SELECT * FROM llm_reprice('2026-03-01', '2026-03-04');
-- rounding to the nearest nano-USD, and tokens of the cache
INSERT INTO llm_model VALUES ('cent');
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('cent', 'input', 0.000001), ('cent', 'cache_read', 1);
CALL attempt(9, 1, '2026-03-03 01:00:00Z', 'success', 'other', 'regress_bob', 'd', 'cent', 499, 0, NULL, 'usage');
CALL attempt(10, 1, '2026-03-03 01:00:01Z', 'success', 'other', 'regress_bob', 'd', 'cent', 500, 0, NULL, 'usage');
CALL attempt(11, 1, '2026-03-03 01:00:02Z', 'success', 'other', 'regress_bob', 'd', 'cent', 500, 1, NULL, 'usage');
CALL attempt(12, 1, '2026-03-03 01:00:03Z', 'success', 'other', 'regress_bob', 'd', 'cent', 500, 0, NULL, 'usage');
UPDATE llm_ledger SET cache_read_tokens = 7 WHERE started_at = '2026-03-03 01:00:03Z';
SELECT * FROM llm_reprice('2026-03-03 01:00Z', '2026-03-03 02:00Z');
SELECT input_tokens, output_tokens, cache_read_tokens, cost_nano_usd FROM llm_ledger WHERE model = 'cent' ORDER BY started_at;
SELECT llm_reprice(NULL);
BEGIN;
SELECT llm_budget_reload();
PREPARE TRANSACTION 'x';
SET ROLE regress_monitor;
SELECT llm_reprice('2026-03-01');
SELECT llm_budget_reload();
SELECT llm_seed_prices();
SELECT llm_estimate('est', 'SELECT 1');
RESET ROLE;

-- list prices: once; whoever has a price of his own gets no others beside it
INSERT INTO llm_model (model, family) VALUES ('nova-pro', 'own');
INSERT INTO llm_price (model, geography, component, usd_per_million, source) VALUES ('nova-pro', 'eu', 'input', 0.5, 'contract');
SELECT llm_seed_prices() > 200 AS many;
SELECT llm_seed_prices();
SELECT model, family, context_window, max_output_tokens, output_burndown FROM llm_model
WHERE model IN ('claude-haiku-4-5', 'claude-3-5-haiku', 'nova-pro') ORDER BY model;
SELECT geography, component, usd_per_million, valid_from, source FROM llm_price
WHERE model IN ('claude-sonnet-5', 'nova-pro') AND component IN ('input', 'cache_read')
ORDER BY model, component, valid_from, geography;

-- estimates: one plan, no call
SELECT llm_stat_reset();
CREATE TABLE doc (id int, body text);
INSERT INTO doc VALUES (1, 'aaaaaa'), (2, 'aaaaaa'), (3, NULL), (4, 'bbbbbbbbbbbb');
INSERT INTO llm_model (model, context_window) VALUES ('dear', 1000), ('cheap', 1000);
INSERT INTO llm_price (model, component, usd_per_million) VALUES
	('dear', 'input', 6), ('dear', 'output', 30), ('cheap', 'input', 3), ('cheap', 'output', 3);
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, max_tokens) VALUES
	('dear', 'mock', 'dear', 'x', 100), ('cheap', 'mock', 'cheap', 'x', 100);
INSERT INTO llm_route (route, tier, target) VALUES ('est', 0, 'dear'), ('est', 1, 'cheap');
INSERT INTO llm_tenant (tenant, route) VALUES ('est', 'est');
INSERT INTO llm_quota (tenant, rpm) VALUES ('est', 60);
SELECT llm_grant_tenant('est', 'regress_alice');
GRANT SELECT ON doc TO regress_alice;
SET ROLE regress_alice;
SELECT * FROM llm_estimate('est', 'SELECT id, body FROM doc');
SELECT * FROM llm_estimate('est', 'SELECT body FROM doc', '{"max_tokens": 10, "system": "abcdef", "model": "cheap"}');
SELECT * FROM llm_estimate('est', 'SELECT body::varchar FROM doc WHERE false');
-- too long for both: no cost
SELECT * FROM llm_estimate('est', $$SELECT repeat('x', 6000)$$);
SELECT rows, prompts, distinct_prompts, input_tokens, min_duration_s
FROM llm_estimate('est', $$SELECT 'prompt ' || i FROM generate_series(1, 1200) AS i$$);
RESET ROLE;
-- the rates of targets add up, those of the tenant bind on top; bursts come first
UPDATE llm_quota SET rpm = 600, burst_requests = 20 WHERE tenant = 'est';
SELECT min_duration_s FROM llm_estimate('est', 'SELECT i::text FROM generate_series(1, 120) AS i');
UPDATE llm_target SET rpm = 30 WHERE target IN ('dear', 'cheap');
SELECT min_duration_s FROM llm_estimate('est', 'SELECT i::text FROM generate_series(1, 120) AS i');
UPDATE llm_target SET quota_domain = 'one' WHERE target IN ('dear', 'cheap');
SELECT min_duration_s FROM llm_estimate('est', 'SELECT i::text FROM generate_series(1, 120) AS i');
UPDATE llm_target SET rpm = NULL, tpm = 100 WHERE target IN ('dear', 'cheap');
SELECT min_duration_s FROM llm_estimate('est', $$SELECT repeat('x', 598) || i FROM generate_series(10, 19) AS i$$);
UPDATE llm_target SET tpm = NULL WHERE target IN ('dear', 'cheap');
-- a missing price is not 0
DELETE FROM llm_price WHERE model = 'dear' AND component = 'output';
SELECT min_cost_usd, max_cost_usd FROM llm_estimate('est', 'SELECT body FROM doc');
DELETE FROM llm_price WHERE model = 'dear';
SELECT min_cost_usd, max_cost_usd FROM llm_estimate('est', 'SELECT body FROM doc');
SELECT min_cost_usd, max_cost_usd FROM llm_estimate('est', 'SELECT body FROM doc', '{"model": "cheap"}');

-- mistakes
SET ROLE regress_alice;
CREATE TEMP TABLE scratch (body text);
SELECT llm_estimate('est', 'SELECT id FROM doc');
SELECT llm_estimate('est', 'SELECT FROM doc');
SELECT llm_estimate('est', '');
SELECT llm_estimate('est', 'SELECT 1; SELECT 2');
SELECT llm_estimate('est', 'EXPLAIN SELECT 1');
SELECT llm_estimate('est', 'INSERT INTO scratch VALUES (1) RETURNING body');
SELECT llm_estimate('est', 'WITH gone AS (DELETE FROM scratch RETURNING body) SELECT * FROM gone');
SELECT llm_estimate('est', 'SELECT body FROM scratch FOR UPDATE');
SELECT llm_estimate('est', 'SELECT error FROM llm_ledger');
SELECT llm_estimate('est', 'SELECT nothing');
SELECT llm_estimate('est', 'SELECT ''''');
SELECT llm_estimate('est', 'SELECT llm_invoke(''est'', body) FROM doc');
SELECT llm_estimate('est', NULL);
SELECT llm_estimate(NULL, 'SELECT body FROM doc');
SELECT llm_estimate('est', 'SELECT body FROM doc', '{"maxtokens": 1}');
SELECT llm_estimate('nobody', 'SELECT body FROM doc');
RESET ROLE;
CREATE FUNCTION writes() RETURNS text LANGUAGE sql AS $$ INSERT INTO doc VALUES (5, 'x') RETURNING body $$;
SELECT llm_estimate('est', 'SELECT writes()');
SHOW transaction_read_only;
INSERT INTO llm_tenant (tenant, route) VALUES ('closed', 'est');
SET ROLE regress_alice;
SELECT llm_estimate('closed', 'SELECT body FROM doc');
RESET ROLE;
-- none of all that was a call; afterwards calls pass
SELECT count(*) FROM llm_stat_tenant WHERE tenant = 'est' AND calls > 0;
SELECT response IS NOT NULL AS answered FROM llm_try_invoke('est', 'x', '{"model": "cheap", "max_tokens": 50}');

DROP OWNED BY regress_alice, regress_bob, regress_monitor, regress_boss;
DROP ROLE regress_alice, regress_bob, regress_monitor, regress_boss;

DROP TABLE ledger_0301, ledger_0302, ledger_0303, doc;
DROP VIEW seen;
DROP FUNCTION partitions_read, writes;
DROP PROCEDURE attempt;
DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
