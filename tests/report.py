#!/usr/bin/env python3
"""Sums up test runs: failures and skips with their reasons, then "N passed, N failed, N skipped".

usage: report.py RESULT...

A RESULT is PREFIX=FILE, FILE being what `ctest --output-junit` wrote, or
passed:NAME, failed:NAME:WHY, skipped:NAME:WHY, one outcome found elsewhere.

A test that cannot run prints "SKIP: <reason>" and exits 77; one that can run but for some of its cases
prints such a line for each. A skip without a reason is an error under CI=true, else a warning.
Exits 1 if anything failed, or nothing ran at all.
"""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree

SKIP_LINE = re.compile(r"^\s*SKIP: *(\S.*)$", re.MULTILINE)
# of Python's unittest: one line a case if it is verbose, and a sum at the end
UNITTEST_SKIP = re.compile(r"\.\.\. skipped ['\"](.+)['\"]$", re.MULTILINE)
UNITTEST_SUM = re.compile(r"^(?:OK|FAILED) \(.*\bskipped=(\d+)", re.MULTILINE)
NO_REASON = ""


class Report:
    def __init__(self):
        self.passed = []
        self.failed = []  # (name, why)
        self.skipped = []  # (name, why); why may be NO_REASON

    def add_outcome(self, argument):
        kind, name, why = (argument.split(":", 2) + [NO_REASON])[:3]
        if kind == "passed":
            self.passed.append(name)
        elif kind == "failed":
            self.failed.append((name, why))
        else:
            self.skipped.append((name, why))

    def add_junit(self, prefix, path):
        try:
            with open(path, "rb") as file:
                # A test may print any byte; XML allows few control characters.
                text = re.sub(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", b"?", file.read())
            cases = ElementTree.fromstring(text.decode("utf-8", "replace")).iter("testcase")
        except (OSError, ElementTree.ParseError) as error:
            self.failed.append((prefix, f"ctest left no usable report: {error}"))
            return
        for case in cases:
            self.add_case(f"{prefix}/{case.get('name')}", case)

    def add_case(self, name, case):
        output = case.findtext("system-out") or ""
        reasons = SKIP_LINE.findall(output) + UNITTEST_SKIP.findall(output)
        claimed = sum(int(count) for count in UNITTEST_SUM.findall(output))
        reasons += [NO_REASON] * (claimed - len(reasons))

        skip = case.find("skipped")
        status = case.get("status")
        if status == "run":
            self.passed.append(name)
        elif status == "notrun" and skip is not None and "SKIP_" in skip.get("message", ""):
            reasons = reasons or [NO_REASON]
        elif status == "disabled":
            reasons = [NO_REASON]
        else:
            last = output.strip().splitlines()[-1:] or ["no output"]
            self.failed.append((name, last[0]))
        self.skipped += [(name, reason) for reason in reasons]

    def print(self):
        for name, why in self.skipped:
            print(f"SKIPPED  {name}: {why or 'no reason given'}")
        for name, why in self.failed:
            print(f"FAILED   {name}: {why}" if why else f"FAILED   {name}")
        print(
            f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"
        )


def main(arguments):
    report = Report()
    for argument in arguments:
        if re.match(r"(passed|failed|skipped):", argument):
            report.add_outcome(argument)
        else:
            report.add_junit(*argument.split("=", 1))

    unexplained = [name for name, why in report.skipped if why == NO_REASON]
    if unexplained and os.environ.get("CI") == "true":
        report.failed += [(name, "skipped without a reason") for name in unexplained]
    if not report.passed and not report.failed:
        report.failed.append(("all", "not one test ran"))
    report.print()
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
