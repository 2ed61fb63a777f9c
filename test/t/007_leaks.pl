# 007_leaks.pl - ten thousand calls in one backend leave nothing behind
#
# For each kind of call: 2,000 to warm up, 8,000 more, and then the memory contexts, the resident
# memory and the descriptors of the backend are where they were.  What may grow is bounded by a few
# hundred kilobytes, less than 50 bytes a call.  Resident memory comes and goes with the allocator, so
# the round counts in which it grew least.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IO::Socket::INET;
use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $WARM_UP = 2000;
my $CALLS = 8000;
my $SLACK = 400 * 1024;
my $WINDOW = 32;
my $ROUNDS = 4;

# the same call again and again, except where it is the memo that is looked at
my $node = pgllm_cluster('leaks', conf => "jit = off\npgllm.memo_size = 0\npgllm.statement_max_calls = -1\n");
my $simulator = PgllmTest::Simulator->new;
my $closed = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1);
my $closed_port = $closed->sockport;
close $closed;

my %once = (-policy => { max_attempts => 1 }, -quota => { rpm => 100000000, tpm => 10000000000 });
setup_mock($node, 'mock', a => {}, b => {}, %once);
setup_mock($node, 'bad', a => { parameters => { script => ['bad_request'], repeat => \1 } }, %once);
setup_mock($node, 'switch', a => { parameters => { script => ['not_found'], repeat => \1 } }, b => {}, -quota => { rpm => 100000000 });
setup_mock($node, 'full', a => {}, -quota => { rpm => 1, window_kind => 'strict' });
setup_bedrock($node, $simulator, 'wire', a => {}, %once);
setup_bedrock($node, $simulator, 'rejected', a => { account => $ACCOUNT_2 }, %once);
setup_bedrock($node, $simulator, 'refused', a => { port => $closed_port }, %once);
$simulator->fault({ account => $ACCOUNT_2 }, { kind => 'Validation', times => -1 });

# What a backend holds: bytes in memory contexts, bytes resident, open descriptors.
sub measure
{
	my ($session) = @_;
	my $pid = $session->pid;
	my $contexts = $session->value('SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
	my ($resident) = map { /^RssAnon:\s+(\d+) kB/ ? $1 * 1024 : () }
	  split /\n/, PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status");
	my $descriptors = () = glob("/proc/$pid/fd/*");

	return { contexts => $contexts, resident => $resident, descriptors => $descriptors };
}

# Statements that make $n calls.
sub plain
{
	my ($tenant, $options) = @_;

	$options = sql_literal($options // {});
	return sub { "SELECT count((llm_try_invoke('$tenant', 'hello', $options)).call_id) FROM generate_series(1, $_[0])" };
}

sub raised
{
	my ($tenant) = @_;

	return sub {
		"DO \$\$ BEGIN FOR i IN 1 .. $_[0] LOOP BEGIN PERFORM llm_invoke('$tenant', 'hello');"
		  . ' EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$';
	};
}

# 100 calls at a time, each of them beside one that it makes for its own prompt.
sub query_of
{
	my ($tenant, $n) = @_;

	return "SELECT count((q.result).response) FROM generate_series(1, $n / 200) AS i, llm_invoke_query('$tenant',"
	  . " format('SELECT j, llm_invoke(''$tenant'', ''%s '' || j) FROM generate_series(1, 100) AS j', i)) AS q";
}

# With a memo that is too small for all answers.
sub memo
{
	my ($call) = @_;

	return sub { "SET pgllm.memo_size = '256kB'; SET work_mem = '64kB'; SELECT count($call) FROM generate_series(1, $_[0]) AS i" };
}

my @cases = (
	[ 'the in-process provider', plain('mock') ],
	[ 'the memo', memo("llm_invoke('mock', 'memo ' || i)") ],
	[ 'the memo, found again', memo("llm_invoke('mock', 'memo ' || i % 100)") ],
	[ 'failures as data', plain('bad') ],
	[ 'failures that are raised and caught', raised('bad') ],
	[ 'fallbacks', plain('switch') ],
	[ 'refusals by a quota', plain('full') ],
	[ 'refusals that are raised and caught', raised('full') ],
	[ 'batches', sub { "SELECT count(*) FROM generate_series(1, $_[0] / 100) AS i, llm_invoke_many('mock', array_fill('x' || i, ARRAY[100]))" } ],
	[ 'arrays', sub { "SELECT count(llm_invoke_array('mock', array_fill('x' || i, ARRAY[100]))) FROM generate_series(1, $_[0] / 100) AS i" } ],
	[
		'arrays that fail and are caught',
		sub {
			"DO \$\$ BEGIN FOR i IN 1 .. $_[0] / 10 LOOP BEGIN PERFORM llm_invoke_array('bad', array_fill('x' || i, ARRAY[10]));"
			  . ' EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$';
		}
	],
	[ 'queries', sub { query_of('mock', @_) } ],
	[ 'the wire', plain('wire') ],
	[ 'errors of the provider', plain('rejected') ],
	[ 'errors of the provider that are raised and caught', raised('rejected') ],
	[ 'batches over the wire', sub { "SELECT count(*) FROM generate_series(1, $_[0] / 100) AS i, llm_invoke_many('wire', array_fill('x' || i, ARRAY[100]))" } ],
	[ 'queries over the wire', sub { query_of('wire', @_) } ],
	[ 'refused connections', plain('refused') ],
	[ 'wrong arguments', raised('nobody') ],);

foreach my $case (@cases)
{
	my ($name, $statement) = @$case;
	my $session = new_session($node);

	measure($session);    # the first look itself fills caches
	$session->value($statement->($WARM_UP));
	my $before = measure($session);
	my $after = $before;
	my $grown;    # in the round in which it grew least: what leaks does so in each
	for (1 .. $ROUNDS)
	{
		my $resident = $after->{resident};

		$session->value($statement->($CALLS / $ROUNDS));
		$after = measure($session);
		$grown = $after->{resident} - $resident if !defined $grown || $after->{resident} - $resident < $grown;
	}
	cmp_ok($after->{contexts} - $before->{contexts}, '<=', $SLACK, "$name: memory contexts");
	cmp_ok($ROUNDS * $grown, '<=', $SLACK, "$name: resident memory");
	# connections are kept, as many as were ever in use at once
	cmp_ok($after->{descriptors}, '<=', $before->{descriptors} + $WINDOW, "$name: descriptors");
	note "$name: contexts $before->{contexts} -> $after->{contexts}, resident $before->{resident} -> $after->{resident}";
	$session->quit;
}
is($simulator->requests(account => $ACCOUNT_1), 3 * ($WARM_UP + $CALLS), 'all calls went over the wire');
nothing_held($node, 'nothing is held');

$simulator->stop;
$node->stop;
done_testing();
