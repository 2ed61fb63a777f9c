"""Run the benchmarks named on the command line and compare with the targets.  Started by `run`."""
import os
import subprocess
import sys

import harness
from harness import print_table


def set_up():
    variables = {name: os.environ[name.upper()] for name in
                 ("fast", "slow", "long", "tls_fast", "tls_slow", "tls_long", "tls_close")}
    variables["sim"] = harness.simulator()["port"]
    variables["rounds"] = harness.ROUNDS
    command = harness.psql_command("-f", os.path.dirname(os.path.abspath(__file__)) + "/setup.sql")
    for name, value in variables.items():
        command += ["-v", f"{name}={value}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def print_machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(": ")[1].strip() for line in file if "model name" in line), "?")
    version = subprocess.run([harness.BINDIR + "/postgres", "--version"], capture_output=True,
                             text=True).stdout.strip()
    print(f"{os.cpu_count()} × {model}; {version}; {harness.ROUNDS} rounds; "
          "figures are median (min–max).")
    print("Client, upstream, server and other users of the machine share these cores: read ratios, "
          "not absolutes.")
    with harness.Session() as session:
        print("Settings: " + ", ".join(f"{name} = {value}" for name, value in session.run(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = 'fsync' OR "
            "(name LIKE 'pgllm.%' AND (source NOT IN ('default') OR name LIKE 'pgllm.ledger%')) "
            "AND name !~ 'file|directory' ORDER BY name")) + ".")


def main():
    set_up()
    print_machine()
    for section in sys.argv[1:]:
        __import__(section).main()
    print_table("Targets", ["what", "target", "measured", "measured ÷ target", "verdict"],
                harness.verdicts)


main()
