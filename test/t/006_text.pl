# 006_text.pl - text goes to the model and back byte for byte, or there is an error
#
# Awkward prompts over the wire: the simulator echoes them, and what it received is compared with
# what was sent.  Model ids that need escaping in a URL.  Databases in other encodings: what fits is
# converted, what does not is a clear error.  Arguments that are refused before anything is sent.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use JSON::PP;
use PgllmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pgllm_cluster('text', conf => "pgllm.response_max_size = '64MB'\n");
my $simulator = PgllmTest::Simulator->new;
my $session = new_session($node);

# The model shall hold and say it all.
my $room = { max_output_tokens => 4000000, context_window => 8000000 };
$simulator->configure({ models => { $NOVA_LITE => $room } });
setup_bedrock($node, $simulator, 'echo', a => { max_tokens => 3000000 });

# All of Unicode, also what strict encoders refuse to touch.
sub utf8_bytes
{
	my ($text) = @_;

	utf8::encode($text);
	return $text;
}

# What the last request said, from the raw bytes of its body.
sub received
{
	my $request = $simulator->last_requests(1)->[0];

	return decode_json(utf8_bytes($request->{body}));
}

# ---- round trips ---------------------------------------------------------------------------------

my %prompts = (
	'quotes' => q{He said: "It's 'fine'", $$, $1, %s, \\ and /},
	'newlines and tabs' => "one\ntwo\r\nthree\tfour\n\n",
	'the literal text \u0000' => 'a \u0000 b \\u0000 c \ud800 \" \n',
	'control characters' => join('', map { chr } 1 .. 31, 127),
	'line separators' => "a\x{2028}b\x{2029}c\x{85}d\x{feff}e",
	'characters of two, three and four bytes' => "é ß я 中文 € 𝄞 😀 \x{10FFFF} e\x{301}",
	'JSON' => '{"messages":[{"role":"system"}]}',
	'one byte' => 'x',
	'blanks' => '  x  ',
	'SQL' => q{'; DROP TABLE llm_tenant; --});
foreach my $name (sort keys %prompts)
{
	my $prompt = $prompts{$name};
	my $bytes = unpack('H*', utf8_bytes($prompt));

	is( $session->value(
			"SELECT encode(convert_to(llm_invoke('echo', convert_from('\\x$bytes', 'UTF8')), 'UTF8'), 'hex')"),
		$bytes,
		"round trip: $name");
	is(received()->{messages}[0]{content}[0]{text}, $prompt, '... received as sent');
}
is($simulator->requests, scalar keys %prompts, 'one request each');
like($session->query(q{SELECT llm_invoke('echo', '  ')})->{detail}, qr/ValidationException .*is blank/,
	'what the provider does not take is its error, in its words');

# Large ones are compared by digest, by both sides.
foreach my $case (
	[ '200 kB', q{repeat('quick "brown" \ fox é€😀' || chr(10), 6000)} ],
	[ '5 MB', q{repeat('0123456789abcdefghijklmnopqrstuvwxyzäöü' || chr(9), 125000)} ])
{
	my ($name, $text) = @$case;

	is( $session->value("SELECT md5(t) = md5(llm_invoke('echo', t)), length(t) > 100000 FROM (SELECT $text AS t OFFSET 0) AS s"),
		't|t', "round trip: $name");
	is( $session->value("SELECT md5($text)"),
		$simulator->last_prompt_md5,
		'... received as sent');
}

# The other texts of a request.
$session->value(q{SELECT llm_invoke('echo', 'x', '{"system": "Say \"é\"\n\\\\u0041 \u20ac", "stop": ["\n", "€"],
	"temperature": 0.25, "top_p": 0.125, "max_tokens": 77}')});
my $body = received();
is($body->{system}[0]{text}, "Say \"é\"\n\\u0041 €", 'system as given');
is_deeply($body->{inferenceConfig}{stopSequences}, [ "\n", '€' ], 'stop as given');
is_deeply([ @{ $body->{inferenceConfig} }{qw(temperature topP maxTokens)} ], [ 0.25, 0.125, 77 ], 'numbers as given');

# ---- model ids ------------------------------------------------------------------------------------

my $arn = 'arn:aws:bedrock:us-east-1:111111111111:application-inference-profile/simprofile01';
my $foundation = "arn:aws:bedrock:us-east-1::foundation-model/$NOVA_LITE";
setup_bedrock(
	$node, $simulator, 'ids',
	colon => { model_id => 'us.anthropic.claude-haiku-4-5-20251001-v1:0' },
	arn => { model_id => $arn },
	foundation => { model_id => $foundation });
foreach my $case (
	[ colon => 'us.anthropic.claude-haiku-4-5-20251001-v1:0', '/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse' ],
	[ arn => $arn, '/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A111111111111%3Aapplication-inference-profile%2Fsimprofile01/converse' ],
	[ foundation => $foundation, '/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Famazon.nova-lite-v1%3A0/converse' ])
{
	my ($name, $id, $path) = @$case;
	my $result = try_call($node, 'ids', 'hello', { model => "ids_$name" });

	is(try_columns($result, 'sqlstate', 'response', 'target'), "sqlstate=NULL response=hello target=ids_$name", "model id $id");
	is($simulator->last_requests(1)->[0]{path}, $path, '... is escaped in the path');
	is($simulator->requests(model => $id), 1, '... and arrives as it is');
}

# ---- arguments -------------------------------------------------------------------------------------

my $requests = $simulator->requests;
is($session->value(q{SELECT llm_invoke('echo', NULL) IS NULL, llm_try_invoke('echo', NULL) IS NULL}), 't|t', 'a NULL prompt is NULL');
is($session->value(q{SELECT ord, result IS NULL FROM llm_invoke_many('echo', ARRAY[NULL, NULL])}), "1|t\n2|t", '... also in a batch');
is($session->value(q{SELECT count(*) FROM llm_invoke_many('echo', '{}')}), 0, 'an empty batch');
is($session->value(q{SELECT count(*) FROM llm_invoke_many('echo', NULL)}), 0, 'a NULL batch');
foreach my $case (
	[ q{'echo', ''}, '22023', qr/prompt must not be empty/ ],
	[ q{NULL, 'x'}, '22004', qr/tenant must not be null/ ],
	[ q{'nobody', 'x'}, '42704', qr/tenant "nobody" does not exist/ ],
	[ q{'echo', 'x', '{"max_token": 5}'}, '22023', qr/unknown option "max_token"/, qr/max_tokens.*temperature/ ],
	[ q{'echo', 'x', '{"url": "http://example.com"}'}, '22023', qr/unknown option "url"/ ],
	[ q{'echo', 'x', '[]'}, '22023', qr/options must be a JSON object/ ],
	[ q{'echo', 'x', '"x"'}, '22023', qr/options must be a JSON object/ ],
	[ q{'echo', 'x', '{"max_tokens": "5"}'}, '22023', qr/option "max_tokens" must be an integer/ ],
	[ q{'echo', 'x', '{"max_tokens": 1.5}'}, '22023', qr/option "max_tokens" must be an integer/ ],
	[ q{'echo', 'x', '{"max_tokens": 0}'}, '22023', qr/option "max_tokens" must lie between/ ],
	[ q{'echo', 'x', '{"max_tokens": 1e400}'}, '22', qr// ],
	[ q{'echo', 'x', '{"temperature": 3}'}, '22023', qr/option "temperature" must lie between/ ],
	[ q{'echo', 'x', '{"stop": "x"}'}, '22023', qr/option "stop" must be an array/ ],
	[ q{'echo', 'x', '{"stop": [1]}'}, '22023', qr/option "stop" must be an array/ ],
	[ q{'echo', 'x', '{"stop": [["x"]]}'}, '22023', qr/option "stop" must be an array/ ],
	[ q{'echo', 'x', '{"stop": [{"a": "x"}]}'}, '22023', qr/option "stop" must be an array/ ],
	[ q{'echo', 'x', '{"allow_fallback": 1}'}, '22023', qr/option "allow_fallback" must be true or false/ ],
	[ q{'echo', 'x', '{"system": {"a": 1}}'}, '22023', qr/option "system" must be a string/ ],
	[ q{'echo', 'x', '{"model": "other"}'}, '22023', qr{route "echo" has no target with model "other"} ],
	[ q{'echo', 'x', '{"route": "ids"}'}, '42501', qr/may not use route "ids"/ ],)
{
	my ($arguments, $sqlstate, $message, $hint) = @$case;
	my $error = $session->query("SELECT llm_try_invoke($arguments)");

	like($error->{sqlstate}, qr/^$sqlstate/, "refused: $arguments");
	like($error->{message}, $message, '... with a message');
	like($error->{hint}, $hint, '... and a hint') if $hint;
}
is($session->value(q{SELECT llm_invoke('echo', 'x', NULL), llm_invoke('echo', 'y', '{"system": null, "stop": null}')}),
	'x|y', 'NULL options are none, and null is not given');
is($simulator->requests, $requests + 2, 'nothing that was refused was sent');

# ---- other encodings ---------------------------------------------------------------------------------

# A database with the simulator behind tenant echo, and a session that speaks its encoding.
sub database
{
	my ($encoding) = @_;
	my $name = lc $encoding;

	$node->safe_psql('postgres',
		"CREATE DATABASE $name TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	$node->safe_psql($name, 'CREATE EXTENSION pgllm');
	{
		local $node->{pgllm_database} = $name;
		setup_bedrock($node, $simulator, 'echo', a => {});
		setup_mock($node, 'mock', a => { parameters => { echo => \1 } });
		return new_session($node, encoding => $encoding);
	}
}

my $latin1 = database('LATIN1');
is($latin1->value(q{SELECT encode(convert_to(llm_invoke('echo', chr(233) || 'x'), 'LATIN1'), 'hex')}), 'e978', 'LATIN1: an accented letter comes back');
is(received()->{messages}[0]{content}[0]{text}, 'éx', '... and was sent as UTF-8');
is($latin1->value(q{SELECT ascii(llm_invoke('mock', chr(255)))}), 255, '... also from the in-process provider');
foreach my $text ('costs 5 €', 'smile 😀', '中')
{
	$simulator->fault({}, { kind => 'reply', reply => { fixed => $text } });
	my $error = $latin1->query(q{SELECT llm_invoke('echo', 'x')});
	is($error->{sqlstate}, '22P05', 'LATIN1: an answer that it cannot hold is an error');
	like($error->{message}, qr/answer has characters that encoding "LATIN1" cannot hold/, '... and says so');
}
$simulator->fault({}, { kind => 'reply', reply => { fixed => 'né' } });
is($latin1->value(q{SELECT length(llm_invoke('echo', 'x'))}), 2, '... the next answer fits');
$simulator->fault({}, { kind => 'AccessDenied', message => 'refusé € 😀' });
is($latin1->value(q{SELECT (r).sqlstate, (r).error IS NOT NULL FROM (SELECT llm_try_invoke('echo', 'x') AS r) AS s}),
	'LM009|t', 'a message of the provider that it cannot hold does not get in the way of the error');

my $latin9 = database('LATIN9');
$simulator->fault({}, { kind => 'reply', reply => { fixed => '€' } });
is($latin9->value(q{SELECT encode(convert_to(llm_invoke('echo', 'x'), 'LATIN9'), 'hex')}), 'a4', 'LATIN9 holds the euro sign');

my $euc = database('EUC_JP');
is($euc->value(q{SELECT llm_invoke('echo', convert_from('\xe697a5e69cac', 'UTF8')) = convert_from('\xe697a5e69cac', 'UTF8')}),
	't', 'EUC_JP: Japanese comes back');
is(received()->{messages}[0]{content}[0]{text}, '日本', '... and was sent as UTF-8');

my $ascii = database('SQL_ASCII');
is($ascii->value(q{SELECT llm_invoke('echo', 'plain')}), 'plain', 'SQL_ASCII: plain text');
is($ascii->value(q{SELECT encode(llm_invoke('echo', convert_from('\xc3a9', 'SQL_ASCII'))::bytea, 'hex')}), 'c3a9',
	'SQL_ASCII: bytes that are UTF-8 come back');
my $before = $simulator->requests;
my $error = $ascii->query(q{SELECT llm_invoke('echo', convert_from('\xff', 'SQL_ASCII'))});
like($error->{sqlstate}, qr/^22/, 'SQL_ASCII: bytes that are not UTF-8 are an error');
is($simulator->requests, $before, '... and nothing is sent');

$_->quit foreach $session, $latin1, $latin9, $euc, $ascii;
$simulator->stop;
$node->stop;
done_testing();
