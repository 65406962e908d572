"""Samples of the processes, and the verdict about them."""

import csv
import pathlib
import statistics

WARM_UP = 0.1  # of a process's life
# A value is flat if its median in the last quarter is at most this far above that of the first quarter.
LIMITS = {
    "rss_kib": lambda first: first * 1.10 + 4096,
    "pss_kib": lambda first: first * 1.10 + 4096,
    "descriptors": lambda first: first * 1.10 + 16,
    "threads": lambda first: first + 2,
}
LIMITS_IN_WORDS = "memory: 10% and 4 MiB more; descriptors: 10% and 16 more; threads: 2 more"
MIN_SAMPLES = 4
# How many different lines of the log are shown.
MAX_WARNINGS = 20


class Samples:
    """The measured values, also as a CSV file."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rows = path, []
        # The latest sample of each role, in words.
        self.last, self.progress = {}, ""
        self.file = path.open("w", newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerow(["seconds", "role", "pid", *LIMITS, "requests", "failures"])

    def add(self, seconds, role, pid, tally):
        measured = measure(pid)
        if measured is None:
            return
        self.rows.append((role, pid, measured))
        self.last[role] = f"{role} {shown(measured)}"
        self.progress = f"{seconds / 60:5.1f} min, {tally.total()} requests"
        values = ["" if measured[name] is None else measured[name] for name in LIMITS]
        self.writer.writerow([round(seconds), role, pid, *values, tally.total(), tally.failed()])
        self.file.flush()

    def show_last(self):
        if self.progress:
            print("; ".join([self.progress, *self.last.values()]), flush=True)

    def close(self):
        self.file.close()


def shown(measured):
    """The memory, descriptors and threads of one sample, in words."""
    memory = f"{measured['rss_kib'] / 1024:.1f} MiB resident"
    if measured["pss_kib"] is not None:
        memory += f", {measured['pss_kib'] / 1024:.1f} MiB PSS"
    descriptors = "" if measured["descriptors"] is None else f", {measured['descriptors']} descriptors"
    return f"{memory}{descriptors}, {measured['threads']} threads"


def measure(pid):
    """The values in `/proc` of a process. Only root reads PSS and descriptors: the roles are not dumpable."""
    process = pathlib.Path("/proc", str(pid))
    try:
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        measured = {"rss_kib": int(status["VmRSS"].split()[0]), "threads": int(status["Threads"])}
    except (OSError, KeyError):
        return None
    try:
        rollup = (process / "smaps_rollup").read_text().splitlines()
        measured["pss_kib"] = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        measured["descriptors"] = len(list((process / "fd").iterdir()))
    except (OSError, StopIteration):
        measured.setdefault("pss_kib", None)
        measured["descriptors"] = None
    return measured


def judge(samples, tally, origins, proxy, ended):
    """Prints the verdict, and returns whether it is good."""
    print(f"\nrequests: {tally.total()}, reloads: {proxy.reloads}, killed workers: {len(proxy.disturbances)}")
    for kind, count in sorted(tally.done.items()):
        print(f"  {kind:20} {count:9} served as expected")
    for (kind, why, has_cause), count in sorted(tally.failures.items()):
        print(f"  {kind:20} {count:9} {'a worker was killed' if has_cause else 'FAILED'}: {why}")
    print(f"log: {dict(proxy.levels)}, {proxy.lost} lines lost; warnings and errors:")
    for warning, count in proxy.warnings.most_common(MAX_WARNINGS):
        print(f"  {count} x {warning}")

    reached = origins.received("blocked.test")
    checks = [
        (tally.unexplained() == 0, f"{tally.unexplained()} failures without a cause"),
        (reached == 0, f"{reached} requests for the blocked host reached the origin"),
        (ended == 0, f"the proxy ended with exit code {ended}"),
    ]
    # The monitor is one process. The last worker lives for half of the run at least.
    for role in ("monitor", "worker"):
        of_role = [(pid, measured) for found, pid, measured in samples.rows if found == role]
        life = [measured for pid, measured in of_role if pid == of_role[-1][0]]
        checks += flatness(role, life)
    print(f"limits, last quarter against first quarter after a warm-up of {WARM_UP:.0%}: {LIMITS_IN_WORDS}")
    for is_good, what in checks:
        print(f"  {'ok' if is_good else 'NOT OK':7} {what}")
    is_good = all(is_good for is_good, _ in checks)
    print(f"samples: {samples.path}\nsoak: {'flat' if is_good else 'NOT FLAT, or with failures'}", flush=True)
    return is_good


def flatness(role, life):
    """A check for each measured value."""
    life = life[int(len(life) * WARM_UP):]
    if len(life) < MIN_SAMPLES:
        yield False, f"{role}: {len(life)} samples are too few; run it for longer"
        return
    quarter = len(life) // 4
    for name, limit in LIMITS.items():
        values = [measured[name] for measured in life]
        if None in values:
            print(f"  {role} {name}: not measured, needs root")
            continue
        first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
        yield last <= limit(first), f"{role} {name}: {first:g} -> {last:g} (greatest {max(values)})"
