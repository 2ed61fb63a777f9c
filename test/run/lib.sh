# lib.sh — what the scripts in this folder share; to be sourced.
#
# Who does what: packages are installed by root (directly or through sudo).  Everything else runs as
# an ordinary user, the "worker", because PostgreSQL refuses root: root works as user postgres, anybody
# else as himself.  The worker never writes into the checkout: it builds a copy of the tree, and
# installs it into a private copy of PostgreSQL (see stage_server), so that neither the machine's own
# installation nor a running server ever sees what is being tested.
#
# All processes that are started here belong to a directory, and are stopped by the pid files in it.
# shellcheck shell=bash disable=SC2034,SC2016

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-/usr/bin/python3}
# The scripts' output is parsed and compared.
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
unset PGHOST PGPORT PGUSER PGDATABASE PGDATA PGOPTIONS PGSERVICE

say() {
	printf '%s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

as_root() {
	if [ "$EUID" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "need root or sudo for: $*"
	fi
}

# The worker's commands; the caller's directory must be one that the worker may enter.
as_worker() {
	if [ "$EUID" -eq 0 ]; then
		runuser -u postgres -- env HOME=/nonexistent "$@"
	else
		"$@"
	fi
}

# Make DIR as the worker's own and private; one that exists must be his already.
make_worker_dir() {
	local owner
	owner=$(as_worker id -un)
	if [ ! -e "$1" ] && [ ! -L "$1" ]; then
		mkdir -m 0700 "$1"
		[ "$EUID" -ne 0 ] || chown "$owner:" "$1"
	elif [ ! -d "$1" ] || [ -L "$1" ] || [ "$(stat -c %U "$1")" != "$owner" ]; then
		die "$1 exists and is not a directory of user $owner"
	fi
}

# -------------------------------------------------------------------------------------- packages

is_installed() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The newest server on this machine, else the one that the distribution would install.
newest_version() {
	local found
	found=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/postgres' 2>/dev/null |
		cut -d/ -f5 | sort -n | tail -n 1)
	[ -n "$found" ] || found=$(apt-cache show postgresql 2>/dev/null |
		sed -n 's/^Depends:.*\bpostgresql-\([0-9]\+\)\b.*/\1/p' | head -n 1)
	printf '%s' "$found"
}

# Install what is missing, in one go: a -dev package may bring a newer minor version of the server
# with it, and then both must come together.
install_packages() {
	local package missing=()
	for package in "$@"; do
		is_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	for package in "$@"; do
		case $package in
		postgresql-[0-9]*) is_installed "$package" && missing+=("$package") ;;
		esac
	done
	say "installing ${missing[*]}"
	as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Find PostgreSQL, and install it and what the build needs; further packages are arguments.
# Sets pg_config and pg_version.
need_packages() {
	local packages=(make gcc libc6-dev libcurl4-openssl-dev libssl-dev pkg-config python3 "$@")
	command -v dpkg-query >/dev/null || { need_no_packages; return; }
	if [ -n "${PG_CONFIG:-}" ]; then
		pg_config=$PG_CONFIG
	else
		local version
		version=$(newest_version)
		if [ -z "$version" ]; then
			update_packages
			version=$(newest_version)
		fi
		[ -n "$version" ] || die "no PostgreSQL here, and none in the package lists"
		packages+=("postgresql-$version" "postgresql-server-dev-$version")
		pg_config=/usr/lib/postgresql/$version/bin/pg_config
	fi
	need_installed "${packages[@]}"
	read_version
}

need_installed() {
	local package
	for package in "$@"; do
		if ! is_installed "$package"; then
			update_packages
			install_packages "$@"
			return
		fi
	done
}

updated=
update_packages() {
	# a third party's list that cannot be had need not matter
	[ -n "$updated" ] || as_root apt-get update -qq || say "apt-get update: not everything was updated"
	updated=yes
}

# Where this machine gets Debian from: lines "CODENAME URI", security and updates among them.
debian_archives() {
	apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "Debian" && !seen[$2, $3]++ {print $2, $3}'
}

# The URI of the suite that this machine runs.
host_mirror() {
	local codename
	codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
	debian_archives | awk -v codename="$codename" '$1 == codename {print $2; exit}'
}

# source_apt DIR PROGRAM COMMAND…: apt-get or apt-cache on the source packages of this machine's archives.
# Its lists are in DIR, so the machine's own configuration stays as it is, and no root is needed.
source_apt() {
	local dir=$1 program=$2 keys=/usr/share/keyrings/debian-archive-keyring.gpg signed=
	shift 2
	[ ! -e $keys ] || signed="[signed-by=$keys] "
	as_worker mkdir -p "$dir/lists/partial" "$dir/cache"
	debian_archives | sed "s|^\([^ ]*\) \(.*\)|deb-src $signed\2 \1 main|" |
		as_worker tee "$dir/sources.list" >/dev/null
	as_worker "$program" -qq -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=- \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" "$@"
}

# Not Debian: PostgreSQL and the libraries must be there already.
need_no_packages() {
	pg_config=${PG_CONFIG:-$(command -v pg_config)} || die "pg_config not found; set PG_CONFIG"
	read_version
}

read_version() {
	[ -x "$pg_config" ] || die "$pg_config not found"
	pg_version=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
}

# ------------------------------------------------------------------------------- build and server

# make_tree DIR: copy the sources there, without what builds and tests have left.
make_tree() {
	as_worker mkdir -p "$1"
	tar -C "$top" -c --exclude=./.git --exclude=./build --exclude=./results --exclude=./output_iso \
		--exclude=./tmp_check --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude=__pycache__ . | as_worker tar -C "$1" -x --no-same-owner
}

# Make STAGE a private PostgreSQL: copies of the programs, which find everything else relative to
# themselves, and links to the rest.  Sets stage_bin.
stage_server() {
	local dir
	stage_bin=$1$("$pg_config" --bindir)
	as_worker mkdir -p "$stage_bin"
	as_worker cp -R "$("$pg_config" --bindir)/." "$stage_bin/"
	for dir in "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)"; do
		as_worker mkdir -p "$1$dir"
		as_worker cp -Rs "$dir/." "$1$dir/"
	done
	dir=$("$pg_config" --includedir-server)
	as_worker mkdir -p "$1${dir%/*}"
	as_worker ln -s "$dir" "$1$dir"
	# a pgllm that the machine has itself
	as_worker find "$1" -name 'pgllm*' ! -type d -delete
}

# build_extension TREE STAGE [VARIABLE=…]: compile, and install into the private PostgreSQL.
build_extension() {
	local tree=$1 stage=$2
	shift 2
	as_worker make -s -C "$tree" -j"$(nproc)" PG_CONFIG="$pg_config" "$@"
	as_worker make -s -C "$tree" install PG_CONFIG="$pg_config" DESTDIR="$stage" "$@" >/dev/null
}

# start_server DIR [SETTING…]: a server of its own in DIR/data, reachable through DIR/socket only, a
# directory that nobody else may enter.  DIR/credentials is its credential directory.
start_server() {
	local dir=$1 setting
	shift
	as_worker install -d -m 0700 "$dir/socket" "$dir/credentials"
	if [ ! -e "$dir/data/PG_VERSION" ]; then
		as_worker "$stage_bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
			--no-sync >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log"; die "initdb failed"; }
		for setting in "shared_preload_libraries = 'pgllm'" "listen_addresses = ''" \
			"unix_socket_directories = '$dir/socket'" "fsync = off" "max_connections = 100" \
			"pgllm.credential_directory = '$dir/credentials'" "$@"; do
			say "$setting"
		done | as_worker tee -a "$dir/data/postgresql.conf" >/dev/null
	fi
	# as many descriptors as the machine grants: each connection to a model is one
	as_worker bash -c 'ulimit -n "$(ulimit -Hn)" 2>/dev/null; exec "$@"' start_server \
		"$stage_bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -s -w -t 60 start \
		</dev/null || { tail -n 20 "$dir/server.log"; die "the server does not start"; }
}

server_runs() {
	[ -e "$1/data/postmaster.pid" ] &&
		as_worker "$stage_bin/pg_ctl" -D "$1/data" status >/dev/null 2>&1
}

stop_server() {
	! server_runs "$1" || as_worker "$stage_bin/pg_ctl" -D "$1/data" -s -m fast -w -t 60 stop
}

# ------------------------------------------------------------------------------------- simulator

sim_field() {
	"$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1/sim.json" "$2"
}

# start_simulator DIR TREE [OPTION…]: Bedrock's stand-in; DIR/sim.json names its ports.
start_simulator() {
	local dir=$1 tree=$2 tries=100
	shift 2
	as_worker rm -f "$dir/sim.json"
	as_worker setsid --fork "$python" "$tree/test/sim/bedrock_sim.py" --ready-file "$dir/sim.json" \
		"$@" >"$dir/sim.log" 2>&1 </dev/null
	until [ -e "$dir/sim.json" ]; do
		((tries-- > 0)) || { cat "$dir/sim.log"; die "the simulator does not start"; }
		sleep 0.1
	done
}

simulator_runs() {
	[ -e "$1/sim.json" ] &&
		tr '\0' ' ' 2>/dev/null <"/proc/$(sim_field "$1" pid)/cmdline" | grep -q "$1/sim.json"
}

# By the shell's own kill: a bare Debian has no other.
stop_simulator() {
	! simulator_runs "$1" || as_worker bash -c 'kill "$1"' kill "$(sim_field "$1" pid)"
}
