#!/usr/bin/env python3
"""The judge itself: what it takes for passed, failed and explained."""
import pathlib
import tempfile
import types
import unittest

import judge

DIFF = """diff -U3 /src/expected/window.out /out/results/window.out
--- /src/expected/window.out 2025-01-01
+++ /out/results/window.out 2025-01-02
@@ -10,3 +10,3 @@ SELECT
 SELECT 1;
-NOTICE:  a
 NOTICE:  b
+NOTICE:  a
@@ -20,3 +20,3 @@
 SELECT 2;
- 2
+ 3

"""
FIRST = "# notices come when the row is done\n@@\n SELECT 1;\n-NOTICE:  a\n NOTICE:  b\n+NOTICE:  a\n"
SECOND = "# wrong, but known\n@@ -1 +1 @@\n SELECT 2;\n- 2\n+ 3\n\n"


class JudgeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.addCleanup(setattr, judge, "HERE", judge.HERE)
        judge.HERE = self.folder / "explained"

    def write(self, path, text):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def explain(self, text):
        return judge.read_explained(self.write("entries.diff", text))

    def left(self, explained):
        hunks = judge.read_diffs(self.write("regression.diffs", DIFF))["window"]
        return judge.unexplained(hunks, self.explain(explained))

    def judge_part(self, log, diffs="", status="0\n", schedule="test: a window\n", finished="regress"):
        """Passed, failed and explained of a run in version 15, mode operators."""
        self.write("operators/regress/log", log)
        self.write("operators/regress/status", status)
        self.write("operators/regress/regression.diffs", diffs)
        self.write("operators/parts", finished)
        options = types.SimpleNamespace(
            version="15", results=self.folder, accept=False, parts=["regress"],
            schedules={"regress": self.write("schedule", schedule)})
        part, = judge.judge_mode(options, "operators")
        return part.passed, part.failed, part.explained

    def test_results_of_both_formats(self):
        old = self.write("old", "test a    ... ok   10 ms\nparallel group (3 tests):  b c d\n"
                         "     b     ... FAILED (test process exited with exit code 2)   3 ms\n"
                         "     c     ... failed (ignored)   3 ms\n     d ... diff: x FAILED\n")
        self.assertEqual(judge.read_results(old), {"a": True, "b": False, "c": True})
        new = self.write("new", "ok 1         - a      10 ms\n# parallel group (2 tests):  b c\n"
                         "not ok 2     + b       3 ms\n# (test process exited with exit code 2)\n"
                         "ok 3     + c   3 ms\n1..3\n")
        self.assertEqual(judge.read_results(new), {"a": True, "b": False, "c": True})

    def test_same_hunks_are_explained(self):
        self.assertEqual(self.left(FIRST + SECOND), [])

    def test_another_hunk_is_not(self):
        self.assertEqual(len(self.left(FIRST)), 1)
        self.assertEqual(len(self.left(FIRST + SECOND.replace("+ 3", "+ 4"))), 1)
        self.assertEqual(len(self.left(FIRST + SECOND.replace("SELECT 2", "SELECT 4"))), 1)

    def test_a_question_mark_explains_nothing(self):
        self.assertEqual(len(self.left("# ?\n" + FIRST.split("\n", 1)[1] + SECOND)), 1)

    def test_moved_lines(self):
        self.assertEqual(self.left("# any order\nmoved: ^NOTICE:\n" + SECOND), [])
        self.assertEqual(len(self.left("# any order\nmoved: ^WARNING:\n" + SECOND)), 1)
        # lines that change do not move
        self.assertEqual(len(self.left(FIRST + "# any order\nmoved: ^ \\d\n")), 1)

    def test_changed_lines(self):
        self.assertEqual(self.left(FIRST + "# any number\nchanged: ^ \\d$\n"), [])
        self.assertEqual(len(self.left(FIRST + "# any number\nchanged: ^ 2$\n")), 1)

    def test_entries_need_a_reason(self):
        for text in (FIRST.split("\n", 1)[1], FIRST + "moved: x\n", "what is this\n"):
            with self.assertRaises(SystemExit):
                self.explain(text)

    def test_folders(self):
        for i, folder in enumerate(("all/all", "15/all", "all/operators", "15/operators", "17/operators",
                                    "15/functions")):
            self.write(f"explained/{folder}/regress/a.diff", f"# {i}\nmoved: x\n")
        found = judge.explained_for("15", "operators", "regress", "a")
        self.assertEqual([entry.reason for entry in found], ["0", "2", "1", "3"])

    def test_a_part(self):
        good = "test a ... ok 1 ms\n"
        self.assertEqual(self.judge_part(good + "test window ... ok 1 ms\n"), (2, 0, 0))
        failed = good + "test window ... FAILED 1 ms\n"
        self.assertEqual(self.judge_part(failed, DIFF, "1\n"), (1, 1, 0))
        self.write("explained/15/operators/regress/window.diff", FIRST + SECOND)
        self.assertEqual(self.judge_part(failed, DIFF, "1\n"), (1, 0, 1))
        # no difference, though it failed: it broke off
        self.assertEqual(self.judge_part(failed, "", "1\n"), (1, 1, 0))

    def test_what_did_not_run_has_failed(self):
        good = "test a ... ok 1 ms\ntest window ... ok 1 ms\n"
        self.assertEqual(self.judge_part(""), (0, 1, 0))
        self.assertEqual(self.judge_part("test a ... ok 1 ms\n"), (1, 1, 0))
        self.assertEqual(self.judge_part(good, status="2\n"), (2, 1, 0))
        self.assertEqual(self.judge_part(good, finished=""), (2, 1, 0))

    def test_the_servers_log(self):
        good = "test a ... ok 1 ms\ntest window ... ok 1 ms\n"
        self.write("operators/server.log", "TRAP: failed Assert(\"x\"), File: \"y.c\"\n")
        self.assertEqual(self.judge_part(good), (2, 1, 0))
        self.write("operators/server.log", "WARNING:  you don't own a lock of type ShareLock\n"
                   "STATEMENT:  -- WARNING leak\n")
        self.assertEqual(self.judge_part(good), (2, 0, 0))


if __name__ == "__main__":
    unittest.main(buffer=True)
