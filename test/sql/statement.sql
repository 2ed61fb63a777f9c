-- One statement: identical calls are sent once, calls and cost are bounded, the report.
-- The mock provider counts its attempts per target, which llm_stat_target shows.
\set VERBOSITY terse
SET client_min_messages = notice;
SELECT llm_stat_reset();

INSERT INTO llm_model (model) VALUES ('m');
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('m', 'input', 1), ('m', 'output', 10);
INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
INSERT INTO llm_target (target, shard, model, model_id, max_tokens, parameters) VALUES
	('count', 'mock', 'm', 'x', 100, '{"reply": "ok", "input_tokens": 10, "output_tokens": 10}'),
	('fail', 'mock', 'm', 'x', 100, '{"script": ["bad_request"], "repeat": true, "reply": "ok"}');
INSERT INTO llm_route (route, target) VALUES ('count', 'count'), ('fail', 'fail');
INSERT INTO llm_tenant (tenant, route, extra_routes) VALUES ('t', 'count', '{fail}'), ('other', 'count', '{}');
INSERT INTO llm_quota (rpm) VALUES (1000000);

CREATE FUNCTION calls() RETURNS bigint LANGUAGE sql AS $$
	SELECT coalesce(sum(attempts), 0)::bigint FROM llm_stat_target $$;

-- identical calls of one statement are sent once
SELECT llm_invoke('t', 'x') FROM generate_series(1, 5);
SELECT calls();
SELECT response, source, cost FROM generate_series(1, 3) i, LATERAL llm_try_invoke('t', 'y' || i / 3) r;
SELECT calls();
-- in WHERE and in the list; every column of a row; several spellings of the same call
SELECT llm_invoke('t', 'where' || i) FROM generate_series(1, 3) i WHERE llm_invoke('t', 'where' || i) = 'ok';
SELECT calls();
SELECT (llm_try_invoke('t', 'columns')).* FROM generate_series(1, 1) \g /dev/null
SELECT calls();
SELECT llm_invoke('t', 'opt'), llm_invoke('t', 'opt', '{"max_tokens": 100}'), llm_invoke('t', 'opt', '{"timeout_ms": 9999}');
SELECT calls();
-- what differs is sent: parameters, tenant, and the same in another statement
SELECT llm_invoke('t', 'opt', '{"temperature": 0}'), llm_invoke('t', 'opt', '{"system": "s"}'), llm_invoke('other', 'opt');
SELECT calls();
-- concurrently
SELECT count(*), count(DISTINCT (result).source), min((result).source), max((result).source) FROM llm_invoke_many('t', array_fill('same'::text, '{100}'));
SELECT calls();
-- in functions, and over the statements of a block
DO $$ BEGIN FOR i IN 1..10 LOOP PERFORM llm_invoke('t', 'block'); END LOOP; END $$;
SELECT calls();
-- sample asks again; so does everything without a memo
SELECT llm_invoke('t', 'x', '{"sample": true}') FROM generate_series(1, 5);
SELECT calls();
SET pgllm.memo_size = 0;
SELECT llm_invoke('t', 'x') FROM generate_series(1, 5);
SELECT calls();
RESET pgllm.memo_size;
-- a memo that is too small forgets, and stays right
SET pgllm.memo_size = 1;
SELECT count(llm_invoke('t', 'small' || i % 2)) FROM generate_series(1, 4) i;
RESET pgllm.memo_size;
SELECT llm_stat_reset();

-- a failure is shared by what is evaluated at once, not by a loop that tries again later
SELECT count(*), count(DISTINCT (r).sqlstate) FROM (SELECT (llm_try_invoke('t', 'bad', '{"route": "fail"}')) AS r, (llm_try_invoke('t', 'bad', '{"route": "fail"}')) OFFSET 0) s;
SELECT calls();
DO $$
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN
			PERFORM llm_invoke('t', 'bad', '{"route": "fail"}');
		EXCEPTION WHEN SQLSTATE 'LM003' THEN
			PERFORM pg_sleep(0.15);
		END;
	END LOOP;
END $$;
SELECT calls();
SELECT llm_stat_reset();

-- at most so many calls, over functions and triggers; hits are free, the next statement is new
SET pgllm.statement_max_calls = 3;
SELECT llm_invoke('t', 'n' || i) FROM generate_series(1, 4) i;
SELECT calls();
SELECT count(llm_invoke('t', 'n' || i % 3)) FROM generate_series(1, 30) i;
SELECT calls();
CREATE FUNCTION ask(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN llm_invoke('t', 'nested' || i); END $$;
DO $$ BEGIN PERFORM ask(1); PERFORM ask(2); PERFORM llm_invoke('t', 'mine'); PERFORM ask(3); END $$;
SELECT calls();
CREATE TABLE doc (id int, answer text);
CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.answer := llm_invoke('t', 'doc' || NEW.id); RETURN NEW; END $$;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM llm_invoke('t', 'after' || NEW.id); RETURN NULL; END $$;
CREATE TRIGGER fill BEFORE INSERT ON doc FOR EACH ROW EXECUTE FUNCTION fill();
CREATE TRIGGER look AFTER INSERT ON doc FOR EACH ROW EXECUTE FUNCTION look();
INSERT INTO doc VALUES (1), (2);
SELECT calls(), (SELECT count(*) FROM doc);
INSERT INTO doc VALUES (3);
SELECT calls(), (SELECT count(*) FROM doc);
-- where failures are data, what was paid for is not lost
SELECT ord, (result).response, (result).sqlstate FROM llm_invoke_many('t', ARRAY['a', 'b', 'c', 'd', 'a']);
SELECT calls();
SELECT sqlstate FROM generate_series(1, 4) i, LATERAL llm_try_invoke('t', 'try' || i) r;
SET pgllm.statement_max_calls = 0;
SELECT llm_invoke('t', 'none');
SET pgllm.statement_max_calls = -1;
SELECT count(llm_invoke('t', 'many' || i)) FROM generate_series(1, 2000) i;
RESET pgllm.statement_max_calls;
SELECT count(llm_invoke('t', 'default' || i)) FROM generate_series(1, 1001) i;
SELECT llm_stat_reset();

-- triggers that run at COMMIT, all of them together
CREATE TABLE late (i int);
CREATE FUNCTION call_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM llm_invoke('t', 'late' || NEW.i); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION call_late();
SET pgllm.statement_max_calls = 3;
INSERT INTO late SELECT generate_series(1, 3);
INSERT INTO late SELECT generate_series(1, 4);
RESET pgllm.statement_max_calls;
DROP TABLE late;

-- at most so many dollars: worst case 10 + 100 * 10 = about 1010 to 1020 micro-USD a call, real cost 110
SET pgllm.statement_max_cost = 0.0012;
SELECT count(llm_invoke('t', 'c' || i)) FROM generate_series(1, 2) i;
SELECT count(llm_invoke('t', 'c' || i)) FROM generate_series(1, 3) i;
SELECT calls();
-- what calls in flight have reserved is waited for
SELECT count(*), count((result).response) FROM llm_invoke_many('t', ARRAY['p', 'q']);
SELECT (result).response, (result).sqlstate FROM llm_invoke_many('t', ARRAY['p', 'q', 'r']);
-- what was out when an error ended it counts as spent: two calls, not two in each round
INSERT INTO llm_target (target, shard, model, model_id, max_tokens, parameters) VALUES ('slow', 'mock', 'm', 'x', 100, '{"latency_ms": 3600000}');
INSERT INTO llm_route (route, target) VALUES ('slow', 'slow');
UPDATE llm_tenant SET extra_routes = extra_routes || '{slow}' WHERE tenant = 't';
SELECT llm_stat_reset();
SET pgllm.statement_max_cost = 0.0025;
DO $$
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN
			PERFORM llm_invoke_many('t', ARRAY['u' || i, 'v' || i, repeat('w', 17000000)], '{"route": "slow"}');
		EXCEPTION WHEN program_limit_exceeded THEN
		END;
	END LOOP;
END $$;
SELECT calls();
DELETE FROM llm_price WHERE component = 'output';
SELECT llm_invoke('t', 'unpriced');
RESET pgllm.statement_max_cost;

-- the report
INSERT INTO llm_price (model, component, usd_per_million) VALUES ('m', 'output', 10);
\set VERBOSITY default
SET pgllm.report = on;
SELECT count(llm_invoke('t', 'r' || i % 2)) FROM generate_series(1, 6) i;
SELECT 1;
DO $$ BEGIN PERFORM ask(1); PERFORM count(llm_invoke('t', 'r' || i)) FROM generate_series(1, 2) i; END $$;
DELETE FROM llm_price;
SELECT llm_invoke('t', 'without a price');
RESET pgllm.report;

DROP TABLE doc;
DROP FUNCTION calls(), ask(int), fill(), look();
DELETE FROM llm_quota;
DELETE FROM llm_tenant;
DELETE FROM llm_route;
DELETE FROM llm_route_policy;
DELETE FROM llm_target;
DELETE FROM llm_shard;
DELETE FROM llm_model;
