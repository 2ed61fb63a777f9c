/*
 * test_json.c — the pull scanner on good, odd and broken texts, and the writer.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#define STR_MAX ((size_t) 64 * 1024 * 1024)

/* ---- syntax ---- */

static const char *const good_texts[] = {
	"{}",
	"[]",
	" \t\r\n[ ] ",
	"null",
	"true",
	"false",
	"0",
	"-0",
	"-0.0e-0",
	"12.5E+10",
	"\"\"",
	"[1,2,3]",
	"[[],{},[[]]]",
	"{\"a\":1,\"b\":[{\"c\":null}]}",
	"{\"a\" : [ 1 , \"x\" ] , \"\" : { } }",
	"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"",
	"\"\x7f\"",
	"\"lone \\ud800 is syntax enough\"",
	"\"\\u0000\"",
	"\"not UTF-8: \xff\"",
};

static const char *const bad_texts[] = {
	"",          " ",
	"x",         "tru",
	"truex",     "nul",
	"+1",        "01",
	"-",         "1.",
	".5",        "1e",
	"1e+",       "--1",
	"0x10",      "Infinity",
	"NaN",       "[",
	"]",         "[1",
	"[1,",       "[1,]",
	"[,1]",      "[1 2]",
	"[1}",       "{",
	"}",         "{]",
	"{\"a\"",    "{\"a\":",
	"{\"a\":}",  "{\"a\",}",
	"{\"a\":1,", "{\"a\":1,}",
	"{1:2}",     "{a:1}",
	"{,}",       "{\"a\":1 \"b\":2}",
	"{\"a\"=1}", "'a'",
	"\"",        "\"a",
	"\"\\",      "\"\\x\"",
	"\"\\u12\"", "\"\\u12g4\"",
	"\"\\u\"",   "\"a\nb\"",
	"\"a\tb\"",  "\"\x01\"",
	"\"\x1f\"",  "1 2",
	"{} {}",     "[] x",
	"[1]]",      "{}}",
	"nullnull",  "/* c */ 1",
	"[1,/**/2]", "\xEF\xBB\xBF{}",
	"\"a\\",
};

static bool
skip_whole(const char *text)
{
	PglJsonScan scan;

	pgl_json_scan_init(&scan, text, strlen(text));
	pgl_json_skip(&scan);
	return pgl_json_finish(&scan);
}

static void
test_syntax(void)
{
	PglJsonScan scan;
	PglBuf deep;

	for (size_t i = 0; i < COUNT_OF(good_texts); i++)
		CHECK(skip_whole(good_texts[i]), "JSON: %s", good_texts[i]);
	for (size_t i = 0; i < COUNT_OF(bad_texts); i++)
		CHECK(!skip_whole(bad_texts[i]), "not JSON: %s", bad_texts[i]);
	pgl_json_scan_init(&scan, "[1\0]", 4);
	CHECK(!pgl_json_skip(&scan), "a NUL byte is not white space");
	pgl_json_scan_init(&scan, "{}", 2);
	CHECK(!pgl_json_finish(&scan), "a text that was not read is not finished");

	pgl_buf_init(&deep, 1000);
	for (int i = 0; i < PGL_JSON_MAX_DEPTH; i++)
		pgl_buf_append_char(&deep, '[');
	for (int i = 0; i < PGL_JSON_MAX_DEPTH; i++)
		pgl_buf_append_char(&deep, ']');
	CHECK(skip_whole(pgl_buf_str(&deep)), "%d levels", PGL_JSON_MAX_DEPTH);
	pgl_buf_reset(&deep);
	for (int i = 0; i <= PGL_JSON_MAX_DEPTH; i++)
		pgl_buf_append_str(&deep, "{\"a\":");
	pgl_json_scan_init(&scan, deep.data, deep.len);
	pgl_json_skip(&scan);
	CHECK_INT(scan.status, PGL_JSON_TOO_DEEP, "one more is too deep");
	pgl_buf_free(&deep);
}

/* ---- strings ---- */

static void
check_string(const char *json, const char *want, PglJsonStatus status)
{
	PglJsonScan scan;
	bool got;
	PglBuf out;

	pgl_buf_init(&out, STR_MAX);
	pgl_buf_append_str(&out, ">");
	pgl_json_scan_init(&scan, json, strlen(json));
	got = pgl_json_get_string(&scan, &out);
	if (status == PGL_JSON_OK)
		CHECK(got && pgl_json_finish(&scan) && strcmp(pgl_buf_str(&out) + 1, want) == 0,
			  "string %s", json);
	else
		CHECK(!got && scan.status == status && out.len == 1, "string %s: %s", json,
			  pgl_json_status_text(status));
	pgl_buf_free(&out);
}

static void
test_strings(void)
{
	check_string("\"\"", "", PGL_JSON_OK);
	check_string("\"plain text longer than one word\"", "plain text longer than one word",
				 PGL_JSON_OK);
	check_string("\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\"", "a\"\\/\b\f\n\r\tz", PGL_JSON_OK);
	check_string("\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC", PGL_JSON_OK);
	check_string("\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80", PGL_JSON_OK);
	check_string("\"\\udbff\\udfff\"", "\xF4\x8F\xBF\xBF", PGL_JSON_OK);
	check_string("\"\\ud83d\"", "\xEF\xBF\xBD", PGL_JSON_OK);
	check_string("\"\\ude00x\"", "\xEF\xBF\xBDx", PGL_JSON_OK);
	check_string("\"\\ud83dx\"", "\xEF\xBF\xBDx", PGL_JSON_OK);
	check_string("\"\\ud83d\\n\"", "\xEF\xBF\xBD\n", PGL_JSON_OK);
	check_string("\"\\ud83d\\u0041\"",
				 "\xEF\xBF\xBD"
				 "A",
				 PGL_JSON_OK);
	check_string("\"\\ud83d\\ud83d\\ude00\"", "\xEF\xBF\xBD\xF0\x9F\x98\x80", PGL_JSON_OK);
	check_string("\"\\ude00\\ud83d\"", "\xEF\xBF\xBD\xEF\xBF\xBD", PGL_JSON_OK);
	check_string("\"na\xC3\xAFve \xE6\xBC\xA2\xE5\xAD\x97 \xF0\x9F\x98\x80\"",
				 "na\xC3\xAFve \xE6\xBC\xA2\xE5\xAD\x97 \xF0\x9F\x98\x80", PGL_JSON_OK);
	check_string("\"\xEE\x80\x80\xED\x9F\xBF\xF4\x8F\xBF\xBF\"",
				 "\xEE\x80\x80\xED\x9F\xBF\xF4\x8F\xBF\xBF", PGL_JSON_OK);
	check_string("\"a\\u0000b\"", NULL, PGL_JSON_NUL);
	check_string("\"a\nb\"", NULL, PGL_JSON_SYNTAX);
	check_string("\"\\ud83d\\u12\"", NULL, PGL_JSON_SYNTAX);
	check_string("\"\\q\"", NULL, PGL_JSON_SYNTAX);
	check_string("\"open", NULL, PGL_JSON_SYNTAX);
	check_string("\"open\\", NULL, PGL_JSON_SYNTAX);
	check_string("\"\x80\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xC0\xAF\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xC1\xBF\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xC3\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xE0\x9F\xBF\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xED\xA0\x80\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xF0\x8F\xBF\xBF\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xF4\x90\x80\x80\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xF5\x80\x80\x80\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xE2\x82\"", NULL, PGL_JSON_ENCODING);
	check_string("\"\xE2\x82", NULL, PGL_JSON_ENCODING);
}

/* A byte of each kind at each offset within a word of eight. */
static void
test_string_offsets(void)
{
	static const char special[] = {'"', '\\', '\n', 0x1F, ' ', '!', 0x7F, (char) 0xC3};
	bool ok = true;

	for (size_t k = 0; k < sizeof(special); k++)
	{
		for (int at = 0; at < 24; at++)
		{
			bool legal = special[k] == ' ' || special[k] == '!' || special[k] == 0x7F;
			PglJsonScan scan;
			char text[34];
			PglBuf out;

			memset(text, 'a', sizeof(text));
			text[0] = '"';
			text[33] = '"';
			text[1 + at] = special[k];
			pgl_buf_init(&out, 100);
			pgl_json_scan_init(&scan, text, sizeof(text));
			pgl_json_get_string(&scan, &out);
			ok = ok && pgl_json_finish(&scan) == legal;
			pgl_buf_free(&out);
		}
	}
	CHECK(ok, "special characters are seen at every offset");
}

static void
test_string_size(void)
{
	size_t len = (size_t) 20 * 1024 * 1024;
	PglJsonScan scan;
	PglBuf text;
	PglBuf out;

	pgl_buf_init(&text, STR_MAX);
	pgl_buf_append_char(&text, '"');
	for (size_t i = 0; i < len / 16; i++)
		pgl_buf_append_str(&text, i % 1000 == 0 ? "0123456789abcd\\n" : "0123456789abcdef");
	pgl_buf_append_char(&text, '"');
	pgl_buf_init(&out, STR_MAX);
	pgl_json_scan_init(&scan, text.data, text.len);
	CHECK(pgl_json_get_string(&scan, &out) && pgl_json_finish(&scan), "a string of 20 MB");
	CHECK_INT((long long) out.len, (long long) (len - (len / 16 + 999) / 1000), "all of it");
	pgl_buf_free(&out);
	pgl_buf_init(&out, 1000);
	pgl_json_scan_init(&scan, text.data, text.len);
	pgl_json_get_string(&scan, &out);
	CHECK_INT(scan.status, PGL_JSON_TOO_LARGE, "a buffer that is too small is an error");
	CHECK_INT((long long) out.len, 0, "and stays as it was");
	pgl_buf_free(&out);
	pgl_buf_free(&text);
}

/* ---- numbers and booleans ---- */

static const struct
{
	const char *text;
	int64_t want;
} numbers[] = {
	{"0", 0},
	{"-0", 0},
	{"12", 12},
	{"-12", -12},
	{"12.0", 12},
	{"12.99", 12},
	{"-12.99", -12},
	{"1e3", 1000},
	{"1.5e3", 1500},
	{"1.2345e2", 123},
	{"12345e-2", 123},
	{"12345e-9", 0},
	{"0.001e3", 1},
	{"0.001e+5", 100},
	{"1E0", 1},
	{"0e999999999999999999999", 0},
	{"1e-999999999999999999999", 0},
	{"1e999999999999999999999", INT64_MAX},
	{"-1e30", INT64_MIN},
	{"9223372036854775807", INT64_MAX},
	{"9223372036854775808", INT64_MAX},
	{"9223372036854775806", INT64_MAX - 1},
	{"-9223372036854775807", -INT64_MAX},
	{"-9223372036854775808", INT64_MIN},
	{"-9223372036854775809", INT64_MIN},
	{"9007199254740993", INT64_C(9007199254740993)},
	{"922337203685477580.7e1", INT64_MAX},
	{"99999999999999999999999999999999999999", INT64_MAX},
	{"0.00000000000000000000000000000000012e34", 1},
};

static void
test_scalars(void)
{
	PglJsonScan scan;
	int64_t value;
	bool flag = false;
	PglBuf out;

	for (size_t i = 0; i < COUNT_OF(numbers); i++)
	{
		value = 77;
		pgl_json_scan_init(&scan, numbers[i].text, strlen(numbers[i].text));
		CHECK(pgl_json_get_int(&scan, &value) && pgl_json_finish(&scan) && value == numbers[i].want,
			  "number %s is %lld", numbers[i].text, (long long) numbers[i].want);
	}
	pgl_buf_init(&out, 100);
	pgl_json_scan_init(&scan, "[\"1\",true,null,[1],{},2,false,\"x\"]", 34);
	CHECK(pgl_json_begin_array(&scan), "an array of every type");
	value = 77;
	for (int i = 0; i < 5; i++)
	{
		pgl_json_next_element(&scan);
		CHECK(!pgl_json_get_int(&scan, &value) && value == 77, "element %d is not a number", i);
	}
	pgl_json_next_element(&scan);
	CHECK(!pgl_json_get_bool(&scan, &flag), "a number is not a boolean");
	pgl_json_next_element(&scan);
	CHECK(!pgl_json_get_string(&scan, &out) && out.len == 0, "a boolean is not a string");
	pgl_json_next_element(&scan);
	CHECK(pgl_json_get_string(&scan, &out), "the string is");
	CHECK(!pgl_json_next_element(&scan) && pgl_json_finish(&scan), "none of it is an error");
	pgl_json_scan_init(&scan, " true ", 6);
	CHECK(pgl_json_get_bool(&scan, &flag) && flag && pgl_json_finish(&scan), "true");
	pgl_buf_free(&out);
}

/* ---- objects ---- */

static const char reply[] =
	"{\"metrics\":{\"latencyMs\":1275},\"output\":{\"message\":{\"content\":[{\"reasoning\":[1,{}]}"
	","
	"{\"text\":\"Hi \\ud83d\\ude00\"},{\"text\":\" there\"}],\"role\":\"assistant\"}},"
	"\"stopReason\":\"end_turn\",\"trace\":null,\"usage\":{\"inputTokens\":30,\"outputTokens\":628."
	"0,"
	"\"total\\u0054okens\":1}}";

typedef struct Reply
{
	PglBuf text;
	PglBuf stop_reason;
	int64_t input_tokens;
	int64_t output_tokens;
} Reply;

static void
read_content(PglJsonScan *scan, Reply *out)
{
	PglJsonKey key;

	if (!pgl_json_begin_array(scan))
		return;
	while (pgl_json_next_element(scan))
	{
		if (!pgl_json_begin_object(scan))
			continue;
		while (pgl_json_next_key(scan, &key))
		{
			if (pgl_json_key_is(&key, "text"))
				pgl_json_get_string(scan, &out->text);
			else
				pgl_json_skip(scan);
		}
	}
}

static void
read_member(PglJsonScan *scan, const PglJsonKey *key, Reply *out)
{
	PglJsonKey inner;

	if (pgl_json_key_is(key, "stopReason"))
		pgl_json_get_string(scan, &out->stop_reason);
	else if (pgl_json_key_is(key, "content"))
		read_content(scan, out);
	else if (pgl_json_key_is(key, "inputTokens"))
		pgl_json_get_int(scan, &out->input_tokens);
	else if (pgl_json_key_is(key, "outputTokens"))
		pgl_json_get_int(scan, &out->output_tokens);
	else if (pgl_json_key_is(key, "output") || pgl_json_key_is(key, "message") ||
			 pgl_json_key_is(key, "usage") || pgl_json_key_is(key, "trace"))
	{
		if (pgl_json_begin_object(scan))
		{
			while (pgl_json_next_key(scan, &inner))
				read_member(scan, &inner, out);
		}
	}
	else
		pgl_json_skip(scan);
}

static void
test_objects(void)
{
	bool truncation_seen = true;
	PglJsonScan scan;
	PglJsonKey key;
	Reply out = {.input_tokens = -1};

	pgl_buf_init(&out.text, 100);
	pgl_buf_init(&out.stop_reason, 100);
	pgl_json_scan_init(&scan, reply, strlen(reply));
	CHECK(pgl_json_begin_object(&scan), "a Converse reply");
	while (pgl_json_next_key(&scan, &key))
		read_member(&scan, &key, &out);
	CHECK(pgl_json_finish(&scan), "read to its end");
	CHECK_STR(pgl_buf_str(&out.text), "Hi \xF0\x9F\x98\x80 there", "text blocks");
	CHECK_STR(pgl_buf_str(&out.stop_reason), "end_turn", "stop reason");
	CHECK_INT(out.input_tokens, 30, "input tokens");
	CHECK_INT(out.output_tokens, 628, "output tokens");
	for (size_t len = 0; len < strlen(reply); len++)
	{
		char *exact = malloc(len + 1); /* so that the sanitizer sees reads beyond the end */

		memcpy(exact, reply, len);
		pgl_buf_reset(&out.text);
		pgl_buf_reset(&out.stop_reason);
		pgl_json_scan_init(&scan, exact, len);
		if (pgl_json_begin_object(&scan))
		{
			while (pgl_json_next_key(&scan, &key))
				read_member(&scan, &key, &out);
		}
		truncation_seen = truncation_seen && !pgl_json_finish(&scan);
		free(exact);
	}
	CHECK(truncation_seen, "cut anywhere, it is an error");
	pgl_buf_free(&out.text);
	pgl_buf_free(&out.stop_reason);

	pgl_json_scan_init(&scan, "{\"a\":1}", 7);
	CHECK(!pgl_json_begin_array(&scan) && pgl_json_finish(&scan), "another type is skipped");
	pgl_json_scan_init(&scan, "{\"a\":[1,}", 9);
	CHECK(!pgl_json_begin_array(&scan) && !pgl_json_finish(&scan), "but its syntax counts");
	pgl_json_scan_init(&scan, "1 2", 3);
	CHECK(pgl_json_skip(&scan) && !pgl_json_skip(&scan), "no second value at the top");
}

/* ---- writing ---- */

static void
test_writer(void)
{
	PglBuf out;

	pgl_buf_init(&out, 1000);
	pgl_buf_append_char(&out, '{');
	pgl_json_put_key(&out, "a");
	pgl_json_put_string(&out, "x", 1);
	pgl_json_put_key(&out, "b\"");
	pgl_buf_append_char(&out, '[');
	pgl_buf_append_str(&out, "{");
	pgl_json_put_key(&out, "c");
	pgl_buf_append_str(&out, "1}]}");
	CHECK_STR(pgl_buf_str(&out), "{\"a\":\"x\",\"b\\\"\":[{\"c\":1}]}", "keys and commas");
	pgl_buf_reset(&out);
	pgl_json_put_string(&out, "\"\\/\b\f\n\r\t\x01\x1f\x7f\0\xC3\xA9 end", 18);
	CHECK_STR(pgl_buf_str(&out),
			  "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\\u0000\xC3\xA9 end\"", "escapes");
	pgl_buf_free(&out);
}

/* Any text without NUL comes back as it was. */
static void
test_round_trip(void)
{
	uint64_t seed = 7;
	bool same = true;
	PglBuf json;
	PglBuf back;

	pgl_buf_init(&json, 100000);
	pgl_buf_init(&back, 100000);
	for (int i = 0; i < 2000; i++)
	{
		size_t len = unit_random(&seed) % 70;
		PglJsonScan scan;
		char text[70];

		for (size_t j = 0; j < len; j++)
			text[j] = (char) (1 + unit_random(&seed) % 126);
		pgl_buf_reset(&json);
		pgl_buf_reset(&back);
		pgl_json_put_string(&json, text, len);
		pgl_json_scan_init(&scan, json.data, json.len);
		same = same && pgl_json_get_string(&scan, &back) && pgl_json_finish(&scan) &&
			   back.len == len && memcmp(back.data, text, len) == 0;
	}
	CHECK(same, "what is written is read back");
	pgl_buf_free(&json);
	pgl_buf_free(&back);
}

void
test_json(void)
{
	unit_suite("json");
	test_syntax();
	test_strings();
	test_string_offsets();
	test_string_size();
	test_scalars();
	test_objects();
	test_writer();
	test_round_trip();
}
