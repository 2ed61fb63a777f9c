-- prepare.sql — where the demos note what happened, and how they check it.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

CREATE SCHEMA IF NOT EXISTS demo;

-- What the callers saw: one row per call.
CREATE TABLE IF NOT EXISTS demo.call (
	backend int NOT NULL,
	tenant text NOT NULL,
	pid int NOT NULL DEFAULT pg_backend_pid(),
	seconds numeric(8, 4) NOT NULL,
	result llm_result NOT NULL
);

-- What the provider saw: its own log of invocations.
CREATE TABLE IF NOT EXISTS demo.invocation (
	account text,
	region text,
	model_id text,
	inference_region text,
	status int,
	request_id text
);

-- Names for one run of a demo.  A limit remembers its last minute, so each run takes fresh quota
-- domains; nobody else would want that.
CREATE SEQUENCE IF NOT EXISTS demo.run;

CREATE OR REPLACE FUNCTION demo.expect(what text, actual bigint, wanted bigint) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	IF actual IS DISTINCT FROM wanted THEN
		RAISE EXCEPTION '%: found %, must be %', what, actual, wanted;
	END IF;
	RETURN format('ok  %s: %s', what, actual);
END
$$;

CREATE OR REPLACE FUNCTION demo.expect(what text, holds boolean) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	IF holds IS NOT TRUE THEN
		RAISE EXCEPTION 'must hold: %', what;
	END IF;
	RETURN 'ok  ' || what;
END
$$;
