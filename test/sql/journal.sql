-- The journal: an answer that was paid for is not paid for again.  llm_stat_target counts what was sent.
\set VERBOSITY default
SET client_min_messages = warning;
SELECT llm_stat_reset();

INSERT INTO llm_model (model) VALUES ('m');
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('m', 'input', 1), ('m', 'output', 10);
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES
	('count', 'mock', 'm', 'x', '{"reply": "paid", "input_tokens": 10, "output_tokens": 10}'),
	('cut', 'mock', 'm', 'x', '{"script": ["length"], "repeat": true, "reply": "cut"}'),
	('fail', 'mock', 'm', 'x', '{"script": ["bad_request"], "repeat": true}');
INSERT INTO llm_route (route, target) VALUES ('count', 'count'), ('cut', 'cut'), ('fail', 'fail');
INSERT INTO llm_tenant (tenant, route, extra_routes, retention) VALUES
	('t', 'count', '{cut,fail}', 'response'), ('other', 'count', '{}', 'response'), ('private', 'count', '{}', 'hash'), ('silent', 'count', '{}', 'none');
INSERT INTO llm_quota (rpm) VALUES (1000000);
CREATE FUNCTION sent() RETURNS bigint LANGUAGE sql AS $$
	SELECT coalesce(sum(attempts), 0)::bigint FROM llm_stat_target $$;

-- off unless asked for, by the option or by the tenant
SELECT source FROM llm_try_invoke('t', 'a');
SELECT source FROM llm_try_invoke('t', 'a');
SELECT source, cost, call_id IS NOT NULL AS has_id FROM llm_try_invoke('t', 'a', '{"cache": true}');
SELECT response, source, cost, target, model, input_tokens, finish_reason, sqlstate FROM llm_try_invoke('t', 'a', '{"cache": true}');
SELECT sent();
UPDATE llm_tenant SET cache = true WHERE tenant = 't';
SELECT source FROM llm_try_invoke('t', 'a');
SELECT source FROM llm_try_invoke('t', 'a', '{"cache": false}');
SELECT source FROM llm_try_invoke('t', 'a', '{"sample": true}');
SELECT sent();

-- a ROLLBACK, a savepoint and a READ ONLY transaction take nothing back
BEGIN; SELECT source FROM llm_try_invoke('t', 'rollback'); ROLLBACK;
SELECT source FROM llm_try_invoke('t', 'rollback');
BEGIN; SAVEPOINT s; SELECT source FROM llm_try_invoke('t', 'savepoint'); ROLLBACK TO s;
SELECT source FROM llm_try_invoke('t', 'savepoint'); COMMIT;
BEGIN READ ONLY; SELECT source FROM llm_try_invoke('t', 'read only'); COMMIT;
SELECT source FROM llm_try_invoke('t', 'read only');
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) > 0 FROM llm_journal;
SELECT source FROM llm_try_invoke('t', 'old snapshot'); SELECT source FROM llm_try_invoke('t', 'old snapshot'); COMMIT;
SELECT sent();

-- what decides the answer is part of the key, and nothing else
SELECT source FROM llm_try_invoke('t', 'a', '{"timeout_ms": 5000, "max_wait_ms": 1, "allow_truncated": true}');
SELECT name, (SELECT source FROM llm_try_invoke('t', 'a', options)) FROM (VALUES
	('temperature 0', '{"temperature": 0}'::jsonb), ('top_p 0', '{"top_p": 0}'), ('system', '{"system": "s"}'),
	('stop', '{"stop": ["s"]}'), ('two stops', '{"stop": ["s", "t"]}'), ('one stop', '{"stop": ["st"]}'), ('max_tokens', '{"max_tokens": 5}')) AS v (name, options);
SELECT source FROM llm_try_invoke('other', 'a', '{"cache": true}');
UPDATE llm_target SET model_id = 'y' WHERE target = 'count';
SELECT source FROM llm_try_invoke('t', 'a');
SELECT source FROM llm_try_invoke('t', 'a');

-- failures are not kept, cut answers are and stay cut
SELECT sqlstate, source FROM llm_try_invoke('t', 'x', '{"route": "fail"}');
SELECT sqlstate, source FROM llm_try_invoke('t', 'x', '{"route": "fail"}');
SELECT sqlstate, source, response FROM llm_try_invoke('t', 'x', '{"route": "cut"}');
SELECT sqlstate, source, response FROM llm_try_invoke('t', 'x', '{"route": "cut"}');
SELECT sqlstate, source, response FROM llm_try_invoke('t', 'x', '{"route": "cut", "allow_truncated": true}');

-- concurrently, without the memo
SET pgllm.memo_size = 0;
SELECT (result).source, count(*) FROM llm_invoke_many('t', array_fill('same'::text, '{20}')) GROUP BY 1 ORDER BY 1;
RESET pgllm.memo_size;

-- retention
SELECT llm_invoke('private', 'a', '{"cache": true}');
SELECT llm_invoke('silent', 'a', '{"cache": true}');
UPDATE llm_tenant SET cache = true WHERE tenant = 'silent';
SELECT llm_invoke('private', 'hashed'), llm_invoke('silent', 'a');
SELECT llm_flush();
SELECT tenant, encode(prompt_sha256, 'hex') = encode(sha256('hashed'), 'hex') AS prompt, response_sha256 = sha256('paid') AS response
FROM llm_ledger WHERE tenant IN ('private', 'silent') ORDER BY 1;
SELECT tenant, count(*) FROM llm_journal GROUP BY 1 ORDER BY 1;

-- an answer that has expired is paid for again
UPDATE llm_journal SET expires_at = now() WHERE tenant = 'other';
SELECT source FROM llm_try_invoke('other', 'a', '{"cache": true}');
SELECT source FROM llm_try_invoke('other', 'a', '{"cache": true}');

-- what is there need not be paid: the estimate knows
SELECT prompts, distinct_prompts, cached, min_cost_usd < max_cost_usd AS less
FROM llm_estimate('t', $$SELECT unnest('{same,same,savepoint,new}'::text[])$$);
SELECT cached FROM llm_estimate('t', $$SELECT unnest('{same,same,savepoint,new}'::text[])$$, '{"cache": false}');
SELECT cached, min_cost_usd FROM llm_estimate('t', $$SELECT 'same'::text$$);

SELECT calls, memo_hits, journal_hits FROM llm_stat_tenant WHERE tenant = 't';

-- forget
SELECT llm_forget('t', 'same');
SELECT source FROM llm_try_invoke('t', 'same');
SELECT llm_forget('t') > 5 AS all_forgotten;
SELECT tenant, count(*) FROM llm_journal GROUP BY 1 ORDER BY 1;
SELECT source FROM llm_try_invoke('t', 'a');
SELECT llm_forget(NULL);
SELECT llm_forget('nobody');

SELECT count(*) AS forgotten FROM (SELECT llm_forget('t'), llm_forget('other')) f;
DROP FUNCTION sent();
DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route; DELETE FROM llm_route_policy;
DELETE FROM llm_target; DELETE FROM llm_shard; DELETE FROM llm_model;
