-- Budgets: reserve the worst case, settle to the cost, refuse, warn, fall back.  Every case has a tenant
-- of its own, as what was spent stays spent; an output token costs one cent, an attempt ten at worst.
\set VERBOSITY default
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT llm_stat_reset();
SET pgllm.require_quota = off;
CREATE ROLE regress_llm_team;
CREATE ROLE regress_llm_c IN ROLE regress_llm_team;
CREATE ROLE regress_llm_d;

INSERT INTO llm_model (model) VALUES ('fine'), ('cheap'), ('unpriced');
INSERT INTO llm_price (model, component, usd_per_million) VALUES
	('fine', 'input', 0), ('fine', 'output', 10000), ('cheap', 'input', 0), ('cheap', 'output', 1000);
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, max_tokens, parameters) VALUES
	('fine', 'mock', 'fine', 'x', 10, '{"reply": "ok", "output_tokens": 5}'),
	('whole', 'mock', 'fine', 'x', 10, '{"reply": "ok", "output_tokens": 10}'),
	('over', 'mock', 'fine', 'x', 10, '{"reply": "ok", "output_tokens": 30}'),
	('slow', 'mock', 'fine', 'x', 10, '{"reply": "ok", "output_tokens": 2, "latency_ms": 5}'),
	('flaky', 'mock', 'fine', 'x', 10, '{"reply": "ok", "output_tokens": 5, "script": ["server_error", "connection", "throttled", "timeout"], "retry_after_ms": 0}'),
	('cheap', 'mock', 'cheap', 'x', 10, '{"reply": "ok", "output_tokens": 10}'),
	('unpriced', 'mock', 'unpriced', 'x', 10, '{"reply": "ok", "output_tokens": 10}');
INSERT INTO llm_route (route, tier, target) VALUES ('fine', 0, 'fine'), ('whole', 0, 'whole'), ('over', 0, 'over'), ('slow', 0, 'slow'),
	('flaky', 0, 'flaky'), ('tiers', 0, 'whole'), ('tiers', 1, 'cheap'), ('unpriced', 0, 'unpriced'), ('part', 0, 'unpriced'), ('part', 1, 'cheap');
UPDATE llm_route_policy SET max_attempts = 1 WHERE route = 'flaky';
INSERT INTO llm_tenant (tenant, route) VALUES ('b_hard', 'fine'), ('b_many', 'slow'), ('b_never', 'fine'), ('b_zero', 'fine'), ('b_soft', 'whole'),
	('b_shadow', 'whole'), ('b_tiers', 'tiers'), ('b_model', 'tiers'), ('b_stop', 'tiers'), ('b_wait', 'whole'), ('b_unpriced', 'unpriced'),
	('b_part', 'part'), ('b_x', 'whole'), ('b_y', 'whole'), ('b_role', 'whole'), ('b_rolling', 'whole'), ('b_two', 'whole'), ('b_over', 'over'), ('b_flaky', 'flaky');
GRANT USAGE ON SCHEMA public TO public;
SELECT llm_grant_tenant('b_role', 'public');

-- the message of an error without what depends on the time of day
CREATE FUNCTION words(error text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace($1, '(ends at) [^.;]*', '\1 ...', 'g'), 'retry_after_ms=\d+', 'retry_after_ms=N') $$;

-- what is wrong fails at INSERT
INSERT INTO llm_quota (budget_usd, budget_period, budget_time_zone) VALUES (1, 'day', 'Mars/Olympus_Mons');
\set VERBOSITY terse
INSERT INTO llm_quota (budget_usd, budget_period) VALUES (-1, 'day');
\set VERBOSITY default

-- enforced: spent 0.05 each, 0.10 needed, at most 0.25
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period) VALUES (9001, 'b_hard', 0.25, 'month');
SELECT sqlstate, count(*), sum(cost) FROM generate_series(1, 6) i, LATERAL llm_try_invoke('b_hard', 'x' || i) r GROUP BY 1 ORDER BY 1;
SELECT sqlstate, attempts, words(error) FROM llm_try_invoke('b_hard', 'x');
SELECT * FROM (SELECT quota_id, subject, mode, period_start = date_trunc('month', now()) AS since, period_end = date_trunc('month', now()) + interval '1 month' AS until,
	budget_usd, spent_usd, reserved_usd, available_usd, reached_percent, waiters FROM llm_budget WHERE quota_id = 9001) s;
SELECT target, eligible, words(reason) AS reason, wait_ms > 0 AS waits, limits FROM llm_explain('b_hard', 'x');
SELECT count(*) FROM llm_bucket WHERE name = 'quota 9001';
-- a changed limit keeps what was used
UPDATE llm_quota SET budget_usd = 0.31 WHERE quota_id = 9001;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('b_hard', 'x' || i) r GROUP BY 1 ORDER BY 1;
SELECT budget_usd, spent_usd FROM llm_budget WHERE quota_id = 9001;
-- another period or time zone is another budget: what was spent in it is read from the ledger
UPDATE llm_quota SET budget_period = 'day', budget_time_zone = 'Asia/Kathmandu' WHERE quota_id = 9001;
SELECT count(*) FROM llm_explain('b_hard', 'x');
SELECT period_start = date_trunc('day', now(), 'Asia/Kathmandu') AS since, period_end - period_start AS length FROM llm_budget WHERE quota_id = 9001;

-- more than the budget, or nothing at all
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period) VALUES (9002, 'b_never', 0.05, 'month'), (9003, 'b_zero', 0, 'hour');
\set VERBOSITY terse
SELECT llm_invoke('b_zero', 'x');
\set VERBOSITY default
SELECT sqlstate, words(error) FROM llm_try_invoke('b_never', 'x', '{"max_wait_ms": 1000}');
SELECT sqlstate FROM llm_try_invoke('b_never', 'x', '{"max_tokens": 5}');

-- a statement waits for what its own calls have reserved
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period) VALUES (9004, 'b_many', 0.16, 'month');
SELECT (result).sqlstate, count(*) FROM llm_invoke_many('b_many', ARRAY(SELECT 'x' || i FROM generate_series(1, 6) i)) GROUP BY 1 ORDER BY 1;
SELECT spent_usd, reserved_usd FROM llm_budget WHERE quota_id = 9004;

-- soft: everything passes, with a NOTICE at 80 and at 100 percent
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period, mode) VALUES (9005, 'b_soft', 0.35, 'month', 'soft');
SET client_min_messages = notice;
SELECT llm_invoke('b_soft', 'x1');
SELECT llm_invoke('b_soft', 'x2');
SELECT llm_invoke('b_soft', 'x3');
SELECT llm_invoke('b_soft', 'x4');
SELECT llm_invoke('b_soft', 'x5');
SET client_min_messages = warning;
SELECT mode, spent_usd, available_usd, reached_percent FROM llm_budget WHERE quota_id = 9005;

-- shadow: counted only
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period, mode) VALUES (9006, 'b_shadow', 0.15, 'month', 'shadow');
SELECT sqlstate, count(*) FROM generate_series(1, 4) i, LATERAL llm_try_invoke('b_shadow', 'x' || i) r GROUP BY 1;
SELECT shadow_refusals FROM llm_stat_tenant WHERE tenant = 'b_shadow';
SELECT mode, spent_usd, available_usd, reached_percent FROM llm_budget WHERE quota_id = 9006;

-- next_tier: a cheaper target, until that is too much as well; so does a budget of a model; else no other is tried
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period, on_exceed) VALUES (9007, 'b_tiers', 0.12, 'month', 'next_tier');
SELECT sqlstate, target, count(*), sum(cost) FROM generate_series(1, 5) i, LATERAL llm_try_invoke('b_tiers', 'x' || i) r GROUP BY 1, 2 ORDER BY 1, 2;
SELECT words(error) FROM llm_try_invoke('b_tiers', 'x');
INSERT INTO llm_quota (quota_id, tenant, model, budget_usd, budget_period) VALUES (9008, 'b_model', 'fine', 0.10, 'month');
SELECT sqlstate, target, count(*), sum(cost) FROM generate_series(1, 4) i, LATERAL llm_try_invoke('b_model', 'x' || i) r GROUP BY 1, 2 ORDER BY 1, 2;
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period, on_exceed) VALUES (9009, 'b_stop', 0.12, 'month', 'error');
SELECT sqlstate, target, count(*), sum(cost) FROM generate_series(1, 4) i, LATERAL llm_try_invoke('b_stop', 'x' || i) r GROUP BY 1, 2 ORDER BY 1, 2;

-- wait: not beyond max_wait_ms
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period, on_exceed) VALUES (9010, 'b_wait', 0.10, 'month', 'wait');
SELECT sqlstate, queue_ms = 0 AS at_once, words(error) FROM generate_series(1, 2) i, LATERAL llm_try_invoke('b_wait', 'x' || i, '{"max_wait_ms": 20}') r;
SELECT sum(waiters) FROM llm_budget;

-- no price: not used, and LM011 when nothing is left; shadow only watches
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period) VALUES (9011, 'b_unpriced', 100, 'month'), (9012, 'b_part', 100, 'month');
SELECT llm_invoke('b_unpriced', 'x');
SELECT sqlstate, target FROM llm_try_invoke('b_part', 'x');
SELECT target, eligible, reason FROM llm_explain('b_part', 'x');
UPDATE llm_quota SET mode = 'shadow' WHERE quota_id = 9011;
SELECT sqlstate, target, cost FROM llm_try_invoke('b_unpriced', 'x');

-- two budgets: both must have room, both are named
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period) VALUES (9013, 'b_two', 0.15, 'month'), (9014, 'b_two', 0.12, 'hour');
SELECT sqlstate, words(error) FROM generate_series(1, 2) i, LATERAL llm_try_invoke('b_two', 'x' || i) r;

-- one budget per tenant, per role; roles and their members
INSERT INTO llm_quota (quota_id, budget_usd, budget_period, per, route) VALUES (9015, 0.15, 'month', 'tenant', 'whole');
SELECT tenant, sqlstate, count(*) FROM unnest('{b_x,b_y}'::text[]) tenant, generate_series(1, 2) i, LATERAL llm_try_invoke(tenant, 'x' || i) r GROUP BY 1, 2 ORDER BY 1, 2;
SELECT subject, spent_usd FROM llm_budget WHERE quota_id = 9015 ORDER BY 1;
DELETE FROM llm_quota WHERE quota_id = 9015;
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period, per) VALUES (9016, 'b_role', 0.15, 'month', 'role');
SET ROLE regress_llm_c;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('b_role', 'x' || i) r GROUP BY 1 ORDER BY 1;
SET ROLE regress_llm_d;
SELECT sqlstate, count(*) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('b_role', 'x' || i) r GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM llm_budget;
RESET ROLE;
SELECT subject, spent_usd FROM llm_budget WHERE quota_id = 9016 ORDER BY 1;
DELETE FROM llm_quota WHERE quota_id = 9016;
-- what the team has spent so far is in the ledger; one more is too much
INSERT INTO llm_quota (quota_id, role, budget_usd, budget_period) VALUES (9017, 'regress_llm_team', 0, 'month');
SET ROLE regress_llm_c;
SELECT sqlstate FROM llm_try_invoke('b_role', 'x');
SET ROLE regress_llm_d;
SELECT sqlstate FROM llm_try_invoke('b_role', 'x');
RESET ROLE;
DELETE FROM llm_quota WHERE quota_id = 9017;

-- rolling
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period, budget_window) VALUES (9018, 'b_rolling', 0.25, 'day', 'rolling');
SELECT sqlstate, words(error) FROM generate_series(1, 3) i, LATERAL llm_try_invoke('b_rolling', 'x' || i) r;
SELECT wait_ms BETWEEN 86000000 AND 90000000 AS a_day FROM llm_explain('b_rolling', 'x');
SELECT period_start, period_end, spent_usd, available_usd FROM llm_budget WHERE quota_id = 9018;

-- an answer that cost more than its worst case is kept as it is
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period) VALUES (9019, 'b_over', 0.20, 'month');
SELECT sqlstate, cost FROM llm_try_invoke('b_over', 'x');
SELECT spent_usd, available_usd FROM llm_budget WHERE quota_id = 9019;

-- an error reply and a connection that never stood cost nothing; nobody knows of a timeout
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period) VALUES (9020, 'b_flaky', 1, 'month');
SELECT sqlstate, (SELECT spent_usd FROM llm_budget WHERE quota_id = 9020 AND r.attempts > 0) FROM llm_try_invoke('b_flaky', 'x') r;
SELECT sqlstate, (SELECT spent_usd FROM llm_budget WHERE quota_id = 9020 AND r.attempts > 0) FROM llm_try_invoke('b_flaky', 'x') r;
SELECT llm_breaker_reset('flaky') > 0;
SELECT sqlstate, (SELECT spent_usd FROM llm_budget WHERE quota_id = 9020 AND r.attempts > 0) FROM llm_try_invoke('b_flaky', 'x') r;
SELECT llm_breaker_reset('flaky') > 0;
SELECT sqlstate, (SELECT spent_usd FROM llm_budget WHERE quota_id = 9020 AND r.attempts > 0) FROM llm_try_invoke('b_flaky', 'x') r;
SELECT llm_breaker_reset('flaky') > 0;
SELECT sqlstate, (SELECT spent_usd FROM llm_budget WHERE quota_id = 9020 AND r.attempts > 0) FROM llm_try_invoke('b_flaky', 'x') r;

-- ROLLBACK does not bring money back
BEGIN;
SELECT sqlstate FROM llm_try_invoke('b_flaky', 'x');
ROLLBACK;
SELECT spent_usd, reserved_usd FROM llm_budget WHERE quota_id = 9020;

-- what cannot be priced counts with its worst case, also when it is read from the ledger
INSERT INTO llm_target (target, shard, model, model_id, max_tokens, parameters) VALUES ('cached', 'mock', 'fine', 'x', 10, '{"reply": "ok", "cache_read_tokens": 5}');
INSERT INTO llm_route (route, target) VALUES ('cached', 'cached');
INSERT INTO llm_tenant (tenant, route) VALUES ('b_cached', 'cached');
INSERT INTO llm_quota (quota_id, tenant, budget_usd, budget_period) VALUES (9030, 'b_cached', 0.15, 'month');
SELECT cost FROM llm_try_invoke('b_cached', 'x');
SELECT spent_usd FROM llm_budget WHERE quota_id = 9030;
SELECT llm_budget_reload();
SELECT sqlstate FROM llm_try_invoke('b_cached', 'y');
SELECT spent_usd FROM llm_budget WHERE quota_id = 9030;

DROP FUNCTION words(text);
SELECT llm_revoke_tenant('b_role', 'public');
DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
REVOKE ALL ON FUNCTION llm_invoke(text, text, jsonb), llm_try_invoke(text, text, jsonb),
	llm_invoke_many(text, text[], jsonb), llm_explain(text, text, jsonb), llm_render(text, text, jsonb),
	llm_invoke_array(text, text[], jsonb), llm_try_invoke_array(text, text[], jsonb), llm_invoke_query(text, text, jsonb),
	llm_estimate(text, text, jsonb) FROM PUBLIC;
DROP ROLE regress_llm_c, regress_llm_d, regress_llm_team;
