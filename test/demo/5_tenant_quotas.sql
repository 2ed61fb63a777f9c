-- Pattern 5: quota isolation between tenants.
--
-- Three tenants share one route.  A may call 3 times a minute, B and C 10 times.  All three send 10
-- calls at the same moment, from 30 backends: A gets 3 answers and 7 refusals, which come at once
-- and say when to try again; B and C do not notice.

\qecho
\qecho '== 5. Tenant quotas: 10 calls at once from each; tenant A 3 a minute, B and C 10 a minute'

INSERT INTO llm_tenant (tenant, route) VALUES ('A', 'standard'), ('B', 'standard'), ('C', 'standard')
ON CONFLICT DO NOTHING;

-- a new row is a new bucket
DELETE FROM llm_quota WHERE tenant IN ('A', 'B', 'C');
INSERT INTO llm_quota (tenant, rpm, window_kind) VALUES
	('A', 3, 'strict'),
	('B', 10, 'strict'),
	('C', 10, 'strict');

\! $DEMO at-once A=10 B=10 C=10

SELECT tenant AS "Tenant", (SELECT rpm FROM llm_quota AS q WHERE q.tenant = c.tenant) AS "Limit",
	round(100.0 * count((result).response) / count(*)) || '%' AS "Success rate",
	count(*) AS "Total", count((result).response) AS "Success",
	count(*) FILTER (WHERE (result).sqlstate = 'LM002') AS "Refused (LM002)",
	round(avg(seconds) FILTER (WHERE (result).error IS NULL), 3) || ' s' AS "Avg time",
	round(1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds)
		FILTER (WHERE (result).sqlstate = 'LM002')::numeric, 2) || ' ms' AS "Median refusal"
FROM demo.call AS c
GROUP BY tenant
ORDER BY tenant;

SELECT (result).sqlstate AS "SQLSTATE", (result).error AS "What a refused caller reads"
FROM demo.call WHERE (result).error IS NOT NULL LIMIT 1;

\pset tuples_only on
SELECT demo.expect('answers for tenant ' || tenant, count((result).response), CASE tenant WHEN 'A' THEN 3 ELSE 10 END)
FROM demo.call GROUP BY tenant ORDER BY tenant;
SELECT demo.expect('refusals of tenant A with SQLSTATE LM002', count(*), 7)
FROM demo.call WHERE tenant = 'A' AND (result).sqlstate = 'LM002';
SELECT demo.expect('failures of tenants B and C', count((result).error), 0)
FROM demo.call WHERE tenant IN ('B', 'C');
SELECT demo.expect('requests that reached the provider', count(*), 23) FROM demo.invocation;
\pset tuples_only off
