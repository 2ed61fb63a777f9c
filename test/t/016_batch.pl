# 016_batch.pl - how far ahead a batch works: calls in flight, and the memory it takes
#
# A batch starts calls while earlier ones are still out, as many as pgllm.max_concurrency and as
# much as fits into work_mem.  One call hangs here, or all do, so that a batch comes to a halt, and
# what it has started by then is counted.  Nothing waits for the ledger, which would look like a halt.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $ROWS = 1000;
my $MB = 1024 * 1024;

my $node = pgllm_cluster('batch', conf => "jit = off\npgllm.statement_max_calls = -1\npgllm.ledger_sync = off\n");
my $admin = new_session($node, name => 'admin');
my %large = (max_tokens => 1000000, model_columns => { max_output_tokens => 1000000 });

setup_mock($node, 'quick', a => {});
setup_mock($node, 'halting', a => { parameters => { script => ['hang'], reply => 'r' x 2000 } });
setup_mock($node, 'hanging', a => { %large, parameters => { script => ['hang'], repeat => \1 } });
setup_mock($node, 'large', a => { %large, parameters => { echo => \1, latency_ms => 5 } });

sub ask { return $admin->value($_[0]); }

# Wait until a session waits for its calls and starts no more; how many are in flight then.
sub halted
{
	my ($session) = @_;
	my $pid = $session->pid;
	my $last = '';

	wait_for(
		$node,
		sub {
			my $now = ask("SELECT a.wait_event_type, l.in_flight, (SELECT sum(attempts) FROM llm_stat_target)"
				  . " FROM pg_stat_activity AS a JOIN llm_stat_activity AS l USING (pid) WHERE a.pid = $pid");
			my $same = $now =~ /^Extension\|[1-9]/ && $now eq $last;

			$last = $now;
			return $same;
		},
		'a batch to halt');
	return (split /\|/, $last)[1];
}

sub cancel
{
	my ($session, $name) = @_;

	ask('SELECT pg_cancel_backend(' . $session->pid . ')');
	is($session->finish->{sqlstate}, '57014', "$name: cancelled");
	nothing_held($node, "$name: nothing is held");
	is($session->value("SELECT llm_invoke('quick', 'next')"), 'mock reply', "$name: the next statement works");
	is($session->value('SELECT count(*) FROM pg_cursors'), 0, "$name: no cursor is left");
	return;
}

sub query { return "llm_invoke_query('$_[0]', \$\$SELECT i, $_[1] FROM generate_series(1, $_[2]) AS i\$\$)"; }
sub array { return "llm_invoke_many('$_[0]', ARRAY(SELECT $_[1] FROM generate_series(1, $_[2]) AS i))"; }

my $session = new_session($node);

# ---- a slow head does not hold up the others -------------------------------------------------------

foreach my $form ([ 'a query', \&query ], [ 'an array', \&array ])
{
	my ($name, $make) = @$form;
	my $from = $make->('halting', q{'p' || i}, $ROWS);

	ask('SELECT llm_stat_reset()');
	$session->value(q{SET pgllm.max_concurrency = 2; SET work_mem = '64MB'});
	$session->start("SELECT count(*) FROM $from");
	is(halted($session), 1, "$name: one call hangs");
	is(ask('SELECT sum(attempts) FROM llm_stat_target'), $ROWS, "$name: all others have been answered meanwhile");
	cancel($session, $name);

	# answers of 2 kB that wait for it
	ask('SELECT llm_stat_reset()');
	$session->value(q{SET work_mem = '256kB'});
	$session->start("SELECT count(*) FROM $from");
	is(halted($session), 1, "$name, little memory: one call hangs");
	my $answered = ask('SELECT sum(attempts) FROM llm_stat_target') - 1;
	ok($answered > 0 && $answered < 256 / 2, "$name, little memory: no more answers are kept than fit ($answered)");
	cancel($session, "$name, little memory");
}
$session->value('RESET ALL');

# ---- prompts in flight are held against work_mem --------------------------------------------------

# of each prompt two copies are counted
foreach my $case (
	[ '4MB', \&query, 2 ], [ '4MB', \&array, 2 ], [ '64kB', \&query, 1 ], [ '64kB', \&array, 1 ],
	[ '1GB', \&query, 32 ], [ '1GB', \&array, 32 ])
{
	my ($memory, $make, $in_flight) = @$case;
	my $from = $make->('hanging', q{repeat('x', 1048576) || i}, 64);
	my $name = ($make == \&query ? 'a query' : 'an array') . " of 64 prompts of 1 MB, work_mem = $memory";

	$session->value("SET work_mem = '$memory'");
	$session->start("SELECT count(*) FROM $from");
	is(halted($session), $in_flight, "$name: $in_flight in flight");
	cancel($session, $name);
}
$session->quit;

# The resident memory of a session at its highest.
sub peak
{
	my ($session) = @_;
	my ($peak) = PostgreSQL::Test::Utils::slurp_file('/proc/' . $session->pid . '/status') =~ /^VmHWM:\s+(\d+) kB/m;

	return $peak * 1024;
}

# 64 prompts and 64 answers of 1 MB: the answers go into a file, as do the keys and what is behind
$session = new_session($node);
$session->value(q{SET work_mem = '4MB'; SET pgllm.memo_size = 0; SET pgllm.max_concurrency = 64});
my $once = 'SELECT count(*), sum(length((result).response)) FROM ';
$session->value($once . query('large', q{repeat('x', 1048576)}, 1));
my $before = peak($session);
is($session->value($once . query('large', q{repeat('x', 1048576)}, 64)), '64|' . 64 * $MB, '64 prompts and answers of 1 MB');
my $grown = peak($session) - $before;
cmp_ok($grown, '<', 32 * $MB, 'they are not in memory together');
note sprintf 'peak before %.1f MB, grown by %.1f MB', $before / $MB, $grown / $MB;
$session->quit;

$admin->quit;
$node->stop;
done_testing();
