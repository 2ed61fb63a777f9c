# 010_ledger.pl - every attempt is one row of llm_ledger, whatever became of its transaction
#
# A thousand calls whose transactions all roll back, at each level of pgllm.ledger_sync, held against
# the log of the simulator row by row: tokens and nano-USD.  Then one of each kind: read-only and
# aborted transactions, subtransactions, batches, cancels, timeouts, fallbacks, refusals.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $CLIENTS = 8;
my $CALLS = 125;    # of each client
# US dollars per million tokens: input, output
my %PRICE = ($NOVA_LITE => [ 0.06, 0.24 ], $NOVA_PRO => [ 0.8, 3.2 ]);

my $node = pgllm_cluster('ledger');
my $simulator = PgllmTest::Simulator->new;
my $session = new_session($node);

# Two accounts; the fallback is another model at another price.
sub wire
{
	my ($tenant, %extra) = @_;

	setup_bedrock(
		$node, $simulator, $tenant,
		a => { max_tokens => 500 },
		b => { account => $ACCOUNT_2, model_id => $NOVA_PRO, max_tokens => 500 },
		%extra);
	set_price($node, "${tenant}_a", input => $PRICE{$NOVA_LITE}[0], output => $PRICE{$NOVA_LITE}[1]);
	set_price($node, "${tenant}_b", input => $PRICE{$NOVA_PRO}[0], output => $PRICE{$NOVA_PRO}[1]);
	return;
}

# The rows of one tenant, each as a text of the given columns.
sub rows_of
{
	my ($tenant, @columns) = @_;

	flush_ledger($node);
	return join "\n", map {
		my $row = $_;
		join ' ', map { $row->{$_} // '-' } @columns;
	} ledger_rows($node, "tenant = '$tenant'");
}

sub charged_as_reserved
{
	my ($tenant, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	flush_ledger($node);
	return is(
		$node->safe_psql('postgres', qq{SELECT bool_and(charge = 'reserved' AND cost_nano_usd = reserved_nano_usd
			AND cost_nano_usd > 0) FROM llm_ledger WHERE tenant = '$tenant' AND outcome <> 'success'}),
		't', $name);
}

# ---- a thousand calls that roll back -------------------------------------------------------------

foreach my $level (qw(off result intent))
{
	my $tenant = "sync_$level";
	my $since = $simulator->last_entry;

	wire($tenant);
	is( run_pgbench(
			$node, <<"EOS", clients => $CLIENTS, transactions => $CALLS, settings => { 'pgllm.ledger_sync' => $level }),
\\set n random(1, 400)
BEGIN;
SELECT length(llm_invoke('$tenant', repeat('x', :n)));
ROLLBACK;
EOS
		$CLIENTS * $CALLS,
		"ledger_sync = $level: all calls got an answer, and were rolled back");
	if ($level eq 'off')
	{
		ok(flush_ledger($node), '... llm_flush says that everything is in the table');
	}
	else
	{
		is(ledger_status($node)->{queued}, 0, '... nothing is left to be written');
	}
	my ($rows) = ledger_is_simulator($node, $simulator, '... call by call, the ledger has the tokens and the nano-USD of the simulator',
		since => $since, where => "tenant = '$tenant'", price => \%PRICE);
	is(scalar keys %$rows, $CLIENTS * $CALLS, '... in as many rows as there were calls');
	my $totals = $simulator->ledger($since)->{totals};
	is( $node->safe_psql('postgres', "SELECT sum(input_tokens), sum(output_tokens), sum(cost_nano_usd), count(DISTINCT call_id)
			FROM llm_ledger WHERE tenant = '$tenant'"),
		join('|', $totals->{inputTokens}, $totals->{outputTokens},
			nano_usd($PRICE{$NOVA_LITE}, $totals->{inputTokens}, $totals->{outputTokens}),
			$CLIENTS * $CALLS),
		'... and in sum');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM llm_intent'), 0, 'no intent is left');
is($node->safe_psql('postgres', 'SELECT failures, spilled FROM llm_ledger_status WHERE datname = current_database()'),
	'0|0', 'nothing failed, nothing was spilled');

# ---- transactions of all kinds -------------------------------------------------------------------

# [name, tenant, statements, rows]; every call is answered
my @transactions = (
	[ 'a read-only transaction', 'readonly', q{BEGIN READ ONLY; SELECT llm_invoke('readonly', 'hello'); COMMIT}, 1 ],
	[ 'a read-only session', 'readonly_session', q{SET default_transaction_read_only = on; SELECT llm_invoke('readonly_session', 'hello'); RESET default_transaction_read_only}, 1 ],
	[ 'an error in the same statement', 'same', q{SELECT 1 / (length(llm_invoke('same', 'hello')) - 5)}, 1 ],
	[ 'an error later in the transaction', 'later', q{BEGIN; SELECT llm_invoke('later', 'hello'); SELECT 1 / 0; ROLLBACK}, 1 ],
	[ 'a serializable transaction', 'serializable', q{BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT llm_invoke('serializable', 'hello'); ROLLBACK}, 1 ],
	[ 'a savepoint that is rolled back to', 'savepoint', q{BEGIN; SAVEPOINT s; SELECT llm_invoke('savepoint', 'hello'); ROLLBACK TO s; SELECT llm_invoke('savepoint', 'hello'); ROLLBACK}, 2 ],
	[ 'caught errors', 'caught', q{DO $$ BEGIN FOR i IN 1 .. 3 LOOP BEGIN PERFORM 1 / (length(llm_invoke('caught', 'call ' || i)) - 6); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$}, 3 ],
	[ 'a batch', 'batch', q{BEGIN; SELECT count(*) FROM llm_invoke_many('batch', ARRAY(SELECT 'prompt ' || i FROM generate_series(1, 50) AS i)); ROLLBACK}, 50 ],
	[ 'one statement over many rows', 'many', q{CREATE TEMP TABLE answers ON COMMIT DROP AS SELECT llm_invoke('many', 'prompt ' || i) FROM generate_series(1, 20) AS i}, 20 ],);
foreach my $case (@transactions)
{
	my ($name, $tenant, $sql, $count) = @$case;
	my $since = $simulator->last_entry;

	wire($tenant);
	$session->query($sql);
	flush_ledger($node);
	my ($rows, $requests) = ledger_is_simulator($node, $simulator, "$name: the ledger is the simulator's",
		since => $since, where => "tenant = '$tenant'", price => \%PRICE);
	is(keys(%$rows) . ' ' . keys(%$requests), "$count $count", "... $count rows");
}

# What a call says of itself is what the row says.
wire('itself');
my $result = try_call($node, 'itself', 'hello world');
flush_ledger($node);
my @row = ledger_rows($node, "call_id = '$result->{call_id}'");
is(scalar @row, 1, 'the row of a call is found by its call_id, at once');
is(join(' ', map { $_ // '-' } @{ $row[0] }{qw(attempt outcome charge status tenant target model input_tokens output_tokens fallback_depth role)}),
	"1 success usage 200 itself itself_a itself_a $result->{input_tokens} $result->{output_tokens} 0 " . $node->safe_psql('postgres', 'SELECT current_user'),
	'... and has what llm_result has');
is($node->safe_psql('postgres', "SELECT cost_nano_usd = 1e9 * $result->{cost}, provider_request_id = '$result->{provider_request_id}',
	session_role = current_user, started_at BETWEEN now() - interval '1 hour' AND now(), prompt_sha256 IS NULL
	FROM llm_ledger WHERE call_id = '$result->{call_id}'"), 't|t|t|t|t', '... the cost, the identifier of the provider, the role, no hash');

# retention = hash
wire('hashed', -tenant => { retention => 'hash' });
$result = try_call($node, 'hashed', 'hello world');
flush_ledger($node);
is($node->safe_psql('postgres', "SELECT prompt_sha256 = sha256('hello world'), response_sha256 = sha256('$result->{response}')
	FROM llm_ledger WHERE call_id = '$result->{call_id}'"), 't|t', 'retention = hash: SHA-256 of prompt and answer');

# no price
setup_bedrock($node, $simulator, 'unpriced', a => {});
is(try_call($node, 'unpriced', 'hello')->{cost}, undef, 'no price: no cost in the result');
is(rows_of('unpriced', qw(outcome charge input_tokens output_tokens cost_nano_usd)), 'success usage 2 2 -', '... nor in the ledger, only tokens');

# ---- cancelled, timed out ------------------------------------------------------------------------

foreach my $level (qw(off result intent))
{
	my $tenant = "cancel_$level";

	wire($tenant, -policy => { max_attempts => 1 });
	$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'hang', times => 2 });
	$session->value("SET pgllm.ledger_sync = $level");
	foreach my $how (qw(cancel timeout))
	{
		$session->value("SET statement_timeout = '500ms'") if $how eq 'timeout';
		$session->start("SELECT llm_invoke('$tenant', 'hello')");
		if ($how eq 'cancel')
		{
			$simulator->wait_in_flight(1);
			$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $session->pid . ')');
		}
		is($session->finish->{sqlstate}, '57014', "ledger_sync = $level: a call ends by $how");
		$session->value('RESET statement_timeout');
		$simulator->wait_in_flight(0);
	}
	is(rows_of($tenant, qw(attempt outcome charge status target)),
		"1 cancelled reserved - ${tenant}_a\n1 cancelled reserved - ${tenant}_a", '... a row each: cancelled');
	charged_as_reserved($tenant, '... charged at its reservation, as nobody knows what it will cost');
}
$session->value('RESET pgllm.ledger_sync');

# A batch in flight that is cancelled: one row for each that was out.
wire('cancelled_batch');
$simulator->fault({}, { kind => 'hang', times => -1 });
my $since = $simulator->last_entry;
$session->start(q{SELECT count(*) FROM llm_invoke_many('cancelled_batch', ARRAY(SELECT 'prompt ' || i FROM generate_series(1, 20) AS i))});
$simulator->wait_in_flight(20);
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $session->pid . ')');
$session->finish;
$simulator->wait_in_flight(0);
$simulator->clear_faults;
flush_ledger($node);
my ($rows) = ledger_is_simulator($node, $simulator, 'a cancelled batch of 20: the ledger is the simulator\'s', since => $since, where => q{tenant = 'cancelled_batch'});
is(join(' ', map { "$_->{outcome} $_->{charge}" } values %$rows), join(' ', ('cancelled reserved') x 20), '... 20 cancelled rows');

# The session is terminated, or its client leaves.
wire('gone');
$simulator->fault({}, { kind => 'hang', times => -1 });
foreach my $n (1, 2)
{
	my $lost = new_session($node);

	$lost->start(q{SELECT llm_invoke('gone', 'hello')});
	$simulator->wait_in_flight(1);
	$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $lost->pid . ')');
	$lost->finish;
	$simulator->wait_in_flight(0);
}
$simulator->clear_faults;
is(rows_of('gone', qw(attempt outcome charge)), "1 cancelled reserved\n1 cancelled reserved", 'terminated sessions leave their rows');

# Too slow: the target's patience, then the next target answers.
wire('slow');
$node->safe_psql('postgres', q{UPDATE llm_target SET timeout_ms = 300 WHERE target = 'slow_a'});
$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'hang', times => 1 });
is(try_columns(try_call($node, 'slow', 'hello'), qw(sqlstate target attempts)), 'sqlstate=NULL target=slow_b attempts=2', 'a timeout, and an answer elsewhere');
is(rows_of('slow', qw(attempt outcome cause charge target fallback_depth)),
	"1 failed timeout reserved slow_a 0\n2 success - usage slow_b 1", '... two rows');
charged_as_reserved('slow', '... the timeout is charged at its reservation');

# ---- failures and fallbacks ----------------------------------------------------------------------

# [fault, cause, status, charge]
my @failures = (
	[ { kind => 'Throttling' }, 'throttled', 429, 'none' ],
	[ { kind => 'ServiceUnavailable' }, 'unavailable', 503, 'none' ],
	[ { kind => 'ResourceNotFound' }, 'not found', 404, 'none' ],
	[ { kind => 'ExpiredToken' }, 'credentials', 403, 'none' ],
	[ { kind => 'ServiceQuotaExceeded' }, 'quota exhausted', 400, 'none' ],
	[ { kind => 'truncated_body' }, 'server error', '-', 'reserved' ],
	[ { kind => 'reset_before_headers' }, 'connection', '-', 'reserved' ],);
foreach my $case (@failures)
{
	my ($fault, $cause, $status, $charge) = @$case;
	my $tenant = lc "fail_$fault->{kind}";

	wire($tenant);
	$node->safe_psql('postgres', q{SELECT llm_breaker_reset()});
	$simulator->fault({ account => $ACCOUNT_1 }, { %$fault, times => 1 });
	my $answer = try_call($node, $tenant, 'hello', { timeout_ms => 20000 });
	$simulator->clear_faults;
	is($answer->{sqlstate}, undef, "$fault->{kind}: answered in the end");
	my @found = split /\n/, rows_of($tenant, qw(attempt outcome cause status charge target));
	is(scalar @found, $answer->{attempts}, '... as many rows as attempts');
	is($found[0], "1 failed $cause $status $charge ${tenant}_a", '... the first says why');
	like($found[-1], qr/^$answer->{attempts} success - 200 usage $answer->{target}$/, '... the last is the answer');
}
wire('hopeless');
$simulator->fault({}, { kind => 'Validation', times => -1 });
my $failed = try_call($node, 'hopeless', 'hello');
$simulator->clear_faults;
is(rows_of('hopeless', qw(attempt outcome cause status charge cost_nano_usd)), '1 failed bad request 400 none 0', 'a rejected request costs nothing');
is($failed->{attempts}, 1, '... and there was one');

# ---- refused -------------------------------------------------------------------------------------

wire('narrow', -quota => { rpm => 2, window_kind => 'strict' });
$since = $simulator->last_entry;
is($session->value(q{SELECT string_agg(coalesce((r).sqlstate, 'ok'), ' ' ORDER BY i)
	FROM (SELECT i, llm_try_invoke('narrow', 'prompt ' || i) AS r FROM generate_series(1, 4) AS i OFFSET 0) AS s}),
	'ok ok LM002 LM002', 'a quota refuses');
is(rows_of('narrow', qw(attempt outcome sqlstate charge cost_nano_usd target)),
	"1 success - usage 600 narrow_a\n1 success - usage 600 narrow_a\n0 refused LM002 none 0 -\n0 refused LM002 none 0 -",
	'... a row of attempt 0 for each refused call');
is($simulator->ledger($since)->{totals}{requests}, 2, '... which were not sent');
is($session->query(q{SELECT llm_invoke('narrow', 'raised')})->{sqlstate}, 'LM002', 'a refusal that is raised');
is(() = rows_of('narrow', qw(outcome)) =~ /refused/g, 3, '... has its row');

# A mistake of the caller is not a refusal.
is($session->query(q{SELECT llm_invoke('nobody', 'hello')})->{sqlstate}, '42704', 'a mistake of the caller');
is($node->safe_psql('postgres', q{SELECT count(*) FROM llm_ledger WHERE tenant = 'nobody'}), 0, '... is no refusal: no row');

# Calls in the transaction that creates the extension.
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', q{BEGIN;
	CREATE EXTENSION pgllm;
	INSERT INTO llm_model (model) VALUES ('m');
	INSERT INTO llm_shard (shard, provider) VALUES ('mock', 'mock');
	INSERT INTO llm_target (target, shard, model, model_id, max_tokens) VALUES ('mock', 'mock', 'm', 'x', 10);
	INSERT INTO llm_route (route, target) VALUES ('mock', 'mock');
	INSERT INTO llm_tenant (tenant, route) VALUES ('fresh', 'mock');
	INSERT INTO llm_quota (rpm) VALUES (1000);
	SELECT llm_invoke('fresh', 'hello');
	COMMIT});
ok($node->safe_psql('fresh', 'SELECT llm_flush()') eq 't', 'a call in the transaction that creates the extension');
is($node->safe_psql('fresh', 'SELECT count(*) FROM llm_ledger'), 1, '... has its row after it');

# Commands that want a database without sessions do not wait in vain for a writer that nobody thinks of.
my $writers = q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'fresh' AND backend_type = 'pgllm ledger writer'};
is($node->safe_psql('postgres', $writers), 1, 'the writer of a database has stayed');
$node->safe_psql('postgres', 'CREATE DATABASE fresh_copy TEMPLATE fresh');
is($node->safe_psql('fresh_copy', 'SELECT count(*) FROM llm_ledger'), 1, 'CREATE DATABASE from a template with a writer');
$node->safe_psql('fresh', q{SELECT llm_invoke('fresh', 'hello again')});
$node->safe_psql('postgres', 'ALTER DATABASE fresh RENAME TO stale');
$node->safe_psql('stale', q{SELECT llm_invoke('fresh', 'and again')});
$node->safe_psql('postgres', 'DROP DATABASE stale');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_database WHERE datname = 'stale'}), 0, 'ALTER and DROP DATABASE with a writer');

# ---- the end -------------------------------------------------------------------------------------

ok(flush_ledger($node), 'flushed');
is($node->safe_psql('postgres', 'SELECT count(*) FROM llm_intent'), 0, 'llm_intent is empty');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT 1 FROM llm_ledger GROUP BY call_id, attempt HAVING count(*) > 1) AS twice'), 0, 'no attempt has two rows');
is($node->safe_psql('postgres', q{SELECT count(*) FROM llm_ledger WHERE (attempt = 0) <> (outcome = 'refused')}), 0, 'attempt 0 means refused, and nothing else');
is($node->safe_psql('postgres', q{SELECT count(*) FROM llm_ledger WHERE charge = 'none' AND cost_nano_usd <> 0}), 0, 'what is not billed costs 0');
my $status = ledger_status($node);
is($status->{free_slots}, $status->{slots}, 'all slots are free again');
nothing_held($node, 'nothing is held');

# A regular stop and start loses nothing and adds nothing.
my $count = $node->safe_psql('postgres', 'SELECT count(*) FROM llm_ledger');
$session->quit;
$node->restart;
ok(flush_ledger($node), 'llm_flush works right after a restart');
is($node->safe_psql('postgres', 'SELECT count(*) FROM llm_ledger'), $count, 'a restart leaves the ledger as it was');

$simulator->stop;
$node->stop;
done_testing();
