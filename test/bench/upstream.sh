# upstream.sh — what all benchmarks talk to, and the bare rival; to be sourced.
#
# The caller has set work (a directory with out/ that the server's user may write to), python, limit_s,
# the array pids and as_server (which replaces the shell by a command, as that user).  What is started
# here is in pids; stopping it is the caller's.
# shellcheck shell=bash disable=SC2154

bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
nginx_modules=/usr/lib/nginx/modules

need_nginx() {
	if [ -x /usr/sbin/nginx ] && [ -e $nginx_modules/ngx_http_echo_module.so ]; then return; fi
	say "installing nginx-light and its echo module"
	apt-get update -qq
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		nginx-light libnginx-mod-http-echo >/dev/null
}

# build_bare TREE: from its src/core, into $work/bare.
build_bare() {
	gcc -std=gnu11 -O2 -Wall -Wextra -I"$1/src/core" -o "$work/bare" "$bench/bare.c" \
		"$1"/src/core/{buf,json,sigv4,uri}.c $(pkg-config --cflags --libs libcurl) -lcrypto
}

free_ports() {
	"$python" - "$1" <<-'END'
		import socket, sys
		held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
		print(*[s.getsockname()[1] for s in held])
	END
}

# One port per behaviour; they are in the environment.
choose_ports() {
	read -r FAST SLOW LONG TLS_FAST TLS_SLOW TLS_LONG TLS_CLOSE <<<"$(free_ports 7)"
	export FAST SLOW LONG TLS_FAST TLS_SLOW TLS_LONG TLS_CLOSE
}

# An authority, a certificate for 127.0.0.1, and a bundle as large as what a client of a public
# endpoint loads: the system's, and our authority.
make_certificates() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bench-ca \
		-keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=127.0.0.1 \
		-keyout "$work/server.key" -out "$work/server.csr" 2>/dev/null
	openssl x509 -req -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
		-days 2 -extfile <(echo "subjectAltName=IP:127.0.0.1") -out "$work/server.pem" 2>/dev/null
	cat /etc/ssl/certs/ca-certificates.crt "$work/ca.pem" >"$work/bundle.pem" 2>/dev/null ||
		cp "$work/ca.pem" "$work/bundle.pem"
}

start_nginx() {
	"$python" "$bench/make_nginx_conf.py" "$work" "$nginx_modules" >"$work/nginx.conf"
	as_server timeout "$limit_s" /usr/sbin/nginx -e "$work/out/nginx.log" -c "$work/nginx.conf" &
	pids+=($!)
}
