-- Configuration tables: what is wrong fails at INSERT, with an error that says why.
\set VERBOSITY terse
SET client_min_messages = warning;

INSERT INTO llm_model (model, context_window, max_output_tokens) VALUES ('small', 8000, 2000), ('large', 200000, 8000);
INSERT INTO llm_model (model, context_window) VALUES ('bad', 0);
INSERT INTO llm_model (model) VALUES ('');

-- shards
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_shard (shard, provider) VALUES ('x', 'gopher');
INSERT INTO llm_shard (shard, provider) VALUES ('x', 'bedrock');
INSERT INTO llm_shard (shard, provider, region) VALUES ('x', 'bedrock', 'us-east-1');
INSERT INTO llm_shard (shard, provider, region, credential) VALUES ('x', 'bedrock', 'us_east_1', 'env:AWS');
INSERT INTO llm_shard (shard, provider, region, credential) VALUES ('x', 'bedrock', 'us-east-1', 'AKIASECRETSECRET');
INSERT INTO llm_shard (shard, provider, region, credential) VALUES ('x', 'bedrock', 'us-east-1', 'file:../etc/passwd');
INSERT INTO llm_shard (shard, provider, region, credential, endpoint) VALUES ('x', 'bedrock', 'us-east-1', 'env:AWS', 'http://10.0.0.1');
INSERT INTO llm_shard (shard, provider, region, credential, endpoint) VALUES ('x', 'bedrock', 'us-east-1', 'env:AWS', 'https://user:pw@host/');
INSERT INTO llm_shard (shard, provider, region, credential, endpoint, network) VALUES ('x', 'bedrock', 'us-east-1', 'env:AWS', 'http://example.com', 'loopback');
INSERT INTO llm_shard (shard, provider, region, credential, endpoint, network) VALUES ('local', 'bedrock', 'us-east-1', 'env:AWS', 'http://127.0.0.1:9', 'loopback');

-- targets
INSERT INTO llm_target (target, shard, model, model_id) VALUES ('t', 'nowhere', 'small', 'm');
INSERT INTO llm_target (target, shard, model, model_id) VALUES ('t', 'mock', 'nothing', 'm');
INSERT INTO llm_target (target, shard, model, model_id) VALUES ('t', 'mock', 'small', '..');
INSERT INTO llm_target (target, shard, model, model_id) VALUES ('t', 'mock', 'small', 'a b');
INSERT INTO llm_target (target, shard, model, model_id, rpm) VALUES ('t', 'mock', 'small', 'm', 0);
INSERT INTO llm_target (target, shard, model, model_id, max_tokens) VALUES ('t', 'mock', 'small', 'm', 5000);
INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES ('t', 'mock', 'small', 'm', '{"replly": "x"}');
INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES ('t', 'mock', 'small', 'm', '{"latency_ms": "slow"}');
INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES ('t', 'local', 'small', 'm', '{"reply": "x"}');
INSERT INTO llm_target (target, shard, model, model_id, max_tokens) VALUES ('t', 'mock', 'small', 'm', 100);

-- routes and tenants
INSERT INTO llm_route (route, tier, target) VALUES ('r', 16, 't');
INSERT INTO llm_route (route, target) VALUES ('r', 'nothing');
INSERT INTO llm_tenant (tenant, route) VALUES ('a', 'nowhere');
INSERT INTO llm_route (route, target) VALUES ('r', 't');
INSERT INTO llm_tenant (tenant, route, extra_routes) VALUES ('a', 'r', '{nowhere}');
INSERT INTO llm_tenant (tenant, route, models) VALUES ('a', 'r', '{nothing}');
INSERT INTO llm_tenant (tenant, route, on_limit) VALUES ('a', 'r', 'hope');
INSERT INTO llm_tenant (tenant, route) VALUES ('a', 'r');
INSERT INTO llm_tenant_grant VALUES ('a', 'no_such_role');
INSERT INTO llm_tenant_grant VALUES ('nobody', 'public');

-- quotas
INSERT INTO llm_quota (tenant) VALUES ('a');
INSERT INTO llm_quota (tenant, rpm) VALUES ('nobody', 1);
INSERT INTO llm_quota (role, rpm) VALUES ('no_such_role', 1);
INSERT INTO llm_quota (rpm) VALUES (-1);
INSERT INTO llm_quota (burst_requests, tpm) VALUES (10, 10);
INSERT INTO llm_quota (rpm, burst_requests, window_kind) VALUES (10, 20, 'strict');
INSERT INTO llm_quota (budget_usd) VALUES (10);
INSERT INTO llm_quota (budget_usd, budget_period, budget_time_zone) VALUES (10, 'day', 'nowhere');
INSERT INTO llm_quota (rpm, per) VALUES (10, 'galaxy');

-- prices
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('small', 'smell', 1);
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('small', 'input', -1);

-- privileged columns are for superusers, whatever the grants on the table
CREATE ROLE regress_llm_dba;
GRANT SELECT, INSERT, UPDATE, DELETE ON llm_shard, llm_target TO regress_llm_dba;
SET ROLE regress_llm_dba;
INSERT INTO llm_shard (shard, provider, region, credential, endpoint) VALUES ('x', 'bedrock', 'us-east-1', 'env:AWS', 'https://example.com');
INSERT INTO llm_shard (shard, provider, region, credential, network) VALUES ('x', 'bedrock', 'us-east-1', 'env:AWS', 'private');
INSERT INTO llm_shard (shard, provider) VALUES ('mock2', 'mock');
RESET ROLE;
DROP OWNED BY regress_llm_dba;
DROP ROLE regress_llm_dba;

-- every table and column of the configuration is described, and so is every function
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relname LIKE 'llm\_%' AND c.relkind = 'r' AND col_description(c.oid, a.attnum) IS NULL
ORDER BY 1, 2;
SELECT relname FROM pg_class WHERE relname LIKE 'llm\_%' AND relkind IN ('r', 'v', 'c')
	AND NOT relispartition AND obj_description(oid, 'pg_class') IS NULL AND relkind <> 'c' ORDER BY 1;
SELECT proname FROM pg_proc p WHERE proname IN ('llm_invoke', 'llm_try_invoke', 'llm_invoke_many',
	'llm_invoke_array', 'llm_try_invoke_array', 'llm_invoke_query',
	'llm_explain', 'llm_render', 'llm_check', 'llm_grant_tenant', 'llm_revoke_tenant', 'llm_stat_reset')
	AND obj_description(p.oid, 'pg_proc') IS NULL ORDER BY 1;

-- labels: volatile, restricted (unsafe: what runs a query), expensive, never leakproof
SELECT proname, provolatile, proparallel, procost, proleakproof FROM pg_proc
WHERE proname IN ('llm_invoke', 'llm_try_invoke', 'llm_invoke_many', 'llm_invoke_array', 'llm_try_invoke_array', 'llm_invoke_query')
ORDER BY 1;

-- nothing is PUBLIC but one's own activity
SELECT p.proname FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pgllm'
WHERE has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY 1;
SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pgllm'
WHERE c.relkind IN ('r', 'v') AND has_table_privilege('public', c.oid, 'SELECT') ORDER BY 1;

DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy; DELETE FROM llm_target;
DELETE FROM llm_shard; DELETE FROM llm_model;
