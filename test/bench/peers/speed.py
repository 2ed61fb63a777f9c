"""The one table: rows per second, CPU, memory and latency of every line, in the same rounds.

Inside a round the lines take turns at each figure, so both sides of every ratio ran close together.
How many rows a line gets follows from how fast it was: about as many seconds for everybody.
"""
import contestants
import harness
import lines
from harness import QUICK, Figure, Figures, Noise, judge, number, print_table, rounds

DELAY_S = 0.2
IN_FLIGHT = (64, 256, 1000)
FAST_IN_FLIGHT = 16
CPU_AT = 256
CALLS = 200 if QUICK else 500
SECONDS = 2 if QUICK else 4          # of one measurement, roughly
WAVES = 4 if QUICK else 8            # rows = waves × in flight at most, over the slow upstream
FAST_ROWS = 3000 if QUICK else 12000
SHARES = {64: 97, 256: 95, 1000: 85}  # % of the ceiling that pgllm's statements must reach
OURS = "select"


class Race:
    """The lines, their figures, and what is known about how fast they are."""

    def __init__(self, contenders):
        self.lines = contenders
        self.figures = Figures()
        self.rate = {}
        self.failed = {}
        self.broken = {}

    def attempt(self, line, where, action):
        """Run action().  A rival that breaks is out of that figure, and begins anew for the next."""
        if (line.key, where) in self.broken:
            return None
        try:
            return action()
        except (RuntimeError, OSError, KeyError, ValueError) as error:
            if line.kind == "ours":
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:120]
            self.broken[line.key, where] = reason
            print(f"{line.title}: fails at {where}: {reason}", flush=True)
            line.end()
            line.begin()
            return None

    def rows_for(self, line, upstream, in_flight):
        low, high = (200, FAST_ROWS) if upstream == "fast" else (in_flight, WAVES * in_flight)
        if not line.concurrent:
            low, high = (50, 1000) if upstream == "fast" else (5, 10)
        rate = self.rate.get((line.key, upstream, in_flight))
        if rate is None:
            known = [self.rate[key] for key in self.rate if key[0] == line.key]
            rate = max(known, default=0)
        return max(low, min(high, int(rate * SECONDS)))

    def measure(self, line, upstream, in_flight):
        # Sessions of its own: a thousand kept connections of the figure before are not its business.
        line.end()
        line.begin()
        warm = in_flight if line.concurrent else 2
        weigh = upstream == "slow" and in_flight == CPU_AT
        memory_kb = 0
        if isinstance(line, lines.SqlLine):
            memory_kb = line.sample(upstream, in_flight, 2 * warm if weigh else warm, weigh).memory_kb
        sample = line.sample(upstream, in_flight, self.rows_for(line, upstream, in_flight))
        if sample.failed == sample.rows:
            raise RuntimeError("every call failed")
        self.rate[line.key, upstream, in_flight] = sample.rate
        self.note(line, upstream, in_flight, sample)
        if weigh:
            self.figures["memory", line.key].add((memory_kb or sample.memory_kb) / 1024)

    def note(self, line, upstream, in_flight, sample):
        answered = sample.rows - sample.failed
        key = line.key, upstream, in_flight
        self.figures["rate", *key].add(sample.rate)
        self.figures["caller", *key].add(sample.caller_us / answered)
        self.figures["all", *key].add(sample.all_us / answered)
        if sample.failed:
            self.failed[line.key] = self.failed.get(line.key, 0) + sample.failed

    def latencies(self):
        for percentile, value in zip(("p50", "p99"), lines.direct_latency(CALLS)):
            self.figures[percentile, "direct"].add(value)
        for line in self.lines:
            found = self.attempt(line, "single calls", lambda: line.serial(CALLS))
            for percentile, value in zip(("p50", "p99"), found or ()):
                self.figures[percentile, line.key].add(value)

    def one_round(self, _):
        try:
            for line in self.lines:
                line.begin()
            self.latencies()
            for upstream, in_flight in self.courses():
                for line in self.lines:
                    if line.concurrent or in_flight in (FAST_IN_FLIGHT, IN_FLIGHT[0]):
                        self.attempt(line, course_name(upstream, in_flight),
                                     lambda: self.measure(line, upstream, in_flight))
        finally:
            for line in self.lines:
                line.end()

    @staticmethod
    def courses():
        return [("fast", FAST_IN_FLIGHT), *(("slow", n) for n in IN_FLIGHT)]

    def figure(self, what, line, upstream, in_flight):
        """Who keeps one call in flight is as fast at every window."""
        if not line.concurrent and upstream == "slow":
            in_flight = IN_FLIGHT[0]
        return self.figures[what, line.key, upstream, in_flight]

    def ratio(self, what, line, upstream, in_flight, ours):
        return self.figure(what, ours, upstream, in_flight).over(
            self.figure(what, line, upstream, in_flight))


def course_name(upstream, in_flight):
    return f"{0 if upstream == 'fast' else 200} ms, {in_flight} in flight"


def times(figure):
    return number(figure.median) + "×" if figure.values else "–"


def rate_cell(race, line, upstream, in_flight, ours):
    figure = race.figure("rate", line, upstream, in_flight)
    if not figure.values:
        return "fails" if (line.key, course_name(upstream, in_flight)) in race.broken else "–"
    text = number(figure.median)
    if upstream == "slow":
        text += f" ({number(100 * figure.median * DELAY_S / in_flight)} %)"
    if line is not ours:
        text += ", " + times(race.ratio("rate", line, upstream, in_flight, ours))
    return text


def cpu_cell(race, line, ours):
    course = ("slow", CPU_AT)
    caller, everybody = (race.figure(what, line, *course) for what in ("caller", "all"))
    if not caller.values:
        return "–"
    text = f"{number(caller.median)} / {number(everybody.median)}"
    if line is not ours:
        ratio = race.figure("all", line, *course).over(race.figure("all", ours, *course))
        text += ", " + times(ratio)
    return text


def latency_cell(race, line, percentile):
    figure = race.figures[percentile, line.key]
    if not figure.values:
        return "–"
    return number(figure.minus(race.figures[percentile, "direct"]).median)


def line_row(race, line, ours):
    memory = race.figures["memory", line.key]
    title = line.title + ("" if line.concurrent else " [1 in flight]")
    return [title, *(rate_cell(race, line, "slow", n, ours) for n in IN_FLIGHT),
            rate_cell(race, line, "fast", FAST_IN_FLIGHT, ours), cpu_cell(race, line, ours),
            latency_cell(race, line, "p50"), latency_cell(race, line, "p99"),
            number(memory.median) if memory.values else "–"]


def print_race(race, ours, missing):
    rows = [line_row(race, line, ours) for line in race.lines]
    rows += [[name, "left out: " + reason] + ["–"] * 7 for name, reason in missing.items()]
    direct = [race.figures[percentile, "direct"] for percentile in ("p50", "p99")]
    note = ("rows/s (% of the ceiling, in flight ÷ 0.2 s), and how many times as fast pgllm's SELECT is.\n"
            "CPU of the backend or client / with the gateway, or the writer of pgllm's ledger; and "
            "its ratio to pgllm's SELECT.\n"
            f"Latency at 0 ms, over a plain call of libcurl: p50 {direct[0]}, p99 {direct[1]} µs.\n"
            f"Memory (Pss, of programs RSS) at {CPU_AT} in flight, gateway included.")
    if race.failed:
        note += "\nCalls that failed: " + ", ".join(
            f"{line.title} {race.failed[line.key]}" for line in race.lines if line.key in race.failed)
    print_table("(s1) The same rows, everybody",
                ["line", *(course_name("slow", n) for n in IN_FLIGHT),
                 course_name("fast", FAST_IN_FLIGHT), f"CPU µs/row ({CPU_AT})", "added p50 µs",
                 "added p99 µs", "MB"], rows, note)


def print_spread(race):
    rows = [[line.title, *(race.figures["rate", line.key, *course] for course in race.courses()),
             race.figure("all", line, "slow", CPU_AT)]
            for line in race.lines]
    print_table("(s2) Spread over the rounds: rows/s, and CPU µs per row",
                ["line", f"0 ms, {FAST_IN_FLIGHT}", *(f"200 ms, {n}" for n in IN_FLIGHT),
                 f"CPU ({CPU_AT})"], rows)


# ---- targets ----

def judge_statement(race, line, bare):
    for n, share in SHARES.items():
        def of_ceiling(contender):
            return race.figure("rate", contender, "slow", n).scaled(100 * DELAY_S / n)
        judge(f"{line.title}: 200 ms, {n} in flight, % of ceiling", share, of_ceiling(line),
              at_most=False, rival=of_ceiling(bare))
    judge(f"{line.title}: CPU per row at {CPU_AT} in flight ÷ bare", 1.3,
          race.figure("caller", line, "slow", CPU_AT).over(race.figure("caller", bare, "slow", CPU_AT)))
    judge(f"{line.title}: 0 ms, {FAST_IN_FLIGHT} in flight, rows/s", 10_000,
          race.figure("rate", line, "fast", FAST_IN_FLIGHT), at_most=False,
          rival=race.figure("rate", bare, "fast", FAST_IN_FLIGHT))


def worst(ratios, choose):
    """Round by round, the figure at which we look worst."""
    ratios = [ratio.values for ratio in ratios if ratio.values]
    return Figure(choose(values) for values in zip(*ratios))


def judge_rival(race, line, ours):
    judge(f"rows/s ÷ {line.title}, worst of {len(race.courses())}", 1,
          worst([race.ratio("rate", line, *course, ours) for course in race.courses()], min),
          at_most=False)
    judge(f"CPU per row ÷ {line.title}, worst of {len(race.courses())}", 1,
          worst([race.ratio("all", line, *course, ours) for course in race.courses()], max))


def main(missing):
    race = Race(contestants.all_lines(missing))
    noise = Noise()
    try:
        rounds(noise, race.one_round)
    finally:
        contestants.stop_gateways()
    by_key = {line.key: line for line in race.lines}
    ours = by_key[OURS]
    print_race(race, ours, missing)
    print_spread(race)
    print("\n" + str(noise))
    for key in (OURS, "insert"):
        judge_statement(race, by_key[key], by_key["bare"])
    for line in race.lines:
        if line.kind == "rival":
            judge_rival(race, line, ours)
