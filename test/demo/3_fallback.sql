-- Pattern 3: model fallback.
--
-- The primary may be called 3 times a minute, the fallback 25 times.  Ten backends call at the same
-- moment: three are served by the primary; for the other seven its bucket is empty, so they go to
-- the next tier at once.  The callers do nothing for it.

SELECT nextval('demo.run') AS run \gset

\qecho
\qecho '== 3. Model fallback: 10 calls at once; primary 3 a minute, fallback 25 a minute'

INSERT INTO llm_target (target, shard, model, model_id, rpm, quota_domain) VALUES
	('primary', 'account-1-us-east-1', 'claude-sonnet-4-5',
		'us.anthropic.claude-sonnet-4-5-20250929-v1:0', 3, 'primary ' || :run),
	('fallback', 'account-1-us-east-1', 'claude-haiku-4-5',
		'us.anthropic.claude-haiku-4-5-20251001-v1:0', 25, 'fallback ' || :run)
ON CONFLICT (target) DO UPDATE SET quota_domain = excluded.quota_domain;
INSERT INTO llm_route (route, tier, target) VALUES
	('with-fallback', 0, 'primary'),
	('with-fallback', 1, 'fallback')
ON CONFLICT DO NOTHING;
INSERT INTO llm_tenant (tenant, route) VALUES ('support', 'with-fallback') ON CONFLICT DO NOTHING;
DELETE FROM llm_quota WHERE tenant = 'support';
INSERT INTO llm_quota (tenant, rpm) VALUES ('support', 100);

\! $DEMO at-once support=10

SELECT backend AS "Request", CASE WHEN (result).error IS NULL THEN 'success' ELSE 'failed' END AS "Status",
	upper((result).target) AS "Served by", round(seconds, 3) || ' s' AS "Time"
FROM demo.call ORDER BY seconds;

SELECT count(*) AS "Total", count((result).response) AS "Successful", count((result).error) AS "Failed",
	count(*) FILTER (WHERE (result).target = 'primary') AS "Primary",
	count(*) FILTER (WHERE (result).target = 'fallback') AS "Fallback"
FROM demo.call;

\pset tuples_only on
SELECT demo.expect('calls that succeeded', count((result).response), 10) FROM demo.call;
SELECT demo.expect('served by the primary', count(*), 3)
FROM demo.call WHERE (result).target = 'primary' AND (result).fallback_depth = 0;
SELECT demo.expect('served by the fallback', count(*), 7)
FROM demo.call WHERE (result).target = 'fallback' AND (result).fallback_depth = 1;
SELECT demo.expect('requests that reached the primary''s model', count(*), 3)
FROM demo.invocation WHERE model_id LIKE '%sonnet%';
SELECT demo.expect('requests that reached the fallback''s model', count(*), 7)
FROM demo.invocation WHERE model_id LIKE '%haiku%';
\pset tuples_only off
