# 020_scan_faults.pl - many calls in flight inside one statement, and something goes wrong
#
# Cancels, errors, limits, conflicts of sessions, privileges and memory, over statements whose calls
# are in flight together.  The simulator says what was sent, the tables of the ledger what it cost.
# Whatever ends a statement: no lease, no place in a queue, no descriptor and no memory is left, what
# was in flight is recorded, and the session goes on.
#
# How long a cancel takes is printed, not asserted; the tests only insist that it ends.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $MB = 1024 * 1024;
my $SPARE_CALLS = 16;    # a backend keeps the memory of so many for the next ones
my %price = ($NOVA_LITE => [ 0.06, 0.24 ], $NOVA_PRO => [ 0.8, 3.2 ]);

my $node = pgllm_cluster('scan_faults', conf => <<'CONF');
jit = off
pgllm.statement_max_calls = -1
pgllm.max_concurrency = 32
pgllm.memo_size = 0
pgllm.ledger_sync = off
CONF
my $simulator = PgllmTest::Simulator->new;
my $admin = new_session($node, name => 'admin');

sub ask { return $admin->value($_[0]); }

# Tenant a: the wire, whose model answers with the prompt.  Route "hang" never answers, "bad" refuses.
setup_bedrock($node, $simulator, 'hang', a => { account => $ACCOUNT_2, model_id => $NOVA_PRO }, -policy => { max_attempts => 1 });
setup_bedrock($node, $simulator, 'bad', a => { account => '333333333333' }, -policy => { max_attempts => 1 });
setup_bedrock($node, $simulator, 'a', echo => {}, -tenant => { extra_routes => ['hang', 'bad'] }, -policy => { max_attempts => 1 });
sub set_faults
{
	$simulator->fault({ account => $ACCOUNT_2, model => $NOVA_PRO }, { kind => 'hang', times => -1 });
	$simulator->fault({ account => '333333333333' }, { kind => 'Validation', times => -1 });
	return;
}
set_faults();
$simulator->configure({ models => { $NOVA_LITE => { reply => 'echo', latency_ms => 10, latency_jitter_ms => 10 } } });
set_price($node, 'a_echo', input => 0.06, output => 0.24);
set_price($node, 'bad_a', input => 0.06, output => 0.24);
set_price($node, 'hang_a', input => 0.8, output => 3.2);

# Tenant q: two calls at a time.
setup_mock($node, 'q', quick => { parameters => { echo => \1, latency_ms => 20 } }, -tenant => { on_limit => 'wait' }, -quota => { max_inflight => 2 });

# Tenant m: answers inside the server.
setup_mock($node, 'm', quick => { parameters => { echo => \1, latency_ms => 2 } });
insert_rows($node,
	llm_target => [
		{ target => 'mhang', shard => 'm_shard', model => 'm_quick', model_id => 'x', parameters => { script => ['hang'], repeat => \1 } },
		{ target => 'mbad', shard => 'm_shard', model => 'm_quick', model_id => 'x', parameters => { script => ['bad_request'], repeat => \1, latency_ms => 20 } },
		{ target => 'late', shard => 'm_shard', model => 'm_quick', model_id => 'x', parameters => { echo => \1, latency_ms => 200 } } ],
	llm_route => [ map { { route => $_, target => $_ } } qw(mhang mbad late) ]);
$node->safe_psql('postgres', <<'SQL');
UPDATE llm_tenant SET extra_routes = '{mhang,mbad,late}' WHERE tenant = 'm';
CREATE TABLE docs AS SELECT i AS id, i % 5 AS g, 'doc ' || i AS body FROM generate_series(1, 1000) i;
CREATE TABLE other (id int, t text);
ANALYZE docs;
-- rows up to n answer, what comes after never does
CREATE FUNCTION hang_after(id int, n int) RETURNS jsonb IMMUTABLE LANGUAGE sql
	AS $$ SELECT CASE WHEN id > n THEN '{"route": "hang"}'::jsonb ELSE '{}' END $$;
CREATE FUNCTION nested(n int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
	RETURN (SELECT string_agg(llm_invoke('a', body || ' within ' || n, hang_after(id, 2)), ',' ORDER BY id) FROM docs WHERE id <= 5);
END $$;
CREATE FUNCTION caught(n int, INOUT t text) LANGUAGE plpgsql AS $$ BEGIN
	SELECT string_agg(llm_invoke('a', body || ' within ' || n, hang_after(id, 2)), ',' ORDER BY id) INTO t FROM docs WHERE id <= 5;
EXCEPTION WHEN query_canceled THEN t := SQLSTATE; END $$;
CREATE FUNCTION loop_over() RETURNS int LANGUAGE plpgsql AS $$ DECLARE r record; n int := 0; BEGIN
	FOR r IN SELECT id, llm_invoke('a', body, hang_after(id, 20)) FROM docs LOOP n := n + 1; END LOOP; RETURN n;
END $$;
SQL

sub flushed { flush_ledger($node) or die 'the ledger is behind'; return; }

# Bytes of calls in the session, and descriptors of its backend.
sub call_contexts { return $_[0]->value("SELECT count(*) FROM pg_backend_memory_contexts WHERE name IN ('pgllm call', 'pgllm rows')"); }
sub contexts { return $_[0]->value('SELECT sum(total_bytes) FROM pg_backend_memory_contexts'); }
sub descriptors { my $n = () = glob('/proc/' . $_[0]->pid . '/fd/*'); return $n; }
sub resident { return (PostgreSQL::Test::Utils::slurp_file('/proc/' . $_[0]->pid . '/status') =~ /^$_[1]:\s+(\d+) kB/m)[0] * 1024; }

# ---- cancels ---------------------------------------------------------------------------------------

my $some = q{llm_invoke('a', body, hang_after(id, 20))};
my @statements = (
	[ 'SELECT', "SELECT id, $some FROM docs" ],
	[ 'WHERE', "SELECT id FROM docs WHERE $some > ''" ],
	[ 'INSERT SELECT', "INSERT INTO other SELECT id, $some FROM docs" ],
	[ 'UPDATE', "UPDATE docs SET body = $some" ],
	[ 'CREATE TABLE AS', "CREATE TABLE made AS SELECT id, $some AS x FROM docs" ],
	[ 'COPY TO', "COPY (SELECT id, $some FROM docs) TO STDOUT" ],
	[ 'FETCH', "BEGIN; DECLARE c CURSOR FOR SELECT id, $some FROM docs; FETCH 5 FROM c; FETCH 500 FROM c" ],
	[ 'aggregate', "SELECT g, string_agg($some, ',') FROM docs GROUP BY g" ],
	[ 'LATERAL', "SELECT id, x FROM docs, LATERAL llm_invoke('a', body, hang_after(id, 20)) x" ],
	[ 'nested', "SELECT id, nested(id), llm_invoke('a', body) FROM docs" ],
	[ 'PL/pgSQL loop', 'SELECT loop_over()' ],
	[ 'prompt of a prompt', "SELECT llm_invoke('a', 'again ' || $some) FROM docs" ]);

# Everything that can go has gone out, and all of it hangs.
sub wait_hung
{
	my ($session) = @_;
	my $pid = $session->pid;
	my $last = '';

	wait_for(
		$node,
		sub {
			my $now = ask("SELECT count(*) FILTER (WHERE target = 'hang_a'), count(*) FROM llm_lease WHERE pid = $pid") . ' ' . $simulator->total('in_flight');
			my ($hung, $all, $there) = $now =~ /^(\d+)\|(\d+) (\d+)$/;
			my $same = $hung > 0 && $there > 0 && $now eq $last;

			$last = $now;
			sleep 0.05;
			return $same;
		},
		'the calls to hang');
	return;
}

sub gone { my ($pid) = @_; return wait_for($node, sub { ask("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") eq '0' }, "backend $pid to go"); }

my (%took, $since);
my %end = (
	'pg_cancel_backend' => sub { my ($session) = @_; ask('SELECT pg_cancel_backend(' . $session->pid . ')'); return '57014'; },
	'pg_terminate_backend' => sub { my ($session) = @_; ask('SELECT pg_terminate_backend(' . $session->pid . ')'); return '57P01'; });

foreach my $case (@statements)
{
	my ($name, $sql) = @$case;

	foreach my $how (sort keys %end)
	{
		my $session = new_session($node);
		my ($began, $code, $result);

		$session->value("SET client_connection_check_interval = '50ms'");
		$session->start($sql);
		wait_hung($session);
		$began = time;
		$code = $end{$how}->($session);
		$result = $session->finish;
		push @{ $took{$how} }, $session->{ended_at} - $began;
		is($result->{sqlstate}, $code, "$name, $how: the statement ends");
		nothing_held($node, "$name, $how: nothing is held");
		if ($how eq 'pg_cancel_backend')
		{
			$session->query('ROLLBACK');
			cmp_ok(call_contexts($session), '<=', $SPARE_CALLS, "$name, $how: no memory of calls");
			is($session->value("SELECT count(llm_invoke('a', 'next ' || id)) FROM docs WHERE id <= 10"), 10, "$name, $how: the next statement works");
		}
		$session->quit;
	}
	# by its own clock, and with nobody there to hear it
	my $session = new_session($node);
	my $before = contexts($session);
	$session->query(q{SET statement_timeout = '400ms'});
	is($session->query($sql)->{sqlstate}, '57014', "$name, statement_timeout: the statement ends");
	$session->query('ROLLBACK; RESET statement_timeout');
	nothing_held($node, "$name, statement_timeout: nothing is held");
	cmp_ok(call_contexts($session), '<=', $SPARE_CALLS, "$name, statement_timeout: no memory of calls");
	$session->quit;

	$session = new_session($node);
	$session->value("SET client_connection_check_interval = '50ms'");
	$session->start($sql);
	wait_hung($session);
	$session->kill_client;
	gone($session->pid);
	nothing_held($node, "$name, client gone: nothing is held");
}
note "$_: " . worst_ms(@{ $took{$_} }) foreach sort keys %took;
is(ask('SELECT count(*) FROM other'), 0, 'nothing was inserted');
is(ask("SELECT count(*) FROM docs WHERE body <> 'doc ' || id"), 0, 'nothing was changed');
is(ask("SELECT to_regclass('made') IS NULL"), 't', 'nothing was made');

# what was in flight is recorded, and what it may have cost
flushed();
ledger_is_simulator($node, $simulator, 'each request is in the ledger', price => \%price, unknown => 1000);
cmp_ok(scalar ledger_rows($node, "outcome = 'cancelled' AND charge = 'reserved'"), '>', 100, 'what was out is charged as it was reserved');

# again and again in one session
{
	my $session = new_session($node);
	my ($memory, $open);

	foreach my $round (1 .. 55)
	{
		my $sql = $statements[ $round % @statements ][1];

		$session->query(q{SET statement_timeout = '60ms'});
		is($session->query($sql)->{sqlstate}, '57014', "round $round: cancelled") if $round % 11 == 0;
		$session->query($sql) if $round % 11;
		$session->query('ROLLBACK; RESET statement_timeout');
		($memory, $open) = (contexts($session), descriptors($session)) if $round == 15;
	}
	cmp_ok(call_contexts($session), '<=', $SPARE_CALLS, 'after many cancels: no memory of calls');
	cmp_ok(contexts($session) - $memory, '<', 400 * 1024, 'after many cancels: memory');
	cmp_ok(descriptors($session) - $open, '<=', 32, 'after many cancels: descriptors');
	nothing_held($node, 'after many cancels: nothing is held');
	$session->quit;
}

# ---- errors that are caught ------------------------------------------------------------------------

my $session = new_session($node);

# Results of statements, one after the other, as text.
sub results
{
	my ($in, @sql) = @_;

	return join "\n", map { my $r = $in->query($_); join ' ', grep { $_ ne '' } $r->{out}, $r->{sqlstate}, $r->{message}; } @sql;
}

# The same statements with the scan off and on.
sub same
{
	my ($name, @sql) = @_;
	my %result;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $on (qw(off on))
	{
		my $own = new_session($node);

		$own->query("SET pgllm.concurrent_scan = $on");
		$result{$on} = results($own, @sql);
		$own->quit;
	}
	is($result{on}, $result{off}, $name);
	nothing_held($node, "$name: nothing is held");
	return $result{on};
}

ask('CREATE SEQUENCE tries');
ask(<<'SQL');
CREATE OR REPLACE FUNCTION caught(n int, OUT t text) LANGUAGE plpgsql AS $$ BEGIN
	PERFORM nextval('tries');
	SELECT string_agg(llm_invoke('a', body || ' within ' || n, hang_after(id, 2)), ',' ORDER BY id) INTO t FROM docs WHERE id <= 5;
EXCEPTION WHEN query_canceled THEN t := SQLSTATE; END $$;
CREATE FUNCTION caught_failure(n int, OUT t text) LANGUAGE plpgsql AS $$ BEGIN
	SELECT string_agg(llm_invoke('a', body || ' within ' || n, CASE id WHEN 3 THEN '{"route": "bad"}' ELSE '{}' END::jsonb), ',' ORDER BY id) INTO t FROM docs WHERE id <= 5;
EXCEPTION WHEN OTHERS THEN t := SQLSTATE; END $$;
SQL
{
	my %got;

	foreach my $on (qw(off on))
	{
		ask(q{SELECT setval('tries', 1, false)});
		$session->query("SET pgllm.concurrent_scan = $on");
		$session->start(q{SELECT id, caught(id), llm_invoke('a', body) FROM docs WHERE id <= 3});
		foreach my $try (1 .. 3)
		{
			wait_for($node, sub { ask('SELECT last_value FROM tries WHERE is_called') eq $try }, "try $try");
			wait_hung($session);
			ask('SELECT pg_cancel_backend(' . $session->pid . ')');
		}
		$got{$on} = $session->finish->{out};
	}
	is($got{on}, $got{off}, 'a cancel that is caught inside, while calls of the statement around it are in flight');
	is($got{on}, "1|57014|doc 1\n2|57014|doc 2\n3|57014|doc 3", 'it goes on');
	nothing_held($node, 'cancels that are caught: nothing is held');
	cmp_ok(call_contexts($session), '<=', $SPARE_CALLS, 'cancels that are caught: no memory of calls');
}
same('failures that are caught inside', q{SELECT id, caught_failure(id), llm_invoke('a', body) FROM docs WHERE id <= 20});
same('failures that are caught around',
	q{DO $$ DECLARE n int := 0; x text; BEGIN FOR i IN 1 .. 20 LOOP BEGIN
		SELECT string_agg(llm_invoke('m', body, CASE WHEN id = 30 THEN '{"route": "mbad"}' ELSE '{}' END::jsonb), ',') INTO x FROM docs WHERE id < 30 + i % 2;
		n := n + 1; EXCEPTION WHEN OTHERS THEN IF SQLSTATE <> 'LM003' THEN RAISE; END IF; END; END LOOP; RAISE EXCEPTION 'n %', n; END $$},
	q{SELECT count(llm_invoke('m', body)) FROM docs});
my $failing = q{SELECT id, llm_invoke('a', body, CASE WHEN id = 8 THEN '{"route": "bad"}' ELSE '{}' END::jsonb) FROM docs WHERE id <= 30};
same('a savepoint inside the life of a cursor',
	"BEGIN; DECLARE c CURSOR FOR $failing; FETCH 2 FROM c", 'SAVEPOINT s', 'FETCH 2 FROM c', 'SELECT 1 / 0', 'ROLLBACK TO s', 'FETCH 3 FROM c', 'COMMIT');
same('a cursor that fails inside a savepoint',
	"BEGIN; DECLARE c CURSOR FOR $failing; FETCH 2 FROM c", 'SAVEPOINT s', 'FETCH 10 FROM c', 'ROLLBACK TO s', 'FETCH 1 FROM c', 'ROLLBACK', q{SELECT llm_invoke('a', 'next')});
same('a cursor that is opened and rolled back',
	'BEGIN', 'SAVEPOINT s', "DECLARE c CURSOR FOR $failing", 'FETCH 3 FROM c', 'ROLLBACK TO s', 'FETCH 1 FROM c', 'ROLLBACK');
same('open cursors when the transaction aborts',
	"BEGIN; DECLARE c CURSOR FOR $failing; DECLARE d CURSOR FOR $failing; FETCH 4 FROM c; FETCH 6 FROM d", 'SELECT 1 / 0', 'ROLLBACK', 'SELECT count(*) FROM pg_cursors');
same('two cursors by turns', "BEGIN; DECLARE c CURSOR FOR $failing; DECLARE d CURSOR FOR $failing",
	map({ ('FETCH 1 FROM c', 'FETCH 2 FROM d') } 1 .. 3), 'FETCH ALL FROM c', 'COMMIT');
same('cursors that are held', "BEGIN; DECLARE c CURSOR WITH HOLD FOR $failing; FETCH 2 FROM c", 'COMMIT', "BEGIN; DECLARE c CURSOR WITH HOLD FOR $failing LIMIT 7; FETCH 2 FROM c",
	'COMMIT', 'FETCH ALL FROM c', 'CLOSE c');
same('a mistake that is looked at and not reached',
	q{WITH c AS MATERIALIZED (SELECT llm_invoke('a', body, CASE WHEN id = 4 THEN '{"cache": true}' ELSE '{}' END::jsonb) AS x FROM docs) SELECT * FROM c LIMIT 3});
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/call leaked/, 'and leaves no call behind');

# between FETCHes nothing is out, however long that takes
$session->query('SET pgllm.concurrent_scan = on');
$session->query(q{BEGIN; DECLARE c CURSOR FOR SELECT id, llm_invoke('a', body, '{"timeout_ms": 1000}') FROM docs; FETCH 20 FROM c});
nothing_held($node, 'an idle cursor: nothing is held');
is($simulator->total('in_flight'), 0, 'an idle cursor: nothing is in flight');
$since = $simulator->requests;
cmp_ok($since, '>', 0, 'an idle cursor: requests were made');
sleep 1.2;
is($simulator->requests, $since, 'an idle cursor: nothing is sent');
is(() = $session->value('FETCH 100 FROM c') =~ /\|doc /g, 100, 'an idle cursor: the next FETCH works');
$session->query('ROLLBACK');
nothing_held($node, 'an abandoned cursor: nothing is held');

# ---- an error in row 500 of 1000 -------------------------------------------------------------------

my $at_500 = q{llm_invoke('a', body, CASE WHEN id = 500 THEN '{"route": "bad"}' ELSE '{}' END::jsonb)};
my $message;

foreach my $case ([ 'serial', 'off', 0 ], [ 'window of 32', 'on', 32 ], [ 'window of 64', 'on', 64 ])
{
	my ($name, $on, $window) = @$case;
	my ($result, $requests);

	$session->query("SET pgllm.concurrent_scan = $on");
	$session->query("SET pgllm.max_concurrency = $window") if $window;
	$since = $simulator->last_entry;
	$result = $session->query("INSERT INTO other SELECT id, $at_500 FROM docs");
	$message //= "$result->{sqlstate} $result->{message} $result->{detail}";
	is("$result->{sqlstate} $result->{message} $result->{detail}", $message, "row 500, $name: the error");
	nothing_held($node, "row 500, $name: nothing is held");
	wait_for($node, sub { $simulator->total('in_flight') == 0 }, 'requests to end');
	$requests = @{ $simulator->ledger($since)->{requests} };
	cmp_ok($requests, '<=', 500 + $window, "row 500, $name: requests ($requests)");
	cmp_ok($requests, '>=', 500, "row 500, $name: all before it");
	is(ask('SELECT count(*) FROM other'), 0, "row 500, $name: nothing is inserted");
}
like($message, qr/^LM003/, 'it is the error of the provider');
$session->query('SET pgllm.max_concurrency = 32');
$session->query("BEGIN; DECLARE c CURSOR FOR SELECT id, $at_500 FROM docs");
is(() = $session->value('FETCH 499 FROM c') =~ /\|doc /g, 499, 'a cursor gives all rows before it');
is($session->query('FETCH 1 FROM c')->{sqlstate}, 'LM003', 'and then the error');
$session->query('ROLLBACK');
$since = $simulator->last_entry;
is($session->query("SELECT llm_invoke('a', 'again ' || $at_500) FROM docs")->{sqlstate}, 'LM003', 'two calls per row: the error');
wait_for($node, sub { $simulator->total('in_flight') == 0 }, 'requests to end');
{
	my $requests = @{ $simulator->ledger($since)->{requests} };
	cmp_ok($requests, '<=', 2 * 499 + 1 + 2 * 32, "two calls per row: no more is sent than a window of rows ($requests)");
}
# 32 calls are out when one of row 5 fails: of the second ones only those before it are made
$session->query('SET pgllm.memo_size = 0');
$since = ask('SELECT sum(attempts) FROM llm_stat_target');
is($session->query(q{SELECT llm_invoke('m', 'again ' || llm_invoke('m', body, CASE id WHEN 5 THEN '{"route": "mbad"}' ELSE '{"route": "late"}' END::jsonb)) FROM docs})->{sqlstate},
	'LM003', 'two calls per row, a failure among the first: the error');
is(ask('SELECT sum(attempts) FROM llm_stat_target') - $since, 32 + 4, '... and no second call for later rows');
flushed();
ledger_is_simulator($node, $simulator, 'each request is in the ledger', price => \%price, unknown => 1000, where => "tenant = 'a'");

# ---- no more calls than are needed -----------------------------------------------------------------

ask(q{CREATE VIEW answers AS SELECT id, llm_invoke('a', body) AS answer FROM docs});
foreach my $case (
	[ 7, 'LIMIT', q{SELECT id, llm_invoke('a', body) FROM docs LIMIT 7} ],
	[ 7, 'ORDER BY and LIMIT', q{SELECT id, llm_invoke('a', body) FROM docs ORDER BY id DESC LIMIT 7} ],
	[ 7, 'OFFSET', q{SELECT id, llm_invoke('a', body) FROM docs ORDER BY id LIMIT 7 OFFSET 100} ],
	[ 7, 'INSERT of some', q{INSERT INTO other SELECT id, llm_invoke('a', body) FROM docs LIMIT 7; TRUNCATE other} ],
	[ 0, 'LIMIT 0', q{SELECT id, llm_invoke('a', body) FROM docs LIMIT 0} ],
	[ 0, 'a condition that is never true', q{SELECT CASE WHEN id < 0 THEN llm_invoke('a', body) END FROM docs} ],
	[ 0, 'a clause before', q{SELECT id FROM docs WHERE id < 0 AND llm_invoke('a', body) > ''} ],
	[ 0, 'EXPLAIN', q{EXPLAIN VERBOSE SELECT id, llm_invoke('a', body) FROM docs} ],
	[ 0, 'PREPARE', q{PREPARE p AS SELECT id, llm_invoke('a', body) FROM docs} ],
	[ 0, 'CREATE VIEW', q{CREATE VIEW v AS SELECT id, llm_invoke('a', body) FROM docs} ],
	[ 0, 'CREATE TABLE without data', q{CREATE TABLE made AS SELECT id, llm_invoke('a', body) FROM docs WITH NO DATA} ],
	[ 0, 'a cursor that is not read', q{BEGIN; DECLARE c CURSOR FOR SELECT id, llm_invoke('a', body) FROM docs; FETCH 0 FROM c; COMMIT} ],
	[ 1000, 'EXECUTE', q{EXECUTE p} ],
	[ 5, 'view', q{SELECT * FROM answers LIMIT 5} ])
{
	my ($calls, $name, $sql) = @$case;

	$since = $simulator->requests;
	is($session->query($sql)->{sqlstate}, '', "$name: no error");
	is($simulator->requests - $since, $calls, "$name: requests");
}

# ---- limits ----------------------------------------------------------------------------------------

sub one_row { my ($sql, $value) = @_; return is($session->value($sql), $value, $_[2]); }

# a tenant of its own, on an account that only throttles when told to
sub limited
{
	my ($tenant, %extra) = @_;

	setup_bedrock($node, $simulator, $tenant, a => { account => $ACCOUNT_2 }, -policy => { max_attempts => 3 }, %extra);
	set_price($node, "${tenant}_a", input => 1, output => 2);
	return;
}

sub sent { my ($from) = @_; return scalar @{ $simulator->ledger($from)->{requests} }; }

my $options = '{"max_tokens": 10}';
$session->query('RESET ALL');

$since = $simulator->last_entry;
$session->query('SET pgllm.statement_max_calls = 100');
is($session->query(q{SELECT id, llm_invoke('a', body) FROM docs})->{sqlstate}, 'LM010', 'statement_max_calls: the error');
is(sent($since), 100, 'statement_max_calls: so many requests');
is(() = $session->value(q{SELECT id, llm_invoke('a', body) FROM docs LIMIT 100}) =~ /\|doc /g, 100, 'statement_max_calls: as many rows as calls');
is($session->query(q{BEGIN; DECLARE c CURSOR FOR SELECT id, llm_invoke('a', body) FROM docs; FETCH 1000 FROM c})->{sqlstate}, 'LM010', 'statement_max_calls of a FETCH');
$session->query('ROLLBACK; RESET pgllm.statement_max_calls');

# a call costs at worst input + 10 tokens; what is spent never exceeds the limit
limited('cost');
$since = $simulator->last_entry;
$session->query('SET pgllm.statement_max_cost = 0.001');
is($session->query(qq{SELECT id, llm_invoke('cost', 'cost ' || body, '$options') FROM docs})->{sqlstate}, 'LM010', 'statement_max_cost: the error');
$session->query('RESET pgllm.statement_max_cost');
flushed();
cmp_ok(ask(q{SELECT sum(cost_nano_usd) FROM llm_ledger WHERE tenant = 'cost'}), '<=', 1000000, 'statement_max_cost: no more is spent');
cmp_ok(ask(q{SELECT sum(cost_nano_usd) FROM llm_ledger WHERE tenant = 'cost'}), '>', 900000, 'statement_max_cost: nearly all of it is');

limited('rpm', -quota => { rpm => 50, window_kind => 'strict' });
$since = $simulator->last_entry;
one_row(q{SELECT count((r).response), count(*) FILTER (WHERE (r).sqlstate = 'LM002'), max(id) FILTER (WHERE (r).response IS NOT NULL)
	FROM (SELECT id, llm_try_invoke('rpm', body) AS r FROM docs WHERE id <= 120 OFFSET 0) s}, '50|70|50', 'requests per minute: the first rows succeed, the others fail');
is(sent($since), 50, 'requests per minute: no more is sent');
is($session->query(q{INSERT INTO other SELECT id, llm_invoke('rpm', body) FROM docs})->{sqlstate}, 'LM002', 'requests per minute: the error');
is(sent($since), 50, 'requests per minute: nothing is sent then');

limited('tpm', -quota => { tpm => 1000, window_kind => 'strict' });
$session->query(qq{SELECT (llm_try_invoke('tpm', body, '$options')).sqlstate FROM docs});
flushed();
cmp_ok(ask(q{SELECT sum(input_tokens + output_tokens) FROM llm_ledger WHERE tenant = 'tpm' AND outcome = 'success'}), '<=', 1000, 'tokens per minute: no more are used');
cmp_ok(ask(q{SELECT count(*) FROM llm_ledger WHERE tenant = 'tpm' AND outcome = 'success'}), '>', 10, 'tokens per minute: some are');

$simulator->reset;
set_faults();
limited('places', -tenant => { on_limit => 'wait' }, -quota => { max_inflight => 4 });
one_row(q{SELECT count(llm_invoke('places', body)) FROM docs WHERE id <= 100}, 100, 'places in flight: all rows, one after the other');
is($simulator->total('max_in_flight'), 4, 'places in flight: never more');
limited('place', -tenant => { on_limit => 'wait' }, -quota => { max_inflight => 1 });
ask(q{CREATE FUNCTION place_within(n int) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(llm_invoke('place', body || n), ',') FROM docs WHERE id <= 2 $$});
one_row(q{SELECT count(place_within(id)), count(llm_invoke('place', body)) FROM docs WHERE id <= 8}, '8|8', 'one place: a statement within a statement gets it, too');
one_row(q{SELECT id, place_within(id), llm_invoke('place', body) FROM docs WHERE id = 2}, '2|doc 12,doc 22|doc 2', 'one place: within a row');

limited('budget');
insert_rows($node, llm_quota => [ { tenant => 'budget', budget_usd => 0.001, budget_period => 'day' } ]);
is($session->query(qq{INSERT INTO other SELECT id, llm_invoke('budget', 'b' || body, '$options') FROM docs})->{sqlstate}, 'LM011', 'a budget: the error');
flushed();
cmp_ok(ask(q{SELECT sum(cost_nano_usd) FROM llm_ledger WHERE tenant = 'budget'}), '<=', 1000000, 'a budget: no more is spent');
cmp_ok(ask(q{SELECT sum(cost_nano_usd) FROM llm_ledger WHERE tenant = 'budget'}), '>', 900000, 'a budget: nearly all of it is');

# the provider throttles now and then: these rows wait, and the others go on
limited('throttled');
$simulator->fault({ account => $ACCOUNT_2, model => $NOVA_LITE }, { kind => 'Throttling', times => 3, headers => { 'retry-after' => '0' } });
one_row(q{SELECT count(llm_invoke('throttled', body)) FROM docs WHERE id <= 60}, 60, 'the provider throttles: all rows');

$session->query('SET pgllm.memo_size = 1024; SET pgllm.report = on');
$since = $simulator->last_entry;
my $report = $session->query(q{SELECT count(llm_invoke('a', 'same ' || g)) FROM docs WHERE id <= 200});
is($report->{out}, 200, 'identical prompts: all rows');
is(sent($since), 5, 'identical prompts: one request each');
like($report->{err}, qr/pgllm: 5 calls.*memo hits 195/s, 'identical prompts: the report');
$report = $session->query(q{SELECT (llm_try_invoke('a', 'wrong ' || g, '{"route": "bad"}')).sqlstate FROM docs WHERE id <= 100});
is(scalar(() = $report->{out} =~ /LM003/g), 100, 'identical failures: all rows');
$session->query('RESET ALL');
limited('journal', -tenant => { retention => 'response', cache => 1 });
$since = $simulator->last_entry;
one_row(q{SELECT count(llm_invoke('journal', body)) FROM docs WHERE id <= 100}, 100, "the journal: all rows, $_ time") foreach 'first', 'second';
is(sent($since), 100, 'the journal: paid once');
one_row(q{SELECT count(llm_invoke('journal', 'j' || g)) FROM docs WHERE id <= 100}, 100, 'the journal: identical prompts in flight');
is(sent($since), 105, 'the journal: one request each');
nothing_held($node, 'limits: nothing is held');
flushed();

# ---- two sessions ----------------------------------------------------------------------------------

# One has changed rows and not committed when the other comes to them.
sub conflict
{
	my ($name, $first, $second, %options) = @_;
	my %got;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $on (qw(off on))
	{
		my ($one, $other) = map { new_session($node) } 1, 2;

		ask(q{DROP TABLE IF EXISTS work; CREATE TABLE work AS SELECT i AS id, 'doc ' || i AS body, NULL::text AS x FROM generate_series(1, 20) i});
		$other->query("SET pgllm.concurrent_scan = $on");
		$other->query($options{setup}) if $options{setup};
		$one->value("BEGIN; $first");
		$other->query("BEGIN ISOLATION LEVEL $options{isolation}; SELECT count(*) FROM work") if $options{isolation};
		$other->start($second);
		wait_for($node, sub { ask("SELECT count(*) FROM pg_stat_activity WHERE pid = $other->{pid} AND wait_event_type = 'Lock'") eq '1' }, "$name: a wait for the lock");
		$one->value($options{end} // 'COMMIT');
		my $result = $other->finish;
		$other->query('COMMIT');
		$got{$on} = join "\n", $result->{out}, $result->{sqlstate}, ask('SELECT string_agg(work::text, E\'\n\' ORDER BY id) FROM work');
		$_->quit foreach $one, $other;
	}
	is($got{on}, $got{off}, "two sessions, $name");
	nothing_held($node, "two sessions, $name: nothing is held");
	return;
}

conflict('UPDATE', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{UPDATE work SET x = llm_invoke('m', body)});
conflict('UPDATE of a row that no longer counts', q{UPDATE work SET body = 'zzz' WHERE id IN (3, 9)}, q{UPDATE work SET x = llm_invoke('m', body) WHERE llm_invoke('m', body) < 'e'});
conflict('UPDATE, rolled back', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{UPDATE work SET x = llm_invoke('m', body)}, end => 'ROLLBACK');
conflict('UPDATE of rows that are gone', q{DELETE FROM work WHERE id IN (3, 9)}, q{UPDATE work SET x = llm_invoke('m', body) RETURNING id, llm_invoke('m', 'r' || x)});
conflict('UPDATE FROM', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{UPDATE work SET x = llm_invoke('m', work.body || docs.body) FROM docs WHERE docs.id = work.id});
conflict('UPDATE FROM a query with calls', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)},
	q{UPDATE work SET x = s.y || work.body FROM (SELECT id, llm_invoke('m', body) AS y FROM docs WHERE id <= 20 OFFSET 0) s WHERE s.id = work.id});
conflict('UPDATE LATERAL', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{UPDATE work SET x = s.y FROM docs, LATERAL llm_invoke('m', docs.body) AS s (y) WHERE docs.id = work.id});
conflict('UPDATE, nested calls', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{UPDATE work SET x = llm_invoke('m', 'again ' || llm_invoke('m', body))});
conflict('UPDATE, a failure in the new row', q{UPDATE work SET body = 'changed' WHERE id = 9}, q{UPDATE work SET x = llm_invoke('m', body, CASE body WHEN 'changed' THEN '{"route": "mbad"}' ELSE '{}' END::jsonb)});
conflict('DELETE', q{UPDATE work SET body = 'zzz' WHERE id IN (3, 9)}, q{DELETE FROM work WHERE llm_invoke('m', body) < 'e'});
conflict('DELETE RETURNING', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{DELETE FROM work RETURNING id, llm_invoke('m', body)});
conflict('FOR UPDATE', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{SELECT id, llm_invoke('m', body) FROM work ORDER BY id FOR UPDATE});
conflict('FOR UPDATE with a filter', q{UPDATE work SET body = 'zzz' WHERE id IN (3, 9)}, q{SELECT id FROM work WHERE llm_invoke('m', body) < 'e' FOR UPDATE});
conflict('FOR UPDATE in a cursor', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{BEGIN; DECLARE c CURSOR FOR SELECT id, llm_invoke('m', body) FROM work FOR UPDATE; FETCH 12 FROM c});
conflict('FOR UPDATE OF one of two', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)},
	q{SELECT work.id, llm_invoke('m', work.body || docs.body) FROM work JOIN docs USING (id) ORDER BY work.id FOR UPDATE OF work});
conflict('FOR UPDATE of rows that are gone', q{DELETE FROM work WHERE id IN (3, 9)}, q{SELECT id, llm_invoke('m', body) FROM work ORDER BY id LIMIT 10 FOR UPDATE});
conflict('MERGE', q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)},
	q{MERGE INTO work USING (SELECT id, llm_invoke('m', body) AS y FROM docs WHERE id <= 25 OFFSET 0) s ON s.id = work.id WHEN MATCHED THEN UPDATE SET x = y WHEN NOT MATCHED THEN INSERT VALUES (s.id, y)});
foreach my $isolation ('REPEATABLE READ', 'SERIALIZABLE')
{
	conflict("UPDATE, $isolation", q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{UPDATE work SET x = llm_invoke('m', body)}, isolation => $isolation);
	conflict("FOR UPDATE, $isolation", q{UPDATE work SET body = 'changed' WHERE id IN (3, 9)}, q{SELECT id, llm_invoke('m', body) FROM work FOR UPDATE}, isolation => $isolation);
}

# Waiting for a row is not time of the calls that are out: they could neither send nor take their answers.
{
	my ($one, $other) = map { new_session($node) } 1, 2;

	ask(q{DROP TABLE IF EXISTS work; CREATE TABLE work AS SELECT i AS id, 'doc ' || i AS body, NULL::text AS x FROM generate_series(1, 100) i});
	$one->value(q{BEGIN; UPDATE work SET body = 'changed' WHERE id = 3});
	$other->start(q{UPDATE work SET x = llm_invoke('a', body, '{"timeout_ms": 1000}')});
	wait_for($node, sub { ask("SELECT count(*) FROM pg_stat_activity WHERE pid = $other->{pid} AND wait_event_type = 'Lock'") eq '1' }, 'a wait for the lock');
	sleep 3.5;
	$one->value('COMMIT');
	is($other->finish->{err}, '', 'a wait for a lock that is longer than calls may take');
	is(ask('SELECT count(*) FROM work WHERE x = body'), 100, '... all rows are right');
	nothing_held($node, '... nothing is held');
	$other->start(q{SELECT count(llm_invoke('a', 'slow ' || body, '{"route": "hang", "timeout_ms": 500}')) FROM work});
	is($other->finish->{sqlstate}, 'LM003', 'a call that gets no answer still ends');
	$_->quit foreach $one, $other;
}

# Who waits for a row holds no place that whoever has the row may need: statements that lock rows work in batches.
foreach my $case (
	[ 'UPDATE', q{UPDATE work SET x = llm_invoke('q', body)} ],
	[ 'DELETE', q{DELETE FROM work WHERE llm_invoke('q', body) < 'a'}, 0 ],
	[ 'FOR UPDATE', q{SELECT id, llm_invoke('q', body) FROM work FOR UPDATE} ],
	[ 'UPDATE RETURNING', q{UPDATE work SET x = 'x' RETURNING llm_invoke('q', body)} ])
{
	my ($name, $statement, $waits) = @$case;
	my ($one, $other) = map { new_session($node) } 1, 2;

	ask(q{DROP TABLE IF EXISTS work; CREATE TABLE work AS SELECT i AS id, 'doc ' || i AS body, NULL::text AS x FROM generate_series(1, 20) i});
	$one->value(q{BEGIN; UPDATE work SET body = 'changed' WHERE id = 3});
	$other->start($statement);
	if ($waits // 1)
	{
		wait_for($node, sub { ask("SELECT count(*) FROM pg_stat_activity WHERE pid = $other->{pid} AND wait_event_type = 'Lock'") eq '1' }, 'a wait for the lock');
		is(ask('SELECT count(*) FROM llm_lease'), 0, "$name: nothing is out while it waits for a row");
	}
	is($one->query(q{SELECT llm_invoke('q', 'mine', '{"max_wait_ms": 20000}')})->{out}, 'mine', "$name: whoever has the row gets an answer");
	$one->value('COMMIT');
	is($other->finish->{err}, '', "$name: and then the other");
	$_->quit foreach $one, $other;
}

# A queue: two workers take three rows each, hold them, and no row is asked for twice.
foreach my $on (qw(off on))
{
	my ($one, $other) = map { new_session($node) } 1, 2;
	my ($calls, @ids);

	ask(q{DROP TABLE IF EXISTS work; CREATE TABLE work AS SELECT i AS id, 'doc ' || i AS body, NULL::text AS x FROM generate_series(1, 20) i});
	$_->query("SET pgllm.concurrent_scan = $on; BEGIN") foreach $one, $other;
	$since = $simulator->last_entry;
	$_->start(q{UPDATE work SET x = y FROM (SELECT id, llm_invoke('a', body) AS y FROM work WHERE x IS NULL ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED) s WHERE s.id = work.id RETURNING work.id})
	  foreach $one, $other;
	@ids = map { split /\n/, $_->finish->{out} } $one, $other;
	$_->query('COMMIT') foreach $one, $other;
	is(join(' ', sort { $a <=> $b } @ids), '1 2 3 4 5 6', "a queue of two workers, $on: no row twice");
	cmp_ok(sent($since), '<=', $on eq 'on' ? 6 : 12, "a queue of two workers, $on: requests");
	$_->quit foreach $one, $other;
}

# ---- privileges ------------------------------------------------------------------------------------

ask(<<'SQL');
DROP TABLE IF EXISTS work;
CREATE TABLE work AS SELECT i AS id, 'doc ' || i AS body, NULL::text AS x FROM generate_series(1, 20) i;
CREATE ROLE granted; CREATE ROLE stranger; CREATE ROLE barred;
GRANT SELECT, UPDATE ON docs, work TO granted, stranger, barred;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO granted, stranger;
SELECT llm_grant_tenant('m', 'granted');
REVOKE EXECUTE ON FUNCTION llm_invoke(text, text, jsonb) FROM PUBLIC;
SELECT llm_grant_tenant('m', 'barred');
REVOKE EXECUTE ON FUNCTION llm_invoke(text, text, jsonb) FROM barred;
CREATE FUNCTION definer(n int) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT string_agg(llm_invoke('m', body), ',' ORDER BY id) FROM docs WHERE id <= n $$;
CREATE FUNCTION defined() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN QUERY SELECT llm_invoke('m', body) FROM docs WHERE id <= 9 ORDER BY id; END $$;
CREATE FUNCTION leak(t text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE 'seen %', t; RETURN true; END $$;
CREATE TABLE policed AS SELECT * FROM docs WHERE id <= 20;
GRANT SELECT ON policed TO granted;
CREATE POLICY p ON policed USING (llm_invoke('m', body) < 'doc 15');
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
CREATE VIEW guarded WITH (security_barrier) AS SELECT id, body FROM docs WHERE id <= 20 AND llm_invoke('m', body) < 'doc 15';
GRANT SELECT ON guarded TO granted;
CREATE VIEW shown AS SELECT id, llm_invoke('m', body) AS answer FROM docs WHERE id <= 9;
GRANT SELECT ON shown TO granted, barred;
SQL
my $nine = q{SELECT id, llm_invoke('m', body) FROM docs WHERE id <= 9};

like(same('a role that may', 'SET ROLE granted', $nine), qr/^9\|doc 9$/m, 'it may');
like(same('a role without the tenant', 'SET ROLE stranger', $nine, 'UPDATE docs SET body = llm_invoke(\'m\', body)'), qr/42501/, 'it may not');
like(same('a role without EXECUTE', 'SET ROLE barred', $nine, "$nine LIMIT 0", "EXPLAIN (COSTS OFF) SELECT 1"), qr/42501 permission denied for function llm_invoke/, 'it may not');
same('a view of somebody else', 'SET ROLE granted', 'SELECT * FROM shown', 'SET ROLE barred', 'SELECT * FROM shown');
same('a function with the rights of its owner', 'SET ROLE barred', 'SELECT definer(5)', 'SELECT * FROM defined()');
same('roles that change inside a transaction', 'BEGIN; SET ROLE granted', "DECLARE c CURSOR FOR $nine; FETCH 2 FROM c", 'SET ROLE stranger', 'FETCH 1 FROM c', 'ROLLBACK') if 0;
like(same('a policy with a call', 'SET ROLE granted', 'SELECT id, llm_invoke(\'m\', body) FROM policed ORDER BY id', 'SELECT count(*) FROM policed WHERE leak(body)'), qr/^14\|doc 14$/m, 'it filters');
{
	my %seen;

	foreach my $on (qw(off on))
	{
		my $own = new_session($node);
		$own->query("SET pgllm.concurrent_scan = $on; SET ROLE granted");
		$seen{$on} = join ' ', $own->query('SELECT id FROM guarded WHERE leak(body)')->{err} =~ /seen doc (\d+)/g;
		$seen{$on} .= '/' . join ' ', $own->query('SELECT id FROM policed WHERE leak(body)')->{err} =~ /seen doc (\d+)/g;
		$own->quit;
	}
	is($seen{on}, $seen{off}, 'what a barrier hides is not shown');
	unlike($seen{on}, qr/\b(?:2|9|16)\b/, '... no row that the model rejects');
}
same('EXECUTE is revoked after PREPARE', "SET plan_cache_mode = force_generic_plan; PREPARE p AS $nine", 'SET ROLE granted', 'EXECUTE p', 'RESET ROLE',
	'BEGIN; REVOKE EXECUTE ON FUNCTION llm_invoke(text, text, jsonb) FROM granted', 'SET LOCAL ROLE granted', 'EXECUTE p', 'ROLLBACK', 'SET ROLE granted', 'EXECUTE p');
same('a tenant is revoked between FETCHes', "BEGIN; DECLARE c CURSOR FOR $nine; FETCH 1 FROM c", 'DELETE FROM llm_quota WHERE tenant = \'m\'', 'FETCH 1 FROM c', 'ROLLBACK');
same('DISCARD between executions', "PREPARE p AS $nine", 'EXECUTE p', 'DISCARD PLANS', 'EXECUTE p', 'DISCARD ALL', "PREPARE p AS $nine", 'EXECUTE p');
same('DISCARD PLANS beside an open cursor', "BEGIN; DECLARE c CURSOR FOR $nine; FETCH 2 FROM c", 'DISCARD PLANS', 'FETCH ALL FROM c', 'COMMIT');
same('the table changes between executions', 'CREATE TEMP TABLE t AS SELECT * FROM docs WHERE id <= 5', q{PREPARE p AS SELECT llm_invoke('m', body) FROM t}, 'EXECUTE p',
	'ALTER TABLE t ADD extra int', 'EXECUTE p', 'CREATE INDEX ON t (id)', 'EXECUTE p', 'DROP TABLE t', 'EXECUTE p');
same('the function changes between executions', "BEGIN; CREATE FUNCTION ask(text, text) RETURNS text LANGUAGE sql AS \$\$ SELECT llm_invoke(\$1, \$2) \$\$",
	q{PREPARE p AS SELECT ask('m', body) FROM docs WHERE id <= 5}, 'EXECUTE p', "CREATE OR REPLACE FUNCTION ask(text, text) RETURNS text LANGUAGE sql AS \$\$ SELECT 'no ' || \$2 \$\$", 'EXECUTE p',
	"CREATE OR REPLACE FUNCTION ask(text, text) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN RETURN llm_invoke(\$1, \$2); END \$\$", 'EXECUTE p', 'DROP FUNCTION ask(text, text)', 'EXECUTE p', 'ROLLBACK');
$node->safe_psql('postgres', 'CREATE DATABASE scratch');
{
	my $own = new_session($node, database => 'scratch');

	$own->value('CREATE EXTENSION pgllm; CREATE TABLE docs AS SELECT i AS id, \'doc \' || i AS body FROM generate_series(1, 9) i');
	$own->value('INSERT INTO llm_model (model) VALUES (\'x\'); INSERT INTO llm_shard (shard, provider) VALUES (\'x\', \'mock\');'
		  . q{INSERT INTO llm_target (target, shard, model, model_id, parameters) VALUES ('x', 'x', 'x', 'x', '{"echo": true, "latency_ms": 5}');}
		  . q{INSERT INTO llm_route (route, target) VALUES ('x', 'x'); INSERT INTO llm_tenant (tenant, route) VALUES ('m', 'x'); INSERT INTO llm_quota (tenant, rpm) VALUES ('m', 100000)});
	$own->value('SET plan_cache_mode = force_generic_plan; PREPARE p AS ' . $nine);
	is(() = $own->value('EXECUTE p') =~ /\|doc /g, 9, 'a prepared statement');
	$own->value('BEGIN; DROP EXTENSION pgllm');
	like($own->query('EXECUTE p')->{sqlstate}, qr/^42/, 'the extension is dropped');
	$own->value('ROLLBACK');
	is(() = $own->value('EXECUTE p') =~ /\|doc /g, 9, '... and is not');
	$own->value("BEGIN; DECLARE c CURSOR FOR $nine; FETCH 2 FROM c");
	like($own->query('DROP EXTENSION pgllm; FETCH ALL FROM c')->{sqlstate}, qr/^(?:42704|XX000|)$/, 'it is dropped beside an open cursor');
	$own->query('ROLLBACK');
	$own->value('DROP EXTENSION pgllm; CREATE EXTENSION pgllm');
	is($own->query('EXECUTE p')->{sqlstate}, '42704', 'made anew, it knows no tenant');
	$own->quit;
}

# triggers, deferred ones among them
ask(<<'SQL');
CREATE TABLE tt (id int, body text); CREATE TABLE log (n int, t text);
CREATE FUNCTION log_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO log SELECT NEW.id, string_agg(llm_invoke('m', NEW.body || d.body), ',' ORDER BY d.id) FROM docs d WHERE d.id <= 3; RETURN NULL; END $$;
CREATE FUNCTION fail_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.id = 12 THEN PERFORM llm_invoke('m', 'x', '{"route": "mbad"}'); END IF; RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON tt DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log_row();
SQL
same('deferred triggers', 'TRUNCATE tt, log', q{BEGIN; INSERT INTO tt SELECT id, llm_invoke('m', body) FROM docs WHERE id <= 12}, 'COMMIT', 'SELECT * FROM log ORDER BY n', 'SELECT * FROM tt ORDER BY id');
ask('CREATE TRIGGER fails BEFORE INSERT ON tt FOR EACH ROW EXECUTE FUNCTION fail_row()');
same('a trigger that fails', 'TRUNCATE tt, log', q{INSERT INTO tt SELECT id, llm_invoke('m', body) FROM docs WHERE id <= 100}, 'SELECT count(*) FROM log', 'SELECT count(*) FROM tt');

# prompts of all kinds
same('prompts of all kinds', q{SELECT i, llm_invoke('m', p) FROM (VALUES (1, NULL), (2, 'x'), (3, 'ünï ' || chr(128512)), (4, repeat('long ', 100))) v (i, p)},
	q{SELECT i, llm_invoke('m', p) FROM (VALUES (1, 'a'), (2, NULL), (3, '')) v (i, p)}, q{SELECT llm_invoke(t, 'x') FROM (VALUES ('m'), (NULL)) v (t)},
	q{SELECT llm_invoke('m', 'x', o::jsonb) FROM (VALUES ('{}'), (NULL)) v (o)}, q{SELECT llm_invoke('m', 'x', o::jsonb) FROM (VALUES ('{}'), ('[]')) v (o)},
	q{SELECT llm_invoke('m', p) FROM (VALUES ('x'), (repeat('x', 20000000))) v (p)});
{
	my $own = new_session($node, encoding => 'LATIN1');
	my %got = map { $own->query("SET pgllm.concurrent_scan = $_"); ($_ => $own->value("SELECT llm_invoke('m', p) FROM (VALUES ('caf\xe9'), ('x')) v (p)")) } qw(off on);
	is($got{on}, "caf\xe9\nx", 'a client that speaks LATIN1');
	is($got{on}, $got{off}, '... and without the scan');
	is($own->query(q{SELECT llm_invoke('m', p) FROM (VALUES (chr(8364)), ('x')) v (p)})->{sqlstate}, '22P05', '... and cannot read the answer');
	$own->quit;
}

# plans of other kinds beneath
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0';
ask(q{CREATE FUNCTION ask_anywhere(tenant text, prompt text, options jsonb DEFAULT '{}') RETURNS text LANGUAGE c VOLATILE PARALLEL SAFE AS '$libdir/pgllm', 'pgl_llm_invoke'});
same('a parallel plan', $parallel, q{SELECT count(*), min(llm_invoke('m', body)) FROM docs}, q{SELECT count(*), min(ask_anywhere('m', body)) FROM docs},
	q{SELECT llm_invoke('m', string_agg(body, ',' ORDER BY id)) FROM docs GROUP BY g ORDER BY g});
like(same('a failure in a parallel worker', $parallel, q{SELECT count(ask_anywhere('m', body, CASE WHEN id % 10 = 0 THEN '{"route": "mbad"}' ELSE '{}' END::jsonb)) FROM docs}), qr/LM003/, 'it is raised');
same('JIT', 'SET jit = on; SET jit_above_cost = 0; SET jit_inline_above_cost = 0; SET jit_optimize_above_cost = 0', $nine, qq{SELECT upper(llm_invoke('m', body)) FROM docs WHERE g < 3 AND id < 20});

# ---- memory ----------------------------------------------------------------------------------------

setup_mock($node, 'large', a => { max_tokens => 10000000, model_columns => { max_output_tokens => 10000000 }, parameters => { echo => \1, latency_ms => 5 } });
{
	my $own = new_session($node);
	my $grown = sub { my ($sql, $value, $name, $most) = @_;
		my $before = resident($own, 'VmHWM');
		is($own->value($sql), $value, "$name: all rows right");
		my $growth = resident($own, 'VmHWM') - $before;
		cmp_ok($growth, '<', $most * $MB, sprintf '%s: memory (%.1f MB)', $name, $growth / $MB); };
	my $ask = sub { "SELECT count(*), sum(length(x)), count(*) FILTER (WHERE x = repeat('x', $_[1]) || i) FROM (SELECT i, llm_invoke('large', repeat('x', $_[1]) || i) AS x FROM generate_series(1, $_[0]) AS i OFFSET 0) s" };

	$own->value(q{SET work_mem = '4MB'; SET pgllm.max_concurrency = 64});
	$own->value($ask->(1, $MB));
	$grown->($ask->(64, $MB), '64|' . (64 * $MB + 119) . '|64', '64 prompts of 1 MB', 40);
	$own->value("CREATE TEMP TABLE big AS SELECT i AS id, repeat('x', $MB) || i AS body FROM generate_series(1, 64) i");
	$grown->(q{SELECT count(*) FROM (SELECT body, llm_invoke('large', body) AS x FROM big OFFSET 0) s WHERE x = body}, 64, '64 prompts of 1 MB from a table', 40);
	$grown->(q{SELECT count(*) FROM (SELECT body, llm_invoke('large', 'a' || llm_invoke('large', body)) AS x FROM big OFFSET 0) s WHERE x = 'a' || body}, 64, '64 nested prompts of 1 MB', 40);
	$own->value(q{SET pgllm.response_max_size = '32MB'});
	$grown->($ask->(8, 10 * $MB), '8|' . (80 * $MB + 8) . '|8', '8 prompts of 10 MB', 140);
	$own->quit;

	$own = new_session($node);
	my $many = sub { "SELECT count(llm_invoke('m', 'prompt ' || i)) FROM generate_series(1, $_[0]) AS i" };
	$own->value($many->(2000));
	$grown->($many->(20000), 20000, '20000 rows', 8);
	my $rescans = sub { "SELECT count(x) FROM generate_series(1, $_[0]) AS i, LATERAL (SELECT llm_invoke('m', i || d.body) AS x FROM (VALUES ('a'), ('b')) d (body) OFFSET 0) s" };
	$own->value($rescans->(300));
	$grown->($rescans->(3000), 6000, 'many rescans', 3);
	my $cut = sub { "SELECT count(x) FROM generate_series(1, $_[0]) AS i, LATERAL (SELECT x FROM (SELECT llm_invoke('m', i || d.body) AS x FROM docs d OFFSET 0) s LIMIT 2) t" };
	$own->value($cut->(300));
	$grown->($cut->(2000), 4000, 'many rescans of what is cut short', 3);
	cmp_ok(call_contexts($own), '<=', $SPARE_CALLS, 'memory: none of calls in the end');
	$own->quit;
}
nothing_held($node, 'in the end: nothing is held');

$admin->quit;
$simulator->stop;
$node->stop;
done_testing();
