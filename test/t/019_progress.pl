# 019_progress.pl - a running statement, watched from another session in llm_stat_activity
#
# Each statement makes 200 calls, some of which fail, on a provider that takes its time.  Meanwhile another
# session looks: what it sees only grows, keeps to the window, and has an end in sight; in the end it is
# what the ledger has.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use JSON::PP;
use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $ROWS = 200;
my $WINDOW = 8;
my $node = pgllm_cluster('progress', conf => "pgllm.max_concurrency = $WINDOW\ncompute_query_id = on\njit = off\n");
my $watcher = new_session($node, name => 'watcher');
my $session = new_session($node, name => 'session');

my %usage = (input_tokens => 100, output_tokens => 20, latency_ms => 20);
setup_mock($node, 't', good => { parameters => { echo => \1, %usage } });
insert_rows($node,
	llm_target => [
		{ target => 'bad', shard => 't_shard', model => 't_good', model_id => 'x', parameters => { script => ['bad_request'], repeat => \1, latency_ms => 20 } },
		{ target => 'again', shard => 't_shard', model => 't_good', model_id => 'x', parameters => { script => [ ('unavailable'), ('ok') x 40 ], %usage } },
		{ target => 'hanging', shard => 't_shard', model => 't_good', model_id => 'x', parameters => { script => ['hang'], repeat => \1 } },
		{ target => 'pausing', shard => 't_shard', model => 't_good', model_id => 'x', parameters => { script => ['throttled'], repeat => \1, retry_after_ms => 20000 } } ],
	llm_route => [ map { { route => $_, target => $_ } } qw(bad again hanging pausing) ],
	llm_tenant => [ { tenant => 'patient', route => 'hanging', on_limit => 'wait', max_wait_ms => 600000 } ],
	llm_quota => [ { tenant => 'patient', max_inflight => 1 } ]);
set_price($node, 't_good', input => 1, output => 10);
$node->safe_psql('postgres', <<"SQL");
UPDATE llm_tenant SET extra_routes = '{bad,again,hanging,pausing}' WHERE tenant = 't';
CREATE TABLE docs AS SELECT i AS id, 'doc ' || i AS body,
	CASE WHEN i % 10 = 0 THEN '{"route": "bad"}' WHEN i % 10 = 5 THEN '{"route": "again"}' ELSE '{}' END::jsonb AS o FROM generate_series(1, $ROWS) i;
CREATE TABLE answers (id int, answer llm_result);
ANALYZE docs;
SQL

sub look
{
	my $json = $watcher->value('SELECT row_to_json(a) FROM (SELECT *, clock_timestamp() AS now FROM llm_stat_activity WHERE pid = ' . $session->pid . ') a');

	return $json eq '' ? undef : decode_json($json);
}

# The session is in that state, and what is seen then.
sub wait_for_state
{
	my ($state, $condition) = @_;
	my $seen;

	wait_for($node, sub { ($seen = look()) && $seen->{state} eq $state && (!$condition || $condition->($seen)) }, "state $state");
	return $seen;
}

my @COUNTS = qw(rows_done calls failed retries memo_hits input_tokens output_tokens cost);
my $ledger = q{SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), (coalesce(sum(cost_nano_usd), 0) / 1e9)::float8, count(DISTINCT call_id), count(*) - count(DISTINCT call_id) FROM llm_ledger};
my $last_since = '';

# Run a statement of $ROWS rows, and look at it until it ends.
sub watch
{
	my ($name, $sql, %expected) = @_;
	my ($seen, $before, $wrong, $middle, %states) = (undef, undef, '', 0);

	$node->safe_psql('postgres', 'SELECT llm_flush(60000); DELETE FROM llm_ledger');
	$session->start($sql);
	until ($session->ended)
	{
		$seen = look();
		sleep 0.01;
		next if !$seen || $seen->{statement_since} eq $last_since;    # it has not begun
		$states{ $seen->{state} } = 1;
		$wrong .= " $seen->{in_flight} in flight" if $seen->{in_flight} > $WINDOW;
		if ($before) { $wrong .= " $_: $before->{$_}, then $seen->{$_}" foreach grep { $seen->{$_} < $before->{$_} } @COUNTS; }
		$before = $seen;
		next if $seen->{rows_done} < 20 || $seen->{rows_done} > $ROWS - 20;
		$middle++;
		$wrong .= ' no rate' if !$seen->{rows_per_second};
		$wrong .= " expected $seen->{rows_expected}" if abs($seen->{rows_expected} - $ROWS) > 1;    # rounded, with a filter
		$wrong .= ' no end in sight' if !defined $seen->{eta} || $seen->{eta} lt $seen->{now};
		$wrong .= ' it has ended' if defined $seen->{statement_ended};
	}
	is($session->finish->{sqlstate}, '', "$name: ends well");
	is($wrong, '', "$name: what is seen only grows, and keeps to the window");
	cmp_ok($middle, '>', 0, "$name: seen in the middle ($middle times)");
	ok($states{calling}, "$name: seen calling");

	$seen = look();
	$node->safe_psql('postgres', 'SELECT llm_flush(60000)');
	is(try_columns($seen, qw(state in_flight rows_done rows_expected eta)), "state=idle in_flight=0 rows_done=$ROWS rows_expected=$ROWS eta=NULL", "$name: it has ended");
	ok(defined $seen->{statement_ended} && $seen->{statement_ended} gt $seen->{statement_since}, "$name: and says when");
	is(join('|', @$seen{qw(input_tokens output_tokens cost calls retries)}), $watcher->value($ledger), "$name: tokens, cost, calls and retries are those of the ledger");
	is($seen->{failed}, $expected{failed}, "$name: failures");
	isnt($seen->{query_id}, undef, "$name: query identifier");
	is($watcher->value("SELECT count(DISTINCT query_id) || ' ' || (min(query_id) = $seen->{query_id}) FROM llm_ledger"), '1 true', "$name: as in the ledger");
	isnt($seen->{statement_since}, $last_since, "$name: a statement of its own");
	$last_since = $seen->{statement_since};
	return $seen;
}

my $failing = $ROWS / 10;
watch('SELECT', q{SELECT id, (llm_try_invoke('t', body, o)).response FROM docs}, failed => $failing);
watch('WHERE', q{SELECT id FROM docs WHERE llm_invoke('t', 'w' || body) > 'wdoc 3'}, failed => 0);
watch('INSERT SELECT', q{INSERT INTO answers SELECT id, llm_try_invoke('t', 'i' || body, o) FROM docs}, failed => $failing);
watch('llm_invoke_many', q{SELECT count(*) FROM llm_invoke_many('t', ARRAY(SELECT 'm' || body FROM docs))}, failed => 0);
watch('llm_invoke_query', q{SELECT count(*) FROM llm_invoke_query('t', 'SELECT id, ''q'' || body FROM docs', '{"route": "again"}')}, failed => 0);
is($watcher->value('SELECT count(*) FROM answers WHERE (answer).response IS NOT NULL'), $ROWS - $failing, 'what was inserted');

# ---- rows without calls are seen as well ------------------------------------------------------------

$session->start(q{SELECT count(*) FROM (SELECT llm_invoke('t', 'same'), pg_sleep(0.01) FROM generate_series(1, 100000)) s});
my $seen = wait_for_state(running => sub { $_[0]{statement_since} ne $last_since && $_[0]{rows_done} > 50 });
is($seen->{calls}, 1, 'one call, and many rows from the memo');
$watcher->value('SELECT pg_cancel_backend(' . $session->pid . ')');
is($session->finish->{sqlstate}, '57014', 'cancelled');
$seen = look();
is(try_columns($seen, qw(state in_flight eta)), 'state=idle in_flight=0 eta=NULL', 'cancelled: it does not run');
isnt($seen->{statement_ended}, undef, 'cancelled: it has ended');

# ---- what is waited for -----------------------------------------------------------------------------

sub stop
{
	my ($name) = @_;

	$watcher->value('SELECT pg_cancel_backend(' . $session->pid . ')');
	is($session->finish->{sqlstate}, '57014', "$name: cancelled");
	$seen = look();
	is(try_columns($seen, qw(state in_flight rows_done eta)), 'state=idle in_flight=0 rows_done=0 eta=NULL', "$name: aborted, and not running");
	is($seen->{failed}, $seen->{calls}, "$name: what was started has failed");
	isnt($seen->{statement_ended}, undef, "$name: it has ended");
	return;
}

$session->start(q{SELECT llm_invoke('t', body, '{"route": "hanging"}') FROM docs});
$seen = wait_for_state(calling => sub { $_[0]{in_flight} == $WINDOW });
is(try_columns($seen, qw(target rows_done rows_expected eta)), "target=hanging rows_done=0 rows_expected=$ROWS eta=NULL", 'nothing is done, and no end in sight');
stop('hanging');

$session->start(q{SELECT llm_invoke('t', body, '{"route": "pausing"}') FROM docs});
$seen = wait_for_state('backoff');
is(try_columns($seen, qw(target in_flight)), 'target=NULL in_flight=0', 'none is out, and all wait for another try');
stop('backing off');

my $holder = new_session($node, name => 'holder');
$holder->start(q{SELECT llm_invoke('patient', 'first')});
wait_for($node, q{SELECT count(*) = 1 FROM llm_stat_activity WHERE tenant = 'patient' AND state = 'calling'}, 'the first call');
$session->start(q{SELECT llm_invoke('patient', body) FROM docs});
$seen = wait_for_state('queued');
is(try_columns($seen, qw(tenant target in_flight)), 'tenant=patient target=NULL in_flight=0', 'queued behind another session');
stop('queued');
$watcher->value('SELECT pg_cancel_backend(' . $holder->pid . ')');
$holder->finish;
$holder->quit;

# ---- a session that is gone ------------------------------------------------------------------------

$session->start(q{SELECT llm_invoke('t', body, '{"route": "hanging"}') FROM docs});
wait_for_state('calling');
$watcher->value('SELECT pg_terminate_backend(' . $session->pid . ')');
wait_for($node, sub { !look() }, 'the row to go with its session');
ok(nothing_held($node), 'nothing is held in the end');

$watcher->quit;
$node->stop;
done_testing();
