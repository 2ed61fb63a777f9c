# 018_window.pl - how much is in flight: quotas, targets, and the window of a quota domain
#
# A provider that throws back what is above its capacity, as it is met by one statement with more
# in flight than that, by two backends together, and after its limit is gone; a full window, which a
# call waits for if no other domain can take it; and limits in flight, which the concurrency of a
# statement of its own must neither exceed nor be refused by.  The simulator counts what it was
# asked for and what ran at a time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use Test::More;

my $CAPACITY = 8;

my $node = pgllm_cluster('window', conf => "pgllm.memo_size = 0\npgllm.timeout = '120s'");
my $simulator = PgllmTest::Simulator->new;
my $session = new_session($node);
my $serial = 0;

sub value { return $session->value($_[0]); }

sub domain
{
	my ($name, $columns) = @_;

	return $node->safe_psql('postgres', "SELECT $columns FROM llm_breaker WHERE scope = 'domain' AND name = '$name'");
}

# $n prompts, each asked once.
sub many_sql
{
	my ($tenant, $n) = @_;

	$serial++;
	return qq{SELECT count((result).response) || ' of ' || count(*)
		FROM llm_invoke_many('$tenant', ARRAY(SELECT '$serial ' || i FROM generate_series(1, $n) AS i))};
}

sub usage
{
	my ($account) = @_;

	return (grep { $_->{account} eq $account } @{ $simulator->control(GET => '/stats')->{quotas} })[0];
}

sub capacity
{
	my ($concurrent) = @_;

	$simulator->configure(
		{ quotas => [ { concurrent => $concurrent } ], defaults => { latency_ms => 100 } });
	$simulator->reset;
	return;
}

# ---- a provider that takes eight at a time ---------------------------------------------------------

capacity($CAPACITY);
setup_bedrock($node, $simulator, 'many', a => {});
value('SET pgllm.max_concurrency = 64');
is(value(many_sql('many', 300)), '300 of 300', '64 at a time for a provider that takes eight: all are answered');
is(usage($ACCOUNT_1)->{most_running}, $CAPACITY, '... by eight at a time');
my $first = $simulator->total('throttled');
# one burst, and seldom one more; without a window it is as many after each cool-down
cmp_ok($first, '<=', 64 + 40, "... with $first refusals");
is(domain('many_a', 'decrease_cause || failures'), 'throttled0', 'the view says why, and the breaker does not count it');
cmp_ok(domain('many_a', 'coalesce(in_flight_limit, 0)'), '>=', 4, 'the window is about as large');
cmp_ok(domain('many_a', 'in_flight_limit'), '<=', 2 * $CAPACITY, '... as the capacity');
cmp_ok(domain('many_a', 'decreases'), '<=', 8, 'a burst is one event');
cmp_ok(domain('many_a', 'retry_budget'), '>=', 400, '... and costs one retry');

# The same by the scan over a table.
value(q{CREATE TABLE docs AS SELECT i AS id, 'doc ' || i AS body FROM generate_series(1, 100) AS i});
$simulator->reset;
is(value(q{SELECT count(llm_invoke('many', body)) FROM docs}), 100, 'a plain SELECT: all are answered');
cmp_ok($simulator->total('throttled'), '<=', 40, '... with few refusals');
is(usage($ACCOUNT_1)->{most_running}, $CAPACITY, '... by eight at a time');

my @sessions = map { new_session($node, name => "backend $_") } 1 .. 2;
$simulator->reset;
$_->value('SET pgllm.max_concurrency = 64') foreach @sessions;
$_->start(many_sql('many', 150)) foreach @sessions;
is($_->finish->{out}, '150 of 150', 'two backends: all are answered') foreach @sessions;
my $both = $simulator->total('throttled');
cmp_ok($both, '<=', 40, "... with $both refusals: they share one window");
is(usage($ACCOUNT_1)->{most_running}, $CAPACITY, '... by eight at a time');

$simulator->configure({ quotas => [] });
$simulator->reset;
is(value(many_sql('many', 500)), '500 of 500', 'the limit is gone');
is($simulator->total('throttled'), 0, '... nothing is thrown back');
cmp_ok($simulator->total('max_in_flight'), '>=', 4 * $CAPACITY, '... and the window grows with that');

# cold: nothing is held back before somebody complains
setup_bedrock($node, $simulator, 'cold', a => { account => $ACCOUNT_2 });
$simulator->configure({ defaults => { latency_ms => 2000 } });
$simulator->reset;
value('SET pgllm.max_concurrency = 200');
is(value(many_sql('cold', 200)), '200 of 200', 'a domain that was never called');
cmp_ok($simulator->total('max_in_flight'), '>=', 150, '... takes them all at once');
is(domain('cold_a', 'in_flight_limit IS NULL AND decreases = 0'), 't', '... without a bound');

# ---- limits in flight ---------------------------------------------------------------------------------

# refused if more than four are in flight, and the statement could have 200
sub bounded_statement
{
	my ($name, $tenant, @expected) = @_;

	$simulator->configure({ quotas => [ { concurrent => 1000 } ], defaults => { latency_ms => 100 } });
	$simulator->reset;
	is(value(many_sql($tenant, 100)), '100 of 100', "$name: a statement is not refused because of itself");
	is(value("SELECT count(llm_invoke('$tenant', body)) FROM docs"), 100, '... nor is a plain SELECT');
	is(usage($ACCOUNT_1)->{most_running}, 4, '... with four at a time');
	return;
}

setup_bedrock($node, $simulator, 'quota', a => {}, -quota => { max_inflight => 4, on_exceed => 'error' });
bounded_statement('quota', 'quota');
is(value(q{SELECT waits + refused FROM llm_stat_tenant WHERE tenant = 'quota'}), 0, '... and no call has waited');
setup_bedrock($node, $simulator, 'target', a => { max_inflight => 4 });
bounded_statement('target', 'target');
is(value(q{SELECT waits + refused FROM llm_stat_tenant WHERE tenant = 'target'}), 0, '... and no call has waited');
setup_bedrock($node, $simulator, 'spill', a => { max_inflight => 4 }, b => { account => $ACCOUNT_2 });
bounded_statement('target with a fallback', 'spill');
cmp_ok(usage($ACCOUNT_2)->{most_running}, '>', 4, '... the fallback takes the rest');
setup_bedrock($node, $simulator, 'sum', a => { max_inflight => 4 }, b => { account => $ACCOUNT_2, max_inflight => 3 });
bounded_statement('two targets', 'sum');
is(usage($ACCOUNT_2)->{most_running}, 3, '... and three on the other');
is(value(q{SELECT waits + refused FROM llm_stat_tenant WHERE tenant = 'sum'}), 0, '... and no call has waited');

# ---- a full window --------------------------------------------------------------------------------------

# Throttled once, then answered: a window of two.  Two calls that hang fill it.
my $script = { script => [ 'throttled', 'ok', 'hang', 'hang' ], retry_after_ms => 1 };
my @hanging = map { new_session($node, name => "hanging $_") } 1 .. 2;

sub fill_window
{
	my ($tenant, $domain) = @_;

	is(try_columns(try_call($node, $tenant, 'first'), 'response', 'attempts'),
		'response=mock reply attempts=2', "$tenant: throttled, then answered");
	is(domain($domain, 'in_flight_limit'), 2, '... which leaves a window of two');
	$_->start("SELECT llm_invoke('$tenant', 'hanging')") foreach @hanging;
	wait_for($node, sub { domain($domain, 'in_flight') == 2 });
	return;
}

sub empty_window
{
	value('SELECT pg_cancel_backend(' . $_->pid . ')') foreach @hanging;
	is($_->finish->{sqlstate}, '57014', 'cancelled') foreach @hanging;
	return;
}

setup_mock($node, 'full', a => { parameters => $script });
fill_window('full', 'full_a');
is(value(q{SELECT eligible || ' ' || reason || ' ' || (wait_ms IS NULL) FROM llm_explain('full', 'x')}),
	'false domain full_a is busy, 2 in flight true', 'llm_explain says so');
my @waiting = map { new_session($node, name => "waiting $_") } 1 .. 2;
$waiting[0]->start(q{SELECT llm_invoke('full', 'third')});
wait_for($node, q{SELECT count(*) = 1 FROM llm_stat_activity WHERE state = 'queued'});
$waiting[1]->start(q{SELECT llm_invoke('full', 'fourth')});
wait_for($node, q{SELECT count(*) = 2 FROM llm_stat_activity WHERE state = 'queued'});
is(value(q{SELECT attempts FROM llm_stat_target WHERE target = 'full_a'}), 4, 'whoever finds it full waits, with on_limit = error, too');
empty_window();
is($_->finish->{out}, 'mock reply', 'a place is free') foreach @waiting;

# nothing ends: one more passes after a while, so that nobody starves behind a backend that is asleep
setup_mock($node, 'stall', a => { parameters => $script });
fill_window('stall', 'stall_a');
is(value(q{SELECT llm_invoke('stall', 'third')}), 'mock reply', 'a window in which nothing ends lets one more pass');
empty_window();

# The first in the queue does not react, as a backend that waits for its client.  (Called by
# llm_invoke_many it does not sleep in the queue of the lock, which would be another matter.)
setup_mock($node, 'deaf', a => { parameters => $script });
fill_window('deaf', 'deaf_a');
$waiting[0]->start(q{SELECT (result).response FROM llm_invoke_many('deaf', ARRAY['third'])});
wait_for($node, q{SELECT waiters = 1 FROM llm_bucket WHERE name = 'deaf_a' AND kind = 'learnt'});
kill 'STOP', $waiting[0]->pid;
$waiting[1]->start(q{SELECT (result).response FROM llm_invoke_many('deaf', ARRAY['fourth'])});
wait_for($node, q{SELECT waiters = 2 FROM llm_bucket WHERE name = 'deaf_a' AND kind = 'learnt'});
empty_window();
is($waiting[1]->finish->{out}, 'mock reply', 'the second is not held up by a first that does not react');
kill 'CONT', $waiting[0]->pid;
is($waiting[0]->finish->{out}, 'mock reply', '... which has its turn when it does');

setup_mock($node, 'switch', a => { parameters => $script }, b => {}, -policy => { max_attempts => 3 });
value(q{UPDATE llm_route SET enabled = false WHERE target = 'switch_b'});
fill_window('switch', 'switch_a');
value(q{UPDATE llm_route SET enabled = true WHERE target = 'switch_b'});
is(try_columns(try_call($node, 'switch', 'third'), 'target', 'attempts', 'fallback_depth'),
	'target=switch_b attempts=1 fallback_depth=1', 'another domain takes the call at once');
is(value(q{SELECT llm_breaker_reset('switch_a')}), 1, 'an operator lifts the bound');
is(try_columns(try_call($node, 'switch', 'fourth'), 'target', 'attempts'), 'target=switch_a attempts=1', '... and there is room');
empty_window();

# A call that waits for its domain to cool down does not keep those of another from going on.
setup_mock($node, 'cooling', a => { parameters => { script => ['throttled'], retry_after_ms => 100000 } });
setup_mock($node, 'other', a => {});
$waiting[0]->start(q{SELECT count(llm_invoke(CASE id WHEN 1 THEN 'cooling' ELSE 'other' END, body)) FROM docs});
wait_for($node, q{SELECT successes >= 20 FROM llm_stat_target WHERE target = 'other_a'});
ok(!$waiting[0]->ended, 'the first row waits for its cool-down, others of the statement go on');
is(value(many_sql('other', 50)), '50 of 50', '... and those of other sessions');
is(value(q{SELECT attempts FROM llm_stat_target WHERE target = 'cooling_a'}), 1, '... while it makes no attempt');
value('SELECT pg_cancel_backend(' . $waiting[0]->pid . ')');
is($waiting[0]->finish->{sqlstate}, '57014', '... and can be cancelled');

nothing_held($node, 'nothing is held');
$_->quit foreach $session, @sessions, @hanging, @waiting;
$simulator->stop;
$node->stop;
done_testing();
