/*
 * test_ini.c — sections, comments, nesting and duplicates of AWS configuration files.
 */
#include "unit.h"

#include <string.h>

#include "ini.h"

static const char config[] = "global = before\n"
							 "[default]\n"
							 "region = us-east-1\n"
							 "# region = commented\n"
							 "; region = commented too\n"
							 "aws_secret_access_key=a/b+c==#no comment\n"
							 "empty =\n"
							 "s3 =\n"
							 "  max_concurrent_requests = 20\n"
							 "  region = nested\n"
							 "Output =  json \t\r\n"
							 "\n"
							 "[profile  dev] # trailing\n"
							 "region = eu-west-1\n"
							 "region = eu-west-3\n"
							 "no equals sign\n"
							 "[broken\n"
							 "region = leaked\n"
							 "[ spaced ]\n"
							 "    role_arn = r1\n"
							 "    region = r2\n"
							 "[default]\n"
							 "region = us-west-2\n"
							 "last = no newline";

static void
check_lookup(const char *text, const char *section, const char *key, const char *want)
{
	PglBuf value;
	bool found;

	pgl_buf_init(&value, 100);
	found = pgl_ini_lookup(text, strlen(text), section, key, &value);
	CHECK_STR(found ? pgl_buf_str(&value) : "(none)", want, "[%s] %s",
			  section != NULL ? section : "", key);
	pgl_buf_free(&value);
}

static void
test_lookup(void)
{
	check_lookup(config, "default", "region", "us-west-2");
	check_lookup(config, "default", "aws_secret_access_key", "a/b+c==#no comment");
	check_lookup(config, "default", "empty", "");
	check_lookup(config, "default", "s3", "");
	check_lookup(config, "default", "max_concurrent_requests", "(none)");
	check_lookup(config, "default", "output", "json");
	check_lookup(config, "default", "last", "no newline");
	check_lookup(config, "default", "regio", "(none)");
	check_lookup(config, "default", "region2", "(none)");
	check_lookup(config, "profile dev", "region", "eu-west-3");
	check_lookup(config, "dev", "region", "(none)");
	check_lookup(config, "spaced", "role_arn", "r1");
	check_lookup(config, "spaced", "region", "r2");
	check_lookup(config, NULL, "global", "before");
	check_lookup(config, NULL, "region", "(none)");
	check_lookup("a=1\na=2\n", NULL, "a", "2");
	check_lookup("\xEF\xBB\xBF[x]\na=1\n", "x", "a", "1");
	check_lookup("", "x", "a", "(none)");
	check_lookup("[x]\r\na = 1\r\nb = 2\r\n", "x", "b", "2");
}

static void
test_limits(void)
{
	PglBuf value;

	pgl_buf_init(&value, 3);
	CHECK(!pgl_ini_lookup("a=1234", 6, NULL, "a", &value), "a value over the cap is not found");
	pgl_buf_free(&value);
	CHECK(pgl_ini_has_section(config, strlen(config), "profile dev"), "has [profile dev]");
	CHECK(!pgl_ini_has_section(config, strlen(config), "Default"), "section names have a case");
	CHECK(!pgl_ini_has_section(config, strlen(config), "broken"), "no section without a bracket");
}

void
test_ini(void)
{
	unit_suite("ini");
	test_lookup();
	test_limits();
}
