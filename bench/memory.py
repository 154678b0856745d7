"""What `oom-watchdog memory` tells beside `free`, `sar` and `ps`, each second, under six loads.

    python bench/memory.py [--samples 60] [--loads file,pulse,touch,tmpfs,huge,thp]

For each load and column: the largest difference between our figure and theirs, read in the same
second. Nothing but the time between the readings may differ, so our reading is taken before and
after theirs, and the difference counts only outside of what both of ours span. Then: how much of
the memory no counter names, at rest and by how much it moves under the load; in how many rows of
`ps` RSS or VSZ lie outside of what `memory --processes` told of that process right before and right
after; and what a daemon that runs meanwhile (a reading a second) says of leaks. Needs procps-ng 4,
sysstat, and for `huge` and `thp` the right to change /proc/sys/vm and /sys/kernel/mm.
"""

import argparse
import contextlib
import json
import mmap
import os
import platform
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

from watchdog import procfs, words
from watchdog.judge import columns, host_account
from watchdog.sense import host_memory
from watchdog.sense.breakdown import Breakdown

MIB = 1 << 20
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HUGE = Path("/proc/sys/vm/nr_hugepages")
LEAD_S = 0.15  # from sar's reading to its printing, on a machine that is short of CPU


# ---- the loads: each a generator of a step a sample, and a line of what it showed ------------


def rest(_: int) -> Generator[str, None, None]:
    """Nothing."""
    while True:
        yield ""


def file(samples: int) -> Generator[str, None, None]:
    """1 GiB of file written, read and deleted."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK", "/var/tmp")) as folder:
        path = Path(folder) / "file"
        size = min(1024, _available() // MIB // 3)
        step = max(1, size * 3 // max(1, samples))
        for done in range(0, size, step):
            with path.open("ab") as out:
                out.write(os.urandom(MIB) * min(step, size - done))
            yield f"writing {size} MiB"
        with path.open("rb") as source:
            while source.read(step * MIB):
                yield "reading it"
        path.unlink()
        while True:
            yield "deleted"


def pulse(_: int) -> Generator[str, None, None]:
    """75 MiB taken and freed, again and again."""
    while True:
        block = bytearray(os.urandom(MIB) * 75)
        yield "75 MiB taken"
        del block
        yield "freed"


def touch(samples: int) -> Generator[str, None, None]:
    """A mapping of 1 GiB, touched one tenth at a time."""
    size = min(1 << 30, _available() // 2) & -4096
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        for tenth in range(10):
            for at in range(size * tenth // 10 & -4096, size * (tenth + 1) // 10 & -4096, 4096):
                area[at] = 1
            held = Breakdown().one(os.getpid())
            assert held is not None
            for _ in range(max(1, samples // 10)):
                yield (
                    f"touched {tenth + 1}/10: virtual {words.size(held.virtual)}, "
                    f"resident {words.size(held.resident)}"
                )
        while True:
            yield "all touched"


def tmpfs(samples: int) -> Generator[str, None, None]:
    """A file of 500 MiB in /dev/shm."""
    size = min(500, _available() // MIB // 3)
    path = Path("/dev/shm") / f"bench-{os.getpid()}"
    try:
        step = max(1, size * 2 // samples)
        for done in range(0, size, step):
            with path.open("ab") as out:
                out.write(os.urandom(MIB) * min(step, size - done))
            yield f"{words.size(path.stat().st_size)} in /dev/shm"
        while True:
            yield f"{words.size(path.stat().st_size)} in /dev/shm"
    finally:
        path.unlink(missing_ok=True)


def huge(samples: int) -> Generator[str, None, None]:
    """200 MiB of HugeTLB pages: reserved, then used."""
    before = HUGE.read_text(encoding="ascii")
    HUGE.write_text("100", encoding="ascii")
    try:
        for _ in range(samples // 2):
            yield f"{HUGE.read_text(encoding='ascii').strip()} pages of 2 MiB reserved"
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000  # MAP_HUGETLB
        with mmap.mmap(-1, 200 * MIB, flags=flags) as area:
            for at in range(0, 200 * MIB, 2 * MIB):
                area[at] = 1
            while True:
                yield "and used"
    finally:
        HUGE.write_text(before, encoding="ascii")


def thp(samples: int) -> Generator[str, None, None]:
    """A sparse heap: one page of every 2 MiB, with THP `always` and then `never`."""
    before = THP.read_text(encoding="ascii").split("[")[1].split("]")[0]
    size = min(1 << 30, _available() // 2) & -(2 * MIB)
    try:
        for mode in ("always", "never"):
            THP.write_text(mode, encoding="ascii")
            with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
                for at in range(0, size, 2 * MIB):
                    area[at] = 1
                one = Breakdown()
                held = one.one(os.getpid())
                assert held is not None
                held = one.rollup(held)
                for _ in range(samples // 2):
                    yield (
                        f"{mode}: resident {words.size(held.resident)} (huge {_size(held.thp)}), "
                        f"page tables {_size(held.pagetables)}, kbpgtbl "
                        f"{columns.sar(_info())['kbpgtbl']}"
                    )
        while True:
            yield "freed"
    finally:
        THP.write_text(before, encoding="ascii")


LOADS = {one.__name__: one for one in (rest, file, pulse, touch, tmpfs, huge, thp)}


# ---- the comparison ------------------------------------------------------------------------------


def _info() -> dict[str, int]:
    return procfs.parse_kb(Path("/proc/meminfo").read_bytes())


def _available() -> int:
    return _info()["MemAvailable"]


def _size(count: int | None) -> str:
    return "-" if count is None else words.size(count)


def _ours() -> dict[str, float]:
    """All columns in one dictionary, KiB and per cent."""
    info = _info()
    found: dict[str, float] = {}
    for name, row in columns.free(info).items():
        found |= {f"free {name} {key}": value // 1024 for key, value in row.items()}
    return found | {f"sar {key}": value for key, value in columns.sar(info).items()}


def _free() -> dict[str, float]:
    said = subprocess.run(["free", "-b"], capture_output=True, text=True, check=True).stdout
    head, *rows = said.splitlines()
    found: dict[str, float] = {}
    for row in rows:
        name, *values = row.split()
        for key, value in zip(head.split(), values, strict=False):
            found[f"free {name.rstrip(':')} {key}"] = int(value) // 1024
    return found


class _Sar:
    """`sar -r ALL 1`, a reading a second."""

    def __init__(self) -> None:
        self.child = subprocess.Popen(
            ["sar", "-r", "ALL", "1"], stdout=subprocess.PIPE, bufsize=0,  # select sees it all
            env={**os.environ, "LC_ALL": "C", "S_TIME_FORMAT": "ISO"},
        )  # fmt: skip
        self.names: list[str] = []

    def read(self, meanwhile: Callable[[], None]) -> dict[str, float]:
        """A fresh line; `meanwhile` is called every 20 ms, from long before it was taken on.

        What is printed while nobody looks is old: it is thrown away.
        """
        while self._there(0):
            self._line()
        begin = time.monotonic()
        while True:
            meanwhile()
            if self._there(0.02):
                found = self._line()
                if found and time.monotonic() - begin >= LEAD_S:
                    meanwhile()
                    return found

    def _there(self, wait_s: float) -> bool:
        assert self.child.stdout is not None
        return bool(select.select([self.child.stdout], [], [], wait_s)[0])

    def _line(self) -> dict[str, float] | None:
        assert self.child.stdout is not None
        fields = self.child.stdout.readline().decode().split()
        if "kbmemfree" in fields:
            self.names = fields[1:]
        elif len(fields) == len(self.names) + 1 and self.names:
            values = zip(self.names, fields[1:], strict=True)
            return {f"sar {name}": float(value) for name, value in values}
        return None

    def close(self) -> None:
        self.child.kill()
        self.child.wait()


class _Daemon:
    """`oom-watchdog run` beside it all; what it said of leaks."""

    def __init__(self, folder: Path) -> None:
        config = folder / "config.toml"
        config.write_text('[watch]\ninterval = "1s"\n', encoding="ascii")
        self.said = folder / "events"
        argv = ["-m", "watchdog", "run", "--json", "--config", str(config), "--state", str(folder)]
        with self.said.open("wb") as out:
            self.child = subprocess.Popen(
                [sys.executable, *argv], stdout=out, stderr=subprocess.DEVNULL
            )
        self.read = 0

    def leaks(self) -> list[str]:
        """The events on leaks since the last call."""
        lines = self.said.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines[self.read :]]
        self.read = len(lines)
        return [
            f"{event['event']} {event.get('comm') or event.get('unit')}"
            for event in events
            if event["event"].startswith("leak.")
        ]

    def close(self) -> None:
        self.child.terminate()
        self.child.wait()


class _Ps:
    """`ps` beside `memory --processes`: the rows of processes that live through both."""

    def __init__(self) -> None:
        self.rows = 0
        self.off: list[str] = []

    def look(self) -> None:
        before = {(one.pid, one.start): one for one in Breakdown().all()}
        said = subprocess.run(
            ["ps", "-eo", "pid=,rss=,vsz="], capture_output=True, text=True, check=True
        )
        after = {one.pid: one for one in Breakdown().all()}
        by_pid = {pid: one for (pid, _), one in before.items()}
        for line in said.stdout.splitlines():
            pid, *sizes = (int(word) for word in line.split())
            if pid not in by_pid or pid not in after or after[pid].start != by_pid[pid].start:
                continue
            self.rows += 1
            for what, size in zip(("resident", "virtual"), sizes, strict=True):
                ends = [getattr(one, what) // 1024 for one in (by_pid[pid], after[pid])]
                if not min(ends) <= size <= max(ends):
                    comm = after[pid].comm
                    self.off.append(f"{what} of {comm}: {ends[0]}, ps {size}, {ends[1]} KiB")


def _beyond(theirs: float, ours: list[float]) -> float:
    """How far their figure lies outside of what our readings around it span."""
    return max(0.0, min(ours) - theirs, theirs - max(ours))


def compare(name: str, samples: int, daemon: _Daemon | None) -> dict[str, float]:
    """Run one load; the largest difference of each column, and the unaccounted share."""
    child_out, child_in = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:  # the load runs apart, so that it moves memory while we read
        os.close(child_out)
        os.close(tell)
        sys.stdout = os.fdopen(child_in, "w")
        steps = LOADS[name](samples)
        with contextlib.suppress(BrokenPipeError), contextlib.closing(steps):
            while os.read(told, 1):  # a step a sample
                print(next(steps), flush=True)
        os._exit(0)
    os.close(child_in)
    os.close(told)
    worst: dict[str, float] = {}
    shares: list[float] = []
    seen: list[dict[str, float]] = []
    ps = _Ps()
    sar = _Sar()
    try:
        for number in range(samples):
            # sar reads at some moment of its second, and prints: ours stand all around it
            os.write(tell, b".")
            around: list[dict[str, float]] = []
            theirs = sar.read(lambda: around.append(_ours()))  # noqa: B023 - called at once
            beside = [around[-1]]
            theirs |= _free()
            beside.append(_ours())
            for key, value in theirs.items():
                spans = around if key.startswith("sar") else beside
                if number:  # the first second of sar may have begun before our first reading
                    off = _beyond(value, [one[key] for one in spans])
                    worst[key] = max(worst.get(key, 0.0), off)
            found = host_account.of_host(host_memory.read(0.0, None))
            assert found is not None
            shares.append(100 * found.unaccounted / found.total)
            seen.append(beside[-1])
            ps.look()
    finally:
        sar.close()
        os.close(tell)
        os.waitpid(pid, 0)
    with os.fdopen(child_out) as said:
        lines = [line for line in dict.fromkeys(said.read().splitlines()) if line]
    middle = sorted(shares)[len(shares) // 2]
    far = [f"{share:.2f}" for share in shares if abs(share - middle) >= 0.5]
    print(f"{name}: {(LOADS[name].__doc__ or '').strip()}")
    for line in lines:
        print(f"    {line}")
    print(
        f"    unaccounted {middle:.2f} % of MemTotal (median; {min(shares):.2f} to "
        f"{max(shares):.2f}{', further than 0.5 off: ' + ' '.join(far) if far else ''}); "
        f"{samples} samples"
    )
    moved = []
    for what in ("used", "buff/cache", "shared"):
        sizes = [one[f"free Mem {what}"] / 1024 for one in seen]
        moved.append(f"{what} {sizes[0]:.0f}, {min(sizes):.0f} to {max(sizes):.0f}")
    print(f"    MiB, at first and all along: {'; '.join(moved)}")
    print(f"    ps: {ps.rows} rows, {len(ps.off)} sizes outside of ours before and after")
    for line in ps.off[:5]:
        print(f"        {line}")
    if daemon is not None:
        print(f"    the daemon on leaks: {', '.join(daemon.leaks()) or 'nothing'}")
    sys.stdout.flush()
    return worst


def main() -> int:
    """Print the table; 1 where a column differs by more than the sampling can explain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--no-daemon", dest="daemon", action="store_false")
    options = parser.parse_args()
    columns_of: dict[str, dict[str, float]] = {}
    loads = options.loads.split(",")
    print(f"Linux {platform.release()}, {words.size(_info()['MemTotal'])}, {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as folder:
        daemon = _Daemon(Path(folder)) if options.daemon else None
        time.sleep(3 if daemon else 0)
        try:
            for name in loads:
                columns_of[name] = compare(name, options.samples, daemon)
        finally:
            if daemon:
                daemon.close()
    keys = list(dict.fromkeys(key for found in columns_of.values() for key in found))
    print("\nlargest difference beyond the sampling, KiB (per cent for %…)")
    print(f"{'column':<24}" + "".join(f"{name:>9}" for name in loads))
    for key in keys:
        print(f"{key:<24}" + "".join(f"{columns_of[n].get(key, 0):>9.6g}" for n in loads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
