# 013_ledger_standby.pl - calls on a hot standby are spooled, and in the table after its promotion
#
# A standby cannot write the table, but it spends all the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %PRICE = ($NOVA_LITE => [ 0.06, 0.24 ]);

my $primary = pgllm_cluster('primary', init => { allows_streaming => 1 });
my $simulator = PgllmTest::Simulator->new;
setup_bedrock($primary, $simulator, 'acme', a => { max_tokens => 200 });
set_price($primary, 'acme_a', input => $PRICE{$NOVA_LITE}[0], output => $PRICE{$NOVA_LITE}[1]);
is(try_call($primary, 'acme', 'on the primary')->{sqlstate}, undef, 'a call on the primary');
flush_ledger($primary);

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'pgllm.ledger_timeout = 200');
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql('postgres', 'SELECT count(*) FROM llm_ledger'), 1, 'the standby has the row of the primary');

# ---- on the standby ----------------------------------------------------------------------------------

my $since = $simulator->last_entry;
my %expected;
foreach my $level (qw(off result intent))
{
	is( run_pgbench(
			$standby, "\\set n random(1, 200)\nSELECT length(llm_invoke('acme', repeat('x', :n)));\n",
			clients => 4, transactions => 10, settings => { 'pgllm.ledger_sync' => $level }),
		40, "40 calls on the standby, ledger_sync = $level");
}
my $session = new_session($standby);
$simulator->fault({}, { kind => 'hang', times => 1 });
$session->start(q{SELECT llm_invoke('acme', 'cancelled')});
$simulator->wait_in_flight(1);
$standby->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $session->pid . ')');
is($session->finish->{sqlstate}, '57014', 'a cancelled one');
$simulator->wait_in_flight(0);
$session->quit;
is($simulator->ledger($since)->{totals}{requests}, 121, 'all were sent');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM llm_ledger'), 1, '... none is in the table, which is the one of the primary');
# each call of the level intent has two records
wait_for($standby, sub { my $s = ledger_status($standby); $s->{queued} == 0 && $s->{spilled} == 161 }, '161 records spooled');
is(ledger_status($standby)->{spilled}, 161, '... llm_ledger_status says that the records of all are spooled');

# ---- a restart keeps them ------------------------------------------------------------------------------

$standby->restart;
wait_for($standby, sub { (ledger_status($standby)->{spilled} // 0) == 161 }, '161 records after a restart');
is(ledger_status($standby)->{spilled}, 161, 'a restart of the standby keeps them');
is(try_call($standby, 'acme', 'one more')->{response}, 'one more', '... and one more call');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM llm_ledger'), 1, 'the primary knows nothing of it');

# ---- promotion -------------------------------------------------------------------------------------------

$primary->stop;
$standby->promote;
wait_for($standby, 'SELECT NOT pg_is_in_recovery()');
ok(flush_ledger($standby), 'promoted, and flushed');
my ($rows) = ledger_is_simulator($standby, $simulator, '... the ledger is the simulator\'s: every call on the standby has its row', price => \%PRICE);
is(scalar keys %$rows, 123, '... 123 in all');
is($standby->safe_psql('postgres', q{SELECT outcome, count(*) FROM llm_ledger GROUP BY 1 ORDER BY 1}), "cancelled|1\nsuccess|122", '... one of them cancelled');
is(ledger_status($standby)->{spilled}, 0, '... nothing is spooled any more');
is(try_call($standby, 'acme', 'promoted')->{response}, 'promoted', 'calls go on');
ok(flush_ledger($standby), '... into the table');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM llm_ledger'), 124, '... at once');
nothing_held($standby, 'nothing is held');

$simulator->stop;
$standby->stop;
done_testing();
