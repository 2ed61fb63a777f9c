# 008_routing.pl - which target a call goes to, and which it leaves alone
#
# The strategies inside a tier, when a call may leave its first choice, residency and models, the
# patterns of resilient inference, breakers and cool-downs, the retry budget, rotated credentials.
# Where it matters that no request was made, the simulator counts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

# one call after the other, so that it is known which of them meets what
my $node = pgllm_cluster('routing', conf => "pgllm.concurrent_scan = off\n");
my $simulator = PgllmTest::Simulator->new;
my $session = new_session($node);

sub value { return $session->value($_[0]); }

# Targets (without the tenant's name) of $n calls one after the other; failures by their SQLSTATE.
sub picks
{
	my ($tenant, $n, $options) = @_;

	return split / /, value(sprintf
		  q{SELECT string_agg(coalesce((r).sqlstate, replace((r).target, '%s_', '')), ' ' ORDER BY i)
			FROM (SELECT i, llm_try_invoke('%s', 'hello ' || i, %s) AS r FROM generate_series(1, %d) AS i OFFSET 0) AS s},
		$tenant, $tenant, sql_literal($options // {}), $n);
}

# How many of each, as "a=3 b=1".
sub tally
{
	my %count;

	$count{$_}++ foreach @_;
	return join ' ', map { "$_=$count{$_}" } sort keys %count;
}

# The same of $n calls at once.
sub at_once
{
	my ($tenant, $n, $options) = @_;

	return tally(split / /, value(sprintf
			  q{SELECT string_agg(coalesce((result).sqlstate, replace((result).target, '%s_', '')), ' ')
				FROM llm_invoke_many('%s', ARRAY(SELECT 'hello ' || i FROM generate_series(1, %d) AS i), %s)},
			$tenant, $tenant, $n, sql_literal($options // {})));
}

sub set_policy { $node->safe_psql('postgres', "UPDATE llm_route_policy SET $_[1] WHERE route = '$_[0]'"); return; }
sub set_tenant { $node->safe_psql('postgres', "UPDATE llm_tenant SET $_[1] WHERE tenant = '$_[0]'"); return; }
sub set_target { $node->safe_psql('postgres', "UPDATE llm_target SET $_[1] WHERE target = '$_[0]'"); return; }

sub breaker
{
	return $node->safe_psql('postgres', "SELECT $_[1] FROM llm_breaker WHERE scope = 'domain' AND name = '$_[0]'");
}

# ---- strategies ----------------------------------------------------------------------------------

setup_mock($node, 'w', a => { weight => 3, tier => 0 }, b => { weight => 1, tier => 0 }, c => { weight => 2, tier => 0 });
my @picks = picks('w', 600);
is(tally(@picks), 'a=300 b=100 c=200', 'weights 3:1:2 are kept exactly');
my $worst = 0;
foreach my $from (0 .. $#picks - 5)
{
	my %count = (a => -3, b => -1, c => -2);
	$count{$_}++ foreach @picks[ $from .. $from + 5 ];
	foreach (values %count) { $worst = abs if abs > $worst; }
}
cmp_ok($worst, '<=', 1, '... in any six picks, give or take one');
$node->safe_psql('postgres', 'SELECT llm_stat_reset()');
my $script = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
append_to_file($script, "SELECT llm_invoke('w', 'x');\n");
$node->command_ok([ 'pgbench', '-n', '-c', 6, '-t', 200, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ], 'six clients');
is($node->safe_psql('postgres', q{SELECT string_agg(target || '=' || (abs(attempts - expected) <= 1), ' ' ORDER BY target)
	FROM llm_stat_target JOIN (VALUES ('w_a', 600), ('w_b', 200), ('w_c', 400)) AS v(target, expected) USING (target)}),
	'w_a=true w_b=true w_c=true', '... share one turn');
$node->safe_psql('postgres', q{UPDATE llm_route SET weight = 0 WHERE target = 'w_c'});
is(tally(picks('w', 40)), 'a=30 b=10', 'weight 0 gets nothing');
set_target('w_a', 'enabled = false');
set_target('w_b', 'enabled = false');
is(tally(picks('w', 5)), 'c=5', '... unless all others are out');

setup_mock($node, 's', (map { $_ => { tier => 0, weight => $_ eq 'a' ? 2 : 1 } } qw(a b c)), -policy => { strategy => 'sticky' });
is(tally(picks('s', 20)) =~ /^\w=20$/, 1, 'sticky: a tenant stays where it is');
my $by_key = q{SELECT string_agg((llm_try_invoke('s', 'x' || i, jsonb_build_object('sticky_key', 'key ' || i))).target, ' ' ORDER BY i)
	FROM generate_series(1, 400) AS i};
my @first = split / /, value($by_key);
is(value($by_key), "@first", '... and a key, too');
my %share;
$share{$_}++ foreach @first;
ok((!grep { $share{"s_$_->[0]"} < $_->[1] * 0.7 || $share{"s_$_->[0]"} > $_->[1] * 1.3 } [ a => 200 ], [ b => 100 ], [ c => 100 ]),
	'... keys spread as the weights say') or diag explain \%share;
set_target('s_b', 'enabled = false');
my @second = split / /, value($by_key);
is(scalar(grep { $first[$_] ne 's_b' && $first[$_] ne $second[$_] } 0 .. $#first), 0, '... and only those of a target that goes move');
set_target('s_b', 'enabled = true');
is(value($by_key), "@first", '... back when it returns');

setup_mock(
	$node, 'l',
	(map { $_ => { tier => 0, parameters => { script => ['hang'], repeat => \1 } } } qw(a b c)),
	-policy => { strategy => 'least_inflight' });
my $busy = new_session($node);
$busy->start(q{SELECT count(*) FROM llm_invoke_many('l', ARRAY(SELECT 'x' || i FROM generate_series(1, 9) AS i))});
wait_for($node, q{SELECT count(*) = 9 FROM llm_lease WHERE target LIKE 'l\_%'});
is($node->safe_psql('postgres', q{SELECT string_agg(n::text, ' ') FROM (SELECT count(*) AS n FROM llm_lease WHERE target LIKE 'l\_%' GROUP BY target) AS s}),
	'3 3 3', 'least_inflight spreads nine calls over three targets');
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $busy->pid . ')');
$busy->finish;

setup_mock($node, 'p', (map { $_ => { tier => 0, rpm => 5 } } qw(a b c)), -policy => { strategy => 'price' });
insert_rows($node, llm_price => [
	map { my ($target, $component, $usd) = @$_; { model => "p_$target", component => $component, usd_per_million => $usd } }
	  [ 'a', 'input', 3 ], [ 'a', 'output', 15 ], [ 'b', 'input', 1 ], [ 'b', 'output', 4 ] ]);
is(join(' ', picks('p', 16)), join(' ', ('b') x 5, ('a') x 5, ('c') x 5, 'LM001'), 'price: the cheapest first, unknown prices last');

setup_mock($node, 't', a => { tier => 0, parameters => { latency_ms => 60 } }, b => { tier => 0 }, -policy => { strategy => 'latency' });
is(tally(picks('t', 12)), 'a=1 b=11', 'latency: each is tried once, then the fastest');

# ---- leaving the first choice ------------------------------------------------------------------------

my %spill = (
	always => [ 'a b b', 'b' ],
	throttle => [ 'a b b', 'LM003' ],
	outage => [ 'a LM001 LM001', 'b' ],
	never => [ 'a LM001 LM001', 'LM003' ],);
foreach my $spill (sort keys %spill)
{
	my ($full, $broken) = @{ $spill{$spill} };

	setup_mock($node, "full$spill", a => { rpm => 1 }, b => {}, -policy => { spill => $spill });
	is(join(' ', picks("full$spill", 3)), $full, "spill = $spill: the quota of the first choice is empty");
	setup_mock($node, "broken$spill", a => { parameters => { script => ['server_error'], repeat => \1 } }, b => {}, -policy => { spill => $spill });
	is(join(' ', picks("broken$spill", 1)), $broken, "spill = $spill: the first choice fails");
}

setup_mock($node, 'f', a => { parameters => { script => ['server_error'], repeat => \1 } }, b => {});
is(join(' ', picks('f', 1, { allow_fallback => \0 })), 'LM003', 'allow_fallback = false stays in the first tier');
is($node->safe_psql('postgres', q{SELECT count(*) FROM llm_stat_target WHERE target = 'f_b'}), 0, '... the fallback was not tried');

# ---- authority -----------------------------------------------------------------------------------------

setup_mock($node, 'geo',
	us => { geography => 'us' },
	eu => { geography => 'eu', parameters => { script => [ 'ok', 'ok', 'server_error', 'server_error' ] } },
	global => { geography => 'global' });
is(join(' ', picks('geo', 1)), 'us', 'without residency the first tier answers');
set_tenant('geo', q{geographies = '{eu}'});
is(join(' ', picks('geo', 2)), 'eu eu', 'with residency only targets of the geography do');
is(join(' ', picks('geo', 1)), 'LM003', '... also when they fail: no fallback leaves the geography');
set_tenant('geo', q{geographies = '{apac}'});
my $nowhere = try_call($node, 'geo', 'x');
is(try_columns($nowhere, 'sqlstate', 'attempts'), 'sqlstate=LM003 attempts=0', 'no target of the geography: no attempt');
like($nowhere->{error}, qr/outside the tenant's geographies/, '... and why');

setup_mock($node, 'mod', a => {}, b => {}, c => {});
set_tenant('mod', q{models = '{mod_b,mod_c}'});
is(join(' ', picks('mod', 1)), 'b', 'models: what the tenant may not use is passed over');
is(join(' ', picks('mod', 1, { model => 'mod_c' })), 'c', 'option model: that one');
is(join(' ', picks('mod', 1, { model => 'mod_a' })), 'LM003', '... not one the tenant may not use');

setup_mock($node, 'size',
	small => { model_columns => { context_window => 2000 }, parameters => { script => ['context_too_long'], repeat => \1 } },
	same => { model_columns => { context_window => 2000 } },
	large => { model_columns => { context_window => 200000 } });
is(join(' ', picks('size', 1)), 'large', 'context too long: only a larger model follows');
is(value(q{SELECT (llm_try_invoke('size', repeat('word ', 5000))).attempts}), 1, '... and what cannot fit is not tried');

# ---- the patterns ---------------------------------------------------------------------------------------

setup_mock($node, 'fallback', primary => { rpm => 3 }, second => { rpm => 25 });
is(at_once('fallback', 10), 'primary=3 second=7', 'fallback: three on the primary, seven on the fallback');
setup_mock($node, 'overflow', a => { rpm => 3, tier => 0 }, b => { rpm => 3, tier => 0 }, c => { tier => 1 });
is(at_once('overflow', 10), 'a=3 b=3 c=4', 'balancing with overflow: 3 + 3 + 4');
setup_mock($node, 'shards', a => { tier => 0 }, b => { tier => 0 });
is(at_once('shards', 20), 'a=10 b=10', 'account sharding: ten to each');
my %rpm = (bronze => 3, silver => 10, gold => 10);
setup_mock($node, $_, a => {}, -quota => { rpm => $rpm{$_}, window_kind => 'strict' }) foreach keys %rpm;
is(at_once('bronze', 10), 'LM002=7 a=3', 'a tenant with 3 RPM: three served, seven refused');
is(at_once($_, 10), 'a=10', '... others are not affected') foreach qw(silver gold);

# ---- breakers ----------------------------------------------------------------------------------------

setup_bedrock($node, $simulator, 'br',
	a => { account => $ACCOUNT_1 },
	b => { account => $ACCOUNT_2, region => 'eu-west-1' });
sub requests_a { return $simulator->requests(account => $ACCOUNT_1); }

$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'InternalServer', times => -1 });
is(tally(picks('br', 5)), 'b=5', 'a failing target: the fallback answers');
is(breaker('br_a', 'state'), 'open', '... and after five failures its breaker is open');
is(requests_a(), 5, '... with five requests');
is(tally(picks('br', 20)), 'b=20', 'behind the breaker');
is(requests_a(), 5, '... no more requests come');
is(breaker('br_b', 'state || failures'), 'closed0', 'the other domain is healthy');

sub wait_until_half_open
{
	wait_for($node, q{SELECT open_for_ms = 0 FROM llm_breaker WHERE scope = 'domain' AND name = 'br_a'});
	return;
}

# a bad probe
wait_until_half_open();
is(tally(picks('br', 10)), 'b=10', 'a failed probe costs nobody an answer');
is(requests_a(), 6, '... and is one request');
is(breaker('br_a', q{state || ' ' || opened}), 'open 2', '... and opens the breaker again');

# a good one, slow enough that all others come while it is out
$simulator->clear_faults;
$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'reply', delay_ms => 1000 });
wait_until_half_open();
is(at_once('br', 12), 'a=1 b=11', 'half open: exactly one probe goes out, however many calls come');
is(requests_a(), 7, '... by the counts of the simulator');
is(breaker('br_a', 'state'), 'ramp', 'a good probe: the breaker ramps up');
my ($calls, $served) = (0, 0);
while (breaker('br_a', 'state') ne 'closed' && $calls < 200)
{
	$calls += 5;
	$served += grep { $_ eq 'a' } picks('br', 5);
}
is(breaker('br_a', 'state'), 'closed', "closed after $calls calls");
cmp_ok($served, '<=', 14, "... of which $served were let through");
is(requests_a(), 7 + $served, '... by the counts of the simulator');
is(tally(picks('br', 5)), 'a=5', 'closed: all calls go there again');

# all open: one probe, none in parallel
setup_bedrock($node, $simulator, 'down', a => { account => '333333333333' }, -policy => { max_attempts => 1 });
$simulator->fault({ account => '333333333333' }, { kind => 'InternalServer', times => 5 });
is(tally(picks('down', 5)), 'LM003=5', 'the only target fails');
is(breaker('down_a', 'state'), 'open', '... its breaker opens');
$simulator->fault({ account => '333333333333' }, { kind => 'InternalServer', delay_ms => 700 });
is(at_once('down', 6), 'LM003=6', 'all open: all calls fail');
is($simulator->requests(account => '333333333333'), 6, '... with a single probe');
is(tally(picks('down', 1)), 'a=1', '... and the first probe that succeeds is an answer');

# ---- cool-down -----------------------------------------------------------------------------------------

$simulator->reset;
setup_bedrock($node, $simulator, 'cool',
	a => { quota_domain => 'shared', tier => 0 },
	twin => { quota_domain => 'shared', tier => 0, model_id => $NOVA_PRO },
	b => { account => $ACCOUNT_2, region => 'eu-west-1', tier => 1 });
$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'Throttling', headers => { 'Retry-After' => '3' } });
is(tally(picks('cool', 10)), 'b=10', 'a throttled domain: the fallback answers');
is(requests_a(), 1, '... the domain is left alone at the first sign, its other target, too');
like(breaker('shared', 'cooling_for_ms > 1000 AND cooling_for_ms < 3600'), qr/t/, '... for as long as Retry-After says');
is(breaker('shared', 'state || failures'), 'closed0', '... and its breaker does not count it');
wait_for($node, q{SELECT cooling_for_ms = 0 FROM llm_breaker WHERE name = 'shared'});
is(tally(picks('cool', 4)), 'a=2 twin=2', 'afterwards it serves again');

setup_bedrock($node, $simulator, 'alone', a => {});
$simulator->reset;
$simulator->fault({}, { kind => 'Throttling', headers => { 'x-amz-retry-after' => '300' } });
my $patient = try_call($node, 'alone', 'hello');
is(try_columns($patient, 'response', 'attempts', 'fallback_depth'), 'response=hello attempts=2 fallback_depth=0',
	'a single target: the call waits until the cool-down is over');
is($simulator->requests, 2, '... two requests');
$simulator->fault({}, { kind => 'Throttling', headers => { 'Retry-After' => '120' } });
my $impatient = try_call($node, 'alone', 'hello');
is(try_columns($impatient, 'sqlstate', 'attempts'), 'sqlstate=LM001 attempts=1', 'a cool-down longer than the deadline: LM001 at once');
like($impatient->{error}, qr/retry_after_ms=1[123]\d{4}/, '... which says when');
is(try_columns(try_call($node, 'alone', 'hello'), 'sqlstate', 'attempts'), 'sqlstate=LM001 attempts=0', '... and the next call makes no attempt');
is($simulator->requests, 3, '... nor a request');

# ---- retry budget ----------------------------------------------------------------------------------------

setup_mock($node, 'budget', a => { parameters => { script => [ 'throttled', 'ok' ], repeat => \1, retry_after_ms => 1 } });
is(value(q{SELECT count(*) || ' ' || sum((r).attempts) FROM (SELECT llm_try_invoke('budget', 'x' || i) AS r FROM generate_series(1, 100) AS i OFFSET 0) AS s
	WHERE (r).response IS NOT NULL}), '100 200', 'a budget of 500 pays for 100 retries at 5');
is(breaker('budget_a', 'retry_budget'), 0, '... then it is spent');
my $spent = try_call($node, 'budget', 'x');
is(try_columns($spent, 'response', 'attempts'), 'response=NULL attempts=1', '... and there is no second attempt');
like($spent->{error}, qr/retry budget/, '... and why');
picks('budget', 1);    # the script goes on with "ok": a first attempt that succeeds
is(breaker('budget_a', 'retry_budget'), 1, 'a success at first try pays one back');

# ---- credentials -------------------------------------------------------------------------------------------

$simulator->reset;
setup_bedrock($node, $simulator, 'key', a => { credential => 'rotated' }, b => { account => $ACCOUNT_2, region => 'eu-west-1', credential => 'sound' });
is(join(' ', picks('key', 1)), 'a', 'a good key');
# the key expires, and the file has a new one: whether the call notices the file or the rejection first,
# it is answered by the same target
$simulator->configure({ accounts => [
	{ account => $ACCOUNT_1, access_key => 'AKIASIMULATOR0000001', secret_key => 'simulator-secret-1', session_token => 'old', expired => \1 },
	{ account => $ACCOUNT_1, access_key => 'AKIASIMULATOR0000003', secret_key => 'simulator-secret-3' },
	{ account => $ACCOUNT_2, access_key => 'AKIASIMULATOR0000002', secret_key => 'simulator-secret-2' } ] });
write_credential($node, 'rotated', '333333333333');
my ($target, $attempts) = split /\|/, value(q{SELECT (r).target, (r).attempts FROM (SELECT llm_try_invoke('key', 'x') AS r OFFSET 0) AS s});
is($target, 'key_a', 'a rotated key is read again');
like($attempts, qr/^[12]$/, "... in $attempts attempts");
is($node->safe_psql('postgres', q{SELECT coalesce(sum(failures), 0) FROM llm_breaker WHERE scope = 'credential'}), 0, '... and is not held against the credential');
# a key that is wrong for good
write_credential($node, 'rotated', 'unknown');
sleep 1.2;    # longer than a file goes unlooked at
is(join(' ', picks('key', 5)), 'b b b b b', 'a key that is rejected: the next account answers');
is($node->safe_psql('postgres', q{SELECT failures || ' ' || (cooling_for_ms > 0) FROM llm_breaker WHERE name = 'file:rotated'}), '1 true', '... after one rejection the credential cools down');
is(breaker('key_a', 'failures'), 0, '... the domain does not');

nothing_held($node, 'nothing is held');
$_->quit foreach $session, $busy;
$simulator->stop;
$node->stop;
done_testing();
