-- Pattern 2: account sharding.
--
-- Each account has its own quota and its own profile.  The tenants are pinned: retail to account 1,
-- whose profile spreads over the us Regions, media to account 2, over the eu Regions.  What happens
-- to one account cannot reach the other.

\qecho
\qecho '== 2. Account sharding: 10 calls at once to each of two accounts'

INSERT INTO llm_target (target, shard, model, model_id) VALUES
	('account-1', 'account-1-us-east-1', 'claude-sonnet-4-5',
		'us.anthropic.claude-sonnet-4-5-20250929-v1:0'),
	('account-2', 'account-2-eu-central-1', 'claude-sonnet-4-5',
		'eu.anthropic.claude-sonnet-4-5-20250929-v1:0')
ON CONFLICT DO NOTHING;
INSERT INTO llm_route (route, target) VALUES ('account-1', 'account-1'), ('account-2', 'account-2')
ON CONFLICT DO NOTHING;
INSERT INTO llm_tenant (tenant, route) VALUES ('retail', 'account-1'), ('media', 'account-2')
ON CONFLICT DO NOTHING;
DELETE FROM llm_quota WHERE tenant IN ('retail', 'media');
INSERT INTO llm_quota (tenant, rpm) VALUES ('retail', 100), ('media', 100);

\! $DEMO at-once retail=10 media=10

SELECT tenant AS "Tenant", (result).target AS "Account", count(*) AS "Total",
	count((result).response) AS "Success", count((result).error) AS "Failed",
	round(100.0 * count((result).response) / count(*), 1) || '%' AS "Success rate",
	round(avg(seconds), 3) || ' s' AS "Avg time"
FROM demo.call
GROUP BY tenant, (result).target
ORDER BY (result).target;

SELECT account AS "Account", inference_region AS "Region", count(*) AS "Invocations",
	round(100.0 * count(*) / sum(count(*)) OVER (PARTITION BY account), 1) || '%' AS "Percentage"
FROM demo.invocation
GROUP BY account, inference_region
ORDER BY account, inference_region;

\pset tuples_only on
SELECT demo.expect('calls of ' || expected.tenant || ' that succeeded', count((result).response), 10)
FROM (VALUES ('retail'), ('media')) AS expected (tenant) LEFT JOIN demo.call USING (tenant)
GROUP BY expected.tenant ORDER BY 1;
SELECT demo.expect('calls that account ' || expected.account || ' served', count(i.status), 10)
FROM (VALUES ('111111111111'), ('222222222222')) AS expected (account)
	LEFT JOIN demo.invocation AS i ON i.account = expected.account AND i.status = 200
GROUP BY expected.account ORDER BY 1;
-- the request id of each call leads to the invocation, and to the account and Region that it used
SELECT demo.expect('calls that crossed to the other account or geography', count(*), 0)
FROM demo.call AS c JOIN demo.invocation AS i ON i.request_id = (c.result).provider_request_id
WHERE (c.tenant = 'retail') <> (i.account = '111111111111' AND i.inference_region LIKE 'us-%')
	OR (c.tenant = 'media') <> (i.account = '222222222222' AND i.inference_region LIKE 'eu-%');
SELECT demo.expect('calls found in the log by their request id', count(*), 20)
FROM demo.call AS c JOIN demo.invocation AS i ON i.request_id = (c.result).provider_request_id;
\pset tuples_only off
