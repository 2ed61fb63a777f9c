# PgllmTest.pm - what the TAP tests share
#
#   cluster        pgllm_cluster: a running server with pgllm preloaded and created
#   configuration  insert_rows, setup_mock, setup_bedrock, clear_config
#   simulator      PgllmTest::Simulator: one process per object, of bounded lifetime,
#                  ended by its pid; faults, counters and requests by its control port
#   sessions       PgllmTest::Session: a psql that can be left running in a call while
#                  the test looks at the server from elsewhere
#   assertions     try_call, nothing_held, wait_for
#   ledger         set_price, run_pgbench, flush_ledger, ledger_rows, ledger_is_simulator: what the
#                  tables say, held against what the simulator was asked for and billed
#
# Core Perl and the server's own test modules only; PostgreSQL 15 to 18.  Waiting is always for a
# condition, with a guard of PG_TEST_TIMEOUT_DEFAULT seconds against hanging.

package PgllmTest;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
  pgllm_cluster write_credential insert_rows setup_mock setup_bedrock clear_config
  try_call try_columns nothing_held wait_for new_session sql_literal worst_ms
  set_price run_pgbench start_pgbench flush_ledger ledger_rows ledger_is_simulator ledger_status
  nano_usd
  $ACCOUNT_1 $ACCOUNT_2 $NOVA_LITE $NOVA_PRO $GUARD
);

# Accounts and models that the simulator knows by default.
our $ACCOUNT_1 = '111111111111';
our $ACCOUNT_2 = '222222222222';
our $NOVA_LITE = 'amazon.nova-lite-v1:0';
our $NOVA_PRO = 'amazon.nova-pro-v1:0';

our $GUARD = $PostgreSQL::Test::Utils::timeout_default;

my %KEYS = (
	$ACCOUNT_1 => [ 'AKIASIMULATOR0000001', 'simulator-secret-1' ],
	$ACCOUNT_2 => [ 'AKIASIMULATOR0000002', 'simulator-secret-2' ],
	'333333333333' => [ 'AKIASIMULATOR0000003', 'simulator-secret-3' ],
	# a session key that the simulator says has expired
	expired => [
		'ASIASIMULATOR0000009', 'simulator-secret-expired', 'simulator-expired-token//=='
	],
	# a key that nobody knows
	unknown => [ 'AKIASIMULATORNOBODY0', 'simulator-secret-of-nobody' ],);

# ---- cluster -----------------------------------------------------------------------------------

# A started server.  Options: conf (lines of postgresql.conf), init (arguments of init),
# env (environment of the server).
sub pgllm_cluster
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $credentials = PostgreSQL::Test::Utils::tempdir();

	chmod 0700, $credentials or die "chmod $credentials: $!";
	$node->{pgllm_credentials} = $credentials;
	$node->init(
		extra => [ '--locale=C', '--encoding=UTF8' ],
		%{ $options{init} // {} });
	$node->append_conf('postgresql.conf', <<"EOC");
shared_preload_libraries = 'pgllm'
pgllm.credential_directory = '$credentials'
max_connections = 200
log_statement = none
EOC
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	{
		local %ENV = (%ENV, %{ $options{env} // {} });
		$node->start;
	}
	$node->safe_psql('postgres', 'CREATE EXTENSION pgllm');
	return $node;
}

# The file behind credential reference file:NAME.  $account is one of %KEYS.
sub write_credential
{
	my ($node, $name, $account) = @_;
	my ($access_key, $secret_key, $token) = @{ $KEYS{$account} };
	my $path = "$node->{pgllm_credentials}/$name";
	my $text = "aws_access_key_id = $access_key\naws_secret_access_key = $secret_key\n";

	$text .= "aws_session_token = $token\n" if defined $token;
	# in one step, as a careful administrator rotates a key
	open(my $file, '>', "$path.new") or die "$path: $!";
	chmod 0600, "$path.new";
	print $file $text;
	close $file;
	rename "$path.new", $path or die "rename $path: $!";
	return;
}

# ---- configuration -----------------------------------------------------------------------------

# A Perl value as SQL: undef, hash (json), list (text[]), else text.
sub sql_literal
{
	my ($value) = @_;

	return 'NULL' unless defined $value;
	$value = JSON::PP->new->canonical->encode($value) if ref $value eq 'HASH';
	if (ref $value eq 'ARRAY')
	{
		return "'{}'" unless @$value;
		return 'ARRAY[' . join(', ', map { sql_literal($_) } @$value) . ']';
	}
	$value =~ s/'/''/g;
	return $value =~ s/\\/\\\\/g ? "E'$value'" : "'$value'";
}

# insert_rows($node, llm_model => [ {column => value, ...}, ... ], ...), all in one transaction.
sub insert_rows
{
	my ($node, @tables) = @_;
	my $database = $node->{pgllm_database} // 'postgres';
	my $sql = '';

	while (my ($table, $rows) = splice(@tables, 0, 2))
	{
		foreach my $row (@$rows)
		{
			my @columns = sort keys %$row;
			my $values = join(', ', map { sql_literal($row->{$_}) } @columns);

			$sql .= "INSERT INTO $table (" . join(', ', @columns) . ") VALUES ($values);\n";
		}
	}
	$node->safe_psql($database, "BEGIN;\nSET LOCAL client_encoding = 'UTF8';\n${sql}COMMIT;");
	return;
}

# Targets of the in-process provider, a route and a tenant over them, and a quota that never binds.
#
#   setup_mock($node, 'acme', a => {...}, b => {tier => 1, parameters => {...}})
#
# makes targets acme_a and acme_b, each in its own tier unless told (first: 0, second: 1 ...), of
# models of the same names; columns of llm_target, tier and weight may be given, and under the
# names -tenant, -policy, -quota what those rows shall have.  -quota => undef: no quota row.
sub setup_mock
{
	my ($node, $tenant, @targets) = @_;
	my (%extra, @order, %target);

	while (my ($name, $columns) = splice(@targets, 0, 2))
	{
		if ($name =~ /^-(\w+)$/)
		{
			$extra{$1} = $columns;
			next;
		}
		push @order, $name;
		$target{$name} = {%$columns};
	}
	my (@models, @rows, @route);
	my $tier = 0;
	foreach my $name (@order)
	{
		my %row = %{ $target{$name} };
		my $model = delete $row{model_columns} // {};

		push @models, { model => "${tenant}_$name", %$model };
		push @route,
		  {
			route => $tenant,
			tier => delete $row{tier} // $tier++,
			weight => delete $row{weight} // 1,
			target => "${tenant}_$name",
		  };
		push @rows,
		  {
			target => "${tenant}_$name",
			shard => "${tenant}_shard",
			model => "${tenant}_$name",
			model_id => "mock.$name",
			%row,
		  };
	}
	insert_rows(
		$node,
		llm_model => \@models,
		llm_shard => [ { shard => "${tenant}_shard", provider => 'mock' } ],
		llm_target => \@rows,
		llm_route_policy => [ { route => $tenant, %{ $extra{policy} // {} } } ],
		llm_route => \@route,
		llm_tenant => [ { tenant => $tenant, route => $tenant, %{ $extra{tenant} // {} } } ],
		llm_quota => exists $extra{quota} && !defined $extra{quota}
		? []
		: [ { tenant => $tenant, rpm => 1000000, %{ $extra{quota} // {} } } ]);
	return;
}

# The same over Bedrock: every target has a shard, a credential and a quota domain of its own.
# Further keys of a target: account, region, port or endpoint, credential (name of a file).
sub setup_bedrock
{
	my ($node, $simulator, $tenant, @targets) = @_;
	my (%extra, @models, @shards, @rows, @route);
	my $tier = 0;

	while (my ($name, $columns) = splice(@targets, 0, 2))
	{
		if ($name =~ /^-(\w+)$/)
		{
			$extra{$1} = $columns;
			next;
		}
		my %row = %$columns;
		my $account = delete $row{account} // $ACCOUNT_1;
		my $port = delete $row{port} // $simulator->port;
		my $endpoint = delete $row{endpoint} // "http://127.0.0.1:$port";
		my $region = delete $row{region} // 'us-east-1';
		my $credential = delete $row{credential} // "${tenant}_$name";
		my $model = delete $row{model_columns} // {};

		write_credential($node, $credential, $account);
		push @models, { model => "${tenant}_$name", %$model };
		push @shards,
		  {
			shard => "${tenant}_$name",
			provider => 'bedrock',
			region => $region,
			endpoint => $endpoint,
			network => 'loopback',
			credential => "file:$credential",
		  };
		push @route,
		  {
			route => $tenant,
			tier => delete $row{tier} // $tier++,
			weight => delete $row{weight} // 1,
			target => "${tenant}_$name",
		  };
		push @rows,
		  {
			target => "${tenant}_$name",
			shard => "${tenant}_$name",
			model => "${tenant}_$name",
			model_id => $NOVA_LITE,
			%row,
		  };
	}
	insert_rows(
		$node,
		llm_model => \@models,
		llm_shard => \@shards,
		llm_target => \@rows,
		llm_route_policy => [ { route => $tenant, %{ $extra{policy} // {} } } ],
		llm_route => \@route,
		llm_tenant => [ { tenant => $tenant, route => $tenant, %{ $extra{tenant} // {} } } ],
		llm_quota => [ { tenant => $tenant, rpm => 1000000, %{ $extra{quota} // {} } } ]);
	return;
}

sub clear_config
{
	my ($node) = @_;

	$node->safe_psql($node->{pgllm_database} // 'postgres',
		'TRUNCATE llm_model, llm_price, llm_shard, llm_target, llm_route_policy, llm_route,'
		  . ' llm_tenant, llm_tenant_grant, llm_quota');
	return;
}

# ---- calls and what they leave -----------------------------------------------------------------

# One llm_try_invoke; its llm_result as a hash (columns as JSON gives them).
sub try_call
{
	my ($node, $tenant, $prompt, $options) = @_;
	my $sql = sprintf "SELECT row_to_json(r) FROM llm_try_invoke(%s, %s, %s) AS r",
	  sql_literal($tenant), sql_literal($prompt), sql_literal($options // {});
	my $json = $node->safe_psql($node->{pgllm_database} // 'postgres', $sql);

	return JSON::PP->new->allow_nonref->decode($json);
}

# The named columns of a result, for is_deeply and messages: "target=a attempts=2 ...".
sub try_columns
{
	my ($result, @columns) = @_;

	return join ' ', map { "$_=" . ($result->{$_} // 'NULL') } @columns;
}

# Poll a condition: a query that gives t, or a function that gives true.
sub wait_for
{
	my ($node, $condition, $what) = @_;
	my $end = time + $GUARD;

	until (ref $condition
		? $condition->()
		: $node->safe_psql($node->{pgllm_database} // 'postgres', $condition) eq 't')
	{
		die 'timed out waiting for ' . ($what // $condition) if time > $end;
		sleep 0.02;
	}
	return;
}

# No lease and no place in a queue is held by anybody.
sub nothing_held
{
	my ($node, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(
		$node->safe_psql(
			$node->{pgllm_database} // 'postgres',
			q{SELECT (SELECT count(*) FROM llm_lease), coalesce(sum(waiters), 0),
				(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 19533)
			  FROM llm_bucket}),
		'0|0|0',
		$name);
}

# ---- the ledger ----------------------------------------------------------------------------------

# Prices of a model in US dollars per million tokens, the same everywhere.  Multiples of 0.001 are
# whole nano-USD per token, so sums need no rounding.
sub set_price
{
	my ($node, $model, %price) = @_;

	insert_rows($node,
		llm_price => [ map { { model => $model, component => $_, usd_per_million => $price{$_} } } sort keys %price ]);
	return;
}

# pgbench with scripts given as texts, in the background.  Options: clients, transactions (of each
# client) or seconds, settings (hash), arguments (list), database.  The handle has run, out, err.
sub start_pgbench
{
	my ($node, $script, %options) = @_;
	my $handle = { out => '', err => '' };
	my $settings = $options{settings} // {};
	my @scripts = map {
		my $file = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
		append_to_file($file, $_);
		('-f', $file);
	} ref $script ? @$script : $script;
	my @command = (
		'pgbench', '-n', '-c', $options{clients} // 8, '-j', 2,
		defined $options{transactions} ? ('-t', $options{transactions}) : ('-T', $options{seconds}),
		@scripts, @{ $options{arguments} // [] },
		'-h', $node->host, '-p', $node->port, $options{database} // $node->{pgllm_database} // 'postgres');

	local $ENV{PGOPTIONS} = join ' ', map { "-c $_=$settings->{$_}" } sort keys %$settings;
	$handle->{run} = IPC::Run::start(\@command, '<', \undef, '>', \$handle->{out}, '2>',
		\$handle->{err}, IPC::Run::timeout(($options{seconds} // 0) + 4 * $GUARD));
	return $handle;
}

# The same to its end; returns how many transactions succeeded.
sub run_pgbench
{
	my $handle = start_pgbench(@_);

	$handle->{run}->finish;
	note $handle->{err} =~ s/^pgbench \(.*\n//r if $handle->{err} =~ /error/;
	return $handle->{out} =~ /actually processed: (\d+)/ ? $1 : die "pgbench: $handle->{out}$handle->{err}";
}

# Everything that was queued or spilled is in the tables.
sub flush_ledger
{
	my ($node) = @_;

	return $node->safe_psql($node->{pgllm_database} // 'postgres', 'SELECT llm_flush(60000)') eq 't';
}

# Rows of llm_ledger that meet a condition, as hashes, oldest first: call_id, attempt, outcome, charge,
# model, tokens, cost, ... under the names of the columns.
my @LEDGER_COLUMNS = qw(
  call_id attempt outcome cause sqlstate charge status tenant target model input_tokens output_tokens
  reserved_nano_usd cost_nano_usd over_budget fallback_depth role);

sub ledger_rows
{
	my ($node, $where) = @_;
	my $columns = join q{ || '|' || }, map { "coalesce($_\::text, '')" } @LEDGER_COLUMNS;
	my $out = $node->safe_psql($node->{pgllm_database} // 'postgres',
		"SELECT $columns FROM llm_ledger WHERE " . ($where // 'true') . ' ORDER BY started_at, call_id, attempt');
	my @rows;

	foreach my $line (split /\n/, $out)
	{
		my %row;

		@row{@LEDGER_COLUMNS} = map { $_ eq '' ? undef : $_ } split /\|/, $line, -1;
		push @rows, \%row;
	}
	return @rows;
}

# One row of llm_ledger_status for the database, as a hash.
sub ledger_status
{
	my ($node) = @_;
	my $json = $node->safe_psql($node->{pgllm_database} // 'postgres',
		'SELECT row_to_json(s) FROM llm_ledger_status AS s WHERE datname = current_database()');

	return $json eq '' ? {} : JSON::PP->new->decode($json);
}

# Cost of tokens by the prices of set_price: model => [input, output] in US dollars per million.
sub nano_usd
{
	my ($price, $input, $output) = @_;

	return sprintf '%.0f', 1000 * ($price->[0] * $input + $price->[1] * $output);
}

# Row by row: what the simulator was asked for since its log entry number `since` is what the ledger
# has, once each, with the tokens and the money it billed.  One test; what differs is printed.
#
#   where    condition on llm_ledger for the rows that are meant
#   price    {model id => [input, output]} in US dollars per million tokens
#   unknown  how many rows may have no request: of attempts that were admitted and not sent when the
#            server or their session died; all of them must be "unknown" or "cancelled"
#   missing  of how many calls requests may have no row (0)
#   since    0
#
# A row that is charged at its reservation must cost that; its call may or may not have been billed.
# Returns the keys "call/attempt" of both sides: (ledger, simulator).
sub ledger_is_simulator
{
	my ($node, $simulator, $name, %options) = @_;
	my (%asked, %row, %missing, @wrong, $unsent);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $log = $simulator->ledger($options{since});
	foreach my $request (@{ $log->{requests} })
	{
		my $key = ($request->{callId} // 'none') . '/' . ($request->{attempt} // 'none');

		push @wrong, "$key: sent twice" if $asked{$key};
		$asked{$key} = $request;
	}
	push @wrong, "$log->{in_flight} requests are still out" if $log->{in_flight};
	foreach my $row (ledger_rows($node, $options{where}))
	{
		my $key = "$row->{call_id}/$row->{attempt}";

		next if $row->{attempt} == 0;
		push @wrong, "$key: two rows" if $row{$key};
		$row{$key} = $row;
		push @wrong, "$key: " . _row_error($row, $asked{$key}, $options{price})
		  if $asked{$key} && _row_error($row, $asked{$key}, $options{price});
		next if $asked{$key};
		$unsent++;
		push @wrong, "$key: $row->{outcome}" . ($row->{cause} ? ", $row->{cause}" : '') . ', but it was never sent'
		  unless $options{unknown} && $row->{outcome} =~ /^(?:unknown|cancelled)$/;
	}
	foreach my $key (sort keys %asked)
	{
		next if $row{$key};
		$missing{ $asked{$key}{callId} } = 1;
		push @wrong, "$key: sent, status $asked{$key}{status}, and has no row" unless $options{missing};
	}
	push @wrong, "$unsent rows without a request, at most $options{unknown} may be"
	  if $unsent && $unsent > ($options{unknown} // 0);
	push @wrong, keys(%missing) . " calls with requests without a row, at most $options{missing} may be"
	  if $options{missing} && keys %missing > $options{missing};
	my $count = @wrong;
	splice(@wrong, 10);
	is(join("\n", @wrong, $count > 10 ? "... $count in all" : ()), '', $name);
	note sprintf '%s: %d requests, %d rows, %d rows without a request, %d calls without a row', $name,
	  scalar keys %asked, scalar keys %row, $unsent // 0, scalar keys %missing;
	return (\%row, \%asked);
}

# What is wrong with a row, given the request; '' if nothing is.
sub _row_error
{
	my ($row, $request, $price) = @_;
	my $prices = $price->{ $request->{modelId} };

	if ($row->{charge} eq 'reserved')
	{
		return 'charged as reserved, but not at the reservation'
		  if ($row->{cost_nano_usd} // '') ne ($row->{reserved_nano_usd} // '');
		return "charged as reserved although it is a $row->{outcome}" if $row->{outcome} eq 'success';
		return '';
	}
	my $tokens = join ' ', map { $_ // 0 } @$row{qw(input_tokens output_tokens)};
	my $billed = "$request->{inputTokens} $request->{outputTokens}";
	my $cost = nano_usd($prices // [ 0, 0 ], $request->{inputTokens}, $request->{outputTokens});

	return "status " . ($row->{status} // 'none') . ", the simulator said $request->{status}"
	  if ($row->{status} // 0) != $request->{status};
	return "outcome $row->{outcome} of an answer" if $request->{status} == 200 && $row->{outcome} ne 'success';
	return "outcome $row->{outcome} of an error" if $request->{status} != 200 && $row->{outcome} ne 'failed';
	return "charge $row->{charge} of an answer" if $request->{status} == 200 && $row->{charge} ne 'usage';
	return "charge $row->{charge} of an error" if $request->{status} != 200 && $row->{charge} ne 'none';
	return "tokens $tokens, the simulator billed $billed" if $tokens ne $billed;
	return 'costs ' . ($row->{cost_nano_usd} // 'NULL') . " nano-USD, the simulator billed $cost"
	  if $prices && ($row->{cost_nano_usd} // '') ne $cost;
	return '';
}

sub worst_ms
{
	my @sorted = sort { $a <=> $b } @_;

	return sprintf 'n=%d median=%.1f ms worst=%.1f ms', scalar @sorted,
	  1000 * $sorted[ $#sorted / 2 ], 1000 * $sorted[-1];
}

sub new_session
{
	my ($node, %options) = @_;

	return PgllmTest::Session->new($node, %options);
}

# ---- a psql of our own -------------------------------------------------------------------------
#
# start() sends a statement and returns; finish() waits for its end.  The result is a hash:
# out (rows, unaligned), err (as printed), sqlstate, message, detail, hint, lost (session is gone).

package PgllmTest::Session;

use strict;
use warnings;

use IPC::Run;
use Test::More;
use Time::HiRes qw(time);

sub new
{
	my ($class, $node, %options) = @_;
	my $self = bless { in => '', out => '', err => '', n => 0 }, $class;
	my $database = $options{database} // $node->{pgllm_database} // 'postgres';
	my @command = (
		'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-v', 'SHOW_CONTEXT=never', '-f', '-',
		'-d', $node->connstr($database));

	push @command, '-U', $options{user} if $options{user};
	local $ENV{PGAPPNAME} = $options{name} // 'session';
	local $ENV{PGCLIENTENCODING} = $options{encoding} // 'UTF8';
	$self->{guard} = IPC::Run::timeout($options{guard} // 10 * $PgllmTest::GUARD);
	$self->{run} = IPC::Run::start(\@command, '<', \$self->{in}, '>', \$self->{out}, '2>',
		\$self->{err}, $self->{guard});
	$self->{pid} = $self->value('SELECT pg_backend_pid()');
	return $self;
}

sub pid { return $_[0]{pid}; }

# The psql process, as a client that can be killed.
sub kill_client
{
	my ($self) = @_;

	$self->{run}->signal('KILL');
	eval { $self->{run}->finish; };
	$self->{lost} = 1;
	return;
}

sub start
{
	my ($self, $sql) = @_;

	$self->{n}++;
	$self->{in} .= "$sql\n;\n\\echo :end:$self->{n}:\n\\warn :end:$self->{n}:\n";
	# hand it to psql now; the answer is collected by finish
	$self->{run}->pump_nb while length $self->{in};
	return $self;
}

# Has the statement come to its end?  Does not wait.
sub ended
{
	my ($self) = @_;
	my $mark = qr/:end:$self->{n}:\n/;

	$self->{run}->pump_nb;
	return $self->{out} =~ $mark && $self->{err} =~ $mark;
}

sub finish
{
	my ($self) = @_;
	my $mark = qr/:end:$self->{n}:\n/;
	my %result;

	until ($self->{out} =~ $mark && $self->{err} =~ $mark)
	{
		if (!$self->{run}->pumpable)
		{
			$self->{lost} = 1;
			last;
		}
		next if eval { $self->{run}->pump; 1; };
		die "statement did not end: $@" if $@ =~ /timeout on timer/;
		$self->{lost} = 1;    # "process ended prematurely"
		last;
	}
	$self->{ended_at} = time;
	($result{out} = $self->{out}) =~ s/\n?$mark//;
	($result{err} = $self->{err}) =~ s/$mark//;
	$self->{out} = $self->{err} = '';
	$result{lost} = 1 if $self->{lost};
	if ($result{err} =~ /(?:ERROR|FATAL):  (\w{5}): (.*)/)
	{
		$result{sqlstate} = $1;
		$result{message} = $2;
	}
	$result{detail} = $1 if $result{err} =~ /^DETAIL:  (.*)/m;
	$result{hint} = $1 if $result{err} =~ /^HINT:  (.*)/m;
	$result{sqlstate} //= '';
	$result{message} //= '';
	$result{detail} //= '';
	$result{hint} //= '';
	return \%result;
}

sub query
{
	my ($self, $sql) = @_;

	return $self->start($sql)->finish;
}

# The output of a statement that must not fail.
sub value
{
	my ($self, $sql) = @_;
	my $result = $self->query($sql);

	die "query failed: $sql: $result->{err}" if $result->{err} =~ /ERROR|FATAL/ || $result->{lost};
	return $result->{out};
}

sub quit
{
	my ($self) = @_;

	return if $self->{lost} || $self->{gone}++;
	eval { $self->{in} .= "\\q\n"; $self->{run}->finish; };
	return;
}

# ---- the Bedrock simulator ---------------------------------------------------------------------

package PgllmTest::Simulator;

use strict;
use warnings;

use File::Basename qw(dirname);
use HTTP::Tiny;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $PROGRAM = dirname(__FILE__) . '/../sim/bedrock_sim.py';
my $MAX_SECONDS = 1800;
my %running; # pid => owner

# Options: arguments (list of further command-line arguments).
sub new
{
	my ($class, %options) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my $ready = "$directory/ready.json";
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>', "$directory/out");
		open(STDERR, '>', "$directory/err");
		exec('python3', '-B', $PROGRAM, '--ready-file', $ready, '--max-seconds', $MAX_SECONDS,
			@{ $options{arguments} // [] }) or POSIX::_exit(1);
	}
	$running{$pid} = $$;
	my $self = bless { pid => $pid, http => HTTP::Tiny->new(timeout => 30), directory => $directory },
	  $class;
	my $end = time + $PgllmTest::GUARD;
	until (-e $ready)
	{
		die 'the simulator did not start: '
		  . PostgreSQL::Test::Utils::slurp_file("$directory/err")
		  if time > $end || waitpid($pid, POSIX::WNOHANG) == $pid;
		sleep 0.02;
	}
	my $ports = decode_json(PostgreSQL::Test::Utils::slurp_file($ready));
	$self->{$_} = $ports->{$_} foreach qw(port control_port tls_port);
	return $self;
}

sub port { return $_[0]{port}; }
sub tls_port { return $_[0]{tls_port}; }

sub stop
{
	my ($self) = @_;

	_stop($self->{pid});
	return;
}

sub _stop
{
	my ($pid) = @_;

	return unless delete $running{$pid};
	my $status = $?;
	kill 'TERM', $pid;
	waitpid($pid, 0);
	$? = $status;
	return;
}

END { _stop($_) foreach grep { $running{$_} == $$ } keys %running; }

# One control request; dies on anything but 200.
sub control
{
	my ($self, $method, $path, $content) = @_;
	my $url = "http://127.0.0.1:$self->{control_port}$path";
	my $response = $self->{http}->request($method, $url,
		defined $content ? { content => JSON::PP->new->ascii->encode($content) } : {});

	die "simulator: $method $path: $response->{status} $response->{content}"
	  unless $response->{status} == 200;
	return decode_json($response->{content});
}

# MD5 of the prompt of the last request, in UTF-8.  For long ones: Perl's own JSON decoder takes minutes
# for some megabytes of wide characters.
sub last_prompt_md5
{
	my ($self) = @_;
	my $script = <<'EOT';
import hashlib, json, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
reply = json.load(opener.open(f"http://127.0.0.1:{sys.argv[1]}/requests?n=1", timeout=60))
body = json.loads(reply["requests"][-1]["body"])
print(hashlib.md5(body["messages"][0]["content"][0]["text"].encode()).hexdigest())
EOT
	my ($out, $err);

	IPC::Run::run([ 'python3', '-c', $script, $self->{control_port} ], '>', \$out, '2>', \$err)
	  or die "simulator: last prompt: $err";
	chomp $out;
	return $out;
}

# fault({account => ..., model => ...}, {kind => 'hang', times => -1}, ...)
sub fault
{
	my ($self, $match, @faults) = @_;

	$self->control(POST => '/faults', { match => $match, faults => \@faults });
	return;
}

sub clear_faults { return $_[0]->control(DELETE => '/faults'); }
sub reset { return $_[0]->control(POST => '/reset'); }
sub configure { return $_[0]->control(PATCH => '/config', $_[1]); }
sub close_idle { return $_[0]->control(DELETE => '/connections'); }
sub total { return $_[0]->control(GET => '/stats')->{totals}{ $_[1] }; }

# How many requests have arrived: of all, or of those with the given account, region, model.
sub requests
{
	my ($self, %match) = @_;
	my $stats = $self->control(GET => '/stats');
	my $n = 0;

	return $stats->{totals}{requests} unless %match;
	foreach my $row (@{ $stats->{by_key} })
	{
		$n += $row->{requests} unless grep { $row->{$_} ne $match{$_} } keys %match;
	}
	return $n;
}

# What was asked for and billed since entry number $since: {requests => [{callId, attempt, account, modelId,
# status, inputTokens, outputTokens, written}, ...], totals, in_flight, last}.
sub ledger
{
	my ($self, $since) = @_;
	my $ledger = $self->control(GET => '/ledger?since=' . ($since // 0));
	my @columns = @{ $ledger->{columns} };

	$ledger->{requests} = [
		map {
			my %request;
			@request{@columns} = @$_;
			\%request;
		} @{ $ledger->{rows} }
	];
	return $ledger;
}

# The number of the last entry of the log, to pass to ledger later.
sub last_entry { return $_[0]->control(GET => '/ledger?since=1000000000')->{last}; }

# The last requests as they came: [{method, path, headers, body}, ...], oldest first.
sub last_requests
{
	my ($self, $n) = @_;

	return $self->control(GET => '/requests?n=' . ($n // 1))->{requests};
}

sub wait_in_flight
{
	my ($self, $n) = @_;

	PgllmTest::wait_for(undef, sub { $self->total('in_flight') == $n }, "$n calls in flight");
	return;
}

1;
