# 002_cancel.pl - a call can be stopped wherever it waits
#
# pg_cancel_backend, statement_timeout, pg_terminate_backend and the departure of the client, while a
# call hangs in the network, in a name lookup, at the head of the queue of a quota and behind it, in a
# cool-down, in the in-process provider, and in batches.  Each time: the right SQLSTATE and words, no
# lease, no place in a queue and no lock left, and the next call works.
#
# How long it takes is printed, not asserted; the tests only insist that it ends.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $REPEATS = 50;

# ---- a name lookup that hangs --------------------------------------------------------------------

# A library before the server's: getaddrinfo sleeps for names that begin with "hang".
my $shim = PostgreSQL::Test::Utils::tempdir() . '/hang';
append_to_file("$shim.c", <<'EOC');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	if (node != NULL && strncmp(node, "hang", 4) == 0)
		sleep(120);
	real = dlsym(RTLD_NEXT, "getaddrinfo");
	return real(node, service, hints, result);
}
EOC
my $has_shim = system("cc -shared -fPIC -o $shim.so $shim.c -ldl 2>/dev/null") == 0;

my $node = pgllm_cluster('cancel', env => $has_shim ? { LD_PRELOAD => "$shim.so" } : {});
my $simulator = PgllmTest::Simulator->new;
my $admin = new_session($node, name => 'admin');

sub ask { return $admin->value($_[0]); }

# ---- the situations ------------------------------------------------------------------------------

# The wire: the simulator hangs for this account, and answers the other one.
setup_bedrock($node, $simulator, 'wire', a => {});
setup_bedrock($node, $simulator, 'alive', a => { account => $ACCOUNT_2 });
$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'hang', times => -1 });
setup_bedrock($node, $simulator, 'dns', a => {});
$node->safe_psql('postgres', q{UPDATE llm_shard SET endpoint = 'https://hang.invalid', network = 'public' WHERE shard = 'dns_a'});

# The in-process provider, a quota with one place in flight, a domain that cools down.
setup_mock($node, 'mock', a => { parameters => { script => ['hang'], repeat => \1 } });
setup_mock($node, 'quick', a => {});
setup_mock(
	$node, 'queue',
	a => { parameters => { script => ['hang'], repeat => \1 } },
	-quota => { max_inflight => 1 },
	-tenant => { on_limit => 'wait' });
setup_mock(
	$node, 'wide',
	a => { parameters => { script => ['hang'], repeat => \1 } },
	-quota => { max_inflight => 5 },
	-tenant => { on_limit => 'wait' });
setup_mock($node, 'cooling', a => { parameters => { script => ['throttled'], repeat => \1, retry_after_ms => 50000 } });

my ($holder, $front);

sub invoke { return "SELECT llm_invoke('$_[0]', 'hello')"; }

sub many
{
	return "SELECT count(*) FROM llm_invoke_many('$_[0]', ARRAY(SELECT 'hello ' || i FROM generate_series(1, $_[1]) AS i))";
}

sub leases { return ask("SELECT count(*) FROM llm_lease WHERE target = '$_[0]'"); }
sub waiters { return ask('SELECT coalesce(max(waiters), 0) FROM llm_bucket'); }

sub occupy
{
	$holder = new_session($node, name => 'holder');
	$holder->start(invoke('queue'));
	wait_for($node, sub { leases('queue_a') == 1 });
	return;
}

# All five places: a statement starts no more than it could have in flight alone.
sub occupy_wide
{
	$holder = new_session($node, name => 'holder');
	$holder->start(many('wide', 5));
	wait_for($node, sub { leases('wide_a') == 5 });
	return;
}

sub occupy_and_queue
{
	occupy();
	$front = new_session($node, name => 'front');
	$front->start(invoke('queue'));
	wait_for($node, sub { waiters() == 1 });
	return;
}

sub vacate
{
	foreach my $session (grep { defined } $front, $holder)
	{
		ask('SELECT pg_cancel_backend(' . $session->pid . ')');
		$session->finish;
		$session->quit;
	}
	undef $holder;
	undef $front;
	return;
}

# name, statement, the condition that it hangs as meant, before and after; next: a tenant that
# answers; timeout: SQLSTATE at statement_timeout if not 57014, as a wait that cannot end in time
# is not begun.
my @situations = (
	{ name => 'a hung call', sql => invoke('wire'), reached => sub { $simulator->total('in_flight') == 1 }, next => 'alive' },
	$has_shim
	? { name => 'a hung name lookup', sql => invoke('dns'), reached => sub { leases('dns_a') == 1 }, next => 'alive' }
	: (),
	{ name => 'the head of a queue', sql => invoke('queue'), before => \&occupy, after => \&vacate, reached => sub { waiters() == 1 } },
	{ name => 'a place in a queue', sql => invoke('queue'), before => \&occupy_and_queue, after => \&vacate, reached => sub { waiters() == 2 } },
	{
		name => 'a cool-down', sql => invoke('cooling'), timeout => 'LM001',
		reached => sub { ask(q{SELECT count(*) FROM llm_stat_activity WHERE state LIKE 'back%'}) == 1 },
	},
	{ name => 'the in-process provider', sql => invoke('mock'), reached => sub { leases('mock_a') == 1 } },
	{ name => 'a batch of hung calls', sql => many('wire', 40), reached => sub { $simulator->total('in_flight') == 32 }, next => 'alive' },
	{
		name => 'a query of hung calls', reached => sub { $simulator->total('in_flight') == 32 }, next => 'alive',
		sql => q{SELECT count(*) FROM llm_invoke_query('wire', 'SELECT i, ''hello '' || i FROM generate_series(1, 40) AS i')},
	},
	# one call of the outer batch is out while two of the inner one are
	{
		name => 'a batch within a batch', reached => sub { $simulator->total('in_flight') == 3 }, next => 'alive',
		sql => q{SELECT count(*) FROM llm_invoke_query('wire', $$
			SELECT i, CASE WHEN i = 1 THEN 'outer' ELSE (llm_invoke_array('wire', ARRAY['a' || i, 'b' || i]))[1] END
			FROM generate_series(1, 40) AS i$$)},
	},
	{ name => 'a batch in a queue', sql => many('wide', 5), before => \&occupy_wide, after => \&vacate, holds => 10, reached => sub { waiters() == 5 } },
	{ name => 'a batch in the in-process provider', sql => many('mock', 40), reached => sub { leases('mock_a') == 32 } },);

# What the others hold is theirs; nothing of the victim may be left.
sub nothing_left
{
	my ($situation, $name) = @_;
	my ($leases, $waiters, $locks) = (0, 0, 0);

	# an occupied quota: the lease of the call and that of its attempt, perhaps one in the queue
	$leases = $situation->{holds} // 2 if $holder;
	$waiters = $locks = 1 if $front;
	my $held = sub {
		ask(q{SELECT (SELECT count(*) FROM llm_lease), coalesce(sum(waiters) FILTER (WHERE dimension = 'in_flight'), 0),
			(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 19533) FROM llm_bucket});
	};
	wait_for($node, sub { $held->() eq "$leases|$waiters|$locks" }, "$name: nothing held, but " . $held->());
	pass("$name: nothing is held");
	# a simulated server notices that its client has gone
	$simulator->wait_in_flight(0);
	return;
}

sub reach
{
	my ($situation, $session, $sql) = @_;

	$situation->{before}->() if $situation->{before};
	$session->start($sql // $situation->{sql});
	wait_for($node, $situation->{reached}, "$situation->{name} to be reached");
	return;
}

sub next_call_works
{
	my ($situation, $session, $name) = @_;
	my $tenant = $situation->{next} // 'quick';

	like($session->value(invoke($tenant)), qr/^(hello|mock reply)$/, "$name: the next call works");
	return;
}

foreach my $situation (@situations)
{
	my $session = new_session($node, name => 'victim');
	my ($name, $result);

	$name = "$situation->{name}, pg_cancel_backend";
	reach($situation, $session);
	ask('SELECT pg_cancel_backend(' . $session->pid . ')');
	$result = $session->finish;
	is("$result->{sqlstate} $result->{message}", '57014 canceling statement due to user request', $name);
	nothing_left($situation, $name);
	next_call_works($situation, $session, $name);
	$situation->{after}->() if $situation->{after};

	$name = "$situation->{name}, statement_timeout";
	$situation->{before}->() if $situation->{before};
	$session->value('SET statement_timeout = 400');
	$result = $session->query($situation->{sql});
	if ($situation->{timeout})
	{
		is($result->{sqlstate}, $situation->{timeout}, "$name: a wait that would not end in time is not begun");
	}
	else
	{
		is("$result->{sqlstate} $result->{message}", '57014 canceling statement due to statement timeout', $name);
	}
	$session->value('RESET statement_timeout');
	nothing_left($situation, $name);
	next_call_works($situation, $session, $name);
	$situation->{after}->() if $situation->{after};

	$name = "$situation->{name}, pg_terminate_backend";
	reach($situation, $session);
	ask('SELECT pg_terminate_backend(' . $session->pid . ')');
	$result = $session->finish;
	is("$result->{sqlstate} $result->{message}", '57P01 terminating connection due to administrator command', $name);
	nothing_left($situation, $name);
	$situation->{after}->() if $situation->{after};

	$name = "$situation->{name}, the client leaves";
	$session = new_session($node, name => 'victim');
	$session->value('SET client_connection_check_interval = 100');
	reach($situation, $session);
	my $pid = $session->pid;
	$session->kill_client;
	wait_for($node, sub { ask("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") == 0 }, "$name: end of the backend");
	pass("$name: the backend ends");
	nothing_left($situation, $name);
	$situation->{after}->() if $situation->{after};
}
is(ask(q{SELECT count(*) FROM llm_breaker WHERE state <> 'closed' OR failures > 0}), 0, 'no cancel has been held against a target');

# ---- a cancel inside a transaction, and in a function that goes on ----------------------------------

my $session = new_session($node);
$session->value(q{CREATE FUNCTION stubborn() RETURNS int LANGUAGE plpgsql AS $$
DECLARE n int := 0;
BEGIN
	FOR i IN 1 .. 3 LOOP
		BEGIN
			PERFORM llm_invoke('wire', 'hello');
		EXCEPTION WHEN query_canceled THEN n := n + 1;
		END;
	END LOOP;
	RETURN n;
END $$});
my $requests = $simulator->requests;
$session->start('SELECT stubborn()');
foreach my $i (1 .. 3)
{
	wait_for($node, sub { $simulator->requests == $requests + $i });
	$simulator->wait_in_flight(1);
	ask('SELECT pg_cancel_backend(' . $session->pid . ')');
}
is($session->finish->{out}, 3, 'a function that catches cancels has to be cancelled call by call');
nothing_held($node, 'nothing is held');
$session->quit;

# ---- how long it takes ---------------------------------------------------------------------------

foreach my $situation (grep { $_->{name} =~ /^a hung (call|name)|queue$/ && $_->{name} !~ /batch/ } @situations)
{
	my (@cancel, @timeout);
	my $errors = 0;
	my $victim = new_session($node, name => 'victim');

	$situation->{before}->() if $situation->{before};
	foreach my $i (1 .. $REPEATS)
	{
		$victim->start($situation->{sql});
		wait_for($node, $situation->{reached});
		my $began = time;
		$admin->start('SELECT pg_cancel_backend(' . $victim->pid . ')');
		$errors++ if $victim->finish->{sqlstate} ne '57014';
		push @cancel, $victim->{ended_at} - $began;
		$admin->finish;
		$simulator->wait_in_flight(0);
	}
	$victim->value('SET statement_timeout = 100');
	foreach my $i (1 .. $REPEATS)
	{
		my $began = time;
		$errors++ if $victim->query($situation->{sql})->{sqlstate} ne '57014';
		push @timeout, $victim->{ended_at} - $began - 0.1;
	}
	$victim->value('RESET statement_timeout');
	is($errors, 0, "$situation->{name}: " . 2 * $REPEATS . ' cancels and timeouts in one session');
	next_call_works($situation, $victim, $situation->{name});
	$victim->quit;
	$situation->{after}->() if $situation->{after};
	diag "$situation->{name}: cancel " . worst_ms(@cancel) . '; statement_timeout overrun ' . worst_ms(@timeout);
}
nothing_held($node, 'nothing is held');

$admin->quit;
$simulator->stop;
$node->stop;
done_testing();
