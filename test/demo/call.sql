-- call.sql — what each of the concurrent backends does: read the configuration, as any session has
-- that made a call before; wait for the starting gun (an advisory lock that demo.py holds until all
-- are there); make one call; note what came back.
--
-- psql variables: tenant, backend (a number), gun (key of the lock)

\set ON_ERROR_STOP on
SELECT count(*) FROM llm_explain(:'tenant', 'Say hello') \g /dev/null
SELECT pg_advisory_lock_shared(:gun) \g /dev/null

SELECT clock_timestamp() AS started \gset
SELECT quote_literal(r::text) AS result, clock_timestamp() AS ended
FROM llm_try_invoke(:'tenant', 'Say hello to backend ' || :backend) AS r \gset

INSERT INTO demo.call (backend, tenant, seconds, result)
VALUES (:backend, :'tenant', extract(epoch FROM :'ended'::timestamptz - :'started'), :result);
