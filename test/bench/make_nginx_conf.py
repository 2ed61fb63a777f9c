"""Write the configuration of the upstream: the same 576-byte reply on every port, after a delay.

    make_nginx_conf.py WORK_DIRECTORY MODULE_DIRECTORY

Ports come from the environment: FAST answers at once, SLOW after 200 ms, LONG after 3 s; TLS_* the
same over TLS 1.3 with HTTP/2; TLS_CLOSE closes each connection after its reply.
"""
import json
import os
import sys

REPLY_BYTES = 576


def converse_reply():
    reply = {
        "metrics": {"latencyMs": 275},
        "output": {"message": {"content": [{"text": ""}], "role": "assistant"}},
        "stopReason": "end_turn",
        "usage": {"cacheReadInputTokens": 0, "cacheWriteInputTokens": 0, "inputTokens": 230,
                  "outputTokens": 90, "totalTokens": 320},
    }
    words = "The answer of the model has a few hundred letters. "
    missing = REPLY_BYTES - len(json.dumps(reply, separators=(",", ":")))
    reply["output"]["message"]["content"][0]["text"] = (words * 20)[:missing]
    return json.dumps(reply, separators=(",", ":"))


def server(port, delay, tls, extra=""):
    reply = converse_reply()
    if delay:
        answer = f"default_type application/json; echo_sleep {delay}; echo -n '{reply}';"
    else:
        answer = f"default_type application/json; return 200 '{reply}';"
    listen = f"listen 127.0.0.1:{os.environ[port]}{' ssl http2' if tls else ''};"
    return f"\tserver {{ {listen} {extra}\n\t\tlocation / {{ {answer} }}\n\t}}\n"


def main():
    work, modules = sys.argv[1:]
    close = "keepalive_timeout 0;"
    servers = "".join([
        server("FAST", 0, False), server("SLOW", 0.2, False), server("LONG", 3, False),
        server("TLS_FAST", 0, True), server("TLS_SLOW", 0.2, True), server("TLS_LONG", 3, True),
        server("TLS_CLOSE", 0, True, close)])
    print(f"""load_module {modules}/ngx_http_echo_module.so;
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {work}/out/nginx.pid;
events {{ worker_connections 8192; }}
http {{
	access_log off;
	client_body_temp_path {work}/out/body;
	proxy_temp_path {work}/out/proxy;
	fastcgi_temp_path {work}/out/fastcgi;
	uwsgi_temp_path {work}/out/uwsgi;
	scgi_temp_path {work}/out/scgi;
	keepalive_requests 1000000000;
	keepalive_timeout 300s;
	client_body_buffer_size 64k;
	ssl_certificate {work}/server.pem;
	ssl_certificate_key {work}/server.key;
	ssl_protocols TLSv1.3;
{servers}}}""")


main()
