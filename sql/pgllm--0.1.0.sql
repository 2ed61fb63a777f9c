/* pgllm--0.1.0.sql - tables, functions and views of the extension */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgllm" to load this file. \quit

------------------------------------------------------------------------------------------------
-- Configuration: plain tables that the DBA changes with plain DML.  A change takes effect in
-- every backend at commit.  A wrong row fails at INSERT.
------------------------------------------------------------------------------------------------

CREATE TABLE llm_model (
	model text PRIMARY KEY CHECK (octet_length(model) BETWEEN 1 AND 127),
	family text NOT NULL DEFAULT '',
	context_window int CHECK (context_window > 0),
	max_output_tokens int CHECK (max_output_tokens > 0),
	output_burndown int NOT NULL DEFAULT 1 CHECK (output_burndown BETWEEN 1 AND 100),
	capabilities text[] NOT NULL DEFAULT '{text}'
		CHECK (array_position(capabilities, NULL) IS NULL)
);
COMMENT ON TABLE llm_model IS 'A base model and what it can do';
COMMENT ON COLUMN llm_model.model IS 'Name used by targets, quotas, prices and the option "model"';
COMMENT ON COLUMN llm_model.family IS 'Vendor family, for example anthropic or amazon; informative';
COMMENT ON COLUMN llm_model.context_window IS 'Tokens of prompt and answer together; NULL = unknown, never checked';
COMMENT ON COLUMN llm_model.max_output_tokens IS 'Most tokens the model can answer with; NULL = unknown';
COMMENT ON COLUMN llm_model.output_burndown IS 'Quota tokens debited per output token: 5 for Claude 3.7 and later on Bedrock, else 1';
COMMENT ON COLUMN llm_model.capabilities IS 'What the model can do: text, and informative entries such as tools or image';

CREATE TABLE llm_price (
	model text NOT NULL REFERENCES llm_model ON UPDATE CASCADE ON DELETE CASCADE,
	geography text NOT NULL DEFAULT 'any' CHECK (geography ~ '^[a-z][a-z-]{0,15}$'),
	component text NOT NULL
		CHECK (component IN ('input', 'output', 'cache_read', 'cache_write')),
	usd_per_million numeric(14,6) NOT NULL CHECK (usd_per_million >= 0),
	valid_from timestamptz NOT NULL DEFAULT '-infinity',
	source text NOT NULL DEFAULT '',
	PRIMARY KEY (model, geography, component, valid_from)
);
COMMENT ON TABLE llm_price IS 'An effective-dated price; the newest row not after now() applies';
COMMENT ON COLUMN llm_price.geography IS 'Geography of the target that the price is for, or any';
COMMENT ON COLUMN llm_price.component IS 'Kind of token: input, output, cache_read, cache_write';
COMMENT ON COLUMN llm_price.usd_per_million IS 'US dollars per million tokens';
COMMENT ON COLUMN llm_price.source IS 'Where the price was read, and when';

CREATE TABLE llm_shard (
	shard text PRIMARY KEY CHECK (octet_length(shard) BETWEEN 1 AND 63),
	provider text NOT NULL CHECK (provider IN ('bedrock', 'mock')),
	region text CHECK (region ~ '^[a-z0-9-]{1,32}$'),
	endpoint text CHECK (length(endpoint) <= 300),
	network text NOT NULL DEFAULT 'public' CHECK (network IN ('public', 'private', 'loopback')),
	credential text CHECK (credential ~ '^(env|file|profile):[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$'),
	enabled boolean NOT NULL DEFAULT true,
	CONSTRAINT llm_shard_bedrock_needs_region CHECK (provider <> 'bedrock' OR region IS NOT NULL),
	CONSTRAINT llm_shard_bedrock_needs_credential
		CHECK (provider <> 'bedrock' OR credential IS NOT NULL),
	CONSTRAINT llm_shard_mock_has_no_endpoint CHECK (provider <> 'mock' OR endpoint IS NULL)
);
COMMENT ON TABLE llm_shard IS 'One account or vendor endpoint: a fault-isolation boundary with its own credential';
COMMENT ON COLUMN llm_shard.provider IS 'Protocol spoken: bedrock, or mock (in-process, no network)';
COMMENT ON COLUMN llm_shard.region IS 'AWS Region of the endpoint, for example us-east-1';
COMMENT ON COLUMN llm_shard.endpoint IS 'Override of the endpoint, scheme://host[:port]; superuser only; NULL = derived from the Region';
COMMENT ON COLUMN llm_shard.network IS 'Addresses the endpoint may resolve to: public, private (also RFC 1918 and the like), loopback (plain http allowed); other than public: superuser only';
COMMENT ON COLUMN llm_shard.credential IS 'Reference to a credential, never a value: env:PREFIX, file:NAME or profile:NAME';

CREATE TABLE llm_target (
	target text PRIMARY KEY CHECK (octet_length(target) BETWEEN 1 AND 63),
	shard text NOT NULL REFERENCES llm_shard ON UPDATE CASCADE,
	model text NOT NULL REFERENCES llm_model ON UPDATE CASCADE,
	model_id text NOT NULL
		CHECK (model_id ~ '^[A-Za-z0-9:./_-]+$' AND length(model_id) <= 2048
			AND model_id NOT IN ('.', '..')),
	geography text CHECK (geography ~ '^[a-z][a-z-]{0,15}$'),
	quota_domain text CHECK (octet_length(quota_domain) BETWEEN 1 AND 63),
	rpm bigint CHECK (rpm BETWEEN 1 AND 10000000000),
	tpm bigint CHECK (tpm BETWEEN 1 AND 10000000000),
	max_inflight int CHECK (max_inflight > 0),
	window_kind text NOT NULL DEFAULT 'strict' CHECK (window_kind IN ('strict', 'bucket')),
	timeout_ms int CHECK (timeout_ms BETWEEN 1 AND 86400000),
	max_tokens int NOT NULL DEFAULT 1024 CHECK (max_tokens > 0),
	parameters jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(parameters) = 'object'),
	enabled boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE llm_target IS 'A shard and a model id on it: what a call can be sent to';
COMMENT ON COLUMN llm_target.model_id IS 'Model id, inference profile id or ARN exactly as sent';
COMMENT ON COLUMN llm_target.geography IS 'Where the prompt may be processed (us, eu, apac, global ...); NULL = taken from the profile prefix of model_id, else from the Region';
COMMENT ON COLUMN llm_target.quota_domain IS 'Targets of one domain share rpm, tpm, cool-down and breaker; NULL = a domain of its own. The strictest rpm and tpm stated in a domain apply';
COMMENT ON COLUMN llm_target.rpm IS 'Requests per minute that the provider grants; NULL = not limited here';
COMMENT ON COLUMN llm_target.tpm IS 'Tokens per minute that the provider grants; NULL = not limited here';
COMMENT ON COLUMN llm_target.max_inflight IS 'Most calls in flight on this target from the whole server';
COMMENT ON COLUMN llm_target.window_kind IS 'strict: no 60 s interval ever exceeds the limit; bucket: a token bucket';
COMMENT ON COLUMN llm_target.timeout_ms IS 'Most milliseconds one attempt may take; NULL = the rest of the deadline of the call';
COMMENT ON COLUMN llm_target.max_tokens IS 'max_tokens sent when the caller gives none; it is what admission reserves';
COMMENT ON COLUMN llm_target.parameters IS 'Provider-specific settings: additional_model_request_fields for bedrock; reply, latency_ms, script ... for mock';

CREATE TABLE llm_route_policy (
	route text PRIMARY KEY CHECK (octet_length(route) BETWEEN 1 AND 63),
	strategy text NOT NULL DEFAULT 'weighted'
		CHECK (strategy IN ('weighted', 'sticky', 'least_inflight', 'latency', 'price')),
	max_attempts int NOT NULL DEFAULT 4 CHECK (max_attempts BETWEEN 1 AND 16),
	spill text NOT NULL DEFAULT 'always' CHECK (spill IN ('always', 'throttle', 'outage', 'never'))
);
COMMENT ON TABLE llm_route_policy IS 'A route and how it picks among its targets; the first row of a route in llm_route makes its row here, with the defaults, unless there is one';
COMMENT ON COLUMN llm_route_policy.strategy IS 'Order inside a tier: weighted (smooth weighted round robin), sticky (rendezvous hash of the tenant or the option sticky_key), least_inflight, latency, price';
COMMENT ON COLUMN llm_route_policy.max_attempts IS 'Attempts per call over all targets';
COMMENT ON COLUMN llm_route_policy.spill IS 'When a call may leave the target the strategy picked: always, throttle (its quota is empty or it throttles), outage (it fails), never';

CREATE TABLE llm_route (
	route text NOT NULL REFERENCES llm_route_policy ON UPDATE CASCADE,
	tier int NOT NULL DEFAULT 0 CHECK (tier BETWEEN 0 AND 15),
	target text NOT NULL REFERENCES llm_target ON UPDATE CASCADE,
	weight int NOT NULL DEFAULT 1 CHECK (weight BETWEEN 0 AND 10000),
	enabled boolean NOT NULL DEFAULT true,
	PRIMARY KEY (route, tier, target)
);
COMMENT ON TABLE llm_route IS 'A named plan: ordered tiers of weighted targets';
COMMENT ON COLUMN llm_route.tier IS '0 = primary; higher tiers are fallbacks, tried in order';
COMMENT ON COLUMN llm_route.weight IS 'Share of the calls inside the tier; 0 = only when all others cannot take the call';

CREATE TABLE llm_tenant (
	tenant text PRIMARY KEY CHECK (octet_length(tenant) BETWEEN 1 AND 63),
	route text NOT NULL REFERENCES llm_route_policy ON UPDATE CASCADE,
	extra_routes text[] NOT NULL DEFAULT '{}' CHECK (array_position(extra_routes, NULL) IS NULL),
	geographies text[] CHECK (array_position(geographies, NULL) IS NULL),
	models text[] CHECK (array_position(models, NULL) IS NULL),
	on_limit text NOT NULL DEFAULT 'error' CHECK (on_limit IN ('error', 'wait')),
	max_wait_ms int NOT NULL DEFAULT 60000 CHECK (max_wait_ms BETWEEN 0 AND 86400000),
	retention text NOT NULL DEFAULT 'none' CHECK (retention IN ('none', 'hash', 'response')),
	cache boolean NOT NULL DEFAULT false,
	cache_ttl interval NOT NULL DEFAULT '7 days' CHECK (cache_ttl > '0'),
	enabled boolean NOT NULL DEFAULT true,
	CONSTRAINT llm_tenant_cache_needs_retention CHECK (NOT cache OR retention = 'response')
);
COMMENT ON TABLE llm_tenant IS 'A consumer: the first argument of every llm_ function';
COMMENT ON COLUMN llm_tenant.route IS 'Route of its calls';
COMMENT ON COLUMN llm_tenant.extra_routes IS 'Further routes it may name with the option route';
COMMENT ON COLUMN llm_tenant.geographies IS 'Data residency: only targets of these geographies; NULL = any';
COMMENT ON COLUMN llm_tenant.models IS 'Models it may use; NULL = any on its routes';
COMMENT ON COLUMN llm_tenant.on_limit IS 'At a limit: error (refuse at once) or wait (queue, first come first served)';
COMMENT ON COLUMN llm_tenant.max_wait_ms IS 'Longest wait in a queue, milliseconds; the option max_wait_ms can only shorten it';
COMMENT ON COLUMN llm_tenant.retention IS 'What is kept of prompts and answers: none; hash (SHA-256 of both in the ledger); response (also the answers of calls with the option cache, in llm_journal)';
COMMENT ON COLUMN llm_tenant.cache IS 'Default of the option cache: the same call is paid once, also after a ROLLBACK or a crash; needs retention response';
COMMENT ON COLUMN llm_tenant.cache_ttl IS 'How long an answer in the journal counts';

CREATE TABLE llm_tenant_grant (
	tenant text NOT NULL REFERENCES llm_tenant ON UPDATE CASCADE ON DELETE CASCADE,
	grantee name NOT NULL,
	PRIMARY KEY (tenant, grantee)
);
COMMENT ON TABLE llm_tenant_grant IS 'Which role may speak for which tenant; see llm_grant_tenant()';
COMMENT ON COLUMN llm_tenant_grant.grantee IS 'A role, whose members may too, or public';

CREATE TABLE llm_quota (
	quota_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	tenant text REFERENCES llm_tenant ON UPDATE CASCADE ON DELETE CASCADE,
	role regrole,
	route text REFERENCES llm_route_policy ON UPDATE CASCADE ON DELETE CASCADE,
	model text REFERENCES llm_model ON UPDATE CASCADE ON DELETE CASCADE,
	per text NOT NULL DEFAULT 'shared' CHECK (per IN ('shared', 'tenant', 'role')),
	rpm bigint CHECK (rpm BETWEEN 1 AND 10000000000),
	tpm bigint CHECK (tpm BETWEEN 1 AND 10000000000),
	max_inflight int CHECK (max_inflight > 0),
	burst_requests bigint CHECK (burst_requests BETWEEN 1 AND 10000000000),
	burst_tokens bigint CHECK (burst_tokens BETWEEN 1 AND 10000000000),
	window_kind text NOT NULL DEFAULT 'bucket' CHECK (window_kind IN ('strict', 'bucket')),
	budget_usd numeric(14,6) CHECK (budget_usd >= 0),
	budget_period text CHECK (budget_period IN ('hour', 'day', 'month')),
	budget_window text NOT NULL DEFAULT 'calendar' CHECK (budget_window IN ('calendar', 'rolling')),
	budget_time_zone text NOT NULL DEFAULT 'UTC',
	on_exceed text CHECK (on_exceed IN ('error', 'wait', 'next_tier')),
	mode text NOT NULL DEFAULT 'enforce' CHECK (mode IN ('enforce', 'soft', 'shadow')),
	CONSTRAINT llm_quota_limits_something
		CHECK (num_nonnulls(rpm, tpm, max_inflight, budget_usd) > 0),
	CONSTRAINT llm_quota_budget_needs_period
		CHECK ((budget_usd IS NULL) = (budget_period IS NULL)),
	CONSTRAINT llm_quota_burst_needs_bucket
		CHECK (window_kind = 'bucket' OR num_nonnulls(burst_requests, burst_tokens) = 0),
	CONSTRAINT llm_quota_burst_needs_rate
		CHECK ((burst_requests IS NULL OR rpm IS NOT NULL) AND (burst_tokens IS NULL OR tpm IS NOT NULL)),
	CONSTRAINT llm_quota_soft_is_for_budgets
		CHECK (mode <> 'soft' OR (budget_usd IS NOT NULL AND num_nonnulls(rpm, tpm, max_inflight) = 0))
);
COMMENT ON TABLE llm_quota IS 'A limit. Every selector that is not NULL must match; all matching rows bind together';
COMMENT ON COLUMN llm_quota.tenant IS 'Selector: calls of this tenant; NULL = any';
COMMENT ON COLUMN llm_quota.role IS 'Selector: calls of this role and its members; NULL = any';
COMMENT ON COLUMN llm_quota.route IS 'Selector: calls over this route; NULL = any';
COMMENT ON COLUMN llm_quota.model IS 'Selector: attempts on this model; NULL = any';
COMMENT ON COLUMN llm_quota.per IS 'shared: one bucket for the row; tenant, role: one bucket per tenant or per calling role';
COMMENT ON COLUMN llm_quota.rpm IS 'Requests per minute';
COMMENT ON COLUMN llm_quota.tpm IS 'Tokens per minute, reserved as input + max_tokens and settled to what was used';
COMMENT ON COLUMN llm_quota.max_inflight IS 'Most calls in flight';
COMMENT ON COLUMN llm_quota.burst_requests IS 'Capacity of the request bucket; NULL = rpm';
COMMENT ON COLUMN llm_quota.burst_tokens IS 'Capacity of the token bucket; NULL = tpm';
COMMENT ON COLUMN llm_quota.window_kind IS 'bucket: a token bucket; strict: no 60 s interval ever exceeds the limit';
COMMENT ON COLUMN llm_quota.budget_usd IS 'Spending limit per budget_period, US dollars: what was spent + what calls in flight may cost at worst + the worst case of this call never exceeds it. Calls that no price is known for are refused';
COMMENT ON COLUMN llm_quota.budget_period IS 'Period of budget_usd: hour, day or month';
COMMENT ON COLUMN llm_quota.budget_window IS 'calendar: from one beginning of the period to the next, in budget_time_zone; rolling: any interval of that length (a month: 30 days)';
COMMENT ON COLUMN llm_quota.budget_time_zone IS 'Time zone in which calendar days and months begin';
COMMENT ON COLUMN llm_quota.on_exceed IS 'error: refuse; wait: queue up to the tenant''s max_wait_ms; next_tier: try the next candidate; NULL = on_limit of the tenant';
COMMENT ON COLUMN llm_quota.mode IS 'enforce; soft (budgets only): let it pass, with a NOTICE when 80 and 100 percent are reached and a mark in the ledger beyond; shadow: count what would have been refused and let it pass';

COMMENT ON COLUMN llm_price.model IS 'Model that is priced';
COMMENT ON COLUMN llm_price.valid_from IS 'From when the price applies';
COMMENT ON COLUMN llm_shard.shard IS 'Name';
COMMENT ON COLUMN llm_shard.enabled IS 'false: no call goes to any of its targets';
COMMENT ON COLUMN llm_target.target IS 'Name';
COMMENT ON COLUMN llm_target.shard IS 'Where it is';
COMMENT ON COLUMN llm_target.model IS 'Base model behind model_id: decides context window, burndown and price';
COMMENT ON COLUMN llm_target.enabled IS 'false: no call goes to it';
COMMENT ON COLUMN llm_route_policy.route IS 'Name; made by the first row of llm_route that has it';
COMMENT ON COLUMN llm_route.route IS 'Name of the plan';
COMMENT ON COLUMN llm_route.target IS 'A target of the plan';
COMMENT ON COLUMN llm_route.enabled IS 'false: as if the row were not there';
COMMENT ON COLUMN llm_tenant.tenant IS 'Name';
COMMENT ON COLUMN llm_tenant.enabled IS 'false: every call is refused';
COMMENT ON COLUMN llm_tenant_grant.tenant IS 'Tenant that the role may speak for';
COMMENT ON COLUMN llm_quota.quota_id IS 'Number, as in messages and llm_bucket';

------------------------------------------------------------------------------------------------
-- The ledger: one row per attempt, written outside the caller's transaction by the ledger writer
------------------------------------------------------------------------------------------------

CREATE TABLE llm_ledger (
	started_at timestamptz NOT NULL,
	call_id uuid NOT NULL,
	attempt int NOT NULL,
	outcome text NOT NULL
		CHECK (outcome IN ('success', 'failed', 'cancelled', 'refused', 'unknown')),
	cause text,
	sqlstate text,
	error text,
	tenant text NOT NULL,
	session_role name NOT NULL,
	role name NOT NULL,
	role_id oid NOT NULL,
	query_id bigint,
	route text,
	target text,
	shard text,
	region text,
	model text,
	fallback_depth int NOT NULL,
	status int,
	finish_reason text,
	provider_request_id text,
	reserved_tokens bigint,
	input_tokens bigint,
	output_tokens bigint,
	cache_read_tokens bigint,
	cache_write_tokens bigint,
	price_input bigint,
	price_output bigint,
	price_cache_read bigint,
	price_cache_write bigint,
	charge text NOT NULL CHECK (charge IN ('none', 'usage', 'reserved')),
	reserved_nano_usd bigint,
	cost_nano_usd bigint,
	over_budget boolean NOT NULL,
	queue_ms float8,
	prepare_ms float8,
	connect_ms float8,
	first_byte_ms float8,
	total_ms float8,
	prompt_sha256 bytea,
	response_sha256 bytea
) PARTITION BY RANGE (started_at);
-- the key (started_at, call_id, attempt) belongs to each partition, so that dumps can be restored
COMMENT ON TABLE llm_ledger IS 'Every attempt, whatever became of the transaction that made it. Rows are only added, by the ledger writer; one partition per day (UTC)';
COMMENT ON COLUMN llm_ledger.started_at IS 'When the attempt was admitted; for a refused call, when it was refused';
COMMENT ON COLUMN llm_ledger.call_id IS 'The call, as in llm_result; UUID version 7';
COMMENT ON COLUMN llm_ledger.attempt IS 'Number of the attempt in its call, from 1; 0: the call was refused before any';
COMMENT ON COLUMN llm_ledger.outcome IS 'success; failed (see cause); cancelled while it was out; refused by a limit, budget or breaker here: nothing was sent; unknown: the server went down while it was out';
COMMENT ON COLUMN llm_ledger.cause IS 'Why it failed: throttled, unavailable, server error, connection, timeout, context too long, credentials, not found, quota exhausted, refusal, bad request, bad reply';
COMMENT ON COLUMN llm_ledger.sqlstate IS 'Of a refused call';
COMMENT ON COLUMN llm_ledger.error IS 'The provider''s name of the error and its words, cut to a line; never a prompt';
COMMENT ON COLUMN llm_ledger.tenant IS 'For whom';
COMMENT ON COLUMN llm_ledger.session_role IS 'Role that logged in';
COMMENT ON COLUMN llm_ledger.role IS 'Role that called, outside of SECURITY DEFINER functions: whom quotas and budgets bind';
COMMENT ON COLUMN llm_ledger.role_id IS 'Its OID';
COMMENT ON COLUMN llm_ledger.query_id IS 'Identifier of the top-level query, as in pg_stat_statements; NULL when compute_query_id is off';
COMMENT ON COLUMN llm_ledger.route IS 'Route of the call; this and the next four are names as they were then';
COMMENT ON COLUMN llm_ledger.target IS 'Where it was sent; NULL for a refused call';
COMMENT ON COLUMN llm_ledger.shard IS 'Account of the target';
COMMENT ON COLUMN llm_ledger.region IS 'Region of the account';
COMMENT ON COLUMN llm_ledger.model IS 'Base model of the target';
COMMENT ON COLUMN llm_ledger.fallback_depth IS 'Candidates passed over or failed before this one';
COMMENT ON COLUMN llm_ledger.status IS 'HTTP status; NULL when there was no reply';
COMMENT ON COLUMN llm_ledger.finish_reason IS 'Why the model stopped: stop, length, or the provider''s word';
COMMENT ON COLUMN llm_ledger.provider_request_id IS 'The provider''s identifier, for its support';
COMMENT ON COLUMN llm_ledger.reserved_tokens IS 'Quota tokens reserved: estimate of the input + max_tokens';
COMMENT ON COLUMN llm_ledger.input_tokens IS 'As the provider reported; NULL: not reported, as for the next three';
COMMENT ON COLUMN llm_ledger.output_tokens IS 'Tokens of the answer';
COMMENT ON COLUMN llm_ledger.cache_read_tokens IS 'Tokens of the prompt that the provider had cached';
COMMENT ON COLUMN llm_ledger.cache_write_tokens IS 'Tokens of the prompt that it has cached now';
COMMENT ON COLUMN llm_ledger.price_input IS 'Price used, nano-USD per million tokens; NULL: not known, as for the next three';
COMMENT ON COLUMN llm_ledger.price_output IS 'Price of output tokens';
COMMENT ON COLUMN llm_ledger.price_cache_read IS 'Price of cached tokens';
COMMENT ON COLUMN llm_ledger.price_cache_write IS 'Price of caching tokens';
COMMENT ON COLUMN llm_ledger.charge IS 'What the cost rests on: usage (reported tokens), reserved (nobody knows what was used: the worst case), none (not billed)';
COMMENT ON COLUMN llm_ledger.reserved_nano_usd IS 'Worst case of the attempt, nano-USD; NULL: no price known';
COMMENT ON COLUMN llm_ledger.cost_nano_usd IS 'Cost, nano-USD (1e-9 US dollars); NULL: no price known, see llm_reprice(); 0: not billed';
COMMENT ON COLUMN llm_ledger.over_budget IS 'A budget that does not enforce was exceeded';
COMMENT ON COLUMN llm_ledger.queue_ms IS 'Time per phase: waiting for quotas before this attempt';
COMMENT ON COLUMN llm_ledger.prepare_ms IS 'Building and signing the request';
COMMENT ON COLUMN llm_ledger.connect_ms IS 'Name, connection and TLS; NULL when a kept connection was used';
COMMENT ON COLUMN llm_ledger.first_byte_ms IS 'From sending to the first byte of the reply';
COMMENT ON COLUMN llm_ledger.total_ms IS 'The attempt, from admission to its end';
COMMENT ON COLUMN llm_ledger.prompt_sha256 IS 'SHA-256 of the prompt in UTF-8, if the tenant''s retention is hash or response';
COMMENT ON COLUMN llm_ledger.response_sha256 IS 'SHA-256 of the answer in the server encoding, likewise';

CREATE TABLE llm_intent (
	LIKE llm_ledger,
	run bigint NOT NULL,
	PRIMARY KEY (call_id, attempt)
) WITH (fillfactor = 50);
COMMENT ON TABLE llm_intent IS 'Attempts that may be out now, with pgllm.ledger_sync = intent: written before the first byte leaves, removed when the row in llm_ledger is written. What a crashed run of the server left is moved to llm_ledger as unknown, charged at its reservation';
COMMENT ON COLUMN llm_intent.run IS 'Run of the server that wrote it';

CREATE TABLE llm_journal (
	tenant text NOT NULL,
	key bytea NOT NULL,
	response text NOT NULL,
	finish_reason text,
	target text,
	model text,
	input_tokens bigint,
	output_tokens bigint,
	call_id uuid NOT NULL,
	created_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	PRIMARY KEY (tenant, key)
);
CREATE INDEX llm_journal_expires_at ON llm_journal (expires_at);
COMMENT ON TABLE llm_journal IS 'Answers that were paid for, so that the same call is not paid twice: see the option cache and llm_forget()';
COMMENT ON COLUMN llm_journal.tenant IS 'Whose it is; nobody else gets it';
COMMENT ON COLUMN llm_journal.key IS 'SHA-256 of tenant, candidates, all parameters and the prompt';
COMMENT ON COLUMN llm_journal.response IS 'The answer';
COMMENT ON COLUMN llm_journal.call_id IS 'The call that was paid for';
COMMENT ON COLUMN llm_journal.expires_at IS 'From then on it counts as not there: created_at + llm_tenant.cache_ttl';

------------------------------------------------------------------------------------------------
-- Checks that a CHECK cannot express, and the signal that configuration has changed
------------------------------------------------------------------------------------------------

CREATE FUNCTION llm_config_check() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'pgl_config_check';
COMMENT ON FUNCTION llm_config_check() IS
'Row trigger of the configuration tables: names that no foreign key guards exist, endpoints are well-formed, privileged columns are set by superusers only, provider parameters are understood. A missing name is only a warning while check_function_bodies is off, as in a restore. Also makes the row in llm_route_policy of a new route';

CREATE FUNCTION llm_config_changed() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'pgl_config_changed';
COMMENT ON FUNCTION llm_config_changed() IS
'Statement trigger of the configuration tables: every backend reads them again once this transaction commits';

CREATE TRIGGER llm_config_check BEFORE INSERT OR UPDATE ON llm_shard
	FOR EACH ROW EXECUTE FUNCTION llm_config_check();
CREATE TRIGGER llm_config_check BEFORE INSERT OR UPDATE ON llm_target
	FOR EACH ROW EXECUTE FUNCTION llm_config_check();
CREATE TRIGGER llm_config_check BEFORE INSERT OR UPDATE ON llm_route
	FOR EACH ROW EXECUTE FUNCTION llm_config_check();
CREATE TRIGGER llm_config_check BEFORE INSERT OR UPDATE ON llm_tenant
	FOR EACH ROW EXECUTE FUNCTION llm_config_check();
CREATE TRIGGER llm_config_check BEFORE INSERT OR UPDATE ON llm_tenant_grant
	FOR EACH ROW EXECUTE FUNCTION llm_config_check();
CREATE TRIGGER llm_config_check BEFORE INSERT OR UPDATE ON llm_quota
	FOR EACH ROW EXECUTE FUNCTION llm_config_check();

CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_model
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();
CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_price
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();
CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_shard
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();
CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_target
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();
CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_route_policy
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();
CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_route
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();
CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_tenant
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();
CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_tenant_grant
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();
CREATE TRIGGER llm_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm_quota
	FOR EACH STATEMENT EXECUTE FUNCTION llm_config_changed();

-- also where replicated changes are applied
ALTER TABLE llm_model ENABLE ALWAYS TRIGGER llm_config_changed;
ALTER TABLE llm_price ENABLE ALWAYS TRIGGER llm_config_changed;
ALTER TABLE llm_shard ENABLE ALWAYS TRIGGER llm_config_changed;
ALTER TABLE llm_target ENABLE ALWAYS TRIGGER llm_config_changed;
ALTER TABLE llm_route_policy ENABLE ALWAYS TRIGGER llm_config_changed;
ALTER TABLE llm_route ENABLE ALWAYS TRIGGER llm_config_changed;
ALTER TABLE llm_tenant ENABLE ALWAYS TRIGGER llm_config_changed;
ALTER TABLE llm_tenant_grant ENABLE ALWAYS TRIGGER llm_config_changed;
ALTER TABLE llm_quota ENABLE ALWAYS TRIGGER llm_config_changed;

SELECT pg_catalog.pg_extension_config_dump('llm_model', '');
SELECT pg_catalog.pg_extension_config_dump('llm_price', '');
SELECT pg_catalog.pg_extension_config_dump('llm_shard', '');
SELECT pg_catalog.pg_extension_config_dump('llm_target', '');
SELECT pg_catalog.pg_extension_config_dump('llm_route_policy', '');
SELECT pg_catalog.pg_extension_config_dump('llm_route', '');
SELECT pg_catalog.pg_extension_config_dump('llm_tenant', '');
SELECT pg_catalog.pg_extension_config_dump('llm_tenant_grant', '');
SELECT pg_catalog.pg_extension_config_dump('llm_quota', '');
SELECT pg_catalog.pg_extension_config_dump(
	pg_catalog.pg_get_serial_sequence('llm_quota', 'quota_id')::pg_catalog.regclass, '');

------------------------------------------------------------------------------------------------
-- Calls
------------------------------------------------------------------------------------------------

CREATE TYPE llm_result AS (
	response text,
	error text,
	sqlstate text,
	finish_reason text,
	route text,
	target text,
	shard text,
	region text,
	model text,
	attempts int,
	fallback_depth int,
	source text,
	input_tokens bigint,
	output_tokens bigint,
	cache_read_tokens bigint,
	cache_write_tokens bigint,
	cost numeric,
	queue_ms float8,
	connect_ms float8,
	first_byte_ms float8,
	total_ms float8,
	call_id uuid,
	provider_request_id text
);
COMMENT ON TYPE llm_result IS
'Outcome of one call. response or error is set, never both; cost in US dollars, NULL when no price is known; queue_ms = waiting for quotas, connect_ms and first_byte_ms = phases of the last attempt, total_ms = the whole call';

CREATE FUNCTION llm_invoke(tenant text, prompt text, options jsonb DEFAULT '{}') RETURNS text
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000
AS 'MODULE_PATHNAME', 'pgl_llm_invoke';
COMMENT ON FUNCTION llm_invoke(text, text, jsonb) IS
'Answer of a model to prompt, for tenant. NULL prompt: NULL, no call. Options: route, model, system, max_tokens (tokens), temperature, top_p, stop, timeout_ms, max_wait_ms, allow_fallback, allow_truncated, sticky_key. Errors: LM001 throttled past the deadline, LM002 quota, LM003 all candidates failed, LM004 deadline, LM006 refusal, LM007 context too long, LM008 truncated at max_tokens, LM009 credentials, 42501 not granted, 22023 bad argument';

CREATE FUNCTION llm_try_invoke(tenant text, prompt text, options jsonb DEFAULT '{}') RETURNS llm_result
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000
AS 'MODULE_PATHNAME', 'pgl_llm_try_invoke';
COMMENT ON FUNCTION llm_try_invoke(text, text, jsonb) IS
'As llm_invoke, but failures of the call are data: error and sqlstate are set and nothing is raised. Mistakes of the caller (arguments, privileges) and cancels still raise. An answer cut at max_tokens is kept in response, with sqlstate LM008';

CREATE FUNCTION llm_invoke_many(tenant text, prompts text[], options jsonb DEFAULT '{}',
	OUT ord bigint, OUT result llm_result) RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 100
AS 'MODULE_PATHNAME', 'pgl_llm_invoke_many';
COMMENT ON FUNCTION llm_invoke_many(text, text[], jsonb) IS
'One row per prompt, in order, with up to pgllm.max_concurrency calls in flight at once. Failures are data, as in llm_try_invoke; a NULL prompt gives a NULL result';

CREATE FUNCTION llm_explain(tenant text, prompt text, options jsonb DEFAULT '{}',
	OUT tier int, OUT target text, OUT shard text, OUT region text, OUT model text,
	OUT geography text, OUT eligible boolean, OUT reason text, OUT reserved_tokens bigint,
	OUT wait_ms bigint, OUT limits text[]) RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 10
AS 'MODULE_PATHNAME', 'pgl_llm_explain';
COMMENT ON FUNCTION llm_explain(text, text, jsonb) IS
'Every candidate of such a call in the order it would be tried, kept or dropped and why, the tokens it would reserve and the milliseconds until its limits would let it pass (NULL: not known, or never). No call, no side effect';

CREATE FUNCTION llm_render(tenant text, prompt text, options jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100
AS 'MODULE_PATHNAME', 'pgl_llm_render';
COMMENT ON FUNCTION llm_render(text, text, jsonb) IS
'The request that the first candidate would be sent: target, method, url, body; without credentials. No call, no side effect';

CREATE FUNCTION llm_check(probe boolean DEFAULT true,
	OUT kind text, OUT name text, OUT ok boolean, OUT message text, OUT hint text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 10000 ROWS 20
AS 'MODULE_PATHNAME', 'pgl_llm_check';
COMMENT ON FUNCTION llm_check(boolean) IS
'Doctor: reads the configuration, every credential, and with probe sends one call of at most 1 token to every enabled target (name resolution, TLS, permission, model). One row per finding, with what to do';

------------------------------------------------------------------------------------------------
-- Grants
------------------------------------------------------------------------------------------------

CREATE FUNCTION llm_grant_tenant(tenant text, grantee name) RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	signature text;
BEGIN
	INSERT INTO @extschema@.llm_tenant_grant VALUES (tenant, grantee)
		ON CONFLICT DO NOTHING;
	EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %s TO %s', '@extschema@',
		CASE grantee WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(grantee) END);
	FOREACH signature IN ARRAY ARRAY[
		'llm_invoke(text, text, jsonb)', 'llm_try_invoke(text, text, jsonb)',
		'llm_invoke_many(text, text[], jsonb)', 'llm_explain(text, text, jsonb)',
		'llm_render(text, text, jsonb)']
	LOOP
		EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s.%s TO %s', '@extschema@', signature,
			CASE grantee WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(grantee) END);
	END LOOP;
END
$$;
COMMENT ON FUNCTION llm_grant_tenant(text, name) IS
'Let a role (or public) speak for a tenant: a row in llm_tenant_grant, and EXECUTE on the calling functions';

CREATE FUNCTION llm_revoke_tenant(tenant text, grantee name) RETURNS boolean
LANGUAGE sql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
	WITH gone AS (
		DELETE FROM @extschema@.llm_tenant_grant AS g
		WHERE g.tenant OPERATOR(pg_catalog.=) llm_revoke_tenant.tenant
			AND g.grantee OPERATOR(pg_catalog.=) llm_revoke_tenant.grantee
		RETURNING 1)
	SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 FROM gone
$$;
COMMENT ON FUNCTION llm_revoke_tenant(text, name) IS
'Take the row of llm_tenant_grant away; true if there was one. EXECUTE privileges stay, and are of no use without a tenant';

------------------------------------------------------------------------------------------------
-- Views on shared memory
------------------------------------------------------------------------------------------------

CREATE FUNCTION llm_stat_target(OUT target text, OUT attempts bigint, OUT successes bigint,
	OUT throttled bigint, OUT failures bigint, OUT refused_locally bigint, OUT in_flight int,
	OUT input_tokens bigint, OUT output_tokens bigint, OUT cost_usd numeric, OUT unpriced bigint,
	OUT mean_ms float8, OUT p50_ms float8, OUT p95_ms float8, OUT p99_ms float8)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_stat_target';
CREATE VIEW llm_stat_target AS SELECT * FROM llm_stat_target();
COMMENT ON VIEW llm_stat_target IS
'Per target since the server started or llm_stat_reset(): attempts and what became of them, tokens, cost of the answers that had a price, how many had none, and attempt latency (percentiles from a histogram: within 10 % above 0.1 ms)';

CREATE FUNCTION llm_stat_tenant(OUT tenant text, OUT calls bigint, OUT successes bigint,
	OUT refused bigint, OUT failures bigint, OUT attempts bigint, OUT retries bigint,
	OUT fallbacks bigint, OUT waits bigint, OUT input_tokens bigint, OUT output_tokens bigint,
	OUT cost_usd numeric, OUT unpriced bigint, OUT shadow_refusals bigint,
	OUT mean_ms float8, OUT p50_ms float8, OUT p95_ms float8, OUT p99_ms float8)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_stat_tenant';
CREATE VIEW llm_stat_tenant AS SELECT * FROM llm_stat_tenant();
COMMENT ON VIEW llm_stat_tenant IS
'Per tenant since the server started or llm_stat_reset(): calls and what became of them, retries, fallbacks, waits for quotas, tokens, cost of the answers that had a price, how many had none, and latency of whole calls';

CREATE FUNCTION llm_stat_reset() RETURNS void
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgl_llm_stat_reset';
COMMENT ON FUNCTION llm_stat_reset() IS
'Set the counters of llm_stat_target and llm_stat_tenant of this database to zero; limits and breakers keep their state';

CREATE FUNCTION llm_stat_activity(OUT pid int, OUT datname name, OUT usename name,
	OUT tenant text, OUT state text, OUT target text, OUT state_since timestamptz,
	OUT calls_started bigint, OUT calls_done bigint, OUT calls_failed bigint, OUT in_flight int)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_stat_activity';
CREATE VIEW llm_stat_activity AS SELECT * FROM llm_stat_activity();
COMMENT ON VIEW llm_stat_activity IS
'What each backend is doing now: idle, queued (waiting for a quota), calling, or backing off; rows of other roles only for members of pg_read_all_stats';

CREATE FUNCTION llm_bucket(OUT scope text, OUT name text, OUT subject text, OUT dimension text,
	OUT kind text, OUT max bigint, OUT available bigint, OUT waiters int,
	OUT next_refill_ms bigint, OUT mode text, OUT lock_classid oid, OUT lock_objid oid)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_bucket';
CREATE VIEW llm_bucket AS SELECT * FROM llm_bucket();
COMMENT ON VIEW llm_bucket IS
'Live limits, one row per limit and dimension (requests, tokens, in_flight): capacity, what is available (negative: debt), calls that queue for it, milliseconds until one more unit passes; waiters stand in pg_locks with classid, objid and objsubid = lock_classid, lock_objid and 19533';

CREATE FUNCTION llm_breaker(OUT scope text, OUT name text, OUT state text, OUT failures int,
	OUT successes int, OUT opened int, OUT open_for_ms bigint, OUT cooling_for_ms bigint,
	OUT strikes int, OUT retry_budget int)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_breaker';
CREATE VIEW llm_breaker AS SELECT * FROM llm_breaker();
COMMENT ON VIEW llm_breaker IS
'Breakers of quota domains and credentials: closed, open, half_open or ramp; failures and successes of the last ten seconds; cool-down after throttling; what is left of the retry budget';

CREATE FUNCTION llm_breaker_reset(name text DEFAULT NULL) RETURNS int
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgl_llm_breaker_reset';
COMMENT ON FUNCTION llm_breaker_reset(text) IS
'Close the breakers of that name (a quota domain or a credential reference; NULL: all of this database), end their cool-down and refill their retry budget, as after a repair. Returns how many there were';

CREATE FUNCTION llm_lease(OUT lease_id int, OUT pid int, OUT tenant text, OUT target text,
	OUT reserved_tokens bigint, OUT age_ms bigint)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_lease';
CREATE VIEW llm_lease AS SELECT * FROM llm_lease();
COMMENT ON VIEW llm_lease IS
'Calls that hold capacity now; a lease dies with its owner';

------------------------------------------------------------------------------------------------
-- Ledger: status
------------------------------------------------------------------------------------------------

CREATE FUNCTION llm_ledger_status(OUT datname name, OUT writer_pid int, OUT queued bigint,
	OUT oldest_ms float8, OUT spilled bigint, OUT written bigint, OUT failures bigint,
	OUT recovered boolean, OUT last_error text, OUT last_error_at timestamptz,
	OUT free_slots int, OUT slots int)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_ledger_status';
COMMENT ON FUNCTION llm_ledger_status() IS
'The rows of the view llm_ledger_status';
CREATE VIEW llm_ledger_status AS SELECT * FROM llm_ledger_status();
COMMENT ON VIEW llm_ledger_status IS
'Per database, how far the ledger is: its writer (NULL: none is running, as none is needed or could be started), records queued in shared memory and the age of the oldest, records in spill files, rows written and failures since the server started, whether what an earlier run left behind is in the tables, and the last error. free_slots and slots are of the whole server';

CREATE FUNCTION llm_flush(timeout_ms int DEFAULT 30000) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgl_llm_flush';
COMMENT ON FUNCTION llm_flush(int) IS
'Wait until all that was queued for the ledger of this database before, and all that lies in its spill files, is in the tables; false after timeout_ms milliseconds. 25006 on a standby, where the tables cannot be written';

REVOKE ALL ON llm_ledger_status FROM PUBLIC;
REVOKE ALL ON FUNCTION llm_ledger_status(), llm_flush(int) FROM PUBLIC;
GRANT SELECT ON llm_ledger_status TO pg_monitor;
GRANT EXECUTE ON FUNCTION llm_ledger_status() TO pg_monitor;

------------------------------------------------------------------------------------------------
-- Default deny: nothing is PUBLIC; llm_grant_tenant opens the calling functions
------------------------------------------------------------------------------------------------

REVOKE ALL ON llm_model, llm_price, llm_shard, llm_target, llm_route_policy, llm_route, llm_tenant,
	llm_tenant_grant, llm_quota, llm_stat_target, llm_stat_tenant, llm_stat_activity, llm_bucket,
	llm_breaker, llm_lease FROM PUBLIC;
REVOKE ALL ON FUNCTION llm_invoke(text, text, jsonb), llm_try_invoke(text, text, jsonb),
	llm_invoke_many(text, text[], jsonb), llm_explain(text, text, jsonb),
	llm_render(text, text, jsonb), llm_check(boolean), llm_grant_tenant(text, name),
	llm_revoke_tenant(text, name), llm_config_check(), llm_config_changed(), llm_stat_target(),
	llm_stat_tenant(), llm_stat_activity(), llm_stat_reset(), llm_breaker_reset(text), llm_bucket(), llm_breaker(),
	llm_lease() FROM PUBLIC;
GRANT SELECT ON llm_stat_target, llm_stat_tenant, llm_stat_activity, llm_bucket, llm_breaker,
	llm_lease TO pg_monitor;
GRANT EXECUTE ON FUNCTION llm_stat_target(), llm_stat_tenant(), llm_stat_activity(), llm_bucket(),
	llm_breaker(), llm_lease() TO pg_monitor;
-- everybody may see what their own sessions are doing
GRANT SELECT ON llm_stat_activity TO PUBLIC;
GRANT EXECUTE ON FUNCTION llm_stat_activity() TO PUBLIC;
