"""The patterns of resilient inference and the test of over-admission, ours beside LiteLLM's.

resilience.py plays them; here is the order, the table and the verdicts.
"""
from collections import Counter

import processes
import resilience
from harness import QUICK, Figure, judge, print_table
from resilience import FLOOD_LIMIT, LITELLM_SETTINGS, PATTERNS

ROUNDS = 1 if QUICK else 5


def play_all(player):
    return {pattern.key: [player.play(pattern, number) for number in range(pattern.rounds or ROUNDS)]
            for pattern in PATTERNS}


def collect(missing):
    """Title of the player → pattern → outcomes."""
    simulator = resilience.Simulator(ROUNDS)
    found = {}
    try:
        found["pgllm"] = play_all(resilience.Pgllm(simulator))
        for title, settings in LITELLM_SETTINGS.items():
            if "litellm" in missing or (settings.get("redis") and "redis" in missing):
                continue
            try:
                player = resilience.LiteLLM(title, settings, simulator, ROUNDS)
            except (OSError, RuntimeError) as error:
                print(f"left out: {title}: {error}", flush=True)
                continue
            found[title] = play_all(player)
            player.stop()
    finally:
        processes.stop_all()
    return found


def as_text(counts):
    return " + ".join(str(count) for count in counts)


def is_right(pattern, outcome):
    return as_text(outcome.counts) == pattern.expected


def milliseconds(seconds):
    return Figure(1000 * value for value in seconds)


def pattern_rows(found):
    for pattern in PATTERNS:
        for title, outcomes in found.items():
            results = outcomes[pattern.key]
            right = sum(is_right(pattern, outcome) for outcome in results)
            seen = Counter(as_text(outcome.counts) for outcome in results)
            wrong = ", ".join(f"{text}{f' ({times}×)' if times > 1 else ''}"
                              for text, times in seen.most_common() if text != pattern.expected)
            yield [pattern.title if title == "pgllm" else "", title, pattern.expected,
                   f"{right} of {len(results)}", wrong or "–",
                   milliseconds(s for outcome in results for s in outcome.served),
                   milliseconds(s for outcome in results for s in outcome.refused)]


def main(missing):
    found = collect(missing)
    print_table(f"(p) Limits that bind, all calls at the same moment, {ROUNDS} rounds",
                ["pattern", "who", "expected", "right", "otherwise", "answered after ms",
                 "refused after ms"], list(pattern_rows(found)),
                "Requests that the upstream served; in 5, answers that A, B and C got. "
                "The upstream takes 60 to 100 ms.")
    for pattern in PATTERNS:
        ours = found["pgllm"][pattern.key]
        judge(f"limits, {pattern.key}: rounds that are right, %", 100,
              Figure([100 * sum(is_right(pattern, outcome) for outcome in ours) / len(ours)]),
              at_most=False)
    for title, outcomes in found.items():
        over = Figure(max(0, outcome.upstream - FLOOD_LIMIT)
                      for key in ("flood", "edge") for outcome in outcomes[key])
        if title == "pgllm":
            judge(f"requests over the limit of {FLOOD_LIMIT} that the upstream saw, worst round", 0,
                  Figure([max(over.values)]))
        else:
            print(f"{title}: at worst {max(over.values)} requests over the limit of {FLOOD_LIMIT}")
