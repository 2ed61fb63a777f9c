-- playground.sql — what `make up` puts into the database "demo".  Can be run again at any time.
--
-- psql variables: endpoint = URL of the Bedrock simulator.  On the real Bedrock, leave endpoint and
-- network of the shards away: they follow from the Region.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pgllm;

BEGIN;

-- The models, and what they cost.
INSERT INTO llm_model (model, family, context_window, max_output_tokens, output_burndown) VALUES
	('claude-sonnet-4-5', 'anthropic', 200000, 64000, 5),
	('claude-haiku-4-5', 'anthropic', 200000, 64000, 5),
	('nova-lite', 'amazon', 300000, 8192, 1)
ON CONFLICT DO NOTHING;

INSERT INTO llm_price (model, component, usd_per_million, source) VALUES
	('claude-sonnet-4-5', 'input', 3.00, 'made up for the demo'),
	('claude-sonnet-4-5', 'output', 15.00, 'made up for the demo'),
	('claude-haiku-4-5', 'input', 1.00, 'made up for the demo'),
	('claude-haiku-4-5', 'output', 5.00, 'made up for the demo'),
	('nova-lite', 'input', 0.06, 'made up for the demo'),
	('nova-lite', 'output', 0.24, 'made up for the demo')
ON CONFLICT DO NOTHING;

-- Shards: each account in each Region.  A credential is a reference: account-1 is a file in
-- pgllm.credential_directory that only the server can read.
INSERT INTO llm_shard (shard, provider, region, endpoint, network, credential)
SELECT format('account-%s-%s', account, region), 'bedrock', region, :'endpoint', 'loopback',
	format('file:account-%s', account)
FROM generate_series(1, 3) AS account,
	unnest(ARRAY['us-east-1', 'us-west-2', 'eu-central-1']) AS region
ON CONFLICT (shard) DO UPDATE SET endpoint = excluded.endpoint;

-- Targets: a model behind an inference profile (us., eu. …) of a shard.
INSERT INTO llm_target (target, shard, model, model_id) VALUES
	('sonnet', 'account-1-us-east-1', 'claude-sonnet-4-5',
		'us.anthropic.claude-sonnet-4-5-20250929-v1:0'),
	('haiku', 'account-1-us-east-1', 'claude-haiku-4-5',
		'us.anthropic.claude-haiku-4-5-20251001-v1:0'),
	('nova', 'account-2-us-west-2', 'nova-lite', 'us.amazon.nova-lite-v1:0')
ON CONFLICT DO NOTHING;

-- A route: try sonnet first, then haiku, then the other account.
INSERT INTO llm_route (route, tier, target)
SELECT 'standard', tier, target
FROM (VALUES (0, 'sonnet'), (1, 'haiku'), (2, 'nova')) AS plan (tier, target)
WHERE NOT EXISTS (SELECT FROM llm_route WHERE route = 'standard');

-- A tenant, its limit, and who may speak for it.
INSERT INTO llm_tenant (tenant, route) VALUES ('acme', 'standard') ON CONFLICT DO NOTHING;

INSERT INTO llm_quota (tenant, rpm, tpm)
SELECT 'acme', 600, 1000000
WHERE NOT EXISTS (SELECT FROM llm_quota WHERE tenant = 'acme');

SELECT format('CREATE ROLE %I LOGIN', 'analyst')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'analyst') \gexec
SELECT llm_grant_tenant('acme', 'analyst') \g /dev/null

-- Rows to work on: the packages of this machine.
CREATE TABLE IF NOT EXISTS package (
	name text PRIMARY KEY,
	section text NOT NULL,
	description text NOT NULL
);
GRANT SELECT ON package TO analyst;

COMMIT;
