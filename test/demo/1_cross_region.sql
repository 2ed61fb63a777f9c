-- Pattern 1: cross-Region inference.
--
-- The model id of the target is an inference profile of a geography ("us."): the call goes to
-- us-east-1, and AWS decides in which Region of the geography it is worked on.  The reply does not
-- say where; the provider's log of invocations does.

\qecho
\qecho '== 1. Cross-Region inference: 10 calls at once to one us. profile through us-east-1'

INSERT INTO llm_target (target, shard, model, model_id) VALUES
	('cross-region', 'account-1-us-east-1', 'claude-haiku-4-5',
		'us.anthropic.claude-haiku-4-5-20251001-v1:0')
ON CONFLICT DO NOTHING;
INSERT INTO llm_route (route, target) VALUES ('cross-region', 'cross-region') ON CONFLICT DO NOTHING;

-- geographies: this tenant's prompts must not leave the US, whatever its route may say one day
INSERT INTO llm_tenant (tenant, route, geographies) VALUES ('newsroom', 'cross-region', '{us}')
ON CONFLICT DO NOTHING;
DELETE FROM llm_quota WHERE tenant = 'newsroom';
INSERT INTO llm_quota (tenant, rpm) VALUES ('newsroom', 100);

\! $DEMO at-once newsroom=10

SELECT inference_region AS "Region", count(*) AS "Invocations",
	round(100.0 * count(*) / sum(count(*)) OVER (), 1) || '%' AS "Percentage"
FROM demo.invocation
WHERE status = 200
GROUP BY inference_region
ORDER BY inference_region;

\pset tuples_only on
SELECT demo.expect('calls that succeeded', count(*), 10)
FROM demo.call WHERE (result).response IS NOT NULL;
SELECT demo.expect('invocations in the log', count(*), 10) FROM demo.invocation WHERE status = 200;
SELECT demo.expect('invocations outside the us Regions', count(*), 0)
FROM demo.invocation WHERE inference_region NOT LIKE 'us-%';
SELECT demo.expect('sent to another Region than us-east-1', count(*), 0)
FROM demo.invocation WHERE region <> 'us-east-1';
SELECT demo.expect('spread over more than one Region', count(DISTINCT inference_region) > 1)
FROM demo.invocation;
\pset tuples_only off
