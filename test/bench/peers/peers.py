"""Run the sections named on the command line, then hold pgllm against its targets.  Started by `run`."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import harness  # noqa: E402  (it is in the folder above)
import processes  # noqa: E402
from harness import print_table  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


def left_out():
    """Rivals that could not be had, with the reason."""
    try:
        with open(harness.WORK + "/left-out") as file:
            return dict(line.rstrip("\n").split("\t", 1) for line in file)
    except FileNotFoundError:
        return {}


def set_up(missing):
    for name in ("setup.sql", "plpython.sql"):
        if name == "plpython.sql" and "plpython" in missing:
            continue
        command = harness.psql_command("-f", f"{HERE}/{name}")
        for variable in ("fast", "slow", "tls_slow"):
            command += ["-v", f"{variable}={harness.port(variable)}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if "http" not in missing:
        with harness.Session() as session:
            session.run("CREATE EXTENSION http")


def print_machine(missing):
    with open("/proc/cpuinfo") as file:
        model = next((line.split(": ")[1].strip() for line in file if "model name" in line), "?")
    with harness.Session() as session:
        versions = dict(session.run("SELECT extname, extversion FROM pg_extension"))
        server = session.run("SHOW server_version")[0][0]
    rivals = {"pgsql-http": versions.get("http"),
              "LiteLLM": "litellm" not in missing and os.environ["PEERS_LITELLM_VERSION"],
              "Portkey": "portkey" not in missing and os.environ["PEERS_PORTKEY_VERSION"]}
    print(f"{os.cpu_count()} × {model}; PostgreSQL {server}; pgllm {versions['pgllm']}; "
          + "; ".join(f"{name} {version}" for name, version in rivals.items() if version)
          + f"; {harness.ROUNDS} rounds.")
    print("Client, upstream, server and other users of the machine share these cores: read ratios, "
          "not absolutes.")
    for name, reason in missing.items():
        print(f"left out: {name}: {reason}")
    sys.stdout.flush()


def leave(*unused):
    """Once: `timeout` says it twice, and the second must not break the cleaning up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def main():
    signal.signal(signal.SIGTERM, leave)
    processes.raise_file_limit()
    missing = left_out()
    try:
        set_up(missing)
        print_machine(missing)
        for section in sys.argv[1:]:
            __import__(section).main(missing)
        if harness.verdicts:
            print_table("Targets", ["what", "target", "measured", "measured ÷ target", "verdict"],
                        harness.verdicts)
    finally:
        processes.stop_all()


main()
