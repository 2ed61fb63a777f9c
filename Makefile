# pgllm — resilient LLM inference from SQL
EXTENSION = pgllm
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(EXTENSION).control)

MODULE_big = $(EXTENSION)
DATA = $(wildcard sql/$(EXTENSION)--*.sql)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
PGL_HEADERS = $(wildcard src/*.h src/*/*.h)

REGRESS = $(sort $(basename $(notdir $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test --load-extension=$(EXTENSION)
ISOLATION = $(sort $(basename $(notdir $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test

PG_CONFIG ?= pg_config
CURL_CFLAGS = $(shell pkg-config --cflags libcurl 2>/dev/null)
PG_CPPFLAGS = $(CURL_CFLAGS)
PG_CFLAGS = -std=gnu11 -fvisibility=hidden -Wall -Wextra -Wno-unused-parameter \
	-Wno-sign-compare -Wno-missing-field-initializers -Wno-clobbered -Wshadow -Wvla
SHLIB_LINK = -lcurl -lcrypto -lpthread
# Debian's servers were built with a clang that is seldom installed; bitcode would gain nothing here.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(PGL_HEADERS)
