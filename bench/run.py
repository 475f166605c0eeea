#!/usr/bin/env python3
"""
Measures protofs against its limits and its rivals, interleaved. ./dev bench runs it.

Environment:
  PROTOFS            the program; default build/release/bin/protofs
  PROTOFS_BENCH_DIR  where the programs of bench/ were built; default build/release
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import mounts
import report
import rows
import rows_cloud

TOP = Path(__file__).resolve().parent.parent
TMPFS = ("tmpfs", "ramfs")
GROUPS = rows.GROUPS | rows_cloud.GROUPS
SETS = {"local": list(rows.GROUPS), "cloud": list(rows_cloud.GROUPS)}


def parse_args():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n\n")[0].strip())
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_true", help="a minute or two; noisier")
    scale.add_argument("--long", action="store_true", help="10 GiB stream, twice the rounds")
    parser.add_argument("--json", metavar="FILE", help="also write the results there")
    parser.add_argument("--dir", type=Path, default=TOP / "build" / "bench-tmp",
                        help="scratch directory on the disk to measure (default: build/bench-tmp)")
    parser.add_argument("--check", action="store_true",
                        help="exit 1 if a row misses what is wanted of it")
    parser.add_argument("rows", metavar="ROW", nargs="*",
                        help="only these groups (default: local): "
                             f"{', '.join(GROUPS)}; or all that are {' or '.join(SETS)}")
    args = parser.parse_args()
    args.rows = [row for name in args.rows or ["local"] for row in SETS.get(name, [name])]
    unknown = [name for name in args.rows if name not in GROUPS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)} (there are {', '.join([*SETS, *GROUPS])})")
    return args


def find_programs():
    built = Path(os.environ.get("PROTOFS_BENCH_DIR", TOP / "build" / "release"))
    if (built / "bin").is_dir():
        built = built / "bin"
    protofs = Path(os.environ.get("PROTOFS", built / "protofs"))
    return built.resolve(), protofs.resolve()


def make_bench(args):
    scale = "quick" if args.quick else "long" if args.long else "default"
    rounds, batch_ms = {"quick": (8, 150), "default": (20, 300), "long": (40, 500)}[scale]
    built, protofs = find_programs()
    args.dir.mkdir(parents=True, exist_ok=True)
    return rows.Bench(bin=built, protofs=protofs, dir=args.dir.resolve(), rounds=rounds,
                      batch_ms=batch_ms, scale=scale)


def measure(bench, name):
    try:
        return GROUPS[name](bench)
    except (mounts.BenchError, OSError, subprocess.SubprocessError, StopIteration) as error:
        return [report.Result(name, "", "", error=str(error) or type(error).__name__)]


def end_by_signal(number, _):
    """As Ctrl-C does: every mount and directory is cleaned up on the way out."""
    raise KeyboardInterrupt(number)


def main():
    args = parse_args()
    signal.signal(signal.SIGTERM, end_by_signal)
    bench = make_bench(args)
    about = report.machine(bench.dir)
    if about["file_system"] in TMPFS:
        print(f"bench: {bench.dir} is on {about['file_system']}: a flush costs nothing there, so that "
              "no row means anything; choose a directory on a disk with --dir", file=sys.stderr)
        return 2
    results = []
    for name in args.rows:
        print(f"# {name} ...", file=sys.stderr, flush=True)
        results += measure(bench, name)
    about["load_average_after"] = os.getloadavg()[0]
    print(report.table(results))
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    if args.json:
        Path(args.json).write_text(report.to_json(results, about), encoding="utf-8")
    failed = any(result.verdict == "FAILED" for result in results)
    missed = any(result.verdict == "MISS" for result in results)
    return 1 if failed or (missed and args.check) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
