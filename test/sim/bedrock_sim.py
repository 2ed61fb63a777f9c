#!/usr/bin/env python3
"""A stand-in for Amazon Bedrock's runtime API: entry point and command line.

Owns: the process: arguments, listening sockets, ready file, signals, end.
Python standard library only; one process, one thread, one event loop.
See README.md for what is simulated and dataplane.py for where to start reading.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import signal
import ssl
import sys
from pathlib import Path

import config as configuration
from config import ConfigError
from control import ControlPlane
from dataplane import DataPlane
from http_server import HttpServer

DEFAULT_MAX_SECONDS = 86_400
GC_THRESHOLD = 50_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Simulator of the Amazon Bedrock runtime API, "
                                                 "on 127.0.0.1 only.")
    parser.add_argument("--port", type=int, default=0, help="data plane, 0 = any (default)")
    parser.add_argument("--control-port", type=int, default=0, help="control plane, 0 = any")
    parser.add_argument("--tls-port", type=int, help="data plane over TLS, 0 = any")
    parser.add_argument("--tls-cert", help="PEM certificate chain, needed with --tls-port")
    parser.add_argument("--tls-key", help="PEM key, needed with --tls-port")
    parser.add_argument("--config", type=Path, help="JSON; its sections replace the built-in ones")
    parser.add_argument("--ready-file", type=Path, help="written when all ports listen")
    parser.add_argument("--max-seconds", type=float, default=DEFAULT_MAX_SECONDS,
                        help="end of life, default one day")
    arguments = parser.parse_args()
    if arguments.tls_port is not None and not (arguments.tls_cert and arguments.tls_key):
        parser.error("--tls-port needs --tls-cert and --tls-key")
    return arguments


def read_config(path: Path | None) -> configuration.Config:
    return configuration.load(json.loads(path.read_text(encoding="utf-8")) if path else {})


def tune_process() -> None:
    """Room for thousands of connections; fewer garbage collections, as the log
    is large, lives long and holds no cycles."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def tls_context(arguments: argparse.Namespace) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def announce(ports: dict[str, int | None], ready_file: Path | None) -> None:
    """Tell the world, atomically: a reader sees the whole file or none."""
    text = json.dumps({"pid": os.getpid(), **ports})
    if ready_file:
        draft = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(ready_file)
    print(f"bedrock_sim ready {text}", flush=True)


async def serve(arguments: argparse.Namespace, config: configuration.Config) -> None:
    data_plane = DataPlane(config)
    data_server = HttpServer(data_plane.handle)
    data_server.clock_offset_s = config.clock_offset_s
    control_server = HttpServer(ControlPlane(data_plane, data_server).handle)
    ports = {"port": await data_server.listen(arguments.port),
             "control_port": await control_server.listen(arguments.control_port),
             "tls_port": None}
    if arguments.tls_port is not None:
        ports["tls_port"] = await data_server.listen(arguments.tls_port, tls_context(arguments))
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.call_later(arguments.max_seconds, ended.set)
    tune_process()
    announce(ports, arguments.ready_file)
    await ended.wait()


def main() -> int:
    arguments = parse_arguments()
    try:
        config = read_config(arguments.config)
    except (ConfigError, OSError, ValueError) as error:
        print(f"bedrock_sim: {error}", file=sys.stderr)
        return 2
    asyncio.run(serve(arguments, config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
