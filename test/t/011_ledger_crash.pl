# 011_ledger_crash.pl - processes and servers die under traffic; the ledger tells the truth after it
#
# Eight sessions call, one call after the other, and write down every answer they get.  Then a
# backend or the ledger writer is killed, the writer is terminated, or the server is stopped.  After
# the restart:
#
#   result   every answer that a client got has its row; requests without one are those of calls that
#            were out, and only if processes were killed
#   intent   every request that the simulator received has exactly one row; rows without a request
#            are calls that were out, and say that nobody knows
#   both     no attempt has two rows, tokens and money are the simulator's, budgets have spent what
#            the ledger says
#
# PGLLM_ROUNDS sets the number of rounds (20): five ways to die, at the two levels in turn.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $ROUNDS = $ENV{PGLLM_ROUNDS} || 20;
my $CLIENTS = 8;
my $STATEMENTS = 3000;    # of each client; far more than it gets to
my %PRICE = ($NOVA_LITE => [ 0.06, 0.24 ], $NOVA_PRO => [ 0.8, 3.2 ]);
my @WAYS = ('kill -9 of a backend', 'kill -9 of the writer', 'a terminated writer', 'an immediate stop', 'a fast stop');

my $node = pgllm_cluster('ledger_crash', conf => "restart_after_crash = on\n");
my $simulator = PgllmTest::Simulator->new;
$simulator->configure({ defaults => { latency_ms => 5, latency_jitter_ms => 20 } });

setup_bedrock(
	$node, $simulator, 'acme',
	a => { max_tokens => 200 },
	b => { account => $ACCOUNT_2, model_id => $NOVA_PRO, max_tokens => 200 });
set_price($node, 'acme_a', input => $PRICE{$NOVA_LITE}[0], output => $PRICE{$NOVA_LITE}[1]);
set_price($node, 'acme_b', input => $PRICE{$NOVA_PRO}[0], output => $PRICE{$NOVA_PRO}[1]);
insert_rows($node, llm_quota => [ { tenant => 'acme', budget_usd => 1000000, budget_period => 'month' } ]);
setup_mock($node, 'next', a => {});
my $budget = $node->safe_psql('postgres', 'SELECT quota_id FROM llm_quota WHERE budget_usd IS NOT NULL');

# ---- traffic ---------------------------------------------------------------------------------------

# One line per answer: call, attempts, SQLSTATE or "ok".  psql writes each as soon as it has it.
my $script = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
append_to_file($script, join '', map {
	"SELECT concat_ws(' ', call_id, attempts, coalesce(sqlstate, 'ok')) FROM llm_try_invoke('acme', repeat('x', 1 + $_ % 97) || '$_');\n"
} 1 .. $STATEMENTS);

sub start_traffic
{
	my ($level) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my @clients;

	local $ENV{PGOPTIONS} = "-c pgllm.ledger_sync=$level";
	local $ENV{PGAPPNAME} = 'traffic';
	foreach my $i (1 .. $CLIENTS)
	{
		push @clients,
		  {
			out => "$directory/out.$i",
			run => IPC::Run::start(
				[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $script, '-d', $node->connstr('postgres') ],
				'<', \undef, '>', "$directory/out.$i", '2>', "$directory/err.$i", IPC::Run::timeout(4 * $GUARD)),
		  };
	}
	return @clients;
}

# Their answers: (call => attempts) of those that were told of an end.
sub finish_traffic
{
	my %answer;

	foreach my $client (@_)
	{
		$client->{run}->finish;
		foreach (split /\n/, PostgreSQL::Test::Utils::slurp_file($client->{out}))
		{
			$answer{$1} = $2 if /^([0-9a-f-]{36}) (\d+) \w+$/;
		}
	}
	return %answer;
}

sub terminate_traffic
{
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'traffic'});
	return;
}

# The simulator has seen so many more requests.
sub wait_requests
{
	my ($more) = @_;
	my $until = $simulator->total('requests') + $more;

	wait_for($node, sub { $simulator->total('requests') >= $until }, "$more more requests");
	return;
}

# ---- ways to die -------------------------------------------------------------------------------------

sub writer_pid
{
	my $pid;

	wait_for($node, sub { $pid = ledger_status($node)->{writer_pid} }, 'a ledger writer');
	return $pid;
}

sub up { return ($node->psql('postgres', 'SELECT 1'))[0] == 0; }

sub die_by
{
	my ($way) = @_;

	if ($way eq 'kill -9 of a backend')
	{
		kill 'KILL', $node->safe_psql('postgres', q{SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'traffic'});
	}
	elsif ($way eq 'kill -9 of the writer')
	{
		kill 'KILL', writer_pid();
	}
	elsif ($way eq 'a terminated writer')
	{
		my $writer = writer_pid();

		$node->safe_psql('postgres', "SELECT pg_terminate_backend($writer)");
		wait_requests(100);
		wait_for($node, sub { my $now = writer_pid(); $now && $now != $writer }, 'another writer');
		terminate_traffic();
	}
	else
	{
		$node->stop($way =~ /immediate/ ? 'immediate' : 'fast');
	}
	return;
}

# ---- rounds --------------------------------------------------------------------------------------------

foreach my $round (1 .. $ROUNDS)
{
	my $way = $WAYS[ ($round - 1) % @WAYS ];
	# every way at both levels, after ten rounds
	my $level = ($round + int(($round - 1) / 5)) % 2 ? 'intent' : 'result';
	my $killed = $way =~ /kill|immediate/;
	my $name = "round $round, $way, $level";
	my $since = $simulator->last_entry;
	# rows are of this round from here on
	my $after = $node->safe_psql('postgres', 'SELECT clock_timestamp()');

	$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'Throttling', times => 2 }, { kind => 'reply', times => 20 }, { kind => 'Throttling', times => 2 });
	my @clients = start_traffic($level);
	wait_requests(60 + int(rand 60));
	die_by($way);
	my %answer = finish_traffic(@clients);
	$node->start if $way =~ /stop/;
	wait_for($node, \&up, 'the server after a crash');
	$simulator->wait_in_flight(0);
	$simulator->clear_faults;

	# whoever calls next starts the writer, if nothing else has
	try_call($node, 'next', 'hello');
	wait_for($node, sub { ledger_status($node)->{recovered} }, 'the recovery of the ledger');
	ok(flush_ledger($node), "$name: llm_flush");
	cmp_ok(scalar keys %answer, '>', 20, '... clients have got answers');
	my ($rows, $requests) = ledger_is_simulator(
		$node, $simulator, '... the ledger is the simulator\'s',
		since => $since,
		where => "tenant = 'acme' AND started_at >= '$after'",
		price => \%PRICE,
		unknown => $CLIENTS,
		missing => $level eq 'result' && $killed ? $CLIENTS : 0);
	my @lost = grep { !$rows->{"$_/$answer{$_}"} } sort keys %answer;
	is("@lost", '', '... every answer that a client got has its row');
	my @several = grep { $answer{$_} > 1 } keys %answer;
	note scalar @several . ' answers after fallbacks, outcomes: '
	  . join(' ', sort map { $_->{outcome} } grep { $_->{outcome} !~ /success|failed/ } values %$rows);
	is( $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM llm_intent),
			(SELECT count(*) FROM (SELECT 1 FROM llm_ledger GROUP BY call_id, attempt HAVING count(*) > 1) AS twice)}),
		'0|0', '... no intent is left, no attempt has two rows');
	# a budget is known once somebody has called under it
	try_call($node, 'acme', 'hello');
	flush_ledger($node);
	is( $node->safe_psql('postgres', "SELECT round(spent_usd * 1e9), round(reserved_usd * 1e9) FROM llm_budget WHERE quota_id = $budget"),
		$node->safe_psql('postgres', q{SELECT sum(cost_nano_usd), 0 FROM llm_ledger
			WHERE tenant = 'acme' AND started_at >= date_trunc('month', now(), 'UTC')}),
		'... the budget has spent what the ledger says');
	nothing_held($node, '... nothing is held');
}

# Nobody calls after a crash: llm_flush sees to it that what was out is in the ledger.
foreach my $way ('an immediate stop', 'kill -9 of a backend')
{
	my $session = new_session($node);

	$session->value('SET pgllm.ledger_sync = intent');
	$simulator->fault({}, { kind => 'hang' });
	$session->start(q{SELECT llm_invoke('acme', 'hello')});
	$simulator->wait_in_flight(1);
	if ($way =~ /stop/)
	{
		$node->stop('immediate');
		$session->kill_client;
		$node->start;
	}
	else
	{
		kill 'KILL', $session->pid;
		$session->finish;
		wait_for($node, \&up, 'the server after a crash');
	}
	ok(flush_ledger($node), "llm_flush as the first thing after $way");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM llm_intent'), 0, '... leaves no intent of the earlier run');
}

is($node->safe_psql('postgres', q{SELECT bool_and(charge = 'reserved' AND cost_nano_usd = reserved_nano_usd AND status IS NULL)
	FROM llm_ledger WHERE outcome = 'unknown'}), 't', 'unknown rows are charged at their reservation')
  if $ROUNDS > 1;

$simulator->stop;
$node->stop;
done_testing();
