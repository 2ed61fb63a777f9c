# install.sh — gets the rivals, once, into a cache outside of the tree; to be sourced after lib.sh.
#
# The caller has set cache (a directory of the worker's) and work.  Each install_NAME leaves its rival
# under a name that has the version in it, so that a new pin is a new installation, and returns
# non-zero when it cannot be had: install_rivals notes that in $work/left-out as "name<TAB>reason",
# and the run goes on without it.  Versions are pinned here and nowhere else.
# shellcheck shell=bash disable=SC2154

# Not 1.82.7, 1.82.8 or 1.107.0, which were withdrawn.
litellm_version=1.106.12
portkey_version=1.15.2
# Where the source package of pgsql-http is looked for, if this server's Debian has no binary one.
http_suites="trixie sid"

litellm_home=$cache/litellm-$litellm_version
portkey_home=$cache/portkey-$portkey_version
http_source=$cache/pgsql-http

leave_out() {
	printf '%s\t%s\n' "$1" "$2" | as_worker tee -a "$work/left-out" >/dev/null
	say "left out: $1: $2"
}

# A command of a package manager, as the worker, with a home of its own and an end.
as_guest() {
	as_worker env HOME="$cache/home" timeout "${install_limit_s:-600}" "$@" >>"$cache/install.log" 2>&1
}

install_plpython() {
	[ -e "$("$pg_config" --pkglibdir)/plpython3.so" ] || need_installed "postgresql-plpython3-$pg_version"
}

install_wrk() {
	command -v wrk >/dev/null || need_installed wrk
}

# What several workers of LiteLLM share their counters through.
install_redis() {
	command -v redis-server >/dev/null || need_installed redis-server
}

install_litellm() {
	[ ! -e "$litellm_home/.ready" ] || return 0
	need_installed python3-venv || return 1
	say "installing LiteLLM $litellm_version into $litellm_home (a minute or two, once)"
	as_worker rm -rf "$litellm_home"
	as_guest "$python" -m venv "$litellm_home" &&
		as_guest "$litellm_home/bin/pip" install -q "litellm[proxy]==$litellm_version" &&
		as_worker touch "$litellm_home/.ready"
}

install_portkey() {
	[ ! -e "$portkey_home/.ready" ] || return 0
	command -v npm >/dev/null || need_installed nodejs npm || return 1
	say "installing Portkey's gateway $portkey_version into $portkey_home"
	as_worker rm -rf "$portkey_home"
	as_worker mkdir -p "$portkey_home"
	as_guest npm --prefix "$portkey_home" install --no-audit --no-fund --ignore-scripts \
		"@portkey-ai/gateway@$portkey_version" &&
		as_worker touch "$portkey_home/.ready"
}

# apt with lists and a cache of its own, which knows only what is in sources.list there.
apt_of_suite() {
	local state=$cache/apt
	as_guest apt-get -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" \
		-o Debug::NoLocking=true -o Acquire::Check-Valid-Until=false -qq "$@"
}

# The source that is in the cache already, or Debian's, without Debian's packaging.
unpack_http_source() {
	local suite mirror archive
	[ ! -e "$http_source/http.control" ] || return 0
	mirror=$(host_mirror)
	[ -n "$mirror" ] || return 1
	for suite in $http_suites; do
		as_worker rm -rf "$cache/apt"
		as_worker mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial" "$cache/apt/source"
		say "deb-src $mirror $suite main" | as_worker tee "$cache/apt/sources.list" >/dev/null
		apt_of_suite update || continue
		(cd "$cache/apt/source" && apt_of_suite source --download-only pgsql-http) || continue
		archive=$(find "$cache/apt/source" -name 'pgsql-http_*.orig.tar.*' -print -quit)
		[ -n "$archive" ] || continue
		as_worker mkdir -p "$http_source"
		as_worker tar -C "$http_source" --strip-components=1 -xf "$archive" && return 0
	done
	return 1
}

# The package of this server's Debian, or its source built into the private server.
install_http() {
	local package=postgresql-$pg_version-http
	[ ! -e "$("$pg_config" --sharedir)/extension/http.control" ] || return 0
	if apt-cache show "$package" >/dev/null 2>&1; then
		need_installed "$package"
	else
		unpack_http_source
	fi
}

# After stage_server: build what has no package.
build_http() {
	[ ! -e "$1$("$pg_config" --sharedir)/extension/http.control" ] || return 0
	as_worker rm -rf "$work/http"
	as_worker cp -R "$http_source" "$work/http"
	as_worker make -s -C "$work/http" PG_CONFIG="$pg_config" with_llvm=no >"$work/http.log" 2>&1 &&
		as_worker make -s -C "$work/http" install PG_CONFIG="$pg_config" with_llvm=no DESTDIR="$1" \
			>>"$work/http.log" 2>&1
}

# Each rival in a subshell: whatever goes wrong in there only leaves it out.
install_rivals() {
	as_worker mkdir -p "$cache/home"
	as_worker touch "$cache/install.log"
	(install_plpython) || leave_out plpython "postgresql-plpython3-$pg_version is not to be had"
	(install_wrk) || leave_out wrk "package wrk is not to be had"
	(install_redis) || leave_out redis "package redis-server is not to be had"
	(install_http) || leave_out http \
		"no package postgresql-$pg_version-http, and Debian's source package cannot be downloaded"
	(install_litellm) || leave_out litellm "litellm[proxy] $litellm_version does not install"
	(install_portkey) || leave_out portkey "@portkey-ai/gateway $portkey_version does not install"
}

is_left_out() {
	grep -qs "^$1	" "$work/left-out"
}
