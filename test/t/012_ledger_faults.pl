# 012_ledger_faults.pl - the ledger cannot be written for a while: nothing is lost, nobody hangs
#
# The writer is stopped, the table is locked, there is no worker slot, the disk is full; with few
# slots, so that the ring fills up.  Each time eight sessions make calls: all end, with an answer or
# with a clean error.  Then the obstacle goes away, and without a restart every request that the
# simulator received has its row.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

# A small file system of our own needs no privileges in a user namespace, where that is allowed.  We
# begin again in one, before anything is set up.
BEGIN
{
	my @namespace = qw(unshare --user --map-current-user --keep-caps --mount);

	if (!$ENV{PGLLM_SMALL_FS} && !$ENV{PGLLM_IN_NAMESPACE} && $> != 0
		&& system("@namespace mount -t tmpfs -o size=1m tmpfs /mnt >/dev/null 2>&1") == 0)
	{
		$ENV{PGLLM_IN_NAMESPACE} = 1;
		exec(@namespace, $^X, (map { "-I$_" } @INC), $0, @ARGV) or die "unshare: $!";
	}
}

use IPC::Run;
use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $CLIENTS = 8;
my $small = $ENV{PGLLM_SMALL_FS};
my %PRICE = ($NOVA_LITE => [ 0.06, 0.24 ]);

# One slot for the launcher and one for a writer, for the case of none being free.
my $node = pgllm_cluster('ledger_faults', conf => <<'EOC');
pgllm.ledger_size = 64
pgllm.ledger_timeout = 200
max_worker_processes = 2
max_logical_replication_workers = 0
max_parallel_workers = 0
EOC
my $simulator = PgllmTest::Simulator->new;
setup_bedrock($node, $simulator, 'acme', a => { max_tokens => 200 }, -quota => { rpm => 100000000 });
set_price($node, 'acme_a', input => $PRICE{$NOVA_LITE}[0], output => $PRICE{$NOVA_LITE}[1]);
try_call($node, 'acme', 'hello');
flush_ledger($node);
my $slots = ledger_status($node)->{slots};
is($slots, 64, 'few slots');

sub writer_pid
{
	my $pid;

	wait_for(
		$node,
		sub {
			try_call($node, 'acme', 'a writer, please') unless ledger_status($node)->{writer_pid};
			return $pid = ledger_status($node)->{writer_pid};
		},
		'a ledger writer');
	return $pid;
}

# $calls calls of each session, each call a statement; how many got an answer.
sub traffic
{
	my ($level, $calls) = @_;

	return run_pgbench(
		$node, "\\set n random(1, 200)\nSELECT length(llm_invoke('acme', repeat('x', :n)));\n",
		clients => $CLIENTS, transactions => $calls, settings => { 'pgllm.ledger_sync' => $level });
}

# Everything is in the tables, and it is what the simulator says.
sub settled
{
	my ($since, $after, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(flush_ledger($node), "$name: all is written after it");
	$simulator->wait_in_flight(0);
	ledger_is_simulator($node, $simulator, '... and is what the simulator says',
		since => $since, where => "started_at >= '$after'", price => \%PRICE, %options);
	my $status = ledger_status($node);
	is("$status->{queued} $status->{spilled} $status->{free_slots}", "0 0 $slots", '... nothing is queued or spilled, all slots are free');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM llm_intent'), 0, '... no intent is left');
	nothing_held($node, '... nothing is held');
	return;
}

sub now { return $node->safe_psql('postgres', 'SELECT clock_timestamp()'); }

# ---- the writer does not move -----------------------------------------------------------------------

foreach my $level (qw(off result intent))
{
	my ($since, $after) = ($simulator->last_entry, now());
	my $writer = writer_pid();
	my $calls = $level eq 'off' ? 40 : 12;

	kill 'STOP', $writer;
	is(traffic($level, $calls), $CLIENTS * $calls, "a stopped writer, ledger_sync = $level: all calls get their answers");
	is(ledger_status($node)->{writer_pid}, $writer, '... it is still that writer');
	my $status = ledger_status($node);
	note "queued $status->{queued}, spilled $status->{spilled}, free $status->{free_slots}";
	kill 'CONT', $writer;
	settled($since, $after, '... it goes on');
}

# ---- the table is locked ------------------------------------------------------------------------------

foreach my $level (qw(off result intent))
{
	my ($since, $after) = ($simulator->last_entry, now());
	my $lock = new_session($node, name => 'lock');
	my $calls = $level eq 'off' ? 40 : 12;

	writer_pid();
	$lock->value('BEGIN; LOCK TABLE llm_ledger, llm_intent, llm_journal IN ACCESS EXCLUSIVE MODE');
	is(traffic($level, $calls), $CLIENTS * $calls, "a locked table, ledger_sync = $level: all calls get their answers");
	wait_for($node, sub { ledger_status($node)->{spilled} > 0 }, 'records in the spill file');
	my $status = ledger_status($node);
	cmp_ok($status->{spilled} + $status->{queued}, '>=', $level eq 'off' ? 1 : $CLIENTS * $calls, '... llm_ledger_status shows what was spilled');
	is($node->safe_psql('postgres', 'SELECT llm_flush(200)'), 'f', '... llm_flush gives up in time, and says so');
	$lock->value('ROLLBACK');
	settled($since, $after, '... unlocked');
	$lock->quit;
}

# A server that is stopped while the table is locked: the spill file is loaded by the next run.
{
	my ($since, $after) = ($simulator->last_entry, now());
	my $lock = new_session($node, name => 'lock');

	$lock->value('BEGIN; LOCK TABLE llm_ledger IN ACCESS EXCLUSIVE MODE');
	traffic('result', 5);
	traffic('off', 5);
	$node->stop('fast');
	$lock->kill_client;
	$node->start;
	settled($since, $after, 'stopped with records in the spill file, and started');
}

# ---- no worker slot --------------------------------------------------------------------------------------

{
	my ($since, $after);
	my $other;

	# the writer of another database takes the only slot, and stays
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION pgllm');
	wait_for($node, sub { !ledger_status($node)->{writer_pid} || kill('TERM', ledger_status($node)->{writer_pid}) && 0 }, 'no writer here');
	{
		local $node->{pgllm_database} = 'other';
		setup_mock($node, 'there', a => {});
		wait_for(
			$node,
			sub {
				try_call($node, 'there', 'hello');
				return $other = ledger_status($node)->{writer_pid};
			},
			'a writer in the other database');
	}
	kill 'STOP', $other;
	($since, $after) = ($simulator->last_entry, now());
	foreach my $level (qw(off result intent))
	{
		my $calls = $level eq 'off' ? 20 : 6;
		is(traffic($level, $calls), $CLIENTS * $calls, "no worker slot, ledger_sync = $level: all calls get their answers");
	}
	ok(!ledger_status($node)->{writer_pid}, '... there was no writer');
	kill 'CONT', $other;
	kill 'TERM', $other;
	settled($since, $after, '... there is a slot again');
}

# ---- the disk is full ------------------------------------------------------------------------------------

# As the server would see it: the INSERT raises 53100.
{
	my ($since, $after) = ($simulator->last_entry, now());

	$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE disk_full USING MESSAGE = 'could not extend file: No space left on device';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON llm_ledger FOR EACH ROW EXECUTE FUNCTION full_disk();
EOS
	foreach my $level (qw(off result intent))
	{
		my $calls = $level eq 'off' ? 20 : 6;
		is(traffic($level, $calls), $CLIENTS * $calls, "an INSERT that fails with 53100, ledger_sync = $level: all calls get their answers");
	}
	wait_for($node, sub { ledger_status($node)->{spilled} > 0 }, 'records in the spill file');
	my $status = ledger_status($node);
	cmp_ok($status->{failures}, '>', 0, '... llm_ledger_status counts the failures');
	like($status->{last_error}, qr/No space left/, '... and has the message');
	isnt($status->{last_error_at}, undef, '... and when that was');
	$node->safe_psql('postgres', 'DROP TRIGGER full_disk ON llm_ledger');
	settled($since, $after, '... space again');
}

# In earnest: the partitions lie in a tablespace on a small file system.
SKIP:
{
	my ($since, $after);

	if (!defined $small && $ENV{PGLLM_IN_NAMESPACE})
	{
		# in the namespace of this process, which is the server's, too
		$small = PostgreSQL::Test::Utils::tempdir();
		system("mount -t tmpfs -o size=2m,mode=0700 tmpfs $small") == 0 or die "mount: $?";
	}
	skip 'no small file system: set PGLLM_SMALL_FS, or allow user namespaces', 9 unless defined $small;
	mkdir "$small/space" or die "$small/space: $!";
	$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$small/space'");
	$node->safe_psql('postgres', 'ALTER TABLE llm_ledger SET TABLESPACE small');
	my @partitions = split /\n/, $node->safe_psql('postgres', q{SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'llm_ledger'::regclass});
	$node->safe_psql('postgres', "ALTER TABLE $_ SET TABLESPACE small") foreach @partitions;

	# a file takes the rest
	my $block = 'x' x 8192;
	open(my $file, '>', "$small/rest") or die "$small/rest: $!";
	1 while syswrite($file, $block) // 0;
	close $file;
	$block = 'x';
	open($file, '>>', "$small/rest");
	1 while syswrite($file, $block) // 0;
	close $file;

	($since, $after) = ($simulator->last_entry, now());
	foreach my $level (qw(off result intent))
	{
		is(traffic($level, 40), $CLIENTS * 40, "a full tablespace, ledger_sync = $level: all calls get their answers");
	}
	wait_for($node, sub { my $s = ledger_status($node); $s->{failures} > 0 && $s->{spilled} > 0 }, 'failures and records in the spill file');
	like(ledger_status($node)->{last_error}, qr/No space left on device/, '... the disk was full indeed');
	unlink "$small/rest";
	settled($since, $after, '... space again');
	foreach my $table (@partitions, 'llm_ledger')
	{
		$node->safe_psql('postgres', "ALTER TABLE $table SET TABLESPACE pg_default");
	}
	$node->safe_psql('postgres', 'DROP TABLESPACE small');
}

# ---- nowhere to go ---------------------------------------------------------------------------------------

# No table, no spill file: once the slots are used up calls end with a clean error, unsent.
{
	my ($since, $after) = ($simulator->last_entry, now());
	my $directory = $node->data_dir . '/pgllm';
	my $lock = new_session($node, name => 'lock');
	my $session = new_session($node, name => 'caller');
	my ($answered, %refused) = (0);

	$lock->value('BEGIN; LOCK TABLE llm_ledger, llm_intent IN ACCESS EXCLUSIVE MODE');
	# a file in the place of the directory: no mode of a directory would stop a process with capabilities
	rename $directory, "$directory.away";
	append_to_file($directory, '');
	$session->value(q{SET pgllm.ledger_sync = off});
	foreach my $i (1 .. $slots + 20)
	{
		my $result = $session->query("SELECT llm_invoke('acme', 'call $i')");

		$answered++ if $result->{out} eq "call $i";
		last if $result->{sqlstate} ne '' && ++$refused{ $result->{sqlstate} } >= 3;
	}
	cmp_ok($answered, '<=', $slots, 'neither table nor file: no more calls are answered than there are slots');
	cmp_ok($answered, '>', 0, '... but as many as fit');
	is(scalar keys %refused, 1, '... the others end with one error');
	like((keys %refused)[0] // '', qr/^(?:53|55|58|LM)/, '... of a fitting class');
	note join ' ', map { "$_: $refused{$_}" } keys %refused;
	is($simulator->ledger($since)->{totals}{requests}, $answered, '... and were not sent');
	unlink $directory;
	rename "$directory.away", $directory;
	$lock->value('ROLLBACK');
	settled($since, $after, '... all is well again');
	is($session->query(q{SELECT llm_invoke('acme', 'hello')})->{out}, 'hello', '... and calls work');
	$_->quit foreach $lock, $session;
}

# ---- a busy server ----------------------------------------------------------------------------------

# Calls that never cease do not keep the spill file from being loaded.
{
	my ($since, $after) = ($simulator->last_entry, now());
	my $lock = new_session($node, name => 'lock');

	$lock->value('BEGIN; LOCK TABLE llm_ledger IN ACCESS EXCLUSIVE MODE');
	my $busy = start_pgbench($node, "SELECT length(llm_invoke('acme', 'on and on'));\n",
		clients => $CLIENTS, seconds => 15, settings => { 'pgllm.ledger_sync' => 'off' });
	wait_for($node, sub { ledger_status($node)->{spilled} > 0 }, 'records in the spill file');
	$lock->value('ROLLBACK');
	wait_for($node, sub { ledger_status($node)->{spilled} == 0 }, 'the file is loaded');
	ok($busy->{run}->pumpable, 'a spill file is loaded while calls go on');
	$busy->{run}->finish;
	settled($since, $after, '... and after them');
	$lock->quit;
}

$simulator->stop;
$node->stop;
done_testing();
