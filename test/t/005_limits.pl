# 005_limits.pl - quotas: never too much, all or nothing, first come first served
#
# 64 backends on one strict limit, limits of calls in flight under load, tokens reserved and settled,
# subjects of a quota, shadow quotas, changed limits, and the queue: its order, its end by time, by
# lock_timeout, by cancel and by the death of a waiter.  All targets are of the in-process provider.
# Counts and order are asserted, never times; a wait that could end by chance is made to be far
# longer than the test.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IPC::Run;
use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $CLIENTS = 64;
my $SECONDS = 30;

my $node = pgllm_cluster('limits');
my $session = new_session($node);
$session->value('CREATE SEQUENCE admitted; CREATE SEQUENCE arrival');

sub value { return $node->safe_psql('postgres', $_[0]); }

sub available
{
	my ($name, $dimension, $subject) = @_;

	return value("SELECT available FROM llm_bucket WHERE name = '$name' AND dimension = '$dimension'"
		  . (defined $subject ? " AND subject = '$subject'" : ''));
}

sub quota_id { return value("SELECT quota_id FROM llm_quota WHERE $_[0]"); }

sub change_quota
{
	my ($where, $set) = @_;

	$node->safe_psql('postgres', "UPDATE llm_quota SET $set WHERE $where");
	return;
}

# How many of $n calls one after the other get an answer; the state of the first that does not.
sub burst
{
	my ($tenant, $n, $options) = @_;
	my $sql = sprintf q{SELECT count(*) FILTER (WHERE (r).sqlstate IS NULL), min((r).sqlstate)
		FROM (SELECT llm_try_invoke('%s', lpad(i::text, 5, '0'), %s) AS r FROM generate_series(1, %d) AS i OFFSET 0) AS s},
	  $tenant, sql_literal($options // {}), $n;

	return value($sql);
}

# pgbench with one statement; returns when it ends, or with a handle if `&` is asked for.
sub pgbench
{
	my ($sql, $clients, $seconds, $background) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
	my ($out, $err) = ('', '');
	my @command = (
		'pgbench', '-n', '-c', $clients, '-j', 2, '-T', $seconds, '-f', $file, '-h', $node->host,
		'-p', $node->port, 'postgres');

	append_to_file($file, "$sql;\n");
	return IPC::Run::start(\@command, '>', \$out, '2>', \$err,
		IPC::Run::timeout($seconds + $GUARD))
	  if $background;
	IPC::Run::run(\@command, '>', \$out, '2>', \$err,
		IPC::Run::timeout($seconds + $GUARD))
	  or die "pgbench: $err";
	return $out =~ /actually processed: (\d+)/ ? $1 : die $out;
}

sub counting
{
	return "SELECT CASE WHEN (r).sqlstate IS NULL THEN nextval('admitted') END FROM"
	  . " (SELECT llm_try_invoke('$_[0]', 'hello') AS r OFFSET 0) AS s";
}

sub admitted { return value('SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM admitted'); }

# ---- no admission too many ---------------------------------------------------------------------

# The quota of the tenant binds; the wider one beside it and the target must not notice refusals.
setup_mock(
	$node, 'hot',
	a => { rpm => 50000, max_inflight => $CLIENTS },
	-quota => { rpm => 1000, window_kind => 'strict' });
insert_rows($node, llm_quota => [ { rpm => 100000, window_kind => 'strict', tpm => 100000000 } ]);
my $wide = quota_id('tenant IS NULL');
my $narrow = quota_id(q{tenant = 'hot'});
my $calls = pgbench(counting('hot'), $CLIENTS, $SECONDS);
note "$calls calls by $CLIENTS clients in $SECONDS s";
cmp_ok($calls, '>', 2000, 'most calls came in vain');
is(admitted(), 1000, "a strict limit of 1000 admits 1000 calls of $CLIENTS backends");
is(value(q{SELECT attempts, successes FROM llm_stat_target WHERE target = 'hot_a'}),
	'1000|1000', '... by the counters of the target');
is( value(q{SELECT calls - successes - refused, refused > 0, failures FROM llm_stat_tenant WHERE tenant = 'hot'}),
	'0|t|0',
	'... and of the tenant: all others were refused');
is(available("quota $narrow", 'requests'), 0, 'the limit is used up');
is(available("quota $wide", 'requests'), 99000, 'a refusal leaves no trace in a wider limit of the same set');
is(available('hot_a', 'requests'), 49000, '... nor in that of the quota domain');
nothing_held($node, 'nothing is held');

# The target binds; the quota of the tenant must not notice refusals.
setup_mock($node, 'cold', a => { rpm => 500 }, -quota => { rpm => 20000, window_kind => 'strict' });
$session->value('ALTER SEQUENCE admitted RESTART');
pgbench(counting('cold'), $CLIENTS, 4);
is(admitted(), 500, 'a strict limit of 500 of a target admits 500');
is(available('quota ' . quota_id(q{tenant = 'cold'}), 'requests'),
	19500, 'a refusal by the target leaves no trace in the quota of the tenant');
like(try_call($node, 'cold', 'x')->{error}, qr/^every target of route "cold" is throttled/, 'LM001 says so');
change_quota('tenant IS NULL', q{tenant = 'cold'});

# ---- calls in flight ---------------------------------------------------------------------------

setup_mock(
	$node, 'flight',
	a => { max_inflight => 3, parameters => { latency_ms => 20 }, tier => 0 },
	b => { parameters => { latency_ms => 20 }, tier => 1 },
	-quota => { max_inflight => 8 });
my $bench = pgbench(counting('flight'), 32, 4, 'in the background');
my ($most_target, $most_call, $samples, $most_bucket) = (0, 0, 0, 0);
wait_for($node, q{SELECT count(*) > 0 FROM llm_lease});
while ($samples < 200)
{
	my ($target, $call) = split /\|/,
	  $session->value(q{SELECT count(*) FILTER (WHERE target = 'flight_a'),
		count(*) FILTER (WHERE target IS NULL) FROM llm_lease});

	$most_target = $target if $target > $most_target;
	$most_call = $call if $call > $most_call;
	$samples++;
}
$bench->finish;
is($most_target, 3, "in $samples samples at most max_inflight calls fly on a target");
is($most_call, 8, '... and at most max_inflight of a quota');
is(value(q{SELECT min(available) = max(max) FROM llm_bucket WHERE dimension = 'in_flight' AND name = 'flight_a'}),
	't', 'all places are given back');
nothing_held($node, 'nothing is held');

# ---- tokens: reserve and settle ------------------------------------------------------------------

# "hello" is estimated at 5 / 3 + 8 = 9 tokens.
setup_mock(
	$node, 'tokens',
	a => {
		max_tokens => 500,
		parameters => { input_tokens => 100, output_tokens => 50, cache_write_tokens => 7,
			cache_read_tokens => 1000 },
		model_columns => { output_burndown => 5 },
		tpm => 1000000,
	},
	-quota => { tpm => 10000, window_kind => 'strict' });
my $tokens = 'quota ' . quota_id(q{tenant = 'tokens'});
try_call($node, 'tokens', 'hello');
is(available($tokens, 'tokens'), 10000 - 357,
	'settled to input + cache writes + output x burndown; cache reads are free');
is(available('tokens_a', 'tokens'), 1000000 - 357, '... in the quota domain, too');
value(q{UPDATE llm_target SET parameters = '{"script": ["hang"], "repeat": true}' WHERE target = 'tokens_a'});
$session->start(q{SELECT llm_invoke('tokens', 'hello')});
wait_for($node, q{SELECT count(*) > 0 FROM llm_lease WHERE target = 'tokens_a'});
is(available($tokens, 'tokens'), 10000 - 357 - 509, 'in flight: input estimate + max_tokens are reserved');
is(value(q{SELECT reserved_tokens FROM llm_lease WHERE target = 'tokens_a'}), 509, 'the lease says so');
value('SELECT pg_cancel_backend(' . $session->pid . ')');
is($session->finish->{sqlstate}, '57014', 'cancelled');
is(available($tokens, 'tokens'), 10000 - 357 - 509,
	'a cancelled call stays debited: nobody knows what it will cost');
value(q{UPDATE llm_target SET parameters = '{"script": ["bad_request"], "repeat": true}' WHERE target = 'tokens_a'});
try_call($node, 'tokens', 'hello');
is(available($tokens, 'tokens'), 10000 - 357 - 509, 'a rejected request costs no tokens');
my $refused = try_call($node, 'tokens', 'hello', { max_tokens => 10000 });
is($refused->{sqlstate}, 'LM002', 'a call larger than the limit');
like($refused->{error}, qr/larger than a quota of tenant "tokens" can ever grant/, '... is told that waiting is in vain');
unlike($refused->{error}, qr/retry_after_ms/, '... and gets no time');
value(q{UPDATE llm_target SET parameters = '{"input_tokens": 100, "output_tokens": 4000}' WHERE target = 'tokens_a'});
try_call($node, 'tokens', 'hello');
is(available($tokens, 'tokens'), 10000 - 357 - 509 - 20100, 'settling may drive the level below zero');
is(try_call($node, 'tokens', 'hello')->{sqlstate}, 'LM002', '... and debt refuses the next call');

# A provider that reports nothing keeps the reservation: the length limit of the answer is known.
setup_mock($node, 'cut', a => { max_tokens => 20, parameters => { reply => 'x' x 400 } },
	-quota => { tpm => 10000, window_kind => 'strict' });
my $cut = try_call($node, 'cut', 'hello');
is(try_columns($cut, 'sqlstate', 'finish_reason', 'output_tokens'),
	'sqlstate=LM008 finish_reason=length output_tokens=20', 'an answer cut at max_tokens');
is(available('quota ' . quota_id(q{tenant = 'cut'}), 'tokens'), 10000 - 22, '... is settled as it was billed');

# ---- whose bucket ----------------------------------------------------------------------------------

setup_mock($node, 'one', a => {}, -quota => undef);
setup_mock($node, 'two', a => {}, -quota => undef);
insert_rows($node,
	llm_quota => [ { route => 'one', rpm => 3, window_kind => 'strict', per => 'role' } ]);
$node->safe_psql('postgres', q{CREATE ROLE anna LOGIN; CREATE ROLE ben LOGIN; CREATE ROLE team;
	GRANT team TO anna, ben; SELECT llm_grant_tenant('one', 'team'), llm_grant_tenant('two', 'team')});
my %role = map { $_ => new_session($node, user => $_) } qw(anna ben);
my $three = q{SELECT count(*) FILTER (WHERE (r).sqlstate IS NULL) FROM
	(SELECT llm_try_invoke('one', 'x' || i) AS r FROM generate_series(1, 5) AS i OFFSET 0) AS s};
is($role{anna}->value($three), 3, 'per = role: three calls of one role');
is($role{ben}->value($three), 3, '... and three of another');
is(value(q{SELECT count(*), sum(available) FROM llm_bucket WHERE subject IN ('anna', 'ben')}), '2|0', '... in two buckets');
value(q{DELETE FROM llm_quota WHERE route = 'one'; INSERT INTO llm_quota (role, rpm, window_kind, per)
	VALUES ('team', 4, 'strict', 'tenant')});
(my $two = $three) =~ s/'one'/'two'/;
is($role{anna}->value($three), 4, 'per = tenant: four calls of members of a role for one tenant');
is($role{ben}->value($three), 0, '... whoever they are');
is($role{ben}->value($two), 4, '... and four for another tenant');
value(q{DELETE FROM llm_quota WHERE role = 'team'::regrole; INSERT INTO llm_quota (role, rpm, window_kind, per)
	VALUES ('team', 4, 'strict', 'shared')});
is($role{anna}->value($two) + $role{ben}->value($three), 4, 'per = shared: four calls in all');
my $outside = value(q{SELECT (llm_try_invoke('one', 'x')).sqlstate IS NULL FROM (SELECT set_config('pgllm.require_quota', 'off', false)) AS s});
is($outside, 't', 'the quota of a role does not bind superusers, who are no members');
$_->quit foreach values %role;
value(q{DELETE FROM llm_quota WHERE role = 'team'::regrole});

# ---- several limits bind, shadow, next_tier -----------------------------------------------------

setup_mock($node, 'both', a => { parameters => { output_tokens => 1500 } }, -quota => { rpm => 2, window_kind => 'strict' });
insert_rows($node, llm_quota => [ { tenant => 'both', tpm => 2000, max_inflight => 9, window_kind => 'strict' } ]);
is(burst('both', 2), '1|LM002', 'tokens bind before requests');
change_quota(q{tenant = 'both' AND rpm = 2}, 'rpm = 1');
my $both = try_call($node, 'both', 'x');
like($both->{error}, qr{requests per minute}, 'a refusal names one binding limit');
like($both->{error}, qr{tokens per minute}, '... and the other');

setup_mock($node, 'shadow', a => {}, -quota => { rpm => 100 });
insert_rows($node, llm_quota => [ { tenant => 'shadow', rpm => 3, window_kind => 'strict', mode => 'shadow' } ]);
is(burst('shadow', 10), '10|', 'a shadow quota lets everything pass');
is(value(q{SELECT shadow_refusals FROM llm_stat_tenant WHERE tenant = 'shadow'}), 7, '... and counts what it would have refused');
value(q{DELETE FROM llm_quota WHERE tenant = 'shadow' AND mode = 'enforce'});
my $only_shadow = $session->query(q{SELECT llm_invoke('shadow', 'x')});
is($only_shadow->{sqlstate}, '42501', 'a shadow quota is none in the sense of require_quota');

setup_mock($node, 'tiers', a => {}, b => {}, -quota => { rpm => 1000 });
insert_rows($node,
	llm_quota =>
	  [ { tenant => 'tiers', model => 'tiers_a', rpm => 3, window_kind => 'strict', on_exceed => 'next_tier' } ]);
is(value(q{SELECT string_agg((result).target || ':' || (result).fallback_depth, ' ' ORDER BY ord)
	FROM llm_invoke_many('tiers', ARRAY(SELECT 'x' || i FROM generate_series(1, 6) AS i))}),
	'tiers_a:0 tiers_a:0 tiers_a:0 tiers_b:1 tiers_b:1 tiers_b:1',
	'on_exceed = next_tier: three on the primary, the rest on the fallback');

# ---- a changed limit keeps its usage ---------------------------------------------------------------

setup_mock($node, 'change', a => {}, -quota => { rpm => 10, window_kind => 'strict' });
my $change = 'quota ' . quota_id(q{tenant = 'change'});
is(burst('change', 4), '4|', 'four of ten');
change_quota(q{tenant = 'change'}, 'rpm = 6');
is(burst('change', 4), '2|LM002', 'lowered to six: two are left');
change_quota(q{tenant = 'change'}, 'rpm = 3');
is(burst('change', 1), '0|LM002', 'lowered to three: none');
change_quota(q{tenant = 'change'}, 'rpm = 9');
is(burst('change', 4), '3|LM002', 'raised to nine: three');
change_quota(q{tenant = 'change'}, q{rpm = 12, window_kind = 'bucket'});
is(burst('change', 1), '1|', 'another kind of window');
cmp_ok(available($change, 'requests'), '<=', 3, '... knows what was used before');
is( $node->safe_psql('postgres', q{DELETE FROM llm_quota WHERE tenant = 'change';
	INSERT INTO llm_quota (tenant, rpm) VALUES ('change', 5);
	SELECT count(*) FILTER (WHERE (r).sqlstate IS NULL) FROM
	(SELECT llm_try_invoke('change', 'x' || i) AS r FROM generate_series(1, 7) AS i OFFSET 0) AS s}), 5,
	'another row is another limit');

# ---- the queue ---------------------------------------------------------------------------------------

# $n sessions that queue one behind the other for a limit of `$tenant`, each known to have arrived.
# Each draws a number from a sequence when it has its answer.
sub line_up
{
	my ($tenant, $n, $sql) = @_;
	my @line;

	foreach my $i (0 .. $n - 1)
	{
		push @line, new_session($node, name => "waiter $i");
		my $waiters = waiters();
		$line[$i]->start($sql // "SELECT llm_invoke('$tenant', 'x') || nextval('arrival')");
		wait_for($node, sub { waiters() > $waiters });
		# the one behind the head sleeps in the lock manager before the next one comes
		wait_for($node, sub { locks('NOT granted') + locks('granted') == $i + 1 })
		  unless defined $sql;
	}
	return @line;
}

sub waiters { return value('SELECT coalesce(max(waiters), 0) FROM llm_bucket'); }

sub locks
{
	return value(
		"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 19533 AND $_[0]");
}

# One place in flight, held by a call that hangs until it is cancelled.
setup_mock(
	$node, 'queue',
	a => { parameters => { reply => '', latency_ms => 150, script => ['hang'] } },
	-quota => { max_inflight => 1 },
	-tenant => { on_limit => 'wait' });
my $holder = new_session($node);

sub hold
{
	value('SELECT llm_stat_reset()');    # the script of the provider begins with "hang" again
	$session->value('ALTER SEQUENCE arrival RESTART');
	$holder->start(q{SELECT llm_invoke('queue', 'x')});
	wait_for($node, q{SELECT count(*) > 0 FROM llm_lease WHERE target = 'queue_a'});
	return;
}

sub let_go
{
	value('SELECT pg_cancel_backend(' . $holder->pid . ')');
	is($holder->finish->{sqlstate}, '57014', 'the holder of the place is cancelled');
	return;
}

hold();
my @line = line_up('queue', 6);
is(waiters(), 6, 'six calls queue');
is(locks('granted') . '|' . locks('NOT granted'), '1|5', '... the head holds the advisory lock, five wait for it');
is(value(q{SELECT string_agg(application_name, ' ' ORDER BY waitstart) FROM pg_locks JOIN pg_stat_activity USING (pid)
	WHERE locktype = 'advisory' AND objsubid = 19533 AND NOT granted}),
	'waiter 1 waiter 2 waiter 3 waiter 4 waiter 5', '... in the order of their arrival');
is(value(q{SELECT count(*) FROM llm_stat_activity WHERE state = 'queued' AND tenant = 'queue'}), 6, 'llm_stat_activity shows them');
is(try_call($node, 'queue', 'x', { max_wait_ms => 0 })->{sqlstate}, 'LM002', 'who does not wait is refused');
let_go();
is(join(' ', map { $_->finish->{out} } @line), '1 2 3 4 5 6', 'admitted in the order of arrival');
nothing_held($node, 'nothing is held');

# Cancel, death and impatience of those in front.
hold();
push @line, line_up('queue', 1);    # the last of seven sessions stands in front now
my $first = pop @line;
foreach my $i (0 .. 5)
{
	my $waiters = waiters();

	$line[$i]->start($i == 3
		? q{SET lock_timeout = '500ms'; SELECT llm_invoke('queue', 'x')}
		: $i == 4
		? q{SELECT llm_invoke('queue', 'x', '{"max_wait_ms": 500}')}
		: q{SELECT llm_invoke('queue', 'x') || nextval('arrival')});
	wait_for($node, sub { waiters() > $waiters });
}
is($line[3]->finish->{sqlstate}, '55P03', 'lock_timeout ends the wait behind the head');
$line[3]->value('RESET lock_timeout');
is($line[4]->finish->{sqlstate}, 'LM002', 'max_wait_ms ends the wait behind the head');
is(waiters(), 5, 'the others stay in line');
value('SELECT pg_cancel_backend(' . $first->pid . ')');
is($first->finish->{sqlstate}, '57014', 'the head is cancelled');
wait_for($node, sub { locks('granted') == 1 });
value('SELECT pg_terminate_backend(' . $line[1]->pid . ')');
ok($line[1]->finish->{lost}, 'one in the middle is terminated');
wait_for($node, sub { waiters() == 3 });
value('SELECT pg_terminate_backend(' . $line[0]->pid . ')');
ok($line[0]->finish->{lost}, 'the new head is terminated');
wait_for($node, sub { waiters() == 2 });
let_go();
is(join(' ', map { $_->finish->{out} } @line[ 2, 5 ]), '1 2', 'the rest is admitted in order');
nothing_held($node, 'nothing is held');

# The head: patience, cancel, and whose fault the end is.
hold();
is(try_call($node, 'queue', 'x', { max_wait_ms => 300 })->{sqlstate},
	'LM002', 'max_wait_ms ends the wait of the head: LM002 for a quota');
is(try_call($node, 'queue', 'x', { timeout_ms => 300 })->{sqlstate},
	'LM002', 'timeout_ms ends it, too');
is($line[2]->query(q{SET statement_timeout = 300; SELECT llm_invoke('queue', 'x')})->{sqlstate},
	'57014', 'so does statement_timeout');
$line[2]->value('RESET statement_timeout');
let_go();
nothing_held($node, 'nothing is held');

setup_mock(
	$node, 'narrow',
	a => { max_inflight => 1, parameters => { script => ['hang'], repeat => \1 } },
	-tenant => { on_limit => 'wait' });
$holder->start(q{SELECT llm_invoke('narrow', 'x')});
wait_for($node, q{SELECT count(*) > 0 FROM llm_lease WHERE target = 'narrow_a'});
is(try_call($node, 'narrow', 'x', { max_wait_ms => 300 })->{sqlstate},
	'LM001', 'max_wait_ms ends the wait for a target: LM001');
let_go();

# A rate: one unit every two seconds, time enough to line up, in order of arrival, however they wait.
setup_mock(
	$node, 'rate',
	a => { parameters => { reply => '' } },
	-quota => { rpm => 30, burst_requests => 1 },
	-tenant => { on_limit => 'wait' });
$session->value('ALTER SEQUENCE arrival RESTART');
try_call($node, 'rate', 'x');
$_->quit foreach @line, $first;
@line = line_up('rate', 5);
is(join(' ', map { $_->finish->{out} } @line), '1 2 3 4 5', 'a rate admits in the order of arrival');
nothing_held($node, 'nothing is held');

# A batch queues by timers, a single call by the lock; both keep to one order.
$session->value('ALTER SEQUENCE arrival RESTART');
my $batch = new_session($node, name => 'batch');
$batch->start(q{SELECT count(*) || ' ' || nextval('arrival')
	FROM llm_invoke_many('rate', ARRAY['a', 'b', 'c', 'd']) WHERE (result).sqlstate IS NULL});
wait_for($node, sub { waiters() >= 3 });
my ($single) = line_up('rate', 1);
is($batch->finish->{out} . ', ' . $single->finish->{out}, '4 1, 2', 'a batch is served, then the single call behind it');
nothing_held($node, 'nothing is held');
is(burst('rate', 3, { max_wait_ms => 30000 }), '3|', 'a session after the other waits its turn');

# A single call in front, a batch behind: the batch does not overtake by its timers.
$session->value('ALTER SEQUENCE arrival RESTART');
@line = line_up('rate', 2);
$batch->start(q{SELECT count(*) || ' ' || nextval('arrival')
	FROM llm_invoke_many('rate', ARRAY['a', 'b']) WHERE (result).sqlstate IS NULL});
is(join(', ', map { $_->finish->{out} } @line, $batch), '1, 2, 2 3', 'a batch behind single calls waits for them');
nothing_held($node, 'nothing is held');

# A limit that is raised is raised for those who queue for it, too.
setup_mock(
	$node, 'raised',
	a => { parameters => { script => ['hang'] } },
	-quota => { max_inflight => 1 },
	-tenant => { on_limit => 'wait' });
$holder->start(q{SELECT llm_invoke('raised', 'x')});
wait_for($node, q{SELECT count(*) > 0 FROM llm_lease WHERE target = 'raised_a'});
$batch->start(q{SELECT (llm_try_invoke('raised', 'x', '{"max_wait_ms": 3000}')).response});
wait_for($node, sub { waiters() == 1 });
change_quota(q{tenant = 'raised'}, 'max_inflight = 5');
try_call($node, 'raised', 'x', { max_wait_ms => 0 });
is($batch->finish->{out}, 'mock reply', 'a raised limit lets the waiter pass');
let_go();

# Waiting for tokens: the first in line needs much, later ones little; nobody overtakes.
setup_mock(
	$node, 'big',
	a => { parameters => { reply => '', input_tokens => 9, output_tokens => 900 }, max_tokens => 900 },
	-quota => { tpm => 12000, burst_tokens => 1000 },
	-tenant => { on_limit => 'wait' });
$session->value('ALTER SEQUENCE arrival RESTART');
try_call($node, 'big', 'x');
@line = line_up('big', 1);
push @line, new_session($node);
$line[1]->start(q{SELECT llm_invoke('big', 'x', '{"max_tokens": 10, "allow_truncated": true}') || nextval('arrival')});
wait_for($node, sub { waiters() == 2 });
is(available('quota ' . quota_id(q{tenant = 'big'}), 'tokens') >= 20, 1, 'there is enough for the small one behind');
is(value(q{SELECT count(*) FROM llm_lease}), 0, '... which does not overtake');
is(join(' ', map { $_->finish->{out} } @line), '1 2', 'the large one goes first');
nothing_held($node, 'nothing is held');

$_->quit foreach @line, $batch, $single, $holder, $session;
$node->stop;
done_testing();
