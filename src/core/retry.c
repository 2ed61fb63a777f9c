/*
 * retry.c — how long to wait before another attempt, and whether one may be spent at all.
 *
 * Three brakes against retry storms.  Full jitter spreads the callers over the whole interval, so
 * that those who failed together do not come back together.  The cool-down keeps everybody away
 * from a quota that is known to be empty.  The budget ends retries when too many of them fail,
 * however many callers there are.
 */
#include "retry.h"

#include <stddef.h>
#include <string.h>

#define SECOND INT64_C(1000000)
#define COOLDOWN_MAX (60 * SECOND)
#define HINT_MAX (600 * SECOND)
#define PARSED_MAX (INT64_C(1000000000) * SECOND) /* thirty years: as good as for ever */

/* Uniform in [0, bound]. */
static int64_t
scale_random(int64_t bound, uint32_t random)
{
	return (int64_t) (((unsigned __int128) bound + 1) * random >> 32);
}

int64_t
pgl_retry_backoff_us(int round, int64_t base_us, int64_t cap_us, uint32_t random)
{
	int64_t bound = cap_us;

	if (base_us <= 0 || cap_us <= 0)
		return 0;
	if (round < 0)
		round = 0;
	/* Compared the other way round, because base << round may overflow. */
	if (round < 63 && base_us <= cap_us >> round)
		bound = base_us << round;
	return scale_random(bound, random);
}

/* The jitter is added, never taken away: a provider's hint is the least it wants. */
int64_t
pgl_retry_cooldown_us(int strikes, int64_t hint_us, uint32_t random)
{
	int64_t wait = COOLDOWN_MAX;

	if (hint_us >= 0)
		wait = hint_us < HINT_MAX ? hint_us : HINT_MAX;
	else if (strikes <= 0)
		wait = SECOND;
	else if (strikes < 6)
		wait = SECOND << strikes;
	return wait + scale_random(wait / 10, random);
}

bool
pgl_retry_budget_take(int32_t *budget, int32_t cost)
{
	if (*budget < cost)
		return false;
	*budget -= cost;
	return true;
}

void
pgl_retry_budget_give(int32_t *budget, int32_t amount)
{
	if (amount >= PGL_RETRY_BUDGET_MAX - *budget)
		*budget = PGL_RETRY_BUDGET_MAX;
	else
		*budget += amount;
}

/* ---- hints ---- */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *
skip_blanks(const char *text)
{
	while (*text == ' ' || *text == '\t')
		text++;
	return text;
}

/*
 * "12" or "12.5" times `unit`, rounded down to microseconds; huge numbers saturate.  -1 if the text
 * is anything else.
 */
static int64_t
parse_duration(const char *text, int64_t unit)
{
	int64_t value = 0;

	if (!is_digit(*text))
		return -1;
	for (; is_digit(*text); text++)
	{
		value = value * 10 + (*text - '0') * unit;
		if (value > PARSED_MAX)
			value = PARSED_MAX;
	}
	if (*text == '.')
	{
		for (text++; is_digit(*text); text++)
		{
			unit /= 10;
			value += (*text - '0') * unit;
		}
	}
	if (*skip_blanks(text) != '\0')
		return -1;
	return value < PARSED_MAX ? value : PARSED_MAX;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar. */
static int64_t
count_days(int year, int month, int day)
{
	static const int days_before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	int64_t leap_years_until = month > 2 ? year : year - 1;

	return INT64_C(365) * (year - 1970) + leap_years_until / 4 - leap_years_until / 100 +
		   leap_years_until / 400 - 477 + days_before[month - 1] + day - 1;
}

/* The parts of a date, as far as they were seen; -1: not yet. */
typedef struct HttpDate
{
	int day;
	int month;
	int year;
	int seconds; /* of the day */
} HttpDate;

/* Read at most `max_digits` digits; -1 if there is none or one too many. */
static int
read_number(const char **text, int max_digits)
{
	int value = 0;
	int digits;

	for (digits = 0; is_digit(**text); digits++)
	{
		if (digits >= max_digits)
			return -1;
		value = value * 10 + (*(*text)++ - '0');
	}
	return digits > 0 ? value : -1;
}

/* A month is kept; the name of a weekday and the zone say nothing new. */
static bool
take_word(const char **text, HttpDate *date)
{
	static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec"
								"montuewedthufrisatsungmtutc";
	const char *start = *text;
	char word[4] = "";

	for (; is_letter(**text); (*text)++)
	{
		if (*text - start < 3)
			word[*text - start] = (char) (**text | 0x20);
	}
	if (*text - start < 3)
		return false;
	for (int i = 0; i < (int) (sizeof(names) - 1) / 3; i++)
	{
		if (memcmp(names + i * 3, word, 3) != 0)
			continue;
		if (i < 12)
			date->month = i + 1;
		return true;
	}
	return false;
}

/* hh:mm:ss, whose hour is read already; a leap second counts as the second before it. */
static bool
take_time(const char **text, int hour, HttpDate *date)
{
	int minute;
	int second;

	(*text)++;
	minute = read_number(text, 2);
	if (*(*text)++ != ':')
		return false;
	second = read_number(text, 2);
	if (hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;
	date->seconds = hour * 3600 + minute * 60 + (second < 60 ? second : 59);
	return true;
}

/* A time of day, else the day of the month, else the year. */
static bool
take_number(const char **text, HttpDate *date)
{
	const char *start = *text;
	int value = read_number(text, 4);

	if (value < 0)
		return false;
	if (**text == ':')
		return date->seconds < 0 && take_time(text, value, date);
	if (date->day < 0)
		date->day = value;
	else if (date->year < 0)
		date->year = *text - start > 2 ? value : value + (value < 70 ? 2000 : 1900);
	else
		return false;
	return true;
}

/*
 * Microseconds since 1970 of an HTTP date, -1 if it is none.  The three forms of RFC 9110 consist
 * of the same parts, so the parts are read in any order.
 */
static int64_t
parse_http_date(const char *text)
{
	HttpDate date = {-1, -1, -1, -1};

	for (;;)
	{
		while (*text == ' ' || *text == '\t' || *text == ',' || *text == '-')
			text++;
		if (*text == '\0')
			break;
		if (is_letter(*text) ? !take_word(&text, &date)
							 : !is_digit(*text) || !take_number(&text, &date))
			return -1;
	}
	if (date.day < 1 || date.day > 31 || date.month < 1 || date.year < 1970 || date.seconds < 0)
		return -1;
	return (count_days(date.year, date.month, date.day) * 86400 + date.seconds) * SECOND;
}

/* A date that has passed means "now". */
int64_t
pgl_retry_parse_hint(const char *value, bool milliseconds, int64_t now_unix_us)
{
	int64_t when;

	if (value == NULL)
		return -1;
	value = skip_blanks(value);
	if (is_digit(*value) || milliseconds)
		return parse_duration(value, milliseconds ? SECOND / 1000 : SECOND);
	when = parse_http_date(value);
	if (when < 0)
		return -1;
	if (when <= now_unix_us)
		return 0;
	return when - now_unix_us < PARSED_MAX ? when - now_unix_us : PARSED_MAX;
}
