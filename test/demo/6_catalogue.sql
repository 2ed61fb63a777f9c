-- The main job: put a label on every package of this machine, while the provider is in trouble.
--
-- The primary's account grants far fewer calls a minute than the job needs, so it throttles; and the
-- fallback has a bad moment with errors and broken connections.  Each batch is one statement with
-- many calls in flight, and is committed on its own: an interrupted job goes on where it stopped.
-- (The simulator picks a label by the words it shares with the description; a model does better.)

SET client_min_messages = warning;
SELECT nextval('demo.run') AS run, array_to_string(labels, ', ') AS label_list, labels
FROM (VALUES ('{library,development,documentation,utility,network,security,graphics,language,kernel,other}'::text[]))
	AS known (labels) \gset

\qecho
\qecho '== 6. A job on real rows: label every package, under throttling, errors and resets'

\! $DEMO simulator POST /reset
\! $DEMO simulator PATCH /config '{"quotas": [{"account": "111111111111", "model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "rpm": 40}]}'
\! $DEMO simulator POST /faults '{"match": {"account": "222222222222"}, "faults": [{"kind": "InternalServer", "times": 2}, {"kind": "reset_before_headers", "times": 2}]}'

INSERT INTO llm_target (target, shard, model, model_id, max_tokens, quota_domain) VALUES
	('label-sonnet', 'account-1-us-east-1', 'claude-sonnet-4-5',
		'us.anthropic.claude-sonnet-4-5-20250929-v1:0', 16, 'label sonnet ' || :run),
	('label-haiku', 'account-2-us-west-2', 'claude-haiku-4-5',
		'us.anthropic.claude-haiku-4-5-20251001-v1:0', 16, 'label haiku ' || :run),
	('label-nova', 'account-3-us-west-2', 'nova-lite', 'us.amazon.nova-lite-v1:0', 16, 'label nova ' || :run)
ON CONFLICT (target) DO UPDATE SET quota_domain = excluded.quota_domain;
INSERT INTO llm_route (route, tier, target) VALUES
	('labels', 0, 'label-sonnet'),
	('labels', 1, 'label-haiku'),
	('labels', 2, 'label-nova')
ON CONFLICT DO NOTHING;
INSERT INTO llm_tenant (tenant, route) VALUES ('catalogue', 'labels') ON CONFLICT DO NOTHING;
DELETE FROM llm_quota WHERE tenant = 'catalogue';
INSERT INTO llm_quota (tenant, rpm, tpm) VALUES ('catalogue', 100000, 100000000);

DROP TABLE IF EXISTS package_label;
CREATE TABLE package_label (
	name text PRIMARY KEY REFERENCES package,
	label text,
	target text,
	result llm_result NOT NULL
);

-- the job
CREATE OR REPLACE PROCEDURE demo.label_packages(labels text[], batch_size int)
LANGUAGE plpgsql AS $$
DECLARE
	names text[];
	prompts text[];
	done int;
	total int;
BEGIN
	SELECT count(*) INTO total FROM package;
	LOOP
		SELECT array_agg(name), array_agg(prompt) INTO names, prompts
		FROM (
			SELECT p.name, format(E'Answer with one label.\nLabels: %s\n\nPackage %s\n%s',
				array_to_string(labels, ', '), p.name, p.description) AS prompt
			FROM package AS p
			WHERE NOT EXISTS (SELECT FROM package_label AS l WHERE l.name = p.name)
			ORDER BY p.name
			LIMIT batch_size) AS batch;
		EXIT WHEN names IS NULL;

		INSERT INTO package_label
		SELECT names[ord], (result).response, (result).target, result
		FROM llm_invoke_many('catalogue', prompts, '{"temperature": 0}');
		COMMIT;

		SELECT count(*) INTO done FROM package_label;
		RAISE NOTICE '% of % packages', done, total;
	END LOOP;
END
$$;

SELECT llm_stat_reset() \g /dev/null
SET client_min_messages = notice;
-- CALL is one statement, and a machine may have more packages than the default allows
SET pgllm.statement_max_calls = -1;
SELECT clock_timestamp() AS started \gset
CALL demo.label_packages(:'labels', 100);
SELECT clock_timestamp() AS ended \gset
\! $DEMO load-log
\! $DEMO simulator PATCH /config '{"quotas": []}'
\! $DEMO simulator DELETE /faults

SELECT target AS "Target", count(*) AS "Rows", sum((result).attempts) AS "Attempts",
	sum((result).input_tokens) AS "Tokens in", sum((result).output_tokens) AS "Tokens out",
	round(sum((result).cost), 4) AS "US$", round(avg((result).total_ms)::numeric) || ' ms' AS "Avg time"
FROM package_label
GROUP BY target
ORDER BY min((result).fallback_depth);

SELECT target AS "Target", attempts AS "Attempts", successes AS "Successes", throttled AS "Throttled",
	failures AS "Failures"
FROM llm_stat_target WHERE target LIKE 'label-%' ORDER BY target DESC;

SELECT (SELECT count(*) FROM package_label) AS "Rows", attempts AS "Calls sent", retries AS "Retries",
	fallbacks AS "Fallbacks", input_tokens + output_tokens AS "Tokens", round(seconds, 2) AS "Seconds",
	round(calls / seconds) AS "Rows/s"
FROM llm_stat_tenant,
	extract(epoch FROM :'ended'::timestamptz - :'started'::timestamptz) AS seconds
WHERE tenant = 'catalogue';

SELECT label AS "Label", count(*) AS "Packages", min(name) AS "For example"
FROM package_label GROUP BY label ORDER BY count(*) DESC;

\pset tuples_only on
SELECT demo.expect('packages without one of the labels', count(*), 0)
FROM package LEFT JOIN package_label USING (name)
WHERE label IS NULL OR NOT label = ANY (:'labels');
SELECT demo.expect('rows that failed', count((result).error), 0) FROM package_label;
SELECT demo.expect('rows whose answer is not in the provider''s log', count(*), 0)
FROM package_label AS l
WHERE NOT EXISTS (SELECT FROM demo.invocation AS i
	WHERE i.request_id = (l.result).provider_request_id AND i.status = 200);
SELECT demo.expect('the primary''s account throttled', count(*) > 0)
FROM demo.invocation WHERE status = 429 AND account = '111111111111';
SELECT demo.expect('the primary served what its account grants, and no more', count(*) BETWEEN 1 AND 40)
FROM package_label WHERE target = 'label-sonnet';
SELECT demo.expect('the fallbacks served the rest', count(*) > 0)
FROM package_label WHERE target <> 'label-sonnet';
\pset tuples_only off
