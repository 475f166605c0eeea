"""From raw samples to ratios, verdicts, a table and JSON."""

import json
import os
import platform
import shutil
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Result:
    """One line of the table."""
    row: str
    what: str
    unit: str                  # "ratio", "s", "ms", "MiB", "KiB", "/s"
    value: float | None = None  # the median
    p10: float | None = None
    p90: float | None = None
    limit: float | None = None  # the contract's figure; None: shown for information
    at_most: bool = False       # the limit is a ceiling, not a floor
    samples: int = 0
    rates: dict = field(default_factory=dict)  # side -> median operations a second
    note: str = ""
    error: str = ""

    @property
    def verdict(self):
        if self.error:
            return "FAILED"
        if self.limit is None:
            return "-"
        met = self.value <= self.limit if self.at_most else self.value >= self.limit
        return "ok" if met else "MISS"


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def parse_samples(text):
    """row -> side -> list of rates by round; and the list of single values."""
    rates, values = {}, []
    for line in text.splitlines():
        sample = json.loads(line)
        if "value" in sample:
            values.append(sample)
            continue
        sides = rates.setdefault(sample["row"], {})
        sides.setdefault(sample["side"], {})[sample["round"]] = sample["ops"] / sample["seconds"]
    return rates, values


def median_rates(sides):
    return {side: statistics.median(rounds.values()) for side, rounds in sides.items()}


def ratio(row, what, sides, subject, rivals, limit=None, choose=None):
    """
    SUBJECT's rate divided by a rival's, round by round. Of several RIVALS the one is taken whose median
    rate CHOOSE (min: the slowest, max: the fastest) picks.
    """
    medians = median_rates(sides)
    rival = (choose or min)(rivals, key=lambda side: medians[side])
    ratios = [rate / sides[rival][n] for n, rate in sides[subject].items()]
    return Result(row, what, "ratio", statistics.median(ratios), percentile(ratios, 0.1),
                  percentile(ratios, 0.9), limit, samples=len(ratios), rates=medians,
                  note=f"against {rival}")


def figure(row, what, unit, values, limit=None, at_most=True, note=""):
    return Result(row, what, unit, statistics.median(values), percentile(values, 0.1),
                  percentile(values, 0.9), limit, at_most, len(values), note=note)


def text_of(value, unit):
    if value is None:
        return ""
    if unit == "/s":
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def table(results):
    head = ("row", "what", "median", "p10-p90", "wanted", "verdict", "rates a second (noisy)")
    lines = [head]
    for r in results:
        wanted = "" if r.limit is None else f"{'<=' if r.at_most else '>='} {text_of(r.limit, r.unit)}"
        spread = "" if r.p10 is None else f"{text_of(r.p10, r.unit)}-{text_of(r.p90, r.unit)}"
        median = text_of(r.value, r.unit)
        if r.value is not None and r.unit != "ratio":
            median += " " + r.unit
        rates = ", ".join(f"{side} {rate:,.0f}" for side, rate in r.rates.items())
        tail = "; ".join(part for part in (r.error, r.note, rates) if part)
        lines.append((r.row, r.what, median, spread, wanted, r.verdict, tail))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head) - 1)]
    out = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths)]
        out.append("  ".join([*cells, line[-1]]).rstrip())
    return "\n".join(out)


def file_system(path):
    """The type of the file system that PATH is on."""
    best, kind = "", "unknown"
    with open("/proc/self/mounts", encoding="utf-8") as lines:
        for line in lines:
            _, point, name = line.split()[:3]
            inside = str(path) == point or str(path).startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, name
    return kind


def machine(path):
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(),
            "file_system": file_system(path), "disk_free_gib": shutil.disk_usage(path).free >> 30,
            "load_average": os.getloadavg()[0]}


def to_json(results, about):
    rows = [{**asdict(result), "verdict": result.verdict} for result in results]
    return json.dumps({"machine": about, "rows": rows}, indent=2) + "\n"
