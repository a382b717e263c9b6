#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts the test cases in a meson testlog.json, shows what failed or was skipped, ends with "N passed, N failed"."""
import json
import re
import sys

CASE = re.compile(r"^(not )?ok\b(?! *\d* *# SKIP)", re.MULTILINE)
SKIP = re.compile(r"^ok\b *\d* *# SKIP", re.MULTILINE)
SKIPPED = re.compile(r"^1\.\.0 *# SKIP *(.*)", re.MULTILINE)
PLAN = re.compile(r"^1\.\.(\d+)", re.MULTILINE)
GOOD = ("OK", "EXPECTEDFAIL")


def why_skipped(program):
    """Why the whole program was skipped, or None."""
    reason = SKIPPED.search(program.get("stdout") or "")
    return reason.group(1) if reason and program["result"] == "SKIP" else None


def tally(program):
    """(passed, failed) of one test program; a program that ended badly in any way has at least one failure."""
    text = program.get("stdout") or ""
    marks = CASE.findall(text)
    failed = sum(1 for mark in marks if mark)
    passed = len(marks) - failed
    plan = PLAN.search(text)
    planned = int(plan.group(1)) if plan else 0
    failed += max(0, planned - len(marks) - len(SKIP.findall(text)))
    if failed == 0 and (program["result"] not in GOOD or not marks):
        failed = 1
    return passed, failed


def main():
    passed = failed = 0
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        programs = [json.loads(line) for line in log if line.strip()]
    for program in programs:
        reason = why_skipped(program)
        if reason is not None:
            print(f"==== {program['name']} was skipped: {reason}")
            continue
        good, bad = tally(program)
        passed += good
        failed += bad
        if bad:
            print(f"==== {program['name']}: {program['result']}")
            for stream in ("stdout", "stderr"):
                for line in (program.get(stream) or "").splitlines():
                    if stream == "stderr" or not line.startswith("ok "):
                        print("  " + line)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
