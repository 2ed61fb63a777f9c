-- EXPLAIN of many calls: what is going to happen, and what has.  How full the window was depends on the moment, and is masked.
\set VERBOSITY terse
SET client_min_messages = warning;
INSERT INTO llm_model (model) VALUES ('m'), ('free');
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('m', 'input', 1), ('m', 'output', 10);
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES
	('good', 'mock', 'm', 'x', '{"echo": true, "input_tokens": 10, "output_tokens": 5}'),
	('bad', 'mock', 'm', 'x', '{"script": ["bad_request"], "repeat": true}'),
	('down', 'mock', 'm', 'x', '{"script": ["quota_exhausted"], "repeat": true}'),
	('again', 'mock', 'm', 'x', '{"script": ["unavailable", "ok"], "repeat": true, "echo": true, "input_tokens": 10, "output_tokens": 5}'),
	('free', 'mock', 'free', 'x', '{"echo": true, "input_tokens": 10, "output_tokens": 5}');
INSERT INTO llm_route (route, target) VALUES ('good', 'good'), ('bad', 'bad'), ('again', 'again'), ('free', 'free');
INSERT INTO llm_route (route, target, tier) VALUES ('fallback', 'down', 0), ('fallback', 'good', 1);
INSERT INTO llm_tenant (tenant, route, extra_routes, retention) VALUES ('e', 'good', '{bad,again,free,fallback}', 'response');
INSERT INTO llm_quota (rpm) VALUES (1000000);
CREATE TABLE docs AS SELECT i AS id, 'doc ' || i AS body FROM generate_series(1, 1000) i;
ANALYZE docs;
CREATE VIEW few AS SELECT * FROM docs WHERE id <= 8;

CREATE FUNCTION explain(query text, options text DEFAULT 'ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF, BUFFERS OFF') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, query) LOOP
		line := regexp_replace(line, 'cost=\S+ (rows=\d+) width=\d+', '\1');
		line := regexp_replace(line, 'actual rows=(\d+)\.00', 'actual rows=\1');
		RETURN NEXT regexp_replace(line, '(Peak in Flight:|Rows Ahead:|Memory:|quota=|model=|Waited:) *[\d.]+', '\1 N', 'g');
	END LOOP;
END $$;
CREATE FUNCTION attempts() RETURNS bigint LANGUAGE sql AS $$ SELECT coalesce(sum(attempts), 0)::bigint FROM llm_stat_target $$;
CREATE FUNCTION properties(query text, options text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
	EXECUTE format('EXPLAIN (%s, FORMAT JSON) %s', options, query) INTO plan;
	RETURN plan -> 0 -> 'Plan';
END $$;
SELECT llm_stat_reset();

-- the plan: how many calls there may be, and none is made
SELECT explain($$SELECT llm_invoke('e', body), (llm_try_invoke('e', 'again ' || body)).response FROM docs$$, 'COSTS');
SELECT explain($$SELECT id FROM docs WHERE llm_invoke('e', body) = 'yes'$$, 'COSTS');
SELECT explain($$SELECT id FROM docs WHERE id <= 600 AND llm_invoke('e', body) IN ('yes', 'maybe') AND NOT llm_invoke('e', 'second ' || body) < 'x'$$, 'COSTS');
SELECT explain($$SELECT id FROM docs WHERE llm_invoke('e', body) > 'a' OR llm_invoke('e', body) IS NULL$$, 'COSTS');
SELECT explain($$SELECT llm_invoke('e', body) FROM docs ORDER BY id LIMIT 5$$, 'COSTS');
SELECT explain($$SELECT llm_invoke('e', body) FROM docs$$, 'COSTS OFF');
SELECT properties($$SELECT llm_invoke('e', body) FROM docs$$, 'COSTS') - '{Startup Cost,Total Cost,Plan Width,Plans,Async Capable,Parallel Aware,Disabled}'::text[];
SELECT attempts();

-- what happened: calls, and what they cost
SELECT explain($$SELECT llm_invoke('e', body) FROM few$$);
SELECT attempts();
-- identical ones; then from the journal
SELECT explain($$SELECT llm_invoke('e', 'twice ' || id / 5) FROM few$$);
SELECT explain($$SELECT llm_invoke('e', body, '{"cache": true}') FROM few$$);
SELECT explain($$SELECT llm_invoke('e', body, '{"cache": true}') FROM few$$);
-- another try at the same target; another target
SELECT explain($$SELECT llm_invoke('e', body, '{"route": "again"}') FROM few WHERE id = 1$$);
SELECT explain($$SELECT llm_invoke('e', body, '{"route": "fallback"}') FROM few WHERE id = 1$$);
-- failures as data: what the provider refuses costs nothing
SELECT explain($$SELECT (llm_try_invoke('e', body, CASE WHEN id % 2 = 0 THEN '{"route": "bad"}' ELSE '{}' END::jsonb)).sqlstate FROM few$$);
-- no price
SELECT explain($$SELECT llm_invoke('e', body, '{"route": "free"}') FROM few$$);
-- not called
SELECT explain($$SELECT CASE WHEN id > 5 THEN llm_invoke('e', body) END, llm_invoke('e', CASE WHEN id > 2 THEN 'n' || body END) FROM few$$);
SELECT explain($$SELECT id FROM few WHERE llm_invoke('e', 'w' || body) > 'wdoc 4'$$);
SELECT explain($$SELECT llm_invoke('e', body) FROM docs LIMIT 3$$);
-- with times
SELECT explain($$SELECT llm_invoke('e', body) FROM few$$, 'ANALYZE, TIMING ON, SUMMARY OFF, COSTS OFF, BUFFERS OFF') AS line OFFSET 4 LIMIT 1;
-- below another node; rows beyond what the statement may call are no calls
SELECT explain($$INSERT INTO docs SELECT id, llm_invoke('e', 'i' || body) FROM few$$);
DELETE FROM docs WHERE body LIKE 'i%';
SET pgllm.statement_max_calls = 3;
SELECT explain($$SELECT (llm_try_invoke('e', body)).sqlstate FROM few$$);
RESET pgllm.statement_max_calls;

-- the same as properties
SELECT key, CASE WHEN key ~ '^Peak|Time$|^Waited' THEN to_jsonb(value::numeric >= 0) ELSE value END AS value
FROM jsonb_each(properties($$SELECT llm_invoke('e', CASE WHEN id > 1 THEN body END, CASE WHEN id = 4 THEN '{"route": "free"}' ELSE '{}' END::jsonb),
	CASE WHEN id > 6 THEN (llm_try_invoke('e', body, '{"route": "bad"}')).sqlstate END FROM few$$, 'ANALYZE, SUMMARY OFF, COSTS OFF, BUFFERS OFF'))
WHERE key NOT LIKE 'Actual %' AND key NOT IN ('Plans', 'Async Capable', 'Parallel Aware', 'Disabled')
ORDER BY key COLLATE "C";

DROP VIEW few;
DROP TABLE docs;
DROP FUNCTION explain(text, text), properties(text, text), attempts();
SELECT llm_forget('e') > 0 AS forgotten;
DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
