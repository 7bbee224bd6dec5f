"""Tests of `day` and `pack` that need neither a GPU nor PyTorch:

python3 -m unittest discover -s kernels/gpu_check
"""

import contextlib
import io
import lzma
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import check_summary
import day_steps
import prebuilt
import session
import table

HERE = Path(__file__).resolve().parent


def python(code):
    return [sys.executable, "-c", code]


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class Steps(Folder):
    def run_steps(self, *steps, seconds=60):
        run = session.Session("test", self.folder, seconds)
        with contextlib.redirect_stdout(io.StringIO()):
            for step in steps:
                run.run(step)
        return run, (self.folder / "summary.md").read_text(), (self.folder / "log.txt").read_text()

    def test_a_step_that_fails_does_not_affect_the_next(self):
        run, summary, log = self.run_steps(
            session.Step("exits", 30, [python("import sys; sys.exit(3)")]),
            session.Step("crashes", 30, [python("import os; os.abort()")]),
            session.Step("does not exist", 30, [[self.folder / "nothing"]]),
            session.Step("works", 30, [python("print('it works')")]))
        self.assertEqual(run.failures, 3)
        for part in ["exit status 3", "signal SIGABRT", "No such file", "| works | ok |"]:
            self.assertIn(part, summary)
        self.assertIn("it works", log)

    def test_a_step_that_hangs_ends_with_its_children_and_keeps_what_it_wrote(self):
        pid = self.folder / "pid"
        child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
        code = f"import subprocess, sys; print('before', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
        start = time.monotonic()
        _, summary, log = self.run_steps(session.Step("hangs", 4, [python(code)]))
        self.assertLess(time.monotonic() - start, 20)
        self.assertIn("timed out", summary)
        self.assertIn("before", log)
        stat = Path(f"/proc/{pid.read_text()}/stat")
        deadline = time.monotonic() + 10
        while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertTrue(not stat.exists() or stat.read_text().split()[2] == "Z", "the child still runs")

    def test_no_step_starts_without_time(self):
        _, summary, _ = self.run_steps(session.Step("late", 30, [python("")]), seconds=1)
        self.assertIn("not run: no time left", summary)

    def test_a_step_says_what_is_missing(self):
        run, summary, _ = self.run_steps(session.Step("needs", 30, [[None]], ["no hammer", "no nail"]))
        self.assertIn("not run: no hammer; no nail", summary)
        self.assertEqual(run.failures, 0)

    def test_the_log_stays_small(self):
        code = "line = 'x' * 999\nfor _ in range(20000): print(line)"
        self.run_steps(session.Step("talks", 60, [python(code)]))
        self.assertLess((self.folder / "log.txt").stat().st_size, prebuilt.FILE_LIMIT)
        self.assertEqual(prebuilt.check_results(self.folder), [])


class Day(Folder):
    def day(self, part):
        environment = dict(os.environ, CUDA_VISIBLE_DEVICES="")
        command = [sys.executable, HERE / "day", "--prebuilt", self.folder / "empty", part, self.folder / "out"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def test_without_files_and_without_a_gpu_every_step_says_what_is_missing(self):
        for part in prebuilt.PARTS:
            result = self.day(part)
            self.assertEqual(result.returncode, 0, result.stderr)
            steps = [line for line in result.stdout.splitlines() if line.startswith("| ")]
            self.assertGreaterEqual(len(steps), 5)
            for step in steps:
                self.assertRegex(step, r"not run: .*(no PyTorch|no GPU)")
            self.assertEqual(prebuilt.check_results(self.folder / "out"), [])

    def test_each_part_fits_its_time(self):
        needs = day_steps.Needs(False, "", "", "", {}, self.folder, self.folder)
        limit = int(re.search(r"^SECONDS = (\d+)$", (HERE / "day").read_text(), re.MULTILINE).group(1))
        self.assertLessEqual(limit, 300)
        first, second = ([step.seconds for step in day_steps.PARTS[part](needs)] for part in prebuilt.PARTS)
        # The tests of the engine, last, get what the others leave.
        self.assertLessEqual(sum(first[:-1]), limit)
        self.assertLessEqual(sum(second), limit)

    def test_the_profiled_kernels_exist(self):
        sources = "\n".join(path.read_text() for path in (HERE.parent / "cuda").glob("*.cu*"))
        names = re.findall(r"__global__\s+void(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)", sources)
        self.assertLessEqual(set(day_steps.PROFILED), set(names))


class Packed(Folder):
    def test_files_are_unpacked_and_a_damaged_one_is_left_out(self):
        (self.folder / "good.so.xz").write_bytes(lzma.compress(b"12345"))
        (self.folder / "bad.so.xz").write_bytes(lzma.compress(b"12345" * 1000)[:-20])
        (self.folder / "target").mkdir()
        with contextlib.redirect_stdout(io.StringIO()):
            files = prebuilt.unpack(self.folder, self.folder / "target")
        self.assertEqual(list(files), ["good.so"])
        self.assertEqual(files["good.so"].read_bytes(), b"12345")
        self.assertTrue(os.access(files["good.so"], os.X_OK))

    def test_more_than_may_be_copied_is_an_error(self):
        self.assertIn("MiB", prebuilt.check_copied("first", self.folder))
        with open(self.folder / "large.xz", "wb") as file:
            file.truncate(prebuilt.COPIED_LIMIT)
        with self.assertRaisesRegex(SystemExit, "more than 62"):
            prebuilt.check_copied("first", self.folder)

    def test_what_is_packed_here_may_be_copied(self):
        for part in prebuilt.PARTS:
            prebuilt.check_copied(part)

    def test_more_than_may_come_back_is_reported(self):
        for name in [*"abcdefgh", "1/2/3/too_deep", "odd name"]:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        with open(self.folder / "a", "wb") as file:
            file.truncate(prebuilt.FILE_LIMIT + 1)
        wrong = "\n".join(prebuilt.check_results(self.folder))
        for part in ["10 files", "a has", "too deep", "odd name"]:
            self.assertIn(part, wrong)

    def test_test_binaries_find_the_repository(self):
        built_in = self.folder / "elsewhere" / "repository"
        (self.folder / "built_from.json").write_text(f'{{"commit": "", "repository": "{built_in}"}}')
        self.assertEqual(prebuilt.link_repository(self.folder), "")
        self.assertEqual(prebuilt.link_repository(self.folder / "none"), "")
        self.assertTrue((built_in / "Cargo.toml").exists())


class Results(Folder):
    def test_rows_that_were_cut_off_do_not_hide_the_others(self):
        path = self.folder / "checks.jsonl"
        good = {"kernel": "k", "dtype": "d", "case": "c", "ok": True, "error": 0.5}
        table.append(path, good)
        table.append(path, dict(good, ok=False, error=float("nan")))
        with open(path, "a") as file:
            file.write('{"kernel": "k", "dty')
        self.assertEqual(check_summary.summary(path)[2:], ["| k d | 2 | 1 | nan | c |"])


if __name__ == "__main__":
    unittest.main()
