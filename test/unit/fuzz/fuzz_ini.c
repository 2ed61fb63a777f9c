/*
 * fuzz_ini.c — lookups in arbitrary configuration files.
 */
#include "fuzz.h"

#include "ini.h"

static void
check_value(const char *text, size_t size, const char *section, const char *key)
{
	PglBuf value;

	pgl_buf_init(&value, 256);
	if (pgl_ini_lookup(text, size, section, key, &value))
	{
		REQUIRE(value.len == 0 || memchr(value.data, '\n', value.len) == NULL);
		REQUIRE(value.len == 0 || (value.data[0] != ' ' && value.data[value.len - 1] != ' '));
		REQUIRE(section == NULL || pgl_ini_has_section(text, size, section));
	}
	else
		REQUIRE(value.len == 0);
	pgl_buf_free(&value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const sections[] = {NULL, "default", "profile x", "x", ""};
	static const char *const keys[] = {"region", "aws_secret_access_key", "k", ""};
	char *exact = malloc(size > 0 ? size : 1);

	if (size > 0)
		memcpy(exact, data, size);
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
	{
		for (size_t j = 0; j < sizeof(keys) / sizeof(keys[0]); j++)
			check_value(exact, size, sections[i], keys[j]);
	}
	free(exact);
	return 0;
}
