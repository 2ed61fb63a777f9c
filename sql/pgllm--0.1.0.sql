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
COMMENT ON COLUMN llm_quota.budget_usd IS 'Spending limit per budget_period, US dollars (0: nothing may be spent): what was spent + what calls in flight may cost at worst + the worst case of this attempt never exceeds it. Targets that no price is known for are not used, unless mode is shadow';
COMMENT ON COLUMN llm_quota.budget_period IS 'Period of budget_usd: hour, day or month';
COMMENT ON COLUMN llm_quota.budget_window IS 'calendar: from one beginning of the period to the next, in budget_time_zone; rolling: any interval of that length (a month: 30 days)';
COMMENT ON COLUMN llm_quota.budget_time_zone IS 'Time zone in which calendar days and months begin';
COMMENT ON COLUMN llm_quota.on_exceed IS 'error: refuse; wait: queue up to the tenant''s max_wait_ms; next_tier: try the next candidate, as a row with a model always does; NULL = on_limit of the tenant';
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
COMMENT ON COLUMN llm_quota.quota_id IS 'Number, as in messages, llm_bucket and llm_budget';

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
	geography text,
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
COMMENT ON TABLE llm_ledger IS 'Every attempt, whatever became of the transaction that made it. Rows are added by the ledger writer, and changed by llm_reprice() alone; one partition per day (UTC)';
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
COMMENT ON COLUMN llm_ledger.route IS 'Route of the call; this and the next five are names as they were then';
COMMENT ON COLUMN llm_ledger.target IS 'Where it was sent; NULL for a refused call';
COMMENT ON COLUMN llm_ledger.shard IS 'Account of the target';
COMMENT ON COLUMN llm_ledger.region IS 'Region of the account';
COMMENT ON COLUMN llm_ledger.geography IS 'Geography of the target, which prices go by; NULL for a refused call';
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
COMMENT ON COLUMN llm_ledger.response_sha256 IS 'SHA-256 of the answer in UTF-8, likewise';

CREATE TABLE llm_intent (
	LIKE llm_ledger INCLUDING COMMENTS,
	run bigint NOT NULL,
	PRIMARY KEY (call_id, attempt)
) WITH (fillfactor = 50);
COMMENT ON TABLE llm_intent IS 'Attempts that may be out now, with pgllm.ledger_sync = intent: written before the first byte leaves, removed when the row in llm_ledger is written. What a crashed run of the server left is moved to llm_ledger as unknown, charged at its reservation, once there is a call in this database';
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
	prompt_sha256 bytea NOT NULL,
	call_id uuid NOT NULL,
	created_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	PRIMARY KEY (tenant, key)
);
CREATE INDEX llm_journal_expires_at ON llm_journal (expires_at);
COMMENT ON TABLE llm_journal IS 'Answers that were paid for, so that the same call is not paid twice: see the option cache and llm_forget()';
COMMENT ON COLUMN llm_journal.tenant IS 'Whose it is; nobody else gets it';
COMMENT ON COLUMN llm_journal.key IS 'SHA-256 of tenant, route, candidates, all parameters and the prompt';
COMMENT ON COLUMN llm_journal.response IS 'The answer';
COMMENT ON COLUMN llm_journal.finish_reason IS 'Why the model stopped';
COMMENT ON COLUMN llm_journal.target IS 'Which target answered; this and the next three as they were then';
COMMENT ON COLUMN llm_journal.model IS 'Base model of the target';
COMMENT ON COLUMN llm_journal.input_tokens IS 'As the provider reported';
COMMENT ON COLUMN llm_journal.output_tokens IS 'As the provider reported';
COMMENT ON COLUMN llm_journal.prompt_sha256 IS 'SHA-256 of the prompt in UTF-8, for llm_forget()';
COMMENT ON COLUMN llm_journal.created_at IS 'When the call was made';
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
'Outcome of one call. response or error is set, never both; source = live, memo (same call of the same statement) or journal (paid for before); cost in US dollars, 0 unless live, NULL when no price is known; queue_ms = waiting for quotas, connect_ms and first_byte_ms = phases of the last attempt, total_ms = the whole call';

CREATE FUNCTION llm_invoke(tenant text, prompt text, options jsonb DEFAULT '{}') RETURNS text
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000
AS 'MODULE_PATHNAME', 'pgl_llm_invoke';
COMMENT ON FUNCTION llm_invoke(text, text, jsonb) IS
'Answer of a model to prompt, for tenant. NULL prompt: NULL, no call. Options: route, model, system, max_tokens (tokens), temperature, top_p, stop, timeout_ms, max_wait_ms, allow_fallback, allow_truncated, sticky_key, cache (pay once: see llm_journal), sample (an answer of its own, even if the same call was made before). Errors: LM001 throttled past the deadline, LM002 quota, LM003 all candidates failed, LM004 deadline, LM006 refusal, LM007 context too long, LM008 truncated at max_tokens, LM009 credentials, LM010 limit of the statement, LM011 budget, 42501 not granted, 22023 bad argument';

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

-- The forms for arrays have names of their own.  Overloads of llm_invoke would make one prompt of
-- '{one,two}', and of every parameter whose type a driver leaves to the server.
CREATE FUNCTION llm_invoke_array(tenant text, prompts text[], options jsonb DEFAULT '{}') RETURNS text[]
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000
AS 'MODULE_PATHNAME', 'pgl_llm_invoke_array';
COMMENT ON FUNCTION llm_invoke_array(text, text[], jsonb) IS
'Answers to a one-dimensional array of prompts, in an array of the same length, order and bounds, with up to pgllm.max_concurrency calls in flight at once. NULL prompt: NULL element, no call; NULL array: NULL. Raises what llm_invoke would raise for the first prompt, in their order, whose call fails; calls that are out then are cancelled';

CREATE FUNCTION llm_try_invoke_array(tenant text, prompts text[], options jsonb DEFAULT '{}')
RETURNS llm_result[]
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000
AS 'MODULE_PATHNAME', 'pgl_llm_try_invoke_array';
COMMENT ON FUNCTION llm_try_invoke_array(text, text[], jsonb) IS
'As llm_invoke_array, but failures of calls are data, as in llm_try_invoke';

-- unsafe in parallel queries, as is what the query may do
CREATE FUNCTION llm_invoke_query(tenant text, query text, options jsonb DEFAULT '{}',
	OUT key text, OUT result llm_result) RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 10000 ROWS 1000
AS 'MODULE_PATHNAME', 'pgl_llm_invoke_query';
COMMENT ON FUNCTION llm_invoke_query(text, text, jsonb) IS
'One row per row of query, in its order, with up to pgllm.max_concurrency calls in flight at once. The query is one SELECT of a key, of any type, and a prompt, of type text; it runs as the caller and is read as calls go out. Failures are data, as in llm_try_invoke; a NULL prompt gives a NULL result. Errors: 22023 bad query, or an empty prompt; 42804 not a key and a prompt; 25006 the query writes or locks rows';

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

CREATE FUNCTION llm_estimate(tenant text, query text, options jsonb DEFAULT '{}',
	OUT rows bigint, OUT prompts bigint, OUT distinct_prompts bigint, OUT cached bigint,
	OUT input_tokens bigint,
	OUT max_output_tokens bigint, OUT min_cost_usd numeric, OUT max_cost_usd numeric,
	OUT min_duration_s float8) RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'pgl_llm_estimate';
COMMENT ON FUNCTION llm_estimate(text, text, jsonb) IS
'What it would cost to call for every row of query, whose last column is the prompt. Runs the query, read-only and as the caller; no call. prompts: rows with one that is not NULL; cached: distinct prompts whose answers are in the journal, if calls with these options would use it; input_tokens (estimated on the high side) and max_output_tokens of all of them; max_cost_usd: all of them on the dearest target, answers of full length; min_cost_usd: distinct prompts that are not cached, on the cheapest target, tokens estimated on the low side, no answer; US dollars, NULL: a price is missing. min_duration_s: seconds that the rates allow at best, beginning with full buckets; 0: no rate binds. Attempts that fail and are billed come on top. Errors: 42501 not granted, 22023 and 42804 bad query, 25006 the query writes';

CREATE FUNCTION llm_check(probe boolean DEFAULT true,
	OUT kind text, OUT name text, OUT ok boolean, OUT message text, OUT hint text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 10000 ROWS 20
AS 'MODULE_PATHNAME', 'pgl_llm_check';
COMMENT ON FUNCTION llm_check(boolean) IS
'Doctor: reads the configuration, every credential, and with probe sends one call of at most 1 token to every enabled target (name resolution, TLS, permission, model). One row per finding, with what to do';

CREATE FUNCTION llm_forget(tenant text, prompt text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	forgotten bigint;
BEGIN
	IF tenant IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'tenant must not be null';
	END IF;
	IF NOT @extschema@.llm_flush() THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = 'answers that are not in llm_journal yet cannot be forgotten',
			HINT = 'See the view llm_ledger_status and the server log.';
	END IF;
	DELETE FROM @extschema@.llm_journal AS j
	WHERE j.tenant = llm_forget.tenant
		AND (prompt IS NULL OR j.prompt_sha256 = sha256(convert_to(prompt, 'UTF8')));
	GET DIAGNOSTICS forgotten = ROW_COUNT;
	RETURN forgotten;
END
$$;
COMMENT ON FUNCTION llm_forget(text, text) IS
'Erase the answers of a tenant from llm_journal: all, or those to one prompt. Returns how many there were. What was paid stays in llm_ledger, with hashes if the tenant keeps them. Error: 55000 when the ledger writer does not get answers into the table that were given before';

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
		'llm_invoke_many(text, text[], jsonb)', 'llm_invoke_array(text, text[], jsonb)',
		'llm_try_invoke_array(text, text[], jsonb)', 'llm_invoke_query(text, text, jsonb)',
		'llm_explain(text, text, jsonb)', 'llm_render(text, text, jsonb)', 'llm_estimate(text, text, jsonb)']
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
	OUT fallbacks bigint, OUT waits bigint, OUT memo_hits bigint, OUT journal_hits bigint,
	OUT input_tokens bigint, OUT output_tokens bigint,
	OUT cost_usd numeric, OUT unpriced bigint, OUT shadow_refusals bigint,
	OUT mean_ms float8, OUT p50_ms float8, OUT p95_ms float8, OUT p99_ms float8)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_stat_tenant';
CREATE VIEW llm_stat_tenant AS SELECT * FROM llm_stat_tenant();
COMMENT ON VIEW llm_stat_tenant IS
'Per tenant since the server started or llm_stat_reset(): calls and what became of them, retries, fallbacks, waits for quotas, calls that memo and journal answered (not counted in calls), tokens, cost of the answers that had a price, how many had none, and latency of whole calls';

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
'Live limits, one row per limit and dimension (requests, tokens, in_flight): capacity, what is available (negative: debt), calls that queue for it, milliseconds until one more unit passes; kind learnt: what a quota domain bore in flight when it was last throttled; waiters stand in pg_locks with classid, objid and objsubid = lock_classid, lock_objid and 19533';

CREATE FUNCTION llm_budget(OUT quota_id bigint, OUT subject text, OUT mode text,
	OUT period_start timestamptz, OUT period_end timestamptz, OUT budget_usd numeric,
	OUT spent_usd numeric, OUT reserved_usd numeric, OUT available_usd numeric,
	OUT reached_percent int, OUT waiters int)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_budget';
CREATE VIEW llm_budget AS SELECT * FROM llm_budget();
COMMENT ON VIEW llm_budget IS
'Live budgets of llm_quota, one row per subject that has called: the period last used (NULL: rolling), US dollars allowed, spent (NULL: to be read from the ledger at the next call), reserved by calls in flight and available (negative: overshoot), the mark reached in this period (0, 80 or 100 percent), calls that queue for it';

CREATE FUNCTION llm_breaker(OUT scope text, OUT name text, OUT state text, OUT failures int,
	OUT successes int, OUT opened int, OUT open_for_ms bigint, OUT cooling_for_ms bigint,
	OUT strikes int, OUT retry_budget int, OUT in_flight int, OUT in_flight_limit int,
	OUT decreases bigint, OUT decrease_cause text, OUT decreased_at timestamptz)
RETURNS SETOF record LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pgl_llm_breaker';
CREATE VIEW llm_breaker AS SELECT * FROM llm_breaker();
COMMENT ON VIEW llm_breaker IS
'Breakers of quota domains and credentials: closed, open, half_open or ramp; failures and successes of the last ten seconds; cool-down after throttling; what is left of the retry budget. Of domains also: attempts in flight, how many may be (NULL: no bound was found), and how often that was lowered, at last why (throttled, timeout or slow) and when';

CREATE FUNCTION llm_breaker_reset(name text DEFAULT NULL) RETURNS int
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pgl_llm_breaker_reset';
COMMENT ON FUNCTION llm_breaker_reset(text) IS
'Close the breakers of that name (a quota domain or a credential reference; NULL: all of this database), end their cool-down, refill their retry budget and lift the bound on attempts in flight, as after a repair. Returns how many there were';

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
'Wait until all that was queued for the ledger of this database before, and all that lies in its spill files, is in the tables; false after timeout_ms milliseconds. What a crashed run left in llm_intent is not waited for. 25006 on a standby, where the tables cannot be written';

REVOKE ALL ON llm_ledger_status FROM PUBLIC;
REVOKE ALL ON FUNCTION llm_ledger_status(), llm_flush(int) FROM PUBLIC;
GRANT SELECT ON llm_ledger_status TO pg_monitor;
GRANT EXECUTE ON FUNCTION llm_ledger_status() TO pg_monitor;

------------------------------------------------------------------------------------------------
-- Views on the ledger.  Everybody may read them and finds the rows of his own roles, members of
-- pg_read_all_stats find all: the condition stands in llm_usage, which all others read.
------------------------------------------------------------------------------------------------

CREATE VIEW llm_usage WITH (security_barrier) AS
SELECT (started_at AT TIME ZONE 'UTC')::date AS day, date_trunc('hour', started_at, 'UTC') AS hour,
	l.*, cost_nano_usd * 0.000000001 AS cost_usd, reserved_nano_usd * 0.000000001 AS reserved_usd
FROM llm_ledger AS l
WHERE (SELECT pg_has_role('pg_read_all_stats', 'USAGE')) OR pg_has_role(role_id, 'USAGE');
COMMENT ON VIEW llm_usage IS
'The rows of llm_ledger that the caller may see: those of roles whose privileges he has, or all for members of pg_read_all_stats (who alone see those of dropped roles). A condition on started_at skips whole partitions';
COMMENT ON COLUMN llm_usage.day IS 'UTC day of started_at';
COMMENT ON COLUMN llm_usage.hour IS 'UTC hour of started_at, its beginning';
COMMENT ON COLUMN llm_usage.cost_usd IS 'cost_nano_usd in US dollars; NULL: no price known';
COMMENT ON COLUMN llm_usage.reserved_usd IS 'reserved_nano_usd in US dollars; NULL: no price known';

-- A barrier keeps it from being flattened: only then its columns are plain values by which the days
-- of the partitioned table can be skipped while the query runs.
CREATE VIEW llm_ledger_day WITH (security_barrier) AS
SELECT d::date AS day, d AT TIME ZONE 'UTC' AS starts, (d + interval '1 day') AT TIME ZONE 'UTC' AS ends
FROM generate_series(
	(SELECT date_trunc('day', min(started_at) AT TIME ZONE 'UTC') FROM llm_ledger),
	(SELECT max(started_at) AT TIME ZONE 'UTC' FROM llm_ledger), interval '1 day') AS d;
COMMENT ON VIEW llm_ledger_day IS
'The UTC days of the ledger. Views by day or hour read one after the other, so that a condition on day skips all other partitions';
COMMENT ON COLUMN llm_ledger_day.day IS 'UTC day';
COMMENT ON COLUMN llm_ledger_day.starts IS 'Its first moment';
COMMENT ON COLUMN llm_ledger_day.ends IS 'The first moment of the next day';

-- The roll-ups differ in nothing but their key.  In each, every call is counted once, by its end.
DO $do$
DECLARE
	rollup record;
	statement text;
	counted record;
BEGIN
	FOR rollup IN SELECT * FROM (VALUES
		('llm_usage_by_tenant', 'tenant', false, 'Use and cost per tenant'),
		('llm_usage_by_role', 'role, role_id', false, 'Use and cost per calling role; a renamed role has a row per name'),
		('llm_usage_by_model', 'model', false, 'Use and cost per model; NULL: calls refused before any attempt. A call that went on to another model is counted at both'),
		('llm_usage_by_route', 'route', false, 'Use and cost per route'),
		('llm_usage_by_query', 'query_id', false, 'Use and cost per query: query_id is queryid of pg_stat_statements; NULL: compute_query_id was off'),
		('llm_usage_by_day', 'tenant', true, 'Use and cost per UTC day and tenant. A condition on day skips all other partitions. A call whose attempts lie on two days is counted on both')
	) AS r (name, key, by_day, meaning) LOOP
		statement := format($sql$
			SELECT %1$s, count(*) AS calls, sum(attempts)::bigint AS attempts,
				count(*) FILTER (WHERE success) AS successes,
				count(*) FILTER (WHERE NOT success AND refused AND NOT unknown AND NOT cancelled) AS refused,
				count(*) FILTER (WHERE NOT (success OR refused OR unknown OR cancelled)) AS failed,
				count(*) FILTER (WHERE NOT success AND cancelled AND NOT unknown) AS cancelled,
				count(*) FILTER (WHERE NOT success AND unknown) AS unknown,
				coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
				coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
				coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens,
				coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
				CASE WHEN sum(billed) = 0 THEN 0 ELSE sum(cost) END * 0.000000001 AS cost_usd,
				sum(unpriced)::bigint AS unpriced,
				coalesce(sum(reserved_cost), 0) * 0.000000001 AS reserved_cost_usd,
				count(*) FILTER (WHERE over_budget) AS over_budget
			FROM (
				SELECT %1$s, call_id, count(*) FILTER (WHERE attempt > 0) AS attempts,
					bool_or(outcome = 'success') AS success, bool_or(outcome = 'refused') AS refused,
					bool_or(outcome = 'cancelled') AS cancelled, bool_or(outcome = 'unknown') AS unknown,
					sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
					sum(cache_read_tokens) AS cache_read_tokens,
					sum(cache_write_tokens) AS cache_write_tokens,
					count(*) FILTER (WHERE charge <> 'none') AS billed,
					sum(cost_nano_usd) FILTER (WHERE charge <> 'none') AS cost,
					count(*) FILTER (WHERE charge <> 'none' AND cost_nano_usd IS NULL) AS unpriced,
					sum(cost_nano_usd) FILTER (WHERE charge = 'reserved') AS reserved_cost,
					bool_or(over_budget) AS over_budget
				FROM llm_usage %2$s
				GROUP BY %1$s, call_id) AS call
			GROUP BY %1$s$sql$,
			rollup.key,
			CASE WHEN rollup.by_day THEN 'WHERE started_at >= d.starts AND started_at < d.ends' END);
		IF rollup.by_day THEN
			statement := format(
				'SELECT d.day, u.* FROM llm_ledger_day AS d CROSS JOIN LATERAL (%s) AS u', statement);
		END IF;
		EXECUTE format('CREATE VIEW %I WITH (security_barrier) AS %s', rollup.name, statement);
		EXECUTE format('COMMENT ON VIEW %I IS %L', rollup.name,
			rollup.meaning || '. Of the rows that llm_usage shows');
		FOR counted IN SELECT * FROM (VALUES
			('day', 'UTC day'),
			('calls', 'Calls: successes + refused + failed + cancelled + unknown'),
			('attempts', 'Attempts that were sent, or about to be'),
			('successes', 'Calls that were answered'),
			('refused', 'Calls that a limit, budget or breaker here stopped'),
			('failed', 'Calls that no attempt answered'),
			('cancelled', 'Calls that were given up'),
			('unknown', 'Calls that were out when the server went down'),
			('input_tokens', 'Tokens as the provider reported them, as for the next three'),
			('output_tokens', 'Tokens of the answers'),
			('cache_read_tokens', 'Tokens of prompts that the provider had cached'),
			('cache_write_tokens', 'Tokens of prompts that it has cached'),
			('cost_usd', 'US dollars, of the attempts that have a price; NULL: none of the billed ones has'),
			('unpriced', 'Billed attempts without a price, missing in cost_usd; see llm_reprice()'),
			('reserved_cost_usd', 'Part of cost_usd that rests on reservations, as nobody knows what was used'),
			('over_budget', 'Calls beyond a budget that does not enforce')
		) AS c (name, meaning)
		WHERE rollup.by_day OR c.name <> 'day' LOOP
			EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', rollup.name, counted.name, counted.meaning);
		END LOOP;
	END LOOP;
	-- a column of the ledger, or a key taken from it, means the same in every view
	FOR counted IN
		SELECT v.attrelid::regclass AS view, v.attname, col_description(l.attrelid, l.attnum) AS meaning
		FROM pg_attribute AS l JOIN pg_attribute AS v USING (attname)
		WHERE l.attrelid = 'llm_ledger'::regclass AND l.attnum > 0
			AND v.attrelid IN ('llm_usage'::regclass, 'llm_usage_by_tenant'::regclass,
				'llm_usage_by_role'::regclass, 'llm_usage_by_model'::regclass,
				'llm_usage_by_route'::regclass, 'llm_usage_by_query'::regclass,
				'llm_usage_by_day'::regclass)
			AND col_description(v.attrelid, v.attnum) IS NULL
	LOOP
		EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', counted.view, counted.attname, counted.meaning);
	END LOOP;
END
$do$;

-- The four dimensions of operation.  Each has a row per UTC hour and target, and one with target
-- NULL for the hour as a whole, as neither rates nor percentiles can be added up.

CREATE VIEW llm_availability WITH (security_barrier) AS
SELECT d.day, u.*
FROM llm_ledger_day AS d CROSS JOIN LATERAL (
	SELECT hour, target, count(*) AS calls, sum(attempts)::bigint AS attempts,
		count(*) FILTER (WHERE success) AS successes,
		round(count(*) FILTER (WHERE success)::numeric
			/ nullif(count(*) FILTER (WHERE success OR NOT (refused OR cancelled)), 0), 4) AS success_rate,
		round(count(*) FILTER (WHERE fallback)::numeric
			/ nullif(count(*) FILTER (WHERE attempts > 0), 0), 4) AS fallback_rate,
		round(count(*) FILTER (WHERE retry)::numeric
			/ nullif(count(*) FILTER (WHERE attempts > 0), 0), 4) AS retry_rate,
		round(count(*) FILTER (WHERE refused)::numeric / count(*), 4) AS refusal_rate,
		sum(failed)::bigint AS failed, sum(throttled)::bigint AS throttled,
		sum(quota_exhausted)::bigint AS quota_exhausted, sum(unavailable)::bigint AS unavailable,
		sum(server_error)::bigint AS server_error, sum(connection)::bigint AS connection,
		sum(timeout)::bigint AS timeout, sum(context_too_long)::bigint AS context_too_long,
		sum(credentials)::bigint AS credentials, sum(not_found)::bigint AS not_found,
		sum(refusal)::bigint AS refusal, sum(bad_request)::bigint AS bad_request,
		sum(bad_reply)::bigint AS bad_reply, sum(cancelled_attempts)::bigint AS cancelled,
		sum(unknown_attempts)::bigint AS unknown
	FROM (
		SELECT hour, target, call_id, count(*) FILTER (WHERE attempt > 0) AS attempts,
			bool_or(outcome = 'success') AS success, bool_or(outcome = 'refused') AS refused,
			bool_or(outcome = 'cancelled') AS cancelled,
			bool_or(attempt > 0 AND fallback_depth > 0) AS fallback, bool_or(attempt > 1) AS retry,
			count(*) FILTER (WHERE outcome = 'failed') AS failed,
			count(*) FILTER (WHERE cause = 'throttled') AS throttled,
			count(*) FILTER (WHERE cause = 'quota exhausted') AS quota_exhausted,
			count(*) FILTER (WHERE cause = 'unavailable') AS unavailable,
			count(*) FILTER (WHERE cause = 'server error') AS server_error,
			count(*) FILTER (WHERE cause = 'connection') AS connection,
			count(*) FILTER (WHERE cause = 'timeout') AS timeout,
			count(*) FILTER (WHERE cause = 'context too long') AS context_too_long,
			count(*) FILTER (WHERE cause = 'credentials') AS credentials,
			count(*) FILTER (WHERE cause = 'not found') AS not_found,
			count(*) FILTER (WHERE cause = 'refusal') AS refusal,
			count(*) FILTER (WHERE cause = 'bad request') AS bad_request,
			count(*) FILTER (WHERE cause = 'bad reply') AS bad_reply,
			count(*) FILTER (WHERE outcome = 'cancelled') AS cancelled_attempts,
			count(*) FILTER (WHERE outcome = 'unknown') AS unknown_attempts
		FROM llm_usage WHERE started_at >= d.starts AND started_at < d.ends
		GROUP BY GROUPING SETS ((hour, target, call_id), (hour, call_id))
		HAVING grouping(target) = 1 OR target IS NOT NULL) AS call
	GROUP BY hour, target) AS u;
COMMENT ON VIEW llm_availability IS
'Per UTC hour and target, and for the hour as a whole (target NULL, which alone knows of refused calls): which calls were answered, and why attempts failed. Rates are 0 to 1, NULL without a call to speak of. A condition on day skips all other partitions';
COMMENT ON COLUMN llm_availability.day IS 'UTC day of the hour';
COMMENT ON COLUMN llm_availability.hour IS 'UTC hour, its beginning';
COMMENT ON COLUMN llm_availability.target IS 'Target; NULL: all of them, and calls that were refused before any';
COMMENT ON COLUMN llm_availability.calls IS 'Calls with an attempt on the target; in the whole: all calls';
COMMENT ON COLUMN llm_availability.attempts IS 'Attempts';
COMMENT ON COLUMN llm_availability.successes IS 'Calls that were answered, by this target';
COMMENT ON COLUMN llm_availability.success_rate IS 'successes / calls that were neither refused here nor cancelled';
COMMENT ON COLUMN llm_availability.fallback_rate IS 'Calls that came here after others were passed over or failed / calls that were sent';
COMMENT ON COLUMN llm_availability.retry_rate IS 'Calls with a second or later attempt here / calls that were sent';
COMMENT ON COLUMN llm_availability.refusal_rate IS 'Calls that a limit, budget or breaker here stopped / calls';
COMMENT ON COLUMN llm_availability.failed IS 'Attempts that failed; the next twelve columns say why';
COMMENT ON COLUMN llm_availability.throttled IS 'Attempts the provider throttled';
COMMENT ON COLUMN llm_availability.quota_exhausted IS 'Attempts refused as the account''s quota is used up';
COMMENT ON COLUMN llm_availability.unavailable IS 'Attempts answered with "unavailable"';
COMMENT ON COLUMN llm_availability.server_error IS 'Attempts answered with another error of the server';
COMMENT ON COLUMN llm_availability.connection IS 'Attempts without a connection, or whose connection broke';
COMMENT ON COLUMN llm_availability.timeout IS 'Attempts not answered in time';
COMMENT ON COLUMN llm_availability.context_too_long IS 'Attempts whose prompt was too long for the model';
COMMENT ON COLUMN llm_availability.credentials IS 'Attempts whose credential was not accepted';
COMMENT ON COLUMN llm_availability.not_found IS 'Attempts on a model that is not there or not open to the account';
COMMENT ON COLUMN llm_availability.refusal IS 'Attempts that the model or a guardrail declined';
COMMENT ON COLUMN llm_availability.bad_request IS 'Attempts that the provider rejected as wrong';
COMMENT ON COLUMN llm_availability.bad_reply IS 'Attempts whose reply made no sense';
COMMENT ON COLUMN llm_availability.cancelled IS 'Attempts that were given up while out';
COMMENT ON COLUMN llm_availability.unknown IS 'Attempts that were out when the server went down';

CREATE VIEW llm_response_time WITH (security_barrier) AS
SELECT d.day, u.hour, u.target, u.successes,
	u.ttft[1] AS ttft_p50_ms, u.ttft[2] AS ttft_p95_ms, u.ttft[3] AS ttft_p99_ms,
	u.total[1] AS total_p50_ms, u.total[2] AS total_p95_ms, u.total[3] AS total_p99_ms,
	u.queued, u.queue[1] AS queue_p50_ms, u.queue[2] AS queue_p95_ms
FROM llm_ledger_day AS d CROSS JOIN LATERAL (
	SELECT hour, target, count(*) FILTER (WHERE outcome = 'success') AS successes,
		percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY first_byte_ms)
			FILTER (WHERE outcome = 'success') AS ttft,
		percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY total_ms)
			FILTER (WHERE outcome = 'success') AS total,
		count(*) FILTER (WHERE queue_ms > 0) AS queued,
		percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY queue_ms) AS queue
	FROM llm_usage WHERE started_at >= d.starts AND started_at < d.ends
	GROUP BY GROUPING SETS ((hour, target), (hour))
	HAVING grouping(target) = 1 OR target IS NOT NULL) AS u;
COMMENT ON VIEW llm_response_time IS
'Per UTC hour and target, and for the hour as a whole (target NULL): percentiles of the time to first byte and the total of attempts that were answered, and of the wait before any attempt or refusal. A condition on day skips all other partitions';
COMMENT ON COLUMN llm_response_time.day IS 'UTC day of the hour';
COMMENT ON COLUMN llm_response_time.hour IS 'UTC hour, its beginning';
COMMENT ON COLUMN llm_response_time.target IS 'Target; NULL: all of them, and calls that were refused before any';
COMMENT ON COLUMN llm_response_time.successes IS 'Attempts that were answered: what the next six rest on';
COMMENT ON COLUMN llm_response_time.ttft_p50_ms IS 'From sending to the first byte, milliseconds: half of the attempts took no longer';
COMMENT ON COLUMN llm_response_time.ttft_p95_ms IS 'The same, 95 percent of them';
COMMENT ON COLUMN llm_response_time.ttft_p99_ms IS 'The same, 99 percent of them';
COMMENT ON COLUMN llm_response_time.total_p50_ms IS 'From admission to the end of the attempt, milliseconds: half took no longer';
COMMENT ON COLUMN llm_response_time.total_p95_ms IS 'The same, 95 percent of them';
COMMENT ON COLUMN llm_response_time.total_p99_ms IS 'The same, 99 percent of them';
COMMENT ON COLUMN llm_response_time.queued IS 'Attempts and refusals that waited for a limit or cool-down first';
COMMENT ON COLUMN llm_response_time.queue_p50_ms IS 'Wait before any attempt or refusal, milliseconds: half waited no longer';
COMMENT ON COLUMN llm_response_time.queue_p95_ms IS 'The same, 95 percent of them';

CREATE VIEW llm_cost WITH (security_barrier) AS
SELECT d.day, u.hour, u.target, u.model, u.calls, u.attempts, u.tokens,
	CASE WHEN u.billed = 0 THEN 0 ELSE u.cost END * 0.000000001 AS cost_usd,
	round(u.cost * 0.000000001 / nullif(u.calls, 0), 9) AS cost_per_call_usd,
	round(u.metered_cost * 0.000001 / nullif(u.metered_tokens, 0), 9) AS cost_per_1k_tokens_usd,
	coalesce(u.reserved_cost, 0) * 0.000000001 AS reserved_cost_usd,
	round(coalesce(u.reserved_cost, 0) / nullif(u.cost, 0), 4) AS reserved_share, u.unpriced
FROM llm_ledger_day AS d CROSS JOIN LATERAL (
	SELECT hour, target, model, count(DISTINCT call_id) FILTER (WHERE attempt > 0) AS calls,
		count(*) FILTER (WHERE attempt > 0) AS attempts,
		coalesce(sum(used.tokens), 0)::bigint AS tokens,
		count(*) FILTER (WHERE charge <> 'none') AS billed,
		sum(cost_nano_usd) FILTER (WHERE charge <> 'none') AS cost,
		sum(cost_nano_usd) FILTER (WHERE charge = 'usage') AS metered_cost,
		sum(used.tokens) FILTER (WHERE charge = 'usage' AND cost_nano_usd IS NOT NULL) AS metered_tokens,
		sum(cost_nano_usd) FILTER (WHERE charge = 'reserved') AS reserved_cost,
		count(*) FILTER (WHERE charge <> 'none' AND cost_nano_usd IS NULL) AS unpriced
	FROM llm_usage CROSS JOIN LATERAL (
		SELECT coalesce(input_tokens, 0) + coalesce(output_tokens, 0)
			+ coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0) AS tokens) AS used
	WHERE started_at >= d.starts AND started_at < d.ends
	GROUP BY GROUPING SETS ((hour, target, model), (hour))
	HAVING grouping(target) = 1 OR target IS NOT NULL) AS u;
COMMENT ON VIEW llm_cost IS
'Per UTC hour, target and model, and for the hour as a whole (target NULL; leave it out to add up): what was spent, per call and per token, and how much of it is only known as a worst case. A condition on day skips all other partitions';
COMMENT ON COLUMN llm_cost.day IS 'UTC day of the hour';
COMMENT ON COLUMN llm_cost.hour IS 'UTC hour, its beginning';
COMMENT ON COLUMN llm_cost.target IS 'Target; NULL: all of them';
COMMENT ON COLUMN llm_cost.model IS 'Its model at the time; NULL: all of them';
COMMENT ON COLUMN llm_cost.calls IS 'Calls with an attempt here';
COMMENT ON COLUMN llm_cost.attempts IS 'Attempts';
COMMENT ON COLUMN llm_cost.tokens IS 'Tokens that the provider reported: input, output, cached and caching';
COMMENT ON COLUMN llm_cost.cost_usd IS 'US dollars, of the attempts that have a price; NULL: none of the billed ones has';
COMMENT ON COLUMN llm_cost.cost_per_call_usd IS 'cost_usd / calls, failed attempts that were billed included';
COMMENT ON COLUMN llm_cost.cost_per_1k_tokens_usd IS 'US dollars per thousand tokens, of the attempts whose use the provider reported';
COMMENT ON COLUMN llm_cost.reserved_cost_usd IS 'Part of cost_usd that rests on reservations, as nobody knows what was used';
COMMENT ON COLUMN llm_cost.reserved_share IS 'reserved_cost_usd / cost_usd, 0 to 1';
COMMENT ON COLUMN llm_cost.unpriced IS 'Billed attempts without a price, missing in cost_usd';

CREATE VIEW llm_throughput WITH (security_barrier) AS
SELECT d.day, u.hour, u.target, u.attempts, u.successes, u.input_tokens, u.output_tokens, u.tokens,
	round(u.attempts / minutes.n, 2) AS attempts_per_minute,
	round(u.successes / minutes.n, 2) AS successes_per_minute,
	round(u.tokens / minutes.n, 2) AS tokens_per_minute,
	u.max_attempts_per_minute, u.max_tokens_per_minute
FROM llm_ledger_day AS d CROSS JOIN LATERAL (
	SELECT hour, target, sum(attempts)::bigint AS attempts, sum(successes)::bigint AS successes,
		sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
		sum(tokens)::bigint AS tokens, max(attempts) AS max_attempts_per_minute,
		max(tokens)::bigint AS max_tokens_per_minute
	FROM (
		SELECT hour, minute, target, count(*) FILTER (WHERE attempt > 0) AS attempts,
			count(*) FILTER (WHERE outcome = 'success') AS successes,
			coalesce(sum(input_tokens), 0) AS input_tokens,
			coalesce(sum(output_tokens), 0) AS output_tokens,
			sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)
				+ coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0)) AS tokens
		FROM llm_usage CROSS JOIN LATERAL (SELECT date_trunc('minute', started_at) AS minute) AS m
		WHERE started_at >= d.starts AND started_at < d.ends
		GROUP BY GROUPING SETS ((hour, minute, target), (hour, minute))
		HAVING grouping(target) = 1 OR target IS NOT NULL) AS minute
	GROUP BY hour, target) AS u
CROSS JOIN LATERAL (
	SELECT least(60, greatest(1, extract(epoch FROM now() - u.hour) / 60)) AS n) AS minutes;
COMMENT ON VIEW llm_throughput IS
'Per UTC hour and target, and for the hour as a whole (target NULL; leave it out to add up): attempts, answers and tokens, on average per minute (of an hour that is not over: of the minutes so far) and in the busiest minute. A condition on day skips all other partitions';
COMMENT ON COLUMN llm_throughput.day IS 'UTC day of the hour';
COMMENT ON COLUMN llm_throughput.hour IS 'UTC hour, its beginning';
COMMENT ON COLUMN llm_throughput.target IS 'Target; NULL: all of them';
COMMENT ON COLUMN llm_throughput.attempts IS 'Attempts: requests, as the provider''s limits count them';
COMMENT ON COLUMN llm_throughput.successes IS 'Calls that were answered';
COMMENT ON COLUMN llm_throughput.input_tokens IS 'Tokens of the prompts, as the provider reported';
COMMENT ON COLUMN llm_throughput.output_tokens IS 'Tokens of the answers';
COMMENT ON COLUMN llm_throughput.tokens IS 'Both, and those cached and caching';
COMMENT ON COLUMN llm_throughput.attempts_per_minute IS 'attempts, on average per minute';
COMMENT ON COLUMN llm_throughput.successes_per_minute IS 'successes, on average per minute';
COMMENT ON COLUMN llm_throughput.tokens_per_minute IS 'tokens, on average per minute';
COMMENT ON COLUMN llm_throughput.max_attempts_per_minute IS 'Attempts that began in the busiest minute of the clock';
COMMENT ON COLUMN llm_throughput.max_tokens_per_minute IS 'Tokens of the attempts that began in one minute of the clock, at most';

GRANT SELECT ON llm_usage, llm_usage_by_tenant, llm_usage_by_role, llm_usage_by_model,
	llm_usage_by_route, llm_usage_by_query, llm_usage_by_day, llm_availability, llm_response_time,
	llm_cost, llm_throughput TO PUBLIC;
REVOKE ALL ON llm_ledger, llm_ledger_day FROM PUBLIC;

------------------------------------------------------------------------------------------------
-- Prices: a snapshot to begin with, and repricing of what is in the ledger
------------------------------------------------------------------------------------------------

CREATE FUNCTION llm_seed_prices() RETURNS int
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC'
AS $$
DECLARE
	genai constant text := 'pydantic/genai-prices 47df840, 2026-08-21';
	litellm constant text := 'LiteLLM release notes, 2026-10-03';
	models_dev constant text := 'models.dev f3fc692, 2026-07-02';
	added int;
BEGIN
	INSERT INTO @extschema@.llm_model (model, family, context_window, max_output_tokens, output_burndown)
	VALUES
		('claude-opus-5-5', 'anthropic', 1000000, 128000, 5),
		('claude-sonnet-5-5', 'anthropic', 1000000, NULL, 5),
		('claude-fable-5', 'anthropic', 1000000, 128000, 5),
		('claude-fable-5-1', 'anthropic', 1000000, 128000, 5),
		('claude-opus-5', 'anthropic', 1000000, 128000, 5),
		('claude-opus-4-8', 'anthropic', 1000000, 128000, 5),
		('claude-opus-4-7', 'anthropic', 1000000, 128000, 5),
		('claude-opus-4-6', 'anthropic', 1000000, 128000, 5),
		('claude-opus-4-5', 'anthropic', 200000, 64000, 5),
		('claude-sonnet-5', 'anthropic', 1000000, NULL, 5),
		('claude-sonnet-4-6', 'anthropic', 1000000, 128000, 5),
		('claude-sonnet-4-5', 'anthropic', 200000, 64000, 5),
		('claude-haiku-4-5', 'anthropic', 200000, 64000, 5),
		('claude-sonnet-4', 'anthropic', 200000, NULL, 5),
		('claude-opus-4-1', 'anthropic', 200000, NULL, 5),
		('claude-opus-4', 'anthropic', 200000, NULL, 5),
		('claude-3-7-sonnet', 'anthropic', 200000, NULL, 5),
		('claude-3-5-haiku', 'anthropic', 200000, NULL, 1),
		('claude-3-haiku', 'anthropic', 200000, NULL, 1),
		('nova-micro', 'amazon', 128000, 8192, 1),
		('nova-lite', 'amazon', 300000, 8192, 1),
		('nova-pro', 'amazon', 300000, 8192, 1),
		('nova-premier', 'amazon', NULL, NULL, 1),
		('nova-2-lite', 'amazon', NULL, NULL, 1),
		('llama3-1-8b-instruct', 'meta', 128000, 4096, 1),
		('llama3-1-70b-instruct', 'meta', 128000, 4096, 1),
		('llama3-3-70b-instruct', 'meta', 128000, 4096, 1),
		('llama4-scout-17b-instruct', 'meta', 3500000, 16384, 1),
		('llama4-maverick-17b-instruct', 'meta', 1000000, 16384, 1),
		('mistral-large-3-675b-instruct', 'mistral', 256000, 8192, 1),
		('pixtral-large-2502', 'mistral', 128000, 8192, 1),
		('deepseek-r1', 'deepseek', 128000, 32768, 1),
		('deepseek-v3', 'deepseek', 164000, 82000, 1),
		('deepseek-v3.2', 'deepseek', 164000, 82000, 1),
		('gpt-oss-120b', 'openai', 128000, 16384, 1),
		('gpt-oss-20b', 'openai', 128000, 16384, 1),
		('gpt-5.4', 'openai', 272000, 128000, 1),
		('gpt-5.5', 'openai', 272000, 128000, 1),
		('gpt-5.6-luna', 'openai', 1000000, NULL, 1),
		('gpt-5.6-terra', 'openai', 1000000, NULL, 1),
		('gpt-5.6-sol', 'openai', 1000000, NULL, 1),
		('gpt-6-astra', 'openai', 1050000, 128000, 1),
		('gpt-6.1-sol', 'openai', NULL, NULL, 1),
		('grok-4.3', 'xai', 1000000, NULL, 1),
		('grok-4.7', 'xai', 500000, NULL, 1),
		('qwen3-32b', 'qwen', NULL, NULL, 1),
		('kimi-k2.5', 'moonshotai', 262000, 16384, 1),
		('glm-4.7', 'zai', 205000, 131000, 1),
		('glm-5', 'zai', 203000, 101000, 1),
		('palmyra-x4', 'writer', 123000, 8192, 1),
		('palmyra-x5', 'writer', 1040000, 8192, 1)
	ON CONFLICT DO NOTHING;

	-- global: the global inference profile; any: all others, where Claude costs 10 % more from 4.5 on
	WITH snapshot (model, geography, input, output, cache_read, cache_write, valid_from, source) AS (
		VALUES
		('claude-opus-5-5', 'global', 4, 20, NULL, NULL, '-infinity'::timestamptz, litellm),
		('claude-opus-5-5', 'any', 4.4, 22, NULL, NULL, '-infinity', litellm),
		('claude-opus-5-5', 'us-gov', 4.8, 24, NULL, NULL, '-infinity', litellm),
		('claude-sonnet-5-5', 'global', 2, 10, NULL, NULL, '-infinity', litellm),
		('claude-sonnet-5-5', 'any', 2.2, 11, NULL, NULL, '-infinity', litellm),
		('claude-sonnet-5-5', 'us-gov', 2.4, 12, NULL, NULL, '-infinity', litellm),
		('claude-fable-5', 'global', 10, 50, 1, 12.5, '-infinity', genai),
		('claude-fable-5', 'any', 11, 55, 1.1, 13.75, '-infinity', genai),
		('claude-fable-5-1', 'global', 10, 50, 1, 12.5, '-infinity', genai),
		('claude-fable-5-1', 'any', 11, 55, 1.1, 13.75, '-infinity', genai),
		('claude-opus-5', 'global', 5, 25, 0.5, 6.25, '-infinity', genai),
		('claude-opus-5', 'any', 5.5, 27.5, 0.55, 6.875, '-infinity', genai),
		('claude-opus-4-8', 'global', 5, 25, 0.5, 6.25, '-infinity', genai),
		('claude-opus-4-8', 'any', 5.5, 27.5, 0.55, 6.875, '-infinity', genai),
		('claude-opus-4-7', 'global', 5, 25, 0.5, 6.25, '-infinity', genai),
		('claude-opus-4-7', 'any', 5.5, 27.5, 0.55, 6.875, '-infinity', genai),
		('claude-opus-4-6', 'global', 5, 25, 0.5, 6.25, '-infinity', genai),
		('claude-opus-4-6', 'any', 5.5, 27.5, 0.55, 6.875, '-infinity', genai),
		('claude-opus-4-5', 'global', 5, 25, 0.5, 6.25, '-infinity', genai),
		('claude-opus-4-5', 'any', 5.5, 27.5, 0.55, 6.875, '-infinity', genai),
		('claude-sonnet-5', 'global', 2, 10, NULL, NULL, '-infinity', genai),
		('claude-sonnet-5', 'any', 2.2, 11, NULL, NULL, '-infinity', genai),
		('claude-sonnet-5', 'global', 3, 15, 0.3, 3.75, '2026-09-01', genai),
		('claude-sonnet-5', 'any', 3.3, 16.5, 0.33, 4.125, '2026-09-01', genai),
		('claude-sonnet-4-6', 'global', 3, 15, 0.3, 3.75, '-infinity', genai),
		('claude-sonnet-4-6', 'any', 3.3, 16.5, 0.33, 4.125, '-infinity', genai),
		('claude-sonnet-4-5', 'global', 3, 15, 0.3, 3.75, '-infinity', genai),
		('claude-sonnet-4-5', 'any', 3.3, 16.5, 0.33, 4.125, '-infinity', genai),
		('claude-haiku-4-5', 'global', 1, 5, 0.1, 1.25, '-infinity', genai),
		('claude-haiku-4-5', 'any', 1.1, 5.5, 0.11, 1.375, '-infinity', genai),
		('claude-sonnet-4', 'any', 3, 15, 0.3, 3.75, '-infinity', genai),
		('claude-opus-4-1', 'any', 15, 75, 1.5, 18.75, '-infinity', genai),
		('claude-opus-4', 'any', 15, 75, 1.5, 18.75, '-infinity', genai),
		('claude-3-7-sonnet', 'any', 3, 15, 0.3, 3.75, '-infinity', genai),
		('claude-3-5-haiku', 'any', 0.8, 4, 0.08, 1, '-infinity', genai),
		('claude-3-haiku', 'any', 0.25, 1.25, NULL, NULL, '-infinity', genai),
		('nova-micro', 'any', 0.035, 0.14, 0.00875, NULL, '-infinity', genai),
		('nova-lite', 'any', 0.06, 0.24, 0.015, NULL, '-infinity', genai),
		('nova-pro', 'any', 0.8, 3.2, 0.2, NULL, '-infinity', genai),
		('nova-premier', 'any', 2.5, 12.5, 0.625, NULL, '-infinity', genai),
		('nova-2-lite', 'global', 0.3, 2.5, 0.075, NULL, '-infinity', genai),
		('nova-2-lite', 'any', 0.33, 2.75, NULL, NULL, '-infinity', genai),
		('llama3-1-8b-instruct', 'any', 0.22, 0.22, NULL, NULL, '-infinity', genai),
		('llama3-1-70b-instruct', 'any', 0.72, 0.72, NULL, NULL, '-infinity', genai),
		('llama3-3-70b-instruct', 'any', 0.72, 0.72, NULL, NULL, '-infinity', genai),
		('llama4-scout-17b-instruct', 'any', 0.17, 0.66, NULL, NULL, '-infinity', genai),
		('llama4-maverick-17b-instruct', 'any', 0.24, 0.97, NULL, NULL, '-infinity', genai),
		('mistral-large-3-675b-instruct', 'any', 0.5, 1.5, NULL, NULL, '-infinity', genai),
		('pixtral-large-2502', 'any', 2, 6, NULL, NULL, '-infinity', genai),
		('deepseek-r1', 'any', 1.35, 5.4, NULL, NULL, '-infinity', genai),
		('deepseek-v3', 'any', 0.58, 1.68, NULL, NULL, '-infinity', models_dev),
		('deepseek-v3.2', 'any', 0.62, 1.85, NULL, NULL, '-infinity', models_dev),
		('gpt-oss-120b', 'any', 0.15, 0.6, NULL, NULL, '-infinity', genai),
		('gpt-oss-20b', 'any', 0.07, 0.3, NULL, NULL, '-infinity', genai),
		('gpt-5.4', 'any', 2.75, 16.5, 0.275, NULL, '-infinity', genai),
		('gpt-5.5', 'any', 5.5, 33, 0.55, NULL, '-infinity', genai),
		('gpt-5.6-luna', 'any', 0.22, 1.32, 0.022, 0.275, '2026-07-30', genai),
		('gpt-5.6-terra', 'any', 2.2, 13.2, 0.22, 2.75, '-infinity', genai),
		('gpt-5.6-sol', 'any', 5.5, 33, 0.55, 6.875, '-infinity', genai),
		('gpt-6-astra', 'global', 10, 50, NULL, NULL, '-infinity', litellm),
		('gpt-6-astra', 'any', 11, 55, NULL, NULL, '-infinity', litellm),
		('gpt-6.1-sol', 'global', 2, 10, NULL, NULL, '-infinity', litellm),
		('gpt-6.1-sol', 'us', 2.2, 11, NULL, NULL, '-infinity', litellm),
		('grok-4.3', 'any', 1.25, 2.5, 0.2, NULL, '-infinity', models_dev),
		('grok-4.7', 'any', 2, 6, NULL, NULL, '-infinity', litellm),
		('qwen3-32b', 'any', 0.15, 0.6, NULL, NULL, '-infinity', genai),
		('kimi-k2.5', 'any', 0.6, 3, NULL, NULL, '-infinity', models_dev),
		('glm-4.7', 'any', 0.6, 2.2, NULL, NULL, '-infinity', models_dev),
		('glm-5', 'any', 1, 3.2, NULL, NULL, '-infinity', models_dev),
		('palmyra-x4', 'any', 2.5, 10, NULL, NULL, '-infinity', genai),
		('palmyra-x5', 'any', 0.6, 6, NULL, NULL, '-infinity', genai))
	INSERT INTO @extschema@.llm_price (model, geography, component, usd_per_million, valid_from, source)
	SELECT s.model, s.geography, c.component, c.usd_per_million, s.valid_from, s.source
	FROM snapshot AS s CROSS JOIN LATERAL (VALUES
		('input', s.input), ('output', s.output), ('cache_read', s.cache_read),
		('cache_write', s.cache_write)) AS c (component, usd_per_million)
	WHERE c.usd_per_million IS NOT NULL
		-- whoever has prices of his own must not find others beside them
		AND NOT EXISTS (
			SELECT FROM @extschema@.llm_price AS own
			WHERE own.model = s.model AND own.source NOT IN (genai, litellm, models_dev))
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS added = ROW_COUNT;
	RETURN added;
END
$$;
COMMENT ON FUNCTION llm_seed_prices() IS
'Insert well-known models of Amazon Bedrock and their list prices (US dollars, on demand, standard tier) as public sources had them in October 2026; returns how many prices were added. A snapshot: check it against the price page of AWS before you rely on it. Rows that exist stay, and models with a price from elsewhere get none';

CREATE FUNCTION llm_budget_reload() RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pgl_llm_budget_reload';
COMMENT ON FUNCTION llm_budget_reload() IS
'When this transaction commits, add up anew what budgets of this database have spent, from llm_ledger. Call it after changing cost_nano_usd there by hand; llm_reprice() does';

CREATE FUNCTION llm_reprice(since timestamptz, until timestamptz DEFAULT now(),
	OUT rows_changed bigint, OUT old_cost_usd numeric, OUT new_cost_usd numeric) RETURNS record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF since IS NULL OR until IS NULL THEN
		RAISE EXCEPTION 'since and until must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	WITH billed AS (
		SELECT l.started_at, l.call_id, l.attempt, l.charge, l.cost_nano_usd AS old_cost,
			l.input_tokens, l.output_tokens, l.cache_read_tokens, l.cache_write_tokens,
			l.reserved_tokens, p.*
		FROM @extschema@.llm_ledger AS l CROSS JOIN LATERAL (
			-- of each component: the geography's own row before 'any', then the newest
			SELECT (array_agg(nano ORDER BY own DESC, valid_from DESC)
					FILTER (WHERE component = 'input'))[1] AS input,
				(array_agg(nano ORDER BY own DESC, valid_from DESC)
					FILTER (WHERE component = 'output'))[1] AS output,
				(array_agg(nano ORDER BY own DESC, valid_from DESC)
					FILTER (WHERE component = 'cache_read'))[1] AS cache_read,
				(array_agg(nano ORDER BY own DESC, valid_from DESC)
					FILTER (WHERE component = 'cache_write'))[1] AS cache_write
			FROM (
				SELECT component, geography <> 'any' AS own, valid_from,
					(usd_per_million * 1000000000)::bigint AS nano
				FROM @extschema@.llm_price AS price
				WHERE price.model = l.model AND price.geography IN ('any', l.geography)
					AND price.valid_from <= l.started_at) AS valid) AS p
		WHERE l.charge <> 'none' AND l.started_at >= since AND l.started_at < until
	), priced AS MATERIALIZED (
		SELECT *, CASE
			WHEN charge = 'reserved' AND old_cost IS NOT NULL THEN old_cost
			-- the worst case was not priced, and how much of it is output is not known
			WHEN charge = 'reserved' AND output IS NULL THEN NULL
			WHEN charge = 'reserved'
				THEN div(reserved_tokens::numeric * greatest(input, output) + 500000, 1000000)::bigint
			-- as the metering of calls: no price for something that was used is no price at all
			WHEN (input_tokens > 0 AND input IS NULL) OR (output_tokens > 0 AND output IS NULL)
				OR (cache_read_tokens > 0 AND cache_read IS NULL)
				OR (cache_write_tokens > 0 AND cache_write IS NULL) THEN NULL
			ELSE div(input_tokens::numeric * coalesce(input, 0)
				+ output_tokens::numeric * coalesce(output, 0)
				+ coalesce(cache_read_tokens, 0)::numeric * coalesce(cache_read, 0)
				+ coalesce(cache_write_tokens, 0)::numeric * coalesce(cache_write, 0)
				+ 500000, 1000000)::bigint
			END AS new_cost
		FROM billed
	), changed AS (
		UPDATE @extschema@.llm_ledger AS l
		SET cost_nano_usd = p.new_cost, price_input = p.input, price_output = p.output,
			price_cache_read = p.cache_read, price_cache_write = p.cache_write
		FROM priced AS p
		WHERE l.started_at >= since AND l.started_at < until AND l.started_at = p.started_at
			AND l.call_id = p.call_id AND l.attempt = p.attempt
			AND NOT (p.charge = 'reserved' AND p.old_cost IS NOT NULL)
			AND (l.cost_nano_usd, l.price_input, l.price_output, l.price_cache_read, l.price_cache_write)
				IS DISTINCT FROM (p.new_cost, p.input, p.output, p.cache_read, p.cache_write)
		RETURNING 1
	)
	SELECT (SELECT count(*) FROM changed), coalesce(sum(old_cost), 0) * 0.000000001,
		coalesce(sum(new_cost), 0) * 0.000000001
	INTO rows_changed, old_cost_usd, new_cost_usd FROM priced;
	PERFORM @extschema@.llm_budget_reload();
END
$$;
COMMENT ON FUNCTION llm_reprice(timestamptz, timestamptz) IS
'Compute the cost of all billed attempts that began in [since, until) again, from the tokens in llm_ledger and from llm_price as it applied when they began. A cost that rests on a reservation stays, unless it was not known: then all of reserved_tokens at the dearer of input and output. Returns how many rows changed, and the cost in US dollars of all billed rows of that time before and after. Budgets follow when the transaction commits';

REVOKE ALL ON FUNCTION llm_estimate(text, text, jsonb), llm_seed_prices(), llm_budget_reload(),
	llm_reprice(timestamptz, timestamptz) FROM PUBLIC;

------------------------------------------------------------------------------------------------
-- Default deny: nothing is PUBLIC; llm_grant_tenant opens the calling functions
------------------------------------------------------------------------------------------------

REVOKE ALL ON llm_model, llm_price, llm_shard, llm_target, llm_route_policy, llm_route, llm_tenant,
	llm_tenant_grant, llm_quota, llm_ledger, llm_intent, llm_journal, llm_stat_target, llm_stat_tenant, llm_stat_activity, llm_bucket,
	llm_budget, llm_breaker, llm_lease FROM PUBLIC;
REVOKE ALL ON FUNCTION llm_invoke(text, text, jsonb), llm_try_invoke(text, text, jsonb),
	llm_invoke_many(text, text[], jsonb), llm_invoke_array(text, text[], jsonb),
	llm_try_invoke_array(text, text[], jsonb), llm_invoke_query(text, text, jsonb), llm_explain(text, text, jsonb),
	llm_render(text, text, jsonb), llm_check(boolean), llm_forget(text, text), llm_grant_tenant(text, name),
	llm_revoke_tenant(text, name), llm_config_check(), llm_config_changed(), llm_stat_target(),
	llm_stat_tenant(), llm_stat_activity(), llm_stat_reset(), llm_breaker_reset(text), llm_bucket(), llm_budget(), llm_breaker(),
	llm_lease() FROM PUBLIC;
GRANT SELECT ON llm_stat_target, llm_stat_tenant, llm_stat_activity, llm_bucket, llm_budget, llm_breaker,
	llm_lease TO pg_monitor;
GRANT EXECUTE ON FUNCTION llm_stat_target(), llm_stat_tenant(), llm_stat_activity(), llm_bucket(),
	llm_budget(), llm_breaker(), llm_lease() TO pg_monitor;
-- everybody may see what their own sessions are doing
GRANT SELECT ON llm_stat_activity TO PUBLIC;
GRANT EXECUTE ON FUNCTION llm_stat_activity() TO PUBLIC;
