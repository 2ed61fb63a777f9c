# 015_journal.pl - the same call is paid once
#
# The journal keeps answers past a ROLLBACK and a crash; the memo, within a statement.  The number of
# requests that reach the simulator is the price.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $ROWS = 1000;
my %PRICE = ($NOVA_LITE => [ 0.06, 0.24 ]);

# Fewer leases than different calls: what was answered must not fill the table of calls in flight.
my $node = pgllm_cluster('journal', conf => "pgllm.statement_max_calls = -1\npgllm.max_leases = 512\n");
my $simulator = PgllmTest::Simulator->new;
my $session = new_session($node);

sub wire
{
	my ($tenant, %extra) = @_;

	setup_bedrock($node, $simulator, $tenant, a => { max_tokens => 200 },
		-tenant => { retention => 'response', cache => 1, %{ delete $extra{-tenant} // {} } }, %extra);
	set_price($node, "${tenant}_a", input => $PRICE{$NOVA_LITE}[0], output => $PRICE{$NOVA_LITE}[1]);
	return;
}

sub value { return $node->safe_psql('postgres', $_[0]); }

# How many requests came while $code ran.
sub requests_of
{
	my ($code) = @_;
	my $before = $simulator->requests;

	$code->();
	return $simulator->requests - $before;
}

sub source_of
{
	my ($tenant, $prompt, $options) = @_;

	return try_call($node, $tenant, $prompt, $options)->{source} // 'NULL';
}

# ---- an UPDATE that fails at its last row -----------------------------------------------------------------

wire('batch');
value(qq{CREATE TABLE docs AS SELECT i AS id, NULL::text AS answer FROM generate_series(1, $ROWS) AS i;
	CREATE FUNCTION fail_at(i int, answer text, fail boolean) RETURNS text LANGUAGE plpgsql AS
	'BEGIN IF i = $ROWS AND fail THEN RAISE division_by_zero; END IF; RETURN answer; END'});

sub update
{
	my ($tenant, $fail) = @_;

	return "UPDATE docs SET answer = fail_at(id, llm_invoke('$tenant', 'document ' || id), $fail)";
}

my $first = requests_of(sub { is($session->query(update('batch', 'true'))->{sqlstate}, '22012', "an UPDATE of $ROWS rows fails at the last one") });
is($first, $ROWS, '... after as many requests');
is(value('SELECT count(answer) FROM docs'), 0, '... and nothing is left of it');
my $second = requests_of(sub { $session->value(update('batch', 'false')) });
is($first + $second, $ROWS, "run again: $ROWS requests in all");
is(value(q{SELECT count(*) FROM docs WHERE answer = 'document ' || id}), $ROWS, '... with the right answer in each row');
flush_ledger($node);
is(value(q{SELECT count(*), count(DISTINCT call_id) FROM llm_ledger WHERE tenant = 'batch'}), "$ROWS|$ROWS", '... each paid once');
is(value(q{SELECT count(*) FROM llm_journal WHERE tenant = 'batch'}), $ROWS, '... and in the journal');

# ---- a server that dies in the middle ------------------------------------------------------------------------

wire('crash');
my $begun = $simulator->requests;
$session->start(update('crash', 'false'));
wait_for($node, sub { $simulator->requests - $begun >= $ROWS / 2 });
$node->stop('immediate');
$session->kill_client;
$node->start;
$session = new_session($node);
my $spent = $simulator->requests - $begun;
$session->value(update('crash', 'false'));
my $all = $simulator->requests - $begun;
cmp_ok($all, '<=', $ROWS + 40, "killed after $spent of $ROWS requests and run again: not many more than $ROWS in all");
cmp_ok($all, '>=', $ROWS, '... and not fewer');
note "$all requests in all";
is(value(q{SELECT count(*) FROM docs WHERE answer = 'document ' || id}), $ROWS, '... with the right answer in each row');

# ---- what a hit is ---------------------------------------------------------------------------------------------

wire('hit');
my $paid = try_call($node, 'hit', 'hello', { cache => \1 });
my $hit;
is(requests_of(sub { $hit = try_call($node, 'hit', 'hello', { cache => \1 }) }), 0, 'the second call is not sent');
isnt($paid->{source}, 'journal', 'the first comes from the provider');
is(try_columns($hit, qw(response sqlstate source target model input_tokens output_tokens)),
	"response=hello sqlstate=NULL source=journal target=hit_a model=hit_a input_tokens=$paid->{input_tokens} output_tokens=$paid->{output_tokens}",
	'a hit has the answer, and its source says journal');
is($hit->{cost} + 0, 0, '... it costs nothing');
flush_ledger($node);
is(value(q{SELECT count(*) FROM llm_ledger WHERE tenant = 'hit'}), 1, '... and is no row of the ledger');
# anything that the answer depends on makes another call
foreach my $other ([ 'other prompt', 'hello!', {} ], [ 'temperature', 'hello', { temperature => 0.5 } ],
	[ 'max_tokens', 'hello', { max_tokens => 100 } ], [ 'system', 'hello', { system => 'Be brief.' } ],
	[ 'stop', 'hello', { stop => ['x'] } ])
{
	my ($name, $prompt, $options) = @$other;

	is(requests_of(sub { try_call($node, 'hit', $prompt, $options) for 1, 2 }), 1, "$name: another call, paid once");
}
is(requests_of(sub { try_call($node, 'hit', 'hello', { timeout_ms => 9000, max_wait_ms => 5 }) }), 0, 'timeouts make no difference');
is(requests_of(sub { try_call($node, 'hit', 'hello', { cache => \0 }) }), 1, 'cache: false asks the provider');
is(requests_of(sub { try_call($node, 'hit', 'hello', { sample => \1 }) for 1, 2 }), 2, 'sample: true, too, each time');
is(requests_of(sub { $session->value(q{BEGIN READ ONLY; SELECT llm_invoke('hit', 'hello'); COMMIT}) }), 0, 'a hit in a read-only transaction');
is(requests_of(sub { $session->query(q{BEGIN; SELECT llm_invoke('hit', 'rolled back'); ROLLBACK}); $session->value(q{SELECT llm_invoke('hit', 'rolled back')}) }),
	1, 'an answer survives the ROLLBACK of its transaction');
value(q{UPDATE llm_target SET model_id = 'amazon.nova-pro-v1:0' WHERE target = 'hit_a'});
is(requests_of(sub { try_call($node, 'hit', 'hello') }), 1, 'another model behind the target: another call');

# Failures are not kept; an answer that was cut is no answer unless it is wanted.
wire('failing');
$simulator->fault({}, { kind => 'Validation', times => 1 });
is(try_call($node, 'failing', 'hello')->{sqlstate}, 'LM003', 'a failure');
is(source_of('failing', 'hello') eq 'journal' ? 1 : 0, 0, '... is not kept');
is(source_of('failing', 'hello'), 'journal', '... the answer is');

# The other ways to call.
is(requests_of(sub { $session->value(q{SELECT llm_invoke('hit', 'many 1')}); $session->value(q{SELECT count(*) FROM llm_invoke_many('hit', ARRAY['many 1', 'many 2', 'many 3', NULL])}) }),
	3, 'llm_invoke_many looks into the journal, too');
is($session->value(q{SELECT string_agg((result).source, ' ' ORDER BY ord) FROM llm_invoke_many('hit', ARRAY['many 1', 'many 2'])}), 'journal journal', '... and fills it');

# ---- eight sessions, one prompt -----------------------------------------------------------------------------------

wire('flight');
$simulator->configure({ models => { $NOVA_LITE => { latency_ms => 300 } } });
my @sessions = map { new_session($node, name => "client $_") } 1 .. 8;
is( requests_of(
		sub {
			$_->start(q{SELECT (r).response || ' ' || coalesce((r).cost, -1) FROM (SELECT llm_try_invoke('flight', 'hello') AS r OFFSET 0) AS s}) foreach @sessions;
			my @answers = map { $_->finish->{out} } @sessions;
			is(scalar(grep { /^hello / } @answers), 8, 'eight sessions with the same call at once have their answer');
			is(scalar(grep { !/^hello 0(?:\.0*)?$/ } @answers), 1, '... one of them has paid');
		}),
	1, '... and one request was sent');
# whoever leads dies: another one takes over
is( requests_of(
		sub {
			$_->start(q{SELECT llm_invoke('flight', 'led')}) foreach @sessions;
			$simulator->wait_in_flight(1);
			value(q{SELECT pg_cancel_backend(pid) FROM llm_lease WHERE target = 'flight_a'});
			my @ends = map { my $r = $_->finish; $r->{sqlstate} || $r->{out} } @sessions;
			is(join(' ', sort @ends), '57014 ' . join(' ', ('led') x 7), 'the one that is out is cancelled: the others have their answer');
		}),
	2, '... after one more request');
# a call that fails does not take the others with it for ever
$simulator->fault({}, { kind => 'Validation', times => 1 });
is( requests_of(
		sub {
			$_->start(q{SELECT coalesce((llm_try_invoke('flight', 'failing')).sqlstate, 'ok')}) foreach @sessions[ 0, 1 ];
			like(join(' ', sort map { $_->finish->{out} } @sessions[ 0, 1 ]), qr/^LM003 (?:LM003|ok)$/, 'the first one fails');
		}) <= 2 ? 1 : 0,
	1, '... the next one is sent by somebody else, or gets the same error');
$simulator->clear_faults;
$simulator->configure({ models => { $NOVA_LITE => { latency_ms => 0 } } });
$_->quit foreach @sessions;

# ---- whose it is, how long, and how it goes --------------------------------------------------------------------------

wire('mine');
insert_rows($node,
	llm_tenant => [ { tenant => 'yours', route => 'mine', retention => 'response', cache => 1 }, { tenant => 'plain', route => 'mine' } ],
	llm_quota => [ { route => 'mine', rpm => 100000 } ]);
is(requests_of(sub { try_call($node, 'mine', 'hello'); try_call($node, 'yours', 'hello') }), 2, 'another tenant does not get the answer');
is(source_of('mine', 'hello') . ' ' . source_of('yours', 'hello'), 'journal journal', '... each has its own');

my $error = $session->query(q{SELECT llm_invoke('plain', 'hello', '{"cache": true}')});
is($error->{sqlstate}, '22023', 'cache of a tenant whose retention is none: an error');
like("$error->{message} $error->{detail} $error->{hint}", qr/retention/, '... that says what is missing');
is(value(q{SELECT count(*) FROM llm_journal WHERE tenant = 'plain'}), 0, '... and nothing is kept');
is($session->query(q{UPDATE llm_tenant SET cache = true WHERE tenant = 'plain'})->{sqlstate}, '23514', 'nor can it be its default');

value(q{UPDATE llm_tenant SET cache_ttl = '1 hour' WHERE tenant = 'mine'});
try_call($node, 'mine', 'short');
is(value(q{SELECT date_trunc('second', expires_at - created_at) FROM llm_journal WHERE tenant = 'mine' ORDER BY created_at DESC LIMIT 1}), '01:00:00', 'cache_ttl decides how long');
value(q{UPDATE llm_journal SET created_at = created_at - interval '1 day', expires_at = expires_at - interval '1 day' WHERE tenant = 'mine'});
is(requests_of(sub { try_call($node, 'mine', 'short') }), 1, 'an expired answer is none');
is(source_of('mine', 'short'), 'journal', '... and is replaced');

try_call($node, 'mine', "call $_") for 1 .. 5;
is(value(q{SELECT llm_forget('mine', 'call 1')}), 1, 'llm_forget of one prompt');
is(requests_of(sub { try_call($node, 'mine', 'call 1'); try_call($node, 'mine', 'call 2') }), 1, '... forgets that one alone');
is(value(q{SELECT llm_forget('mine', 'never asked')}), 0, '... and nothing where nothing is');
my $left = value(q{SELECT count(*) FROM llm_journal WHERE tenant = 'mine'});
is(value(q{SELECT llm_forget('mine')}), $left, 'llm_forget of a tenant: all of them');
is(value(q{SELECT count(*) FILTER (WHERE tenant = 'mine'), count(*) FILTER (WHERE tenant = 'yours') FROM llm_journal}), '0|1', '... and of nobody else');
is(requests_of(sub { try_call($node, 'mine', 'call 3') }), 1, '... which are paid again');
is($session->query(q{SELECT llm_forget(NULL)})->{sqlstate}, '22004', 'llm_forget of NULL: an error, nothing is deleted');
is(value(q{SELECT count(*) FROM llm_journal WHERE tenant = 'yours'}), 1, '... indeed');

# ---- the memo: within one statement --------------------------------------------------------------------------------------

wire('memo', -tenant => { cache => 0 });
my $since = $simulator->last_entry;
value(q{CREATE TABLE words AS SELECT i, 'word ' || i % 10 AS word FROM generate_series(1, 100) AS i});
# [what, statement, requests]
my @statements = (
	[ 'the same call in select list and WHERE', q{SELECT count(*) FROM (SELECT llm_invoke('memo', 'A' || word) FROM words WHERE llm_invoke('memo', 'A' || word) = 'A' || word) AS s}, 10 ],
	[ 'all columns of llm_try_invoke', q{SELECT count(source) FROM (SELECT (llm_try_invoke('memo', 'B' || word)).* FROM words OFFSET 0) AS s}, 10 ],
	[ 'repeated rows', q{SELECT count(llm_invoke('memo', 'C' || word)) FROM words}, 10 ],
	[ 'GROUP BY and ORDER BY', q{SELECT count(*) FROM (SELECT llm_invoke('memo', 'D' || word) FROM words GROUP BY llm_invoke('memo', 'D' || word) ORDER BY llm_invoke('memo', 'D' || word)) AS s}, 10 ],
	[ 'a function that is called for each row', q{SELECT count(ask('E' || word)) FROM words}, 10 ],
	[ 'llm_invoke_many', q{SELECT count(*) FROM llm_invoke_many('memo', ARRAY(SELECT 'F' || word FROM words))}, 10 ],
	[ 'a statement prepared', q{PREPARE p AS SELECT count(llm_invoke('memo', 'G' || word)) FROM words; EXECUTE p}, 10 ],
	[ 'a DO block', q{DO $$ BEGIN FOR i IN 1 .. 20 LOOP PERFORM llm_invoke('memo', 'H' || i % 10); END LOOP; END $$}, 10 ],
	[ 'the option sample', q{SELECT count(llm_invoke('memo', 'I' || word, '{"sample": true}')) FROM words}, 100 ],
	[ 'other parameters', q{SELECT count(llm_invoke('memo', 'J' || word, jsonb_build_object('max_tokens', 50 + i % 2))) FROM words}, 10 ],
	[ 'two statements', q{SELECT llm_invoke('memo', 'K'); SELECT llm_invoke('memo', 'K')}, 2 ],
	[ 'pgllm.memo_size = 0', q{SET pgllm.memo_size = 0; SELECT count(llm_invoke('memo', 'L' || word)) FROM words; RESET pgllm.memo_size}, 100 ],);
value(q{CREATE FUNCTION ask(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN llm_invoke(''memo'', $1); END'});
foreach my $case (@statements)
{
	my ($name, $sql, $count) = @$case;

	# i % 2 follows the last digit of i, so "other parameters" are ten different calls, too
	is(requests_of(sub { $session->value($sql) }), $count, "$name: $count requests for 100 rows");
}
is($session->value(q{SELECT string_agg((r).source || ' ' || coalesce((r).cost > 0, false), ', ' ORDER BY i)
	FROM (SELECT i, llm_try_invoke('memo', 'source') AS r FROM generate_series(1, 3) AS i OFFSET 0) AS s}) =~ s/^\w+ true, //r,
	'memo false, memo false', 'the source says memo, the cost is that of nothing');
flush_ledger($node);
ledger_is_simulator($node, $simulator, 'the ledger has what was sent, and nothing for the rest',
	since => $since, where => q{tenant = 'memo'}, price => \%PRICE);
# a failure is shared for a moment, and asked again by whoever tries again later
$simulator->fault({}, { kind => 'Validation', times => 1 });
is($session->value(q{SELECT string_agg(coalesce((r).sqlstate, 'ok'), ' ' ORDER BY i)
	FROM (SELECT i, llm_try_invoke('memo', 'fails once') AS r, pg_sleep(0.3) FROM generate_series(1, 3) AS i OFFSET 0) AS s}),
	'LM003 ok ok', 'a failure is not remembered for long');
# very small: nothing breaks
is(requests_of(sub { $session->value(q{SET pgllm.memo_size = '1kB'; SELECT count(llm_invoke('memo', repeat('x', 2000) || word, '{"max_tokens": 1000}')) FROM words; RESET pgllm.memo_size}) }) >= 10 ? 1 : 0,
	1, 'a memo that is too small for the answers only forgets');

# ---- limits of a statement ----------------------------------------------------------------------------------------------------

wire('bound', -tenant => { cache => 0 });
value(q{CREATE FUNCTION ask_bound(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN llm_invoke(''bound'', $1); END';
	CREATE TABLE bound (i int, answer text);
	CREATE FUNCTION fill_bound() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.answer := llm_invoke(''bound'', ''row '' || new.i); RETURN new; END';
	CREATE TRIGGER fill BEFORE INSERT ON bound FOR EACH ROW EXECUTE FUNCTION fill_bound()});
$session->value('SET pgllm.statement_max_calls = 10');
my $n = 0;
foreach my $sql (
	q{SELECT llm_invoke('bound', 'a%d ' || i) FROM generate_series(1, 50) AS i},
	q{SELECT ask_bound('b%d ' || i) FROM generate_series(1, 50) AS i},
	q{DO $$ BEGIN FOR i IN 1 .. 50 LOOP PERFORM llm_invoke('bound', 'c%d ' || i); END LOOP; END $$},
	q{INSERT INTO bound SELECT 100 * %d + i FROM generate_series(1, 50) AS i})
{
	my $statement = sprintf $sql, ++$n;
	my $state;

	is(requests_of(sub { $state = $session->query($statement)->{sqlstate} }), 10, "ten calls are sent: $statement");
	is($state, 'LM010', '... and the next one is refused');
}
# where failures are data, what was paid for is not lost
is(requests_of(sub { is($session->value(q{SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT coalesce((result).sqlstate, 'ok') AS state, count(*) AS n FROM llm_invoke_many('bound', ARRAY(SELECT 'd ' || i FROM generate_series(1, 50) AS i)) GROUP BY 1) AS s}), 'LM010 40, ok 10', 'a batch of 50') }),
	10, '... sends ten');
is(requests_of(sub { is($session->query(q{SELECT count(llm_invoke('bound', 'ten ' || i)) FROM generate_series(1, 10) AS i})->{out}, 10, 'ten calls are no more than ten') }), 10, '... all sent');
is(requests_of(sub { $session->value(q{BEGIN; SELECT llm_invoke('bound', 'x'); SELECT count(llm_invoke('bound', 'each ' || i)) FROM generate_series(1, 10) AS i; COMMIT}) }), 11, 'the count is of one statement, not of the transaction');
is(requests_of(sub { $session->value(q{SELECT count(llm_invoke('bound', 'same')) FROM generate_series(1, 50)}) }), 1, 'repeated calls count once: they are not made');
$session->value('RESET pgllm.statement_max_calls');

# 200 tokens at 0.24 dollars a million are 48,000 nano-USD at worst; an answer costs 600.  So one call
# after the other has room, until less than a worst case is left.
$session->value('SET pgllm.statement_max_cost = 0.000060');
$since = $simulator->last_entry;
is($session->value(q{SELECT string_agg(DISTINCT (result).sqlstate, ',') FROM llm_invoke_many('bound', ARRAY(SELECT 'cost ' || i FROM generate_series(1, 50) AS i))}), 'LM010', 'statement_max_cost');
$simulator->wait_in_flight(0);
my $totals = $simulator->ledger($since)->{totals};
cmp_ok($totals->{requests}, '>', 1, '... lets calls pass that have room');
cmp_ok($totals->{requests}, '<', 50, '... and not the others');
cmp_ok(nano_usd($PRICE{$NOVA_LITE}, $totals->{inputTokens}, $totals->{outputTokens}), '<=', 60_000, '... and is kept');
$session->value('RESET pgllm.statement_max_cost');

# ---- the report -----------------------------------------------------------------------------------------------------------------

$session->value('SET pgllm.report = on');
my $report = $session->query(q{SELECT count(llm_invoke('bound', 'report ' || i)) FROM generate_series(1, 3) AS i});
is(() = $report->{err} =~ /NOTICE:/g, 1, 'pgllm.report: one NOTICE for a statement with calls');
like($report->{err}, qr/\b3 calls\b/, '... that counts them');
is($session->query('SELECT 1')->{err}, '', '... none for a statement without');
is(() = $session->query(q{DO $$ BEGIN PERFORM llm_invoke('bound', 'one'); PERFORM llm_invoke('bound', 'two'); END $$})->{err} =~ /NOTICE:/g, 1, '... one for a whole DO block');
$session->value('RESET pgllm.report');

nothing_held($node, 'nothing is held');
$session->quit;
$simulator->stop;
$node->stop;
done_testing();
