# pgllm — resilient LLM inference from SQL
#
# make, make install and make installcheck are PostgreSQL's usual ones (PGXS; PG_CONFIG chooses the
# server).  make help lists what this project adds.

# The targets of our own need neither PostgreSQL nor a compiler to begin with: their scripts install
# what is missing and work on a copy of this tree.
OWN_TARGETS = help up psql down demo demo-checks check check-matrix check-postgres bench bench-peers \
	format lint

ifneq ($(filter $(OWN_TARGETS),$(MAKECMDGOALS)),)

.PHONY: $(OWN_TARGETS)
ROUNDS ?= 20
C_FILES = $(sort $(wildcard src/*.[ch] src/*/*.[ch] test/unit/*.[ch] test/unit/fuzz/*.[ch] \
	test/bench/*.[ch] test/bench/*/*.[ch]))

help:
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16
up: ## start a throw-away server with pgllm, a Bedrock simulator and data to try it on
	@test/run/playground up
psql: ## open psql there
	@test/run/playground psql
down: ## stop and delete it
	@test/run/playground down
demo: ## up, then the five resilience patterns and a job on real rows, all checked
	@test/run/demo
demo-checks: ## the five patterns ROUNDS times (default 20), checks only
	@test/run/demo --rounds $(ROUNDS)
check: ## every test there is, on a copy of the tree; the last line counts them
	@test/run/check
check-matrix: ## the tests that need a server on every PostgreSQL that Debian has
	@test/run/matrix
check-postgres: ## PostgreSQL's own tests on a server with pgllm preloaded, in each of MODES
	@test/run/postgres-suites
bench: ## benchmarks beside rivals
	@test/bench/run
bench-peers: ## benchmarks beside pgsql-http, PL/Python, LiteLLM and Portkey (root; half an hour)
	@test/bench/peers/run
format: ## let clang-format lay out the C files
	clang-format -i $(C_FILES)
lint: ## cppcheck
	cppcheck --quiet --error-exitcode=1 --enable=warning,performance --inline-suppr \
		--suppress=missingInclude --suppress=nullPointerRedundantCheck --std=c11 -j 2 src

else

EXTENSION = pgllm
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(EXTENSION).control)

MODULE_big = $(EXTENSION)
DATA = $(wildcard sql/$(EXTENSION)--*.sql)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
PGL_HEADERS = $(wildcard src/*.h src/*/*.h)

REGRESS := $(sort $(basename $(notdir $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test --load-extension=$(EXTENSION)
ISOLATION := $(sort $(basename $(notdir $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test --load-extension=$(EXTENSION)
PROVE_TESTS := $(sort $(wildcard test/t/*.pl))
TAP_TESTS := $(if $(PROVE_TESTS),1)

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

endif
