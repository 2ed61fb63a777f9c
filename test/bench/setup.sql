-- setup.sql — configuration of the benchmark: one tenant per question, named after it.
-- psql variables: fast, slow, long, tls_fast, tls_slow, tls_long, tls_close, sim (ports), rounds.

CREATE EXTENSION pgllm;

CREATE FUNCTION bench_calls(function regprocedure, tenant text, prompt text, calls int,
	OUT p50_us float8, OUT p99_us float8, OUT max_us float8, OUT mean_us float8, OUT cpu_us float8)
LANGUAGE C VOLATILE AS '$libdir/pgllm', 'bench_calls';
CREATE FUNCTION bench_statement(sql text, OUT wall_us float8, OUT cpu_us float8, OUT first bigint)
LANGUAGE C VOLATILE AS '$libdir/pgllm', 'bench_statement';
CREATE FUNCTION bench_nop(tenant text, prompt text, options jsonb) RETURNS text
LANGUAGE C VOLATILE AS '$libdir/pgllm', 'bench_nop';

INSERT INTO llm_model (model, context_window, output_burndown) VALUES ('m', 200000, 1);
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_shard (shard, provider, region, endpoint, network, credential)
SELECT name, 'bedrock', 'us-east-1', scheme || '://127.0.0.1:' || port, 'loopback', credential
FROM (VALUES
	('fast', 'http', :'fast', 'file:bench'),
	('slow', 'http', :'slow', 'file:bench'),
	('long', 'http', :'long', 'file:bench'),
	('tls_fast', 'https', :'tls_fast', 'file:bench'),
	('tls_slow', 'https', :'tls_slow', 'file:bench'),
	('tls_long', 'https', :'tls_long', 'file:bench'),
	('tls_close', 'https', :'tls_close', 'file:bench'),
	('sim1', 'http', :'sim', 'file:sim1'),
	('sim2', 'http', :'sim', 'file:sim2')) AS s (name, scheme, port, credential);

-- A tenant with a route of its own over the given targets, in tiers.
CREATE FUNCTION bench_tenant(tenant text, VARIADIC targets text[]) RETURNS void LANGUAGE sql AS $$
	INSERT INTO llm_route (route, tier, target)
	SELECT tenant, n - 1, t FROM unnest(targets) WITH ORDINALITY AS u (t, n);
	INSERT INTO llm_tenant (tenant, route) VALUES (tenant, tenant);
$$;
-- A quota too large to bind: what is measured is asking it, not being refused by it.
CREATE FUNCTION bench_wide_quota(tenant text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO llm_quota (tenant, rpm, tpm) VALUES (tenant, 10000000000, 10000000000);
$$;

-- Over the network: no limit of the target's own, one wide quota of the tenant.
INSERT INTO llm_target (target, shard, model, model_id)
SELECT s, s, 'm', 'bench.model-v1:0'
FROM unnest(ARRAY['fast', 'slow', 'long', 'tls_fast', 'tls_slow', 'tls_long', 'tls_close']) AS s;
SELECT bench_tenant(s, s), bench_wide_quota(s)
FROM unnest(ARRAY['fast', 'slow', 'long', 'tls_fast', 'tls_slow', 'tls_long', 'tls_close']) AS s;

-- In process: hot (one bucket for all), d0 … d31 (one each), typical (what a DBA would set up:
-- two quotas and the provider's own, which is strict by default).
INSERT INTO llm_target (target, shard, model, model_id) VALUES ('mock', 'mock', 'm', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, rpm, tpm)
VALUES ('mock_strict', 'mock', 'm', 'mock', 10000000000, 10000000000);
SELECT bench_tenant('hot', 'mock'), bench_wide_quota('hot');
SELECT bench_tenant('d' || i, 'mock'), bench_wide_quota('d' || i) FROM generate_series(0, 31) AS i;
SELECT bench_tenant('typical', 'mock_strict'), bench_wide_quota('typical');
INSERT INTO llm_quota (role, tenant, rpm, tpm)
VALUES ('postgres', 'typical', 10000000000, 10000000000);

-- Limits that bind, one fresh tenant per round: strict and bucket.
SELECT bench_tenant('strict' || i, 'mock'), bench_tenant('bucket' || i, 'mock')
FROM generate_series(0, :rounds) AS i;
INSERT INTO llm_quota (tenant, rpm, window_kind)
SELECT 'strict' || i, 1000, 'strict' FROM generate_series(0, :rounds) AS i;
INSERT INTO llm_quota (tenant, rpm, window_kind)
SELECT 'bucket' || i, 60000, 'bucket' FROM generate_series(0, :rounds) AS i;

-- Refusal: the first call takes the only request of the minute.
SELECT bench_tenant('refused', 'mock');
INSERT INTO llm_quota (tenant, rpm, window_kind) VALUES ('refused', 1, 'strict');

-- Ledger: answers that are kept, a model with a price for budgets, and the rival's table.
SELECT bench_tenant('journaled', 'mock'), bench_wide_quota('journaled');
UPDATE llm_tenant SET retention = 'response', cache = true WHERE tenant = 'journaled';
INSERT INTO llm_model (model, context_window, output_burndown) VALUES ('priced', 200000, 1);
INSERT INTO llm_price (model, component, usd_per_million)
VALUES ('priced', 'input', 1), ('priced', 'output', 1);
INSERT INTO llm_target (target, shard, model, model_id)
VALUES ('mock_priced', 'mock', 'priced', 'mock');
SELECT bench_tenant('budgeted', 'mock_priced');
CREATE TABLE bench_log (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
	tenant text, target text, model text, input_tokens bigint, output_tokens bigint, cost bigint);

-- Fallback: the primary's bucket is empty after its first call; *_direct goes to the second at once.
INSERT INTO llm_target (target, shard, model, model_id, rpm) VALUES
	('empty', 'mock', 'm', 'mock', 1), ('empty_fast', 'fast', 'm', 'bench.model-v1:0', 1),
	('empty_sim', 'sim1', 'm', 'amazon.nova-lite-v1:0', 1);
INSERT INTO llm_target (target, shard, model, model_id) VALUES
	('second_sim', 'sim2', 'm', 'amazon.nova-lite-v1:0'),
	('first_sim', 'sim1', 'm', 'amazon.nova-lite-v1:0');
SELECT bench_tenant('switch', 'empty', 'mock'), bench_tenant('switch_direct', 'mock'),
	bench_tenant('switch_fast', 'empty_fast', 'fast'), bench_tenant('switch_fast_direct', 'fast'),
	bench_tenant('switch_sim', 'empty_sim', 'second_sim'),
	bench_tenant('switch_sim_direct', 'second_sim'),
	bench_tenant('throttled_sim', 'first_sim', 'second_sim');
SELECT bench_wide_quota(t) FROM unnest(ARRAY['switch', 'switch_direct', 'switch_fast',
	'switch_fast_direct', 'switch_sim', 'switch_sim_direct', 'throttled_sim']) AS t;

-- Rivals: a token bucket as a row, as it is usually written, in two forms: the client commits each
-- take, or a procedure does and so saves the client's round trip.
CREATE TABLE bench_bucket (id int PRIMARY KEY, tokens float8, refilled timestamptz)
	WITH (fillfactor = 50);
INSERT INTO bench_bucket SELECT i, 1e9, now() FROM generate_series(0, 31) AS i;
CREATE PROCEDURE bench_take_row(bucket int, times int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. times LOOP
		UPDATE bench_bucket
		SET tokens = least(1e9, tokens + 1e6 * extract(epoch FROM clock_timestamp() - refilled)) - 1,
			refilled = clock_timestamp()
		WHERE id = bucket AND tokens >= 1;
		COMMIT;
	END LOOP;
END
$$;
ANALYZE;
