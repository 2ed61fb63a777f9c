-- setup.sql — the rows to enrich, and pgllm's side of the comparison.
-- psql variables: fast, slow, tls_slow (ports).

CREATE EXTENSION pgllm;

CREATE FUNCTION bench_calls(function regprocedure, tenant text, prompt text, calls int,
	OUT p50_us float8, OUT p99_us float8, OUT max_us float8, OUT mean_us float8, OUT cpu_us float8)
LANGUAGE C VOLATILE AS '$libdir/pgllm', 'bench_calls';
CREATE FUNCTION bench_cpu() RETURNS float8 LANGUAGE C VOLATILE AS '$libdir/pgllm', 'bench_cpu';

-- The rows, with prompts as long as the bare rival's; and where INSERT … SELECT puts the answers.
CREATE TABLE peer_row (id int PRIMARY KEY, prompt text NOT NULL);
INSERT INTO peer_row SELECT i, lpad(i::text, 850, 'x') FROM generate_series(1, 20000) AS i;
CREATE TABLE peer_answer (id int, answer text);
VACUUM ANALYZE peer_row;

INSERT INTO llm_model (model, context_window, output_burndown) VALUES ('m', 300000, 1);
INSERT INTO llm_shard (shard, provider, region, endpoint, network, credential)
SELECT name, 'bedrock', 'us-east-1', scheme || '://127.0.0.1:' || port, 'loopback', credential
FROM (VALUES
	('fast', 'http', :'fast', 'file:bench'),
	('slow', 'http', :'slow', 'file:bench'),
	('tls_slow', 'https', :'tls_slow', 'file:bench')) AS s (name, scheme, port, credential);

-- A tenant for each upstream, with a quota that is asked but does not bind.
INSERT INTO llm_target (target, shard, model, model_id)
SELECT s, s, 'm', 'bench.model-v1:0' FROM unnest(ARRAY['fast', 'slow', 'tls_slow']) AS s;
INSERT INTO llm_route (route, target) SELECT s, s FROM unnest(ARRAY['fast', 'slow', 'tls_slow']) AS s;
INSERT INTO llm_tenant (tenant, route) SELECT s, s FROM unnest(ARRAY['fast', 'slow', 'tls_slow']) AS s;
INSERT INTO llm_quota (tenant, rpm, tpm)
SELECT s, 10000000000, 10000000000 FROM unnest(ARRAY['fast', 'slow', 'tls_slow']) AS s;

-- What the rivals in this server ask: how an answer looks is its form, converse or openai.
CREATE TABLE peer_target (target text PRIMARY KEY, url text NOT NULL, headers jsonb NOT NULL,
	form text NOT NULL, model text NOT NULL);

CREATE FUNCTION peer_body(form text, model text, prompt text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE form
		WHEN 'converse' THEN jsonb_build_object(
			'messages', jsonb_build_array(jsonb_build_object('role', 'user',
				'content', jsonb_build_array(jsonb_build_object('text', prompt)))),
			'inferenceConfig', jsonb_build_object('maxTokens', 1024))
		ELSE jsonb_build_object('model', model, 'max_tokens', 1024,
			'messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', prompt)))
	END::text
$$;
