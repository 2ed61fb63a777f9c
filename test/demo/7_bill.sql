-- The bill: everything that was sent is in the ledger, whatever became of the transaction; what was
-- paid for once is not paid for again; and a budget is a bound, not a report.
--
-- A job of 20 rows fails at its last row, and all it wrote is rolled back.  The second run finds the
-- 20 answers in the journal, and sends nothing.  Then a tenant with a budget of a tenth of a cent a
-- day asks for more than that buys.

SET client_min_messages = warning;
SELECT nextval('demo.run') AS run \gset

\qecho
\qecho '== 7. The bill: a job that fails at its last row is paid for once; a budget is never exceeded'

\! $DEMO simulator POST /reset

INSERT INTO llm_route (route, tier, target)
SELECT 'bill', 0, target FROM llm_target WHERE target = 'label-haiku' ON CONFLICT DO NOTHING;
INSERT INTO llm_tenant (tenant, route, retention, cache) VALUES ('job-' || :run, 'bill', 'response', true);
INSERT INTO llm_tenant (tenant, route) VALUES ('spender-' || :run, 'bill');
INSERT INTO llm_quota (tenant, rpm) VALUES ('job-' || :run, 100000);
INSERT INTO llm_quota (tenant, rpm, budget_usd, budget_period) VALUES ('spender-' || :run, 100000, 0.001, 'day');

DROP TABLE IF EXISTS demo.note;
CREATE TABLE demo.note (id int PRIMARY KEY, body text NOT NULL, summary text);
INSERT INTO demo.note SELECT row_number() OVER (ORDER BY name), description FROM package ORDER BY name LIMIT 20;
CREATE OR REPLACE FUNCTION demo.summarise(tenant text, fails_at int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE demo.note SET summary = llm_invoke(tenant, 'Summarise: ' || body, '{"max_tokens": 500}')
		|| left((1 / (id - fails_at))::text, 0);
EXCEPTION WHEN division_by_zero THEN
	NULL;	-- all rows are as they were
END
$$;

SELECT demo.summarise('job-' || :run, 20) \g /dev/null
SELECT count(*) AS rows_after_failure FROM demo.note WHERE summary IS NOT NULL \gset
\! $DEMO load-log
SELECT count(*) AS sent_by_failure FROM demo.invocation \gset
SELECT demo.summarise('job-' || :run, 0) \g /dev/null
SELECT count(*) AS rows_after_success FROM demo.note WHERE summary IS NOT NULL \gset
\! $DEMO load-log
SELECT count(*) AS sent_in_all FROM demo.invocation \gset

SELECT 'first, fails' AS "Run", :rows_after_failure AS "Rows written", :sent_by_failure AS "Requests at the provider"
UNION ALL SELECT 'second', :rows_after_success, :sent_in_all - :sent_by_failure;

CREATE TEMP TABLE spent AS
SELECT (r.result).* FROM llm_invoke_many('spender-' || :run,
	ARRAY(SELECT 'Summarise: ' || description FROM package ORDER BY name LIMIT 40), '{"max_tokens": 16, "allow_truncated": true}') AS r;
\! $DEMO load-log

SELECT llm_flush() \g /dev/null
SELECT tenant AS "Tenant", calls AS "Calls", refused AS "Refused", input_tokens AS "Tokens in",
	output_tokens AS "Tokens out", round(cost_usd, 6) AS "US$"
FROM llm_usage_by_tenant WHERE tenant IN ('job-' || :run, 'spender-' || :run) ORDER BY tenant;
SELECT error AS "What a caller without budget reads" FROM spent WHERE sqlstate = 'LM011' LIMIT 1;

\pset tuples_only on
SELECT demo.expect('rows written by the run that failed', :rows_after_failure, 0);
SELECT demo.expect('rows written by the second run', :rows_after_success, 20);
SELECT demo.expect('requests at the provider for both', :sent_in_all, 20);
SELECT demo.expect('the budget of 0.001 US$ was used and not exceeded', spent_usd BETWEEN 0.0005 AND 0.001 AND reserved_usd = 0)
FROM llm_budget JOIN llm_quota USING (quota_id) WHERE tenant = 'spender-' || :run;
SELECT demo.expect('calls refused with SQLSTATE LM011', count(*) > 0) FROM spent WHERE sqlstate = 'LM011';
SELECT demo.expect('requests in the provider''s log that the ledger does not know', count(*), 0)
FROM demo.invocation AS i WHERE NOT EXISTS (SELECT FROM llm_ledger AS l WHERE l.provider_request_id = i.request_id);
SELECT demo.expect('attempts in the ledger that the provider does not know', count(*), 0)
FROM llm_ledger AS l WHERE tenant IN ('job-' || :run, 'spender-' || :run) AND attempt > 0
	AND NOT EXISTS (SELECT FROM demo.invocation AS i WHERE i.request_id = l.provider_request_id);
\pset tuples_only off
