-- Pattern 4: load balancing with fallback overflow.
--
-- Two primaries of equal weight may be called 3 times a minute each; what they cannot take flows
-- over to the next tier.  The second primary and the fallback are the same model in two accounts:
-- they are told apart by their target.

SELECT nextval('demo.run') AS run \gset

\qecho
\qecho '== 4. Load balancing: 10 calls at once; two primaries 3 a minute each, then a fallback'

INSERT INTO llm_target (target, shard, model, model_id, rpm, quota_domain) VALUES
	('balanced-sonnet', 'account-1-us-east-1', 'claude-sonnet-4-5',
		'us.anthropic.claude-sonnet-4-5-20250929-v1:0', 3, 'balanced sonnet ' || :run),
	('balanced-haiku', 'account-1-us-east-1', 'claude-haiku-4-5',
		'us.anthropic.claude-haiku-4-5-20251001-v1:0', 3, 'balanced haiku ' || :run),
	('overflow-haiku', 'account-2-us-west-2', 'claude-haiku-4-5',
		'us.anthropic.claude-haiku-4-5-20251001-v1:0', 25, 'overflow haiku ' || :run)
ON CONFLICT (target) DO UPDATE SET quota_domain = excluded.quota_domain;
INSERT INTO llm_route (route, tier, target, weight) VALUES
	('balanced', 0, 'balanced-sonnet', 1),
	('balanced', 0, 'balanced-haiku', 1),
	('balanced', 1, 'overflow-haiku', 1)
ON CONFLICT DO NOTHING;
INSERT INTO llm_tenant (tenant, route) VALUES ('search', 'balanced') ON CONFLICT DO NOTHING;
DELETE FROM llm_quota WHERE tenant = 'search';
INSERT INTO llm_quota (tenant, rpm) VALUES ('search', 100);

\! $DEMO at-once search=10

SELECT (result).target AS "Target", (result).model AS "Model", (result).shard AS "Shard",
	CASE (result).fallback_depth WHEN 0 THEN 'primary' ELSE 'fallback' END AS "Tier",
	count(*) AS "Requests", round(100.0 * count(*) / sum(count(*)) OVER (), 1) || '%' AS "Percentage",
	round(avg(seconds), 3) || ' s' AS "Avg time"
FROM demo.call
GROUP BY 1, 2, 3, 4
ORDER BY min((result).fallback_depth), 1 DESC;

\pset tuples_only on
SELECT demo.expect('calls that succeeded', count((result).response), 10) FROM demo.call;
SELECT demo.expect('served by ' || expected.target, count(result), wanted)
FROM (VALUES ('balanced-sonnet', 3), ('balanced-haiku', 3), ('overflow-haiku', 4)) AS expected (target, wanted)
	LEFT JOIN demo.call ON (result).target = expected.target
GROUP BY expected.target, wanted ORDER BY wanted, expected.target DESC;
SELECT demo.expect('requests that account ' || expected.account || ' served', count(i.status), wanted)
FROM (VALUES ('111111111111', 6), ('222222222222', 4)) AS expected (account, wanted)
	LEFT JOIN demo.invocation AS i ON i.account = expected.account AND i.status = 200
GROUP BY expected.account, wanted ORDER BY 1;
\pset tuples_only off
