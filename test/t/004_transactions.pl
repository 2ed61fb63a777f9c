# 004_transactions.pl - calls inside everything that PostgreSQL wraps around them
#
# Transactions and their rollbacks, cursors, roles and SECURITY DEFINER, prepared statements and
# changes of the configuration, DROP and CREATE EXTENSION under a session that has it cached,
# parallel query, a hot standby, dump and restore, and the statements in which calls are refused.
# What counts is: how many attempts left (llm_stat_target survives any ROLLBACK), which answer came,
# and that nothing stays held.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pgllm_cluster(
	'transactions',
	conf => "max_wal_senders = 5\nwal_level = replica\n",
	init => { allows_streaming => 1 });
my $session = new_session($node);
my $other = new_session($node);

sub attempts
{
	my ($target) = @_;

	return $node->safe_psql('postgres',
		"SELECT coalesce(sum(attempts), 0) FROM llm_stat_target WHERE target = '$target'");
}

sub invoke { return "llm_invoke('$_[0]', 'hello')"; }

setup_mock($node, 'acme', a => { parameters => { reply => 'old' } });
setup_mock($node, 'broken', a => { parameters => { script => ['bad_request'], repeat => \1 } });
setup_mock($node, 'hanging', a => { parameters => { script => ['hang'], repeat => \1 } });

# ---- transactions ------------------------------------------------------------------------------

$session->value("BEGIN; SELECT " . invoke('acme') . "; ROLLBACK");
is(attempts('acme_a'), 1, 'ROLLBACK does not take the count back');

is($session->query('SELECT ' . invoke('acme') . ', 1 / i FROM generate_series(0, 0) AS i')->{sqlstate},
	'22012', 'an error of the same statement is the error of the statement');
is(attempts('acme_a'), 2, '... and the call before it counts');
nothing_held($node, 'nothing is held after an ERROR');

$session->value(q{
CREATE FUNCTION caught(tenant text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN llm_invoke(tenant, 'hello');
EXCEPTION
	WHEN SQLSTATE 'LM003' THEN RETURN 'caught LM003';
	WHEN query_canceled THEN RETURN 'caught cancel';
END $$});
is($session->value(q{BEGIN; SELECT caught('broken'); SELECT caught('acme'); COMMIT}),
	"caught LM003\nold", 'a failed call is caught by PL/pgSQL, the next one works');
nothing_held($node, 'nothing is held after a caught failure');

$session->value('BEGIN');
$session->start(q{SELECT caught('hanging')});
wait_for($node, q{SELECT count(*) > 0 FROM llm_lease WHERE target = 'hanging_a'});
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $session->pid . ')');
is($session->finish->{out}, 'caught cancel', 'a cancelled call is caught by PL/pgSQL');
nothing_held($node, 'nothing is held after a caught cancel, in the middle of the transaction');
is($session->value('SELECT ' . invoke('acme') . '; COMMIT'),
	'old', 'the next call of the same transaction works');

is($session->query(q{BEGIN; SELECT llm_invoke('broken', 'x')})->{sqlstate},
	'LM003', 'llm_invoke raises');
is($session->query('SELECT ' . invoke('acme'))->{sqlstate}, '25P02', 'the transaction is aborted');
$session->value('ROLLBACK');

is( $session->value(
		q{BEGIN; SAVEPOINT s; SELECT llm_invoke('acme', 'x'); ROLLBACK TO s;
		  SELECT llm_invoke('acme', 'x'); RELEASE s; COMMIT}),
	"old\nold",
	'calls on both sides of ROLLBACK TO SAVEPOINT');
$session->query(q{BEGIN; SAVEPOINT s; SELECT llm_invoke('broken', 'x')});
is($session->value(q{ROLLBACK TO s; SELECT llm_invoke('acme', 'x'); COMMIT}),
	'old', 'ROLLBACK TO SAVEPOINT after a failed call');

# A batch that fails in the middle of its rows: the calls that fly are dropped with it.
$session->start(q{SELECT count(*) FROM llm_invoke_many('hanging', ARRAY['a', 'b', 'c'])});
wait_for($node, q{SELECT count(*) = 3 FROM llm_lease WHERE target = 'hanging_a'});
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $session->pid . ')');
is($session->finish->{sqlstate}, '57014', 'a batch is cancelled');
nothing_held($node, 'nothing is held after a cancelled batch');

is($session->value(q{BEGIN READ ONLY; SELECT llm_invoke('acme', 'x'); COMMIT}),
	'old', 'a call in a READ ONLY transaction');
is( $session->value(
		q{BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SELECT llm_invoke('acme', 'x'); COMMIT}),
	'old',
	'... and in a SERIALIZABLE one');

# ---- cursors -----------------------------------------------------------------------------------

$node->safe_psql('postgres', 'SELECT llm_stat_reset()');
$session->value(q{BEGIN; DECLARE c CURSOR FOR SELECT i, llm_invoke('acme', 'row ' || i)
	FROM generate_series(1, 10) AS i});
is(attempts('acme_a'), 0, 'DECLARE CURSOR calls nothing');
is($session->value('FETCH 3 FROM c'), "1|old\n2|old\n3|old", 'FETCH gives its rows');
is(attempts('acme_a'), 3, 'FETCH 3 makes three calls');
$session->value('CLOSE c; COMMIT');
is(attempts('acme_a'), 3, 'CLOSE makes no more');
$session->value(q{BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT llm_invoke('acme', 'held ' || i)
	FROM generate_series(1, 4) AS i; COMMIT});
is(attempts('acme_a'), 7, 'a WITH HOLD cursor makes its calls at COMMIT');
is($session->value('FETCH ALL FROM c; CLOSE c'), join("\n", ('old') x 4), '... and keeps the answers');
is(attempts('acme_a'), 7, 'FETCH from it makes none');

# ---- DISCARD ALL -------------------------------------------------------------------------------

$session->value('DISCARD ALL');
is($session->value('SELECT ' . invoke('acme')), 'old', 'a call after DISCARD ALL');
$session->value('DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP');
is($session->value('SELECT ' . invoke('acme')), 'old', 'a call after the other DISCARDs');

# ---- roles -------------------------------------------------------------------------------------

$node->safe_psql('postgres', q{
CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE keeper;
GRANT CREATE ON SCHEMA public TO keeper;
SELECT llm_grant_tenant('acme', 'keeper');
SET ROLE keeper;
CREATE FUNCTION ask(prompt text) RETURNS text LANGUAGE sql SECURITY DEFINER
	SET search_path = pg_catalog, public, pg_temp
	AS $$ SELECT llm_invoke('acme', prompt) $$;
GRANT EXECUTE ON FUNCTION ask(text) TO alice, bob;
RESET ROLE;
UPDATE llm_quota SET role = 'alice', rpm = 3, window_kind = 'strict' WHERE tenant = 'acme';
});
my $alice = new_session($node, user => 'alice');
is($alice->query('SELECT ' . invoke('acme'))->{sqlstate},
	'42501', 'a role without EXECUTE cannot call');
$node->safe_psql('postgres',
	'GRANT EXECUTE ON FUNCTION llm_invoke(text, text, jsonb) TO alice, bob');
my $result = $alice->query('SELECT ' . invoke('acme'));
is($result->{sqlstate}, '42501', 'a role without the tenant cannot call for it');
like($result->{message}, qr/role "alice" may not call for tenant "acme"/, '... and is told so');
is($alice->value(q{SELECT ask('x' || i) FROM generate_series(1, 3) AS i}),
	"old\nold\nold", 'a SECURITY DEFINER function lends the tenant of its owner');
$result = $alice->query(q{SELECT ask('x')});
is($result->{sqlstate}, 'LM002', '... but the quota is that of the caller');
like($result->{detail}, qr/retry_after_ms=\d+/, '... and DETAIL tells when');

my $bob = new_session($node, user => 'bob');
$result = $bob->query(q{SELECT ask('x')});
is($result->{sqlstate}, '42501', 'a role without any quota is refused');
like($result->{hint}, qr/INSERT INTO llm_quota .*'bob'/, '... with the row that would help');
$node->safe_psql('postgres', 'ALTER ROLE bob SET pgllm.require_quota = off');
$bob->quit;
$bob = new_session($node, user => 'bob');
is($bob->value(q{SELECT ask('x')}), 'old', 'pgllm.require_quota = off lets it pass');
$bob->quit;
$alice->quit;

is($session->query(q{SET ROLE alice; SELECT ask('x')})->{sqlstate},
	'LM002', 'SET ROLE binds by the quota of that role');
is($session->query(q{SELECT llm_invoke('acme', 'x')})->{sqlstate},
	'42501', '... and by its tenants');
$session->value('RESET ROLE');
$node->safe_psql('postgres', q{GRANT keeper TO alice});
is($session->query(q{SET ROLE alice; SELECT llm_invoke('acme', 'x')})->{sqlstate},
	'LM002', 'membership in a role gives its tenants, at once');
$session->value('RESET ROLE');
$node->safe_psql('postgres',
	q{UPDATE llm_quota SET role = NULL, rpm = 1000000, window_kind = 'bucket' WHERE tenant = 'acme'});

# ---- prepared statements and changes of the configuration ---------------------------------------

sub set_reply
{
	return sprintf q{UPDATE llm_target SET parameters = '{"reply": "%s"}' WHERE target = 'acme_a'},
	  $_[0];
}

$session->value('PREPARE p AS SELECT ' . invoke('acme'));
$node->safe_psql('postgres', 'SELECT llm_stat_reset()');
is($session->value('EXPLAIN (COSTS OFF) EXECUTE p') =~ /Result/, 1, 'EXPLAIN of a call');
$session->value(q{CREATE VIEW v AS SELECT llm_invoke('acme', 'x')});
is(attempts('acme_a'), 0, 'PREPARE, EXPLAIN and CREATE VIEW call nothing');
is($session->value('EXECUTE p'), 'old', 'a prepared call');
$other->value('BEGIN; ' . set_reply('new'));
is($session->value('EXECUTE p'), 'old', 'a change is not seen before its COMMIT');
is($other->value('SELECT ' . invoke('acme')), 'new', '... but by the session that makes it');
$other->value('COMMIT');
is($session->value('EXECUTE p'), 'new', '... and by all after it');
is($session->value('SELECT * FROM v'), 'new', '... also through a view');

$other->value('BEGIN; ' . set_reply('never'));
is($other->value('SELECT ' . invoke('acme')), 'never', 'an uncommitted change');
$other->value('ROLLBACK');
is($other->value('SELECT ' . invoke('acme')), 'new', '... is forgotten at ROLLBACK');
$other->value('BEGIN; SAVEPOINT s; ' . set_reply('never') . '; SELECT ' . invoke('acme'));
is($other->value('ROLLBACK TO s; SELECT ' . invoke('acme') . '; COMMIT'),
	'new', '... and at ROLLBACK TO SAVEPOINT');

$session->value('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$other->value(set_reply('newest'));
is($session->value('EXECUTE p'),
	'newest', 'REPEATABLE READ sees the newest configuration: it is no data');
is($session->value('COMMIT; EXECUTE p'), 'newest', '... and so do later transactions');

# A change between planning and the end of a call: the call in flight keeps what it began with.
$node->safe_psql('postgres',
	q{UPDATE llm_target SET parameters = '{"reply": "slow", "latency_ms": 1500}' WHERE target = 'acme_a'});
$session->start('EXECUTE p');
wait_for($node, q{SELECT count(*) > 0 FROM llm_lease WHERE target = 'acme_a'});
$other->value(set_reply('changed'));
$other->value('DELETE FROM llm_quota; DELETE FROM llm_tenant; DELETE FROM llm_route;'
	  . ' DELETE FROM llm_route_policy; DELETE FROM llm_target; DELETE FROM llm_shard');
is($session->finish->{out}, 'slow', 'a call in flight survives the deletion of its configuration');
is($session->query('EXECUTE p')->{sqlstate}, '42704', '... the next one does not');
nothing_held($node, 'nothing is held of the deleted configuration');
clear_config($node);
setup_mock($node, 'acme', a => { parameters => { reply => 'back' } });
is($session->value('EXECUTE p'), 'back', 'the same configuration made anew');

# ---- DROP EXTENSION under a session that has it cached --------------------------------------------

$other->value('DROP EXTENSION pgllm CASCADE');
$result = $session->query('EXECUTE p');
is($result->{sqlstate}, '42883', 'after DROP EXTENSION the prepared call has no function');
is($session->query('SELECT ' . invoke('acme'))->{sqlstate}, '42883', '... nor has a new one');
$other->value('CREATE EXTENSION pgllm');
$result = $session->query('SELECT ' . invoke('acme'));
is($result->{sqlstate}, '42704', 'after CREATE EXTENSION the configuration is empty');
like($result->{message}, qr/tenant "acme" does not exist/, '... not what the session had cached');
setup_mock($node, 'acme', a => { parameters => { reply => 'anew' } });
is($session->value('SELECT ' . invoke('acme')), 'anew', 'and filled again it works');
is($session->value('EXECUTE p'), 'anew', '... in the old prepared statement, too');

# ---- parallel query ------------------------------------------------------------------------------

$session->value(q{CREATE TABLE many AS SELECT i FROM generate_series(1, 5000) AS i; ANALYZE many;
	SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0});
$node->safe_psql('postgres', 'SELECT llm_stat_reset()');
my $query = q{SELECT count(*) FROM (SELECT llm_invoke('acme', 'row ' || i) AS a FROM many
	WHERE i % 100 = 0 OFFSET 0) AS s WHERE a = 'anew'};
like($session->value("EXPLAIN (COSTS OFF) $query"), qr/Gather/, 'the table is read in parallel');
is($session->value($query), 50, 'calls above a Gather node');
is(attempts('acme_a'), 50, '... one per row');
my $setting = $node->pg_version < 16 ? 'force_parallel_mode' : 'debug_parallel_query';
$session->value("SET $setting = on; DISCARD PLANS");
is($session->value(q{SELECT sum(i), max(llm_invoke('acme', 'x')) FROM many WHERE i < 4}),
	'6|anew', "calls with $setting = on");
is($session->value(q{SELECT ord, (result).response FROM llm_invoke_many('acme', ARRAY['a', 'b'])}),
	"1|anew\n2|anew", '... also llm_invoke_many');
$session->quit;
$session = new_session($node);
$session->value("SET $setting = on");
is($session->value(q{SELECT llm_invoke('acme', 'x') FROM many WHERE i = 1}),
	'anew', '... also as the first call of a session');
nothing_held($node, 'nothing is held after parallel queries');
$session->value("RESET $setting");

# ---- statements in which calls are refused ---------------------------------------------------------

$node->safe_psql('postgres', 'SELECT llm_stat_reset()');
$session->value(q{CREATE MATERIALIZED VIEW mv AS SELECT llm_invoke('acme', 'x') AS a});
is(attempts('acme_a'), 1, 'CREATE MATERIALIZED VIEW is a visible query: it calls');
$session->value('CREATE TABLE plain (i int); INSERT INTO plain VALUES (1), (2)');
$session->value(q{CREATE TABLE checked (t text CHECK (llm_invoke('acme', t) <> 'no'))});
my @guarded = (
	[ 'REFRESH MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW mv' ],
	[ 'ALTER TABLE', q{ALTER TABLE plain ADD COLUMN a text DEFAULT llm_invoke('acme', 'x' || random())} ],
	[ 'ALTER TABLE', q{ALTER TABLE plain ADD CONSTRAINT c CHECK (llm_invoke('acme', i::text) <> 'no')} ],
	[ 'ALTER TABLE', q{ALTER TABLE plain ALTER COLUMN i TYPE text USING llm_invoke('acme', i::text)} ],
	[ 'COPY FROM', q{COPY checked FROM PROGRAM 'echo hello'} ],);
foreach my $case (@guarded)
{
	my ($name, $sql) = @$case;

	$result = $session->query($sql);
	is($result->{sqlstate}, '0A000', "refused: $sql");
	like($result->{message}, qr/model calls are not allowed inside \Q$name\E/, '... by name');
	like($result->{hint}, qr/pgllm\.in_utility/, '... and with a hint');
}
is(attempts('acme_a'), 1, 'no refused statement made a call');
$session->value('SET pgllm.in_utility = allow');
foreach my $case (@guarded)
{
	is($session->query("BEGIN; $case->[1]; ROLLBACK")->{err}, '', "allowed: $case->[1]");
}
is(attempts('acme_a'), 9, '... and they made their calls');
$session->value('RESET pgllm.in_utility');
$session->value(q{INSERT INTO checked VALUES ('x')});
is(attempts('acme_a'), 10, 'an INSERT with the same CHECK calls');
is($session->value(q{COPY (SELECT llm_invoke('acme', 'x')) TO STDOUT}), 'anew', 'COPY (query) TO calls');
$session->value(q{
CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.i := length(llm_invoke('acme', 'x')); RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION on_insert();
COPY plain FROM PROGRAM 'echo 1'});
is($session->value('SELECT i FROM plain WHERE i = 4'), 4, 'a trigger fired by COPY FROM calls');
# after a refused statement the guard is not left behind
$session->query('REFRESH MATERIALIZED VIEW mv');
is($session->value('SELECT ' . invoke('acme')), 'anew', 'a call after a refused statement');

# ---- dump and restore ------------------------------------------------------------------------------

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
my $calls = attempts('acme_a');
$node->safe_psql('postgres', q{UPDATE llm_tenant SET geographies = ARRAY['any'];
	CREATE ROLE analyst; SELECT llm_grant_tenant('acme', 'analyst')});
my $config = q{
SELECT format('%s %s', t, xml) FROM (VALUES ('llm_model'), ('llm_price'), ('llm_shard'), ('llm_target'),
	('llm_route_policy'), ('llm_route'), ('llm_tenant'), ('llm_tenant_grant'), ('llm_quota')) AS x(t),
	LATERAL (SELECT query_to_xml(format('SELECT * FROM %s ORDER BY 1', t), true, true, '')::text) AS y(xml)};
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
unlike(slurp_file($dump), qr/simulator-secret|SecretAccessKey/i, 'no secret is in the dump');
is(attempts('acme_a'), $calls, 'pg_dump calls nothing');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
my ($rc, $out, $err) = $node->psql('restored', slurp_file($dump), on_error_stop => 0);
my @errors = grep { /ERROR/ } split /\n/, $err;
is(scalar @errors, 2, 'two statements of the restore fail') or diag $err;
like($errors[0], qr/model calls are not allowed inside COPY FROM/, '... the COPY into the table with a CHECK');
like($errors[1], qr/model calls are not allowed inside REFRESH MATERIALIZED VIEW/, '... and the REFRESH');
is( $node->safe_psql('restored', 'SELECT coalesce(sum(attempts), 0) FROM llm_stat_target'),
	0,
	'the restore calls nothing');
is( $node->safe_psql('restored', $config),
	$node->safe_psql('postgres', $config),
	'the configuration is restored as it was');
is($node->safe_psql('restored', 'SELECT ' . invoke('acme')), 'anew', 'and works');
is($node->safe_psql('restored', q{SET pgllm.in_utility = allow; REFRESH MATERIALIZED VIEW mv; SELECT * FROM mv}),
	'anew', 'the matview can be refreshed on purpose');
is( $node->safe_psql('restored', q{INSERT INTO llm_quota (rpm) VALUES (5) RETURNING quota_id > (SELECT max(quota_id) FROM llm_quota)}),
	't',
	'the identity of llm_quota goes on behind what was restored');

# ---- hot standby ---------------------------------------------------------------------------------

my $simulator = PgllmTest::Simulator->new;
setup_bedrock($node, $simulator, 'wire', a => {});
my $backup = 'backup';
$node->backup($backup);
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, $backup, has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $reader = new_session($standby);
is($reader->value('SELECT pg_is_in_recovery(), ' . invoke('acme')), 't|anew', 'a call on a standby');
is($reader->value('SELECT ' . invoke('wire')), 'hello', '... also over the wire');
is($simulator->requests, 1, '... which made one request');
$other->value(set_reply('replayed'));
$node->wait_for_catchup($standby);
is($reader->value('SELECT ' . invoke('acme')),
	'replayed', 'a change on the primary reaches a session of the standby that has the old one cached');
$other->value(q{UPDATE llm_quota SET rpm = 2, burst_requests = 1 WHERE tenant = 'wire';
	UPDATE llm_tenant SET on_limit = 'wait' WHERE tenant = 'wire'});
$node->wait_for_catchup($standby);
$reader->value('SELECT ' . invoke('wire'));
$reader->start('SELECT ' . invoke('wire'));
wait_for($standby, 'SELECT max(waiters) = 1 FROM llm_bucket');
is( $standby->safe_psql('postgres',
		q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 19533 AND granted}),
	1,
	'a call can queue for a quota on a standby');
$standby->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $reader->pid . ')');
is($reader->finish->{sqlstate}, '57014', '... and be cancelled');
nothing_held($standby, 'nothing is held on the standby');
$reader->quit;

$_->quit foreach $session, $other;
$simulator->stop;
$standby->stop;
$node->stop;
done_testing();
