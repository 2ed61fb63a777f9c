# 014_budget.pl - no more is spent than the budget has
#
# A budget for three worst cases and five calls at once: three are sent, two refused, every time.
# The simulator's log is the witness of what was sent.  Then restarts, the end of an attempt without
# an answer, budgets that only warn or count, and budgets that send calls to a cheaper model.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $RUNS = 100;
my $CLIENTS = 5;

my $node = pgllm_cluster('budget');
my $simulator = PgllmTest::Simulator->new;
my $session = new_session($node);

# 1,000 tokens of output at 150 dollars a million: 15 cents at worst, and each answer takes all of it.
$simulator->configure({ models => {
	$NOVA_LITE => { usage => { outputTokens => 1000 }, latency_ms => 20 },
	$NOVA_PRO => { usage => { outputTokens => 1000 } } } });

sub expensive
{
	my ($tenant, %extra) = @_;

	setup_bedrock(
		$node, $simulator, $tenant,
		a => { max_tokens => 1000 },
		b => { account => $ACCOUNT_2, model_id => $NOVA_PRO, max_tokens => 1000 },
		%extra);
	set_price($node, "${tenant}_a", input => 0, output => 150);
	set_price($node, "${tenant}_b", input => 0, output => 1);
	return;
}

sub value { return $node->safe_psql('postgres', $_[0]); }

sub budget_of
{
	my ($tenant) = @_;

	return value("SELECT quota_id FROM llm_quota WHERE tenant = '$tenant' AND budget_usd IS NOT NULL");
}

# "spent reserved available" in cents
sub levels
{
	my ($tenant) = @_;

	return value('SELECT round(100 * spent_usd), round(100 * reserved_usd), round(100 * available_usd)'
		  . ' FROM llm_budget WHERE quota_id = ' . budget_of($tenant));
}

sub refused_with
{
	my ($tenant, $options) = @_;

	return try_call($node, $tenant, 'hello', $options)->{sqlstate} // 'ok';
}

# ---- five calls, money for three ----------------------------------------------------------------------

expensive('shared');
is( value(q{SELECT round(max_cost_usd, 6) FROM llm_estimate('shared', 'SELECT ''hello''', '{"model": "shared_a"}')}),
	'0.150000', 'llm_estimate: a call is 15 cents at worst');
is(value(q{SELECT reserved_tokens > 1000 FROM llm_explain('shared', 'hello') WHERE target = 'shared_a'}), 't', '... llm_explain shows the tokens');
insert_rows(
	$node,
	map {
		(llm_tenant => [ { tenant => "run$_", route => 'shared', models => ['shared_a'] } ],
		 llm_quota => [ { tenant => "run$_", budget_usd => 0.45, budget_period => 'month' } ])
	} 1 .. $RUNS);

my @sessions = map { new_session($node, name => "client $_") } 1 .. $CLIENTS;
my %outcome;
my @wrong;
foreach my $run (1 .. $RUNS)
{
	my $since = $simulator->last_entry;
	# half of the runs with calls in flight together, half as fast as they come
	$simulator->configure({ models => { $NOVA_LITE => { latency_ms => $run % 2 ? 20 : 0 } } });
	$_->start("SELECT coalesce((llm_try_invoke('run$run', 'hello')).sqlstate, 'ok')") foreach @sessions;
	my $found = join ' ', sort map { $_->finish->{out} } @sessions;
	my $sent = $simulator->ledger($since)->{totals}{requests};

	$outcome{$found}++;
	push @wrong, "run $run: $found, $sent sent" unless $found eq 'LM011 LM011 ok ok ok' && $sent == 3;
}
is($outcome{'LM011 LM011 ok ok ok'}, $RUNS, "of $CLIENTS calls at once 3 are admitted and 2 refused, in $RUNS of $RUNS runs");
is(join(', ', @wrong[ 0 .. ($#wrong > 4 ? 4 : $#wrong) ]), '', '... and 3 were sent each time');
is( value(q{SELECT count(*), round(sum(spent_usd), 2), round(sum(reserved_usd), 2), round(sum(available_usd), 2) FROM llm_budget JOIN llm_quota USING (quota_id) WHERE tenant LIKE 'run%'}),
	sprintf('%d|%.2f|0.00|0.00', $RUNS, $RUNS * 0.45), '... llm_budget says all is spent');
flush_ledger($node);
is( value(q{SELECT outcome, coalesce(sqlstate, '-'), count(*), sum(cost_nano_usd) FROM llm_ledger WHERE tenant LIKE 'run%' GROUP BY 1, 2 ORDER BY 1}),
	"refused|LM011|" . 2 * $RUNS . "|0\nsuccess|-|" . 3 * $RUNS . '|' . 3 * $RUNS * 150_000_000, '... and so does the ledger');

# ---- what is reserved, what is given back -----------------------------------------------------------------

expensive('settle', -quota => { rpm => 1000000 });
insert_rows($node, llm_quota => [ { tenant => 'settle', budget_usd => 0.45, budget_period => 'day' } ]);
$node->safe_psql('postgres', q{UPDATE llm_tenant SET models = '{settle_a}' WHERE tenant = 'settle'});
$simulator->configure({ models => { $NOVA_LITE => { usage => { outputTokens => 100 }, latency_ms => 0 } } });
$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'hang', times => 1 });
$session->start(q{SELECT llm_invoke('settle', 'hello')});
$simulator->wait_in_flight(1);
is(levels('settle'), '0|15|30', 'a call in flight reserves its worst case');
value('SELECT pg_cancel_backend(' . $session->pid . ')');
is($session->finish->{sqlstate}, '57014', '... is cancelled');
is(levels('settle'), '15|0|30', '... and counts as spent: nobody knows');
is(refused_with('settle'), 'ok', 'an answer of a tenth of that');
# 1.5 cents, rounded
is(value('SELECT spent_usd * 1000 FROM llm_budget WHERE quota_id = ' . budget_of('settle'))+ 0, 165, '... is charged by its tokens');
$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'Validation', times => 1 });
is(refused_with('settle'), 'LM003', 'a rejected request');
is(value('SELECT spent_usd * 1000 FROM llm_budget WHERE quota_id = ' . budget_of('settle')) + 0, 165, '... costs nothing');
is(refused_with('settle', { max_tokens => 3000 }), 'LM011', 'a call that could cost more than is left is refused');
is(refused_with('settle', { max_tokens => 1900, allow_truncated => \1 }), 'ok', '... one that could not is sent');

# ---- restarts ------------------------------------------------------------------------------------------------

$simulator->configure({ models => { $NOVA_LITE => { usage => { outputTokens => 1000 }, latency_ms => 0 } } });
foreach my $mode (qw(fast immediate))
{
	my $tenant = "restart_$mode";

	expensive($tenant, -tenant => { models => ["${tenant}_a"] });
	insert_rows($node, llm_quota => [ { tenant => $tenant, budget_usd => 0.45, budget_period => 'month' } ]);
	is(join(' ', map { refused_with($tenant) } 1, 2), 'ok ok', "two of three calls, then a stop: $mode");
	$_->quit foreach @sessions, $session;
	$node->stop($mode);
	$node->start;
	@sessions = map { new_session($node, name => "client $_") } 1 .. $CLIENTS;
	$session = new_session($node);
	my $since = $simulator->last_entry;
	$_->start("SELECT coalesce((llm_try_invoke('$tenant', 'hello')).sqlstate, 'ok')") foreach @sessions;
	is(join(' ', sort map { $_->finish->{out} } @sessions), 'LM011 LM011 LM011 LM011 ok', '... then one more, and no other');
	is($simulator->ledger($since)->{totals}{requests}, 1, '... by the log of the simulator');
	is(levels($tenant), '45|0|0', '... all is spent');
}

# A call that was out when the server died counts at its worst case, if it was put down before.
expensive('intent', -tenant => { models => ['intent_a'] });
insert_rows($node, llm_quota => [ { tenant => 'intent', budget_usd => 0.45, budget_period => 'month' } ]);
$simulator->fault({ account => $ACCOUNT_1 }, { kind => 'hang', times => 2 });
foreach my $i (0, 1)
{
	$sessions[$i]->value('SET pgllm.ledger_sync = intent');
	$sessions[$i]->start(q{SELECT llm_invoke('intent', 'hello')});
}
$simulator->wait_in_flight(2);
$node->stop('immediate');
$_->kill_client foreach @sessions, $session;
$node->start;
@sessions = map { new_session($node, name => "client $_") } 1 .. $CLIENTS;
$session = new_session($node);
$_->start(q{SELECT coalesce((llm_try_invoke('intent', 'hello')).sqlstate, 'ok')}) foreach @sessions;
is(join(' ', sort map { $_->finish->{out} } @sessions), 'LM011 LM011 LM011 LM011 ok', 'two calls out when the server died: one more has room');
is(levels('intent'), '45|0|0', '... as they are charged at their reservation');
$_->quit foreach @sessions;

# A changed budget knows what was spent; a new row of the period counts what came before it.
expensive('change', -tenant => { models => ['change_a'] });
insert_rows($node, llm_quota => [ { tenant => 'change', budget_usd => 0.15, budget_period => 'month' } ]);
is(join(' ', map { refused_with('change') } 1, 2), 'ok LM011', 'one of one');
value(q{UPDATE llm_quota SET budget_usd = 0.30 WHERE tenant = 'change' AND budget_usd IS NOT NULL});
is(join(' ', map { refused_with('change') } 1, 2), 'ok LM011', 'raised: one more');
value(q{UPDATE llm_quota SET budget_usd = 0.20 WHERE tenant = 'change' AND budget_usd IS NOT NULL});
is(refused_with('change'), 'LM011', 'lowered below what is spent: none');
value(q{DELETE FROM llm_quota WHERE tenant = 'change' AND budget_usd IS NOT NULL;
	INSERT INTO llm_quota (tenant, budget_usd, budget_period) VALUES ('change', 0.45, 'month')});
is(join(' ', map { refused_with('change') } 1, 2), 'ok LM011', 'another row for the same: what was spent counts');

# ---- what a refusal says, and who is meant -----------------------------------------------------------------------

my $error = $session->query(q{SELECT llm_invoke('change', 'hello')});
is($error->{sqlstate}, 'LM011', 'LM011 is raised by llm_invoke');
like($error->{message}, qr/budget/, '... the message speaks of the budget');
is(value(q{SELECT eligible FROM llm_explain('change', 'hello') WHERE target = 'change_a'}), 'f', 'llm_explain knows that it would be refused');
setup_bedrock($node, $simulator, 'unpriced', a => {});
insert_rows($node, llm_quota => [ { tenant => 'unpriced', budget_usd => 1000, budget_period => 'month' } ]);
my $since = $simulator->last_entry;
is(refused_with('unpriced'), 'LM011', 'a model without a price is refused under a budget');
is($simulator->ledger($since)->{totals}{requests}, 0, '... and not called');

# ---- next_tier, soft, shadow --------------------------------------------------------------------------------------

expensive('tiers');
insert_rows($node, llm_quota => [ { tenant => 'tiers', model => 'tiers_a', budget_usd => 0.45, budget_period => 'month', on_exceed => 'next_tier' } ]);
$since = $simulator->last_entry;
is($session->value(q{SELECT string_agg((r).target, ' ' ORDER BY i)
	FROM (SELECT i, llm_try_invoke('tiers', 'call ' || i) AS r FROM generate_series(1, 5) AS i OFFSET 0) AS s}),
	'tiers_a tiers_a tiers_a tiers_b tiers_b', 'next_tier: three on the expensive model, then the cheap one');
is(join(' ', map { $_->{modelId} } @{ $simulator->ledger($since)->{requests} }),
	join(' ', ($NOVA_LITE) x 3, ($NOVA_PRO) x 2), '... on the wire');

expensive('soft', -tenant => { models => ['soft_a'] });
insert_rows($node, llm_quota => [ { tenant => 'soft', budget_usd => 0.75, budget_period => 'month', mode => 'soft' } ]);
my @notices;
foreach my $i (1 .. 7)
{
	my $result = $session->query("SELECT llm_invoke('soft', 'call $i')");

	is($result->{out}, "call $i", "soft: call $i passes");
	push @notices, $i if $result->{err} =~ /NOTICE|WARNING/;
}
is("@notices", '4 5', 'soft: a NOTICE when 80 and 100 percent are reached, and no other');
flush_ledger($node);
is(value(q{SELECT string_agg(over_budget::text, ' ' ORDER BY started_at) FROM llm_ledger WHERE tenant = 'soft'}),
	'false false false false false true true', '... and a mark in the ledger beyond');
is(levels('soft'), '105|0|-30', '... llm_budget says how much');

expensive('shadow', -tenant => { models => ['shadow_a'] });
insert_rows($node, llm_quota => [ { tenant => 'shadow', budget_usd => 0.45, budget_period => 'month', mode => 'shadow' } ]);
is(join(' ', map { refused_with('shadow') } 1 .. 5), 'ok ok ok ok ok', 'shadow: all calls pass');
is(value(q{SELECT calls, refused, shadow_refusals FROM llm_stat_tenant WHERE tenant = 'shadow'}), '5|0|2', '... two are counted as refusals');
flush_ledger($node);
is(value(q{SELECT count(*) FILTER (WHERE over_budget), count(*) FROM llm_ledger WHERE tenant = 'shadow'}), '2|5', '... and marked in the ledger');

# per = role: a budget each
value(q{CREATE ROLE anna LOGIN; CREATE ROLE bert LOGIN});
expensive('each', -tenant => { models => ['each_a'] });
insert_rows($node, llm_quota => [ { tenant => 'each', budget_usd => 0.15, budget_period => 'hour', budget_window => 'rolling', per => 'role' } ]);
value(q{SELECT llm_grant_tenant('each', r) FROM unnest('{anna,bert}'::name[]) AS r});
foreach my $role (qw(anna bert))
{
	my $own = new_session($node, user => $role);

	is(join(' ', map { $own->value("SELECT coalesce((llm_try_invoke('each', 'hello')).sqlstate, 'ok')") } 1, 2),
		'ok LM011', "per = role: $role has a budget of its own");
	$own->quit;
}

# ---- the end --------------------------------------------------------------------------------------------------------

flush_ledger($node);
ledger_is_simulator($node, $simulator, 'the ledger is the simulator\'s');
nothing_held($node, 'nothing is held');
$session->quit;
$simulator->stop;
$node->stop;
done_testing();
