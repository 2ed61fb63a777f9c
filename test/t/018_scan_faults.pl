# 018_scan_faults.pl - many calls in flight inside one statement, and something goes wrong
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
my %price = ($NOVA_LITE => [ 0.06, 0.24 ], $NOVA_PRO => [ 0.8, 3.2 ]);

my $node = pgllm_cluster('scan_faults', conf => <<'CONF');
jit = off
pgllm.statement_max_calls = -1
pgllm.max_concurrency = 32
pgllm.memo_size = 0
pgllm.ledger_sync = off
deadlock_timeout = 200ms
CONF
my $simulator = PgllmTest::Simulator->new;
my $admin = new_session($node, name => 'admin');

sub ask { return $admin->value($_[0]); }

# Tenant a: the wire, whose model answers with the prompt.  Route "hang" never answers, "bad" refuses.
setup_bedrock($node, $simulator, 'hang', a => { account => $ACCOUNT_2, model_id => $NOVA_PRO }, -policy => { max_attempts => 1 });
setup_bedrock($node, $simulator, 'bad', a => { account => '333333333333' }, -policy => { max_attempts => 1 });
setup_bedrock($node, $simulator, 'a', echo => {}, -tenant => { extra_routes => ['hang', 'bad'] }, -policy => { max_attempts => 1 });
$simulator->fault({ account => $ACCOUNT_2 }, { kind => 'hang', times => -1 });
$simulator->fault({ account => '333333333333' }, { kind => 'Validation', times => -1 });
$simulator->configure({ models => { $NOVA_LITE => { reply => 'echo', latency_ms => 10, latency_jitter_ms => 10 } } });
set_price($node, 'a_echo', input => 0.06, output => 0.24);
set_price($node, 'bad_a', input => 0.06, output => 0.24);
set_price($node, 'hang_a', input => 0.8, output => 3.2);

# Tenant m: answers inside the server.
setup_mock($node, 'm', quick => { parameters => { echo => \1, latency_ms => 2 } });
insert_rows($node,
	llm_target => [
		{ target => 'mhang', shard => 'm_shard', model => 'm_quick', model_id => 'x', parameters => { script => ['hang'], repeat => \1 } },
		{ target => 'mbad', shard => 'm_shard', model => 'm_quick', model_id => 'x', parameters => { script => ['bad_request'], repeat => \1 } } ],
	llm_route => [ { route => 'mhang', target => 'mhang' }, { route => 'mbad', target => 'mbad' } ]);
$node->safe_psql('postgres', <<'SQL');
UPDATE llm_tenant SET extra_routes = '{mhang,mbad}' WHERE tenant = 'm';
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
			is(call_contexts($session), 0, "$name, $how: no memory of calls");
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
	is(call_contexts($session), 0, "$name, statement_timeout: no memory of calls");
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

$admin->quit;
$simulator->stop;
$node->stop;
done_testing();
