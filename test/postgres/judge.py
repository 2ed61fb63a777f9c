#!/usr/bin/env python3
"""Which of PostgreSQL's tests passed, and are the differences of the others explained?

Started by test/run/postgres-suites, which leaves for each mode and part:

    RESULTS/MODE/PART/log               what pg_regress printed
    RESULTS/MODE/PART/status            its exit status
    RESULTS/MODE/PART/regression.diffs  the differences, as `diff -U3` shows them
    RESULTS/MODE/server.log

Prints a line for each mode and part, unexplained differences before it, and "N passed, N failed" at the
end; the status is 1 if anything failed.  README.md has the format of explained differences.
"""
import argparse
import collections
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
UNEXPLAINED = "?"
SHOWN_LINES = 200

# "test foo ... ok 12 ms", "     foo ... FAILED 12 ms"; from 16 on "ok 3  + foo 12 ms"
OLD_RESULT = re.compile(r"(?:test|    ) +(\S+) +\.\.\. (ok|FAILED|failed)(?: \((ignored)\))?")
NEW_RESULT = re.compile(r"(ok|not ok) +\d+ +[-+] (\S+)")
# What no test has to show, and none of them provokes.
BAD_LOG = re.compile(r"^TRAP:|PANIC:|was terminated by signal|WARNING:.*(leak|not closed|still active|"
                     r"problem in alloc|past chunk end|still referenced)")


class Explained:
    """One entry of a file of explained differences: a hunk, or which lines may move or change."""

    def __init__(self, reason, hunk=None, moved=None, changed=None):
        self.reason = reason
        self.hunk = hunk
        self.moved = moved
        self.changed = changed
        self.seen = False


# ---- reading ----

def normal(line):
    """Line numbers, and blanks at the end, say nothing about the difference."""
    return "@@" if line.startswith("@@") else line.rstrip()


def read_hunks(lines):
    """Hunks of the lines of one diff, as tuples that begin with "@@"."""
    hunks = []
    for line in lines:
        if line.startswith("@@"):
            hunks.append([normal(line)])
        elif hunks:
            hunks[-1].append(normal(line))
    return [tuple(hunk) for hunk in hunks]


def read_diffs(path):
    """{test: hunks} of a regression.diffs."""
    tests = collections.defaultdict(list)
    test = None
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("diff "):
                test = pathlib.Path(line.split()[-1]).stem
            elif test:
                tests[test].append(line)
    return {test: read_hunks(lines) for test, lines in tests.items()}


def read_results(path):
    """{test: passed} of what pg_regress printed."""
    results = {}
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            if match := OLD_RESULT.match(line):
                results[match[1]] = match[2] == "ok" or match[3] == "ignored"
            elif match := NEW_RESULT.match(line):
                results[match[2]] = match[1] == "ok"
    return results


def read_schedule(path):
    lines = path.read_text().splitlines()
    return [test for line in lines if line.startswith("test:") for test in line[5:].split()]


def read_explained(path):
    """Entries of one file.  Whatever is not of the format is an error, not a comment."""
    entries = []
    reason = ""
    fresh = True
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#"):
            reason = line[1:].strip() if fresh or not reason else reason + " " + line[1:].strip()
            fresh = False
            continue
        if line.startswith(("@@", "moved:", "changed:")):
            if fresh or not reason:
                raise SystemExit(f"{path}:{number}: this entry has no reason above it")
            kind, _, pattern = line.partition(":")
            if line.startswith("@@"):
                entries.append(Explained(reason, hunk=[normal(line)]))
            else:
                entries.append(Explained(reason, **{kind: re.compile(pattern.strip())}))
        elif entries and entries[-1].hunk and not line.startswith(tuple("=<>")):
            entries[-1].hunk.append(normal(line))
        elif line.strip():
            raise SystemExit(f"{path}:{number}: neither a reason, a hunk, moved: nor changed:")
        fresh = True
    for entry in entries:
        if entry.hunk:
            entry.hunk = tuple(entry.hunk)
    return entries


def explained_for(version, mode, part, test):
    """What is explained for a test: for all versions or this one, for all modes or this one."""
    entries = []
    for version_folder in ("all", version):
        for mode_folder in ("all", mode):
            path = HERE / version_folder / mode_folder / part / (test + ".diff")
            if path.exists():
                entries += read_explained(path)
    return entries


# ---- judging ----

def changes(hunk, sign):
    return [line[1:] for line in hunk if line.startswith(sign)]


def all_matched(hunks, kind, entries, same):
    """Hunks all of whose changed lines match an entry of this kind, if what is gone is there again."""
    entries = [entry for entry in entries if getattr(entry, kind)]

    def matched(hunk):
        return all(any(getattr(entry, kind).search(line) for entry in entries)
                   for line in changes(hunk, "-") + changes(hunk, "+"))
    found = [hunk for hunk in hunks if matched(hunk)]
    gone = [line for hunk in found for line in changes(hunk, "-")]
    if not found or not same(gone, [line for hunk in found for line in changes(hunk, "+")]):
        return []
    for entry in entries:
        entry.seen = entry.seen or any(getattr(entry, kind).search(line) for line in gone)
    return found


def unexplained(hunks, entries):
    """The hunks that no entry explains.

    A hunk must be the same as an explained one, line by line.  Lines that an entry allows to move must
    all be there again, and of those that may change there must be as many.
    """
    entries = [entry for entry in entries if entry.reason != UNEXPLAINED]
    left = []
    for hunk in hunks:
        known = [entry for entry in entries if entry.hunk == hunk]
        for entry in known:
            entry.seen = True
        if not known:
            left.append(hunk)
    for kind, same in (("moved", lambda gone, come: sorted(gone) == sorted(come)),
                       ("changed", lambda gone, come: len(gone) == len(come))):
        found = all_matched(left, kind, entries, same)
        left = [hunk for hunk in left if hunk not in found]
    return left


def accept(version, mode, part, test, hunks):
    path = HERE / version / mode / part / (test + ".diff")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        for hunk in hunks:
            file.write(f"# {UNEXPLAINED}\n" + "\n".join(hunk) + "\n")
    print(f"{path}: {len(hunks)} hunks to be explained")


class Part:
    """One part of a mode: how many tests passed, failed, differ as explained."""

    def __init__(self, options, mode, part):
        self.options, self.mode, self.part = options, mode, part
        self.folder = options.results / mode / part
        self.passed = self.failed = self.explained = 0

    def fail(self, what):
        print(f"FAILED {self.mode} {self.part}: {what}")
        self.failed += 1

    def judge_test(self, test, passed, hunks):
        if passed:
            self.passed += 1
            return
        entries = explained_for(self.options.version, self.mode, self.part, test)
        left = unexplained(hunks, entries)
        if hunks and not left:
            self.explained += 1
            print(f"explained {self.mode} {self.part}: {test}: "
                  + "; ".join(dict.fromkeys(entry.reason for entry in entries if entry.seen)))
        else:
            self.fail(test if left else test + ", without a difference: did it end?")
            lines = [line for hunk in left for line in hunk]
            print("\n".join(lines[:SHOWN_LINES]))
            if len(lines) > SHOWN_LINES:
                print(f"... and {len(lines) - SHOWN_LINES} lines more")
            if self.options.accept and left:
                accept(self.options.version, self.mode, self.part, test, left)
        for entry in entries:
            if not entry.seen:
                print(f"not seen this time: {self.mode} {self.part}: {test}: {entry.reason}")

    def judge(self):
        results = read_results(self.folder / "log")
        diffs = read_diffs(self.folder / "regression.diffs")
        schedule = read_schedule(self.options.schedules[self.part])
        if not results:
            log = self.folder / "log"
            text = log.read_text(errors="replace") if log.exists() else "no output"
            self.fail("the suite did not run: " + text[-2000:])
            return
        for test in schedule:
            if test not in results:
                self.fail(test + " did not run")
        for test, passed in results.items():
            self.judge_test(test, passed, diffs.get(test, []))
        status = (self.folder / "status").read_text().strip() \
            if (self.folder / "status").exists() else "missing"
        if status != "0" and all(results.values()):
            self.fail(f"pg_regress ended with status {status}")

    def summary(self):
        return (f"{self.mode:10} {self.part:13} {self.passed:4} passed {self.failed:4} failed "
                f"{self.explained:4} explained")


def judge_mode(options, mode):
    """The parts of a mode, and what its server had to say."""
    parts = []
    finished = options.results / mode / "parts"
    finished = finished.read_text().split() if finished.exists() else []
    for name in options.parts:
        part = Part(options, mode, name)
        part.judge()
        if name not in finished and not part.failed:
            part.fail("the server or the mode was not what it should be, after all tests")
        parts.append(part)
    log = options.results / mode / "server.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    bad = [line for line in lines if BAD_LOG.search(line)]
    if bad:
        parts[-1].fail("the server's log says\n" + "\n".join(bad[:20]))
    return parts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", required=True, help="major version of the server")
    parser.add_argument("--results", required=True, type=pathlib.Path)
    parser.add_argument("--modes", required=True, type=str.split)
    parser.add_argument("--schedule", required=True, action="append", metavar="PART=FILE",
                        help="a part, and the tests that it must have run")
    parser.add_argument("--accept", action="store_true",
                        help="write what is unexplained into this folder, to be explained")
    options = parser.parse_args()
    options.schedules = {part: pathlib.Path(path) for part, path in
                         (text.split("=", 1) for text in options.schedule)}
    options.parts = list(options.schedules)
    parts = [part for mode in options.modes for part in judge_mode(options, mode)]
    print(f"\nPostgreSQL {options.version}'s own tests")
    for part in parts:
        print(part.summary())
    failed = sum(part.failed for part in parts)
    print(f"{sum(part.passed + part.explained for part in parts)} passed, {failed} failed")
    return 1 if failed or not parts else 0


if __name__ == "__main__":
    sys.exit(main())
