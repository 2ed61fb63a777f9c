# 001_faults.pl - every way in which Bedrock can fail, and what a call makes of it
#
# A table of faults that the simulator commits, each with the cause it must be taken for.  What
# follows from a cause is a second table, the policy: the SQLSTATE with a single target, how many
# attempts that takes, whether a fallback answers instead, what the breaker of the domain counts, and
# who cools down.  Each case runs once with a single target and once with a fallback, on names of its
# own, so that no case sees the state that another one left.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use IO::Socket::INET;
use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;

# sqlstate and attempts with a single target (in too little time for a cool-down); falls_back;
# failures that the breaker of the domain counts with a single target; cools: domain or credential.
my %policy = (
	throttled => { sqlstate => 'LM001', attempts => 1, falls_back => 1, failures => 0, cools => 'domain' },
	quota => { sqlstate => 'LM001', attempts => 1, falls_back => 1, failures => 0, cools => 'domain' },
	unavailable => { sqlstate => 'LM003', attempts => 1, falls_back => 1, failures => 1, cools => 'domain' },
	server => { sqlstate => 'LM003', attempts => 2, falls_back => 1, failures => 2, cools => '' },
	connection => { sqlstate => 'LM003', attempts => 2, falls_back => 1, failures => 2, cools => '' },
	timeout => { sqlstate => 'LM003', attempts => 1, falls_back => 1, failures => 1, cools => '' },
	auth => { sqlstate => 'LM009', attempts => 1, falls_back => 1, failures => 0, cools => 'credential' },
	not_found => { sqlstate => 'LM003', attempts => 1, falls_back => 1, failures => 0, cools => '' },
	too_long => { sqlstate => 'LM007', attempts => 1, falls_back => 1, failures => 0, cools => '' },
	bad_request => { sqlstate => 'LM003', attempts => 1, falls_back => 0, failures => 0, cools => '' },
	refusal => { sqlstate => 'LM006', attempts => 1, falls_back => 0, failures => 0, cools => '' },
	bad_reply => { sqlstate => '22P05', attempts => 1, falls_back => 0, failures => 0, cools => '' },);

# [fault, its options, cause, words that the error must have]
my @cases = (
	# what the service models, in its real form
	[ 'Throttling', {}, 'throttled', qr/status 429, ThrottlingException \(Too many requests/ ],
	[ 'Throttling', { message => 'Too many tokens, please wait before trying again.' }, 'throttled', qr/Too many tokens/ ],
	[ 'Throttling', { message => 'Too many tokens per day, please wait before trying again.' }, 'quota', qr/per day/ ],
	[ 'ServiceQuotaExceeded', {}, 'quota', qr/status 400, ServiceQuotaExceededException/ ],
	[ 'ServiceUnavailable', {}, 'unavailable', qr/status 503, ServiceUnavailableException/ ],
	[ 'ModelNotReady', {}, 'unavailable', qr/status 429, ModelNotReadyException/ ],
	[ 'InternalServer', {}, 'server', qr/status 500, InternalServerException/ ],
	[ 'ModelTimeout', {}, 'server', qr/status 408, ModelTimeoutException/ ],
	[ 'ModelError', { originalStatusCode => 500, resourceName => 'm' }, 'server', qr/status 424, ModelErrorException/ ],
	[ 'AccessDenied', { message => 'User: x is not authorized to perform: bedrock:InvokeModel' }, 'auth', qr/status 403, AccessDeniedException/ ],
	[ 'AccessDenied', {}, 'not_found', qr/access to the model/ ],
	[ 'ExpiredToken', {}, 'auth', qr/status 403, ExpiredTokenException/ ],
	[ 'InvalidSignature', {}, 'auth', qr/InvalidSignatureException/ ],
	[ 'UnrecognizedClient', {}, 'auth', qr/UnrecognizedClientException/ ],
	[ 'MissingAuthenticationToken', {}, 'auth', qr/MissingAuthenticationTokenException/ ],
	[ 'IncompleteSignature', {}, 'auth', qr/status 400, IncompleteSignatureException/ ],
	[ 'ResourceNotFound', {}, 'not_found', qr/status 404, ResourceNotFoundException/ ],
	[ 'UnknownOperation', {}, 'not_found', qr/status 404, UnknownOperationException/ ],
	[ 'Validation', {}, 'bad_request', qr/status 400, ValidationException/ ],
	[ 'Validation', { message => 'Input is too long for requested model.' }, 'too_long', qr/Input is too long/ ],
	[ 'Validation', { message => "Invocation of model ID m with on-demand throughput isn't supported." }, 'not_found', qr/on-demand/ ],
	[ 'Validation', { message => 'The provided model identifier is invalid.' }, 'not_found', qr/identifier/ ],
	[ 'Serialization', {}, 'bad_request', qr/SerializationException/ ],
	# other forms of the same
	[ 'Throttling', { error_type_header => \0 }, 'throttled', qr/status 429 \(Too many requests/ ],
	[ 'Throttling', { error_type_header => 'ThrottlingException' }, 'throttled', qr/ThrottlingException/ ],
	[ 'Throttling', { message_key => 'Message' }, 'throttled', qr/\(Too many requests/ ],
	[ 'Throttling', { body => '' }, 'throttled', qr/ThrottlingException/ ],
	[ 'ServiceQuotaExceeded', { error_type_header => \0, type_in_body => \1 }, 'quota', qr/ServiceQuotaExceededException/ ],
	[ 'InternalServer', { error_type_header => \0, body => 'oops' }, 'server', qr/status 500 / ],
	[ 'InternalServer', { status => 599, error_type_header => \0 }, 'server', qr/status 599/ ],
	[ 'Validation', { status => 418, error_type_header => \0, message => 'teapot' }, 'bad_request', qr/status 418 \(teapot/ ],
	# what proxies answer
	[ 'html_error_page', {}, 'unavailable', qr/status 503/ ],
	[ 'html_error_page', { status => 502 }, 'server', qr/status 502/ ],
	# answers that are none
	[ 'invalid_json', {}, 'server', qr/not valid JSON/ ],
	[ 'empty_body', {}, 'server', qr/./ ],
	[ 'json', { body => {} }, 'server', qr/no message/ ],
	[ 'json', { body => [] }, 'server', qr/./ ],
	[ 'deep_nesting', {}, 'server', qr/not valid JSON/ ],
	[ 'huge_body', {}, 'server', qr{larger than allowed|size exceeded}i ],
	[ 'truncated_body', {}, 'server', qr/./ ],
	[ 'wrong_content_length', {}, 'server', qr/not valid JSON/ ],
	[ 'nul_escape', {}, 'bad_reply', qr/\\u0000/ ],
	[ 'reply', { reply => { fixed => 'no', stop_reason => 'content_filtered' } }, 'refusal', qr/filter/ ],
	[ 'reply', { reply => { fixed => 'no', stop_reason => 'guardrail_intervened' } }, 'refusal', qr/guardrail/ ],
	[ 'reply', { reply => { fixed => '', stop_reason => 'malformed_model_output' } }, 'server', qr/malformed/ ],
	# connections
	[ 'reset_before_headers', {}, 'connection', qr/./ ],
	[ 'reset_after_headers', {}, 'server', qr/./ ],
	[ 'hang', {}, 'timeout', qr/./ ],
	[ 'hang_after_headers', {}, 'timeout', qr/./ ],
	[ 'slow_drip', {}, 'timeout', qr/./ ],);

my $node = pgllm_cluster('faults', conf => "pgllm.response_max_size = '8MB'\n");
my $simulator = PgllmTest::Simulator->new;    # of the first account
my $fallback_simulator = PgllmTest::Simulator->new;
my $number = 0;

sub breaker
{
	my ($scope, $name) = @_;

	return $node->safe_psql('postgres',
		"SELECT coalesce((SELECT failures || ' ' || state || CASE WHEN strikes > 0 THEN ' cooling' ELSE '' END"
		  . " FROM llm_breaker WHERE scope = '$scope' AND name = '$name'), 'none')");
}

# Primary and fallback are two accounts in two Regions, at two endpoints, with two models.
sub targets
{
	my ($fallback, %primary) = @_;
	my %first = (
		account => $ACCOUNT_1, region => 'us-east-1', model_id => $NOVA_LITE, timeout_ms => 700,
		max_tokens => 100, model_columns => { context_window => 5000 }, %primary);
	my %second = (
		account => $ACCOUNT_2, region => 'eu-west-1', model_id => $NOVA_PRO, max_tokens => 100,
		port => $fallback_simulator->port, model_columns => { context_window => 100000 });

	return (first => \%first, $fallback ? (second => \%second) : ());
}

sub check_single
{
	my ($name, $tenant, $policy, $requests, $words) = @_;
	my $result = try_call($node, $tenant, 'hello', { timeout_ms => 950 });

	is(try_columns($result, 'sqlstate', 'attempts', 'response'),
		"sqlstate=$policy->{sqlstate} attempts=$policy->{attempts} response=NULL", "$name: single target");
	like($result->{error}, $words, "$name: ... in words") if $words;
	is($simulator->requests, $requests // $policy->{attempts}, "$name: ... requests");
	is(breaker('domain', "${tenant}_first"),
		"$policy->{failures} closed" . ($policy->{cools} eq 'domain' ? ' cooling' : ''), "$name: ... breaker of the domain");
	like(breaker('credential', "file:${tenant}_first"),
		$policy->{cools} eq 'credential' ? qr/^1 closed cooling$/ : qr/^(0 closed|none)$/, "$name: ... of the credential");
	return;
}

sub check_fallback
{
	my ($name, $tenant, $policy, $requests) = @_;
	my $result = try_call($node, $tenant, 'hello', { timeout_ms => 20000 });

	is(try_columns($result, 'sqlstate', 'target', 'attempts', 'fallback_depth', 'response'),
		$policy->{falls_back}
		? "sqlstate=NULL target=${tenant}_second attempts=2 fallback_depth=1 response=hello"
		: "sqlstate=$policy->{sqlstate} target=${tenant}_first attempts=1 fallback_depth=0 response=NULL",
		"$name: with a fallback");
	is($simulator->requests . '+' . $fallback_simulator->requests,
		($requests // 1) . '+' . ($policy->{falls_back} ? 1 : 0), "$name: ... requests");
	like(breaker('domain', "${tenant}_second"), qr/^(0 closed|none)$/, "$name: ... the fallback is healthy");
	return;
}

# ---- the table -----------------------------------------------------------------------------------

foreach my $case (@cases)
{
	my ($kind, $options, $cause, $words) = @$case;
	my $policy = $policy{$cause};
	my $name = join ' ', $kind, map { ref $options->{$_} ? $_ : "$_=$options->{$_}" } sort keys %$options;
	my $fault = { kind => $kind, times => -1, %$options };

	foreach my $fallback (0, 1)
	{
		my $tenant = sprintf 'case%d%s', $number, $fallback ? 'f' : 's';

		setup_bedrock($node, $simulator, $tenant, targets($fallback));
		$simulator->clear_faults;
		$_->reset foreach $simulator, $fallback_simulator;
		$simulator->fault({ account => $ACCOUNT_1, region => 'us-east-1', model => $NOVA_LITE }, $fault);
		$fallback
		  ? check_fallback($name, $tenant, $policy)
		  : check_single($name, $tenant, $policy, undef, $words);
	}
	$number++;
}
$simulator->clear_faults;
nothing_held($node, 'nothing is held');

# A lone surrogate, which no UTF-8 can hold, does not spoil the rest of the answer.
setup_bedrock($node, $simulator, 'surrogate', targets(0));
$simulator->fault({}, { kind => 'lone_surrogate' });
is($node->safe_psql('postgres', q{SELECT llm_invoke('surrogate', 'x') = U&'before\FFFDafter'}),
	't', 'a lone surrogate becomes U+FFFD');

# ---- faults that never reach the simulator -------------------------------------------------------

sub closed_port
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1);
	my $port = $socket->sockport;

	close $socket;
	return $port;
}

# As check_*, of a primary that cannot be connected to.
sub check_unreachable
{
	my ($name, $tenant, $cause, $words, %primary) = @_;

	$_->reset foreach $simulator, $fallback_simulator;
	setup_bedrock($node, $simulator, "${tenant}s", targets(0, %primary));
	check_single($name, "${tenant}s", $policy{$cause}, 0, $words);
	setup_bedrock($node, $simulator, "${tenant}f", targets(1, %primary));
	check_fallback($name, "${tenant}f", $policy{$cause}, 0);
	return;
}

check_unreachable('refused connection', 'closed', 'connection', qr/refused|connect/i, port => closed_port());

# connections are accepted, by the kernel, and nobody ever reads or writes
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 50);
check_unreachable('a silent server', 'silent', 'timeout', qr/waiting for the reply/, port => $silent->sockport);
check_unreachable('a silent TLS server', 'silenttls', 'timeout', qr/before a connection was made/,
	endpoint => 'https://127.0.0.1:' . $silent->sockport);

# ---- TLS -------------------------------------------------------------------------------------------

SKIP:
{
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my @made = map {
		system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$_->[0]"
			  . " -addext subjectAltName=$_->[1] -keyout $directory/$_->[0].key -out $directory/$_->[0].crt 2>/dev/null")
	} ([ 'good', 'IP:127.0.0.1' ], [ 'stranger', 'IP:127.0.0.1' ], [ 'misnamed', 'DNS:other.example' ]);

	skip 'openssl is needed to make certificates', 1 if grep { $_ != 0 } @made;
	my %tls = map {
		$_ => PgllmTest::Simulator->new(
			arguments => [ '--tls-port', 0, '--tls-cert', "$directory/$_.crt", '--tls-key', "$directory/$_.key" ])
	} qw(good stranger misnamed);
	my %endpoint = map { $_ => 'https://127.0.0.1:' . $tls{$_}->tls_port } keys %tls;

	append_to_file("$directory/ca.crt", slurp_file("$directory/good.crt") . slurp_file("$directory/misnamed.crt"));
	$node->append_conf('postgresql.conf', "pgllm.ca_file = '$directory/ca.crt'");
	$node->reload;
	wait_for($node, "SELECT current_setting('pgllm.ca_file') <> ''");

	setup_bedrock($node, $tls{good}, 'tls', first => { endpoint => $endpoint{good} });
	is(try_call($node, 'tls', 'hello')->{response}, 'hello', 'TLS with a certificate that is trusted');
	check_unreachable('a certificate nobody trusts', 'stranger', 'connection', qr/certificate|TLS|SSL/i, endpoint => $endpoint{stranger});
	check_unreachable('a certificate of another name', 'misnamed', 'connection', qr/certificate|TLS|SSL/i, endpoint => $endpoint{misnamed});
	is($tls{stranger}->requests + $tls{misnamed}->requests, 0, 'no request went to a server that could not prove itself');
	$_->stop foreach values %tls;
}

# ---- deadlines -------------------------------------------------------------------------------------

$simulator->reset;
setup_bedrock($node, $simulator, 'late', first => {});
$simulator->fault({}, { kind => 'hang' });
my $late = try_call($node, 'late', 'hello', { timeout_ms => 500 });
is(try_columns($late, 'sqlstate', 'attempts'), 'sqlstate=LM004 attempts=1', 'the deadline of the call: LM004');
like($late->{error}, qr/^deadline of 500 ms passed/, '... which says how long it was');
is(try_call($node, 'late', 'hello')->{response}, 'hello', 'the next call works');

# ---- an answer cut at max_tokens is kept ------------------------------------------------------------

setup_bedrock($node, $simulator, 'cut', first => { max_tokens => 1 });
is(try_columns(try_call($node, 'cut', 'hello world'), 'sqlstate', 'finish_reason', 'response'),
	'sqlstate=LM008 finish_reason=length response=hell', 'cut at max_tokens: LM008 with the answer');
is(try_columns(try_call($node, 'cut', 'hello world', { allow_truncated => \1 }), 'sqlstate', 'response'),
	'sqlstate=NULL response=hell', '... unless that is allowed');

# ---- one session through all of it ------------------------------------------------------------------

# Connections are kept between calls: what a fault leaves on one must not touch the next call.
$simulator->reset;
setup_bedrock($node, $simulator, 'kept', first => {}, -policy => { max_attempts => 1 });
my $session = new_session($node);
foreach my $kind (
	qw(truncated_body invalid_json reset_after_headers empty_body huge_body deep_nesting))
{
	my $before = $simulator->requests;

	$simulator->fault({}, { kind => $kind });
	$session->query(q{SELECT llm_try_invoke('kept', 'fault')});
	is($session->value(q{SELECT (r).response || ' ' || (r).attempts FROM (SELECT llm_try_invoke('kept', 'after') AS r OFFSET 0) AS s}),
		'after 1', "after $kind the next call of the session gets its own answer");
	is($simulator->requests - $before, 2, '... with one request');
	# keep the breaker closed
	$session->value(q{SELECT llm_try_invoke('kept', 'good ' || i) FROM generate_series(1, 2) AS i});
}

# A connection that the server closed meanwhile.  Older libcurl sees that before it sends; newer looks only
# at connections that were idle for a while, and then the request may have been read before the end: that
# is an attempt, and the next one goes out on a fresh connection.  Either way the server serves one request.
setup_bedrock($node, $simulator, 'closed', first => {}, -policy => { max_attempts => 2 });
foreach my $how ('right after the answer', 'later')
{
	my $before = $simulator->requests;

	$simulator->fault({}, { kind => 'close_idle' }) if $how ne 'later';
	$session->query(q{SELECT llm_try_invoke('closed', 'first')});
	$simulator->close_idle if $how eq 'later';
	is($session->value(q{SELECT llm_invoke('closed', 'again')}), 'again', "a kept connection closed $how does no harm");
	is($simulator->requests - $before, 2, '... with one request');
}
nothing_held($node, 'nothing is held');
$session->quit;

$_->stop foreach $simulator, $fallback_simulator;
$node->stop;
done_testing();
