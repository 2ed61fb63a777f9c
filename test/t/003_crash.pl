# 003_crash.pl - what is left when a process dies
#
# kill -9 of a backend during a call, an immediate stop under traffic, and the death of one that
# waits in a queue.  Shared memory starts over after a crash, so nothing may be held, and limits work
# again.  A call that hangs must not block what the rest of the server does: DROP DATABASE of another
# database waits for every backend to answer a barrier.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = pgllm_cluster('crash', conf => "restart_after_crash = on\n");
my $simulator = PgllmTest::Simulator->new;

setup_bedrock($node, $simulator, 'wire', a => {}, b => { account => $ACCOUNT_2 }, -quota => { max_inflight => 40 });
setup_mock($node, 'mock', a => { parameters => { latency_ms => 5 } }, -quota => { max_inflight => 40 });
setup_mock(
	$node, 'queue',
	a => { parameters => { latency_ms => 100, script => ['hang'] } },
	-quota => { max_inflight => 1 },
	-tenant => { on_limit => 'wait' });

sub leases { return $node->safe_psql('postgres', 'SELECT count(*) FROM llm_lease'); }

sub hang
{
	my ($tenant) = @_;
	my $session = new_session($node);

	$session->start("SELECT llm_invoke('$tenant', 'hello')");
	wait_for($node, q{SELECT count(*) > 0 FROM llm_lease});
	return $session;
}

# ---- DROP DATABASE ----------------------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE other');
$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'hang', times => -1 });
my $hanging = hang('wire');
$simulator->wait_in_flight(1);
is($node->psql('postgres', 'DROP DATABASE other', timeout => $GUARD), 0, 'DROP DATABASE of another database does not wait for a hung call');
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $batch = new_session($node);
$batch->start(q{SELECT count(*) FROM llm_invoke_many('wire', ARRAY(SELECT 'x' || i FROM generate_series(1, 20) AS i), '{"allow_fallback": false}')});
$simulator->wait_in_flight(21);
is($node->psql('postgres', 'DROP DATABASE other', timeout => $GUARD), 0, '... nor for a batch of them');
is($simulator->total('in_flight'), 21, 'the calls were still out');

# ---- the death of a waiter ----------------------------------------------------------------------------

$node->safe_psql('postgres', "SELECT pg_terminate_backend($_)") foreach $hanging->pid, $batch->pid;
$_->finish foreach $hanging, $batch;
wait_for($node, q{SELECT count(*) = 0 FROM llm_lease});
my $holder = hang('queue');
my @line;
foreach my $i (0 .. 3)
{
	push @line, new_session($node, name => "waiter $i");
	$line[$i]->start(q{SELECT llm_invoke('queue', 'x')});
	wait_for($node, "SELECT max(waiters) = $i + 1 FROM llm_bucket");
}
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $line[0]->pid . ')');
$line[0]->finish;
wait_for($node, q{SELECT max(waiters) = 3 FROM llm_bucket});
wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE objsubid = 19533 AND granted AND pid = } . $line[1]->pid);
pass('when the head dies the next one becomes the head');
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $holder->pid . ')');
$holder->finish;
is(join(' ', map { $_->finish->{out} } @line[ 1 .. 3 ]), 'mock reply mock reply mock reply', 'when the holder dies the line moves on');
nothing_held($node, 'nothing is held');
$_->quit foreach @line[ 1 .. 3 ];

# ---- kill -9 ------------------------------------------------------------------------------------------

# While a session exists that waits for a quota, one that waits for the net, and one that is idle.
$node->safe_psql('postgres', 'SELECT llm_stat_reset()');
$holder = hang('queue');
my $waiter = new_session($node);
$waiter->start(q{SELECT llm_invoke('queue', 'x')});
wait_for($node, q{SELECT max(waiters) = 1 FROM llm_bucket});
$hanging = new_session($node);
$hanging->start(q{SELECT llm_invoke('wire', 'hello')});
$simulator->wait_in_flight(1);
ok(leases() > 0, 'leases are held');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
kill 'KILL', $hanging->pid;
$_->finish foreach $hanging, $holder, $waiter;
wait_for($node, sub { ($node->psql('postgres', 'SELECT 1'))[0] == 0 }, 'recovery after the crash');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the postmaster is the same');
nothing_held($node, 'nothing is held after kill -9 of a backend in a call');
is($node->safe_psql('postgres', q{SELECT coalesce(sum(in_flight), 0) FROM llm_stat_target}), 0, '... nothing is in flight');
$simulator->clear_faults;
is(try_call($node, 'wire', 'hello')->{response}, 'hello', 'the next call works');
is(try_call($node, 'mock', 'hello')->{response}, 'mock reply', '... also over the in-process provider');

# ---- an immediate stop under traffic ---------------------------------------------------------------

my $script = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
append_to_file($script, <<'EOS');
SELECT llm_try_invoke('mock', 'x');
SELECT llm_try_invoke('wire', 'x');
SELECT count(*) FROM llm_invoke_many('mock', ARRAY['a', 'b', 'c']);
EOS
foreach my $mode ('immediate', 'fast')
{
	my ($out, $err) = ('', '');
	my $traffic = IPC::Run::start(
		[ 'pgbench', '-n', '-c', 8, '-T', 60, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(60 + $GUARD));

	wait_for($node, q{SELECT sum(attempts) > 100 FROM llm_stat_target});
	$node->stop($mode);
	$traffic->finish;
	$node->start;
	nothing_held($node, "nothing is held after a stop in mode $mode under traffic");
	is(try_call($node, $_, 'hello')->{sqlstate}, undef, "... a call over $_ works") foreach qw(mock wire);
}
$simulator->wait_in_flight(0);

$simulator->stop;
$node->stop;
done_testing();
