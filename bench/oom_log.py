#!/usr/bin/env python3
"""How fast kernel logs are read: 200 MB without an OOM line, and a report of 2,000 tasks.

    bench/oom_log.py [--size MB] [--tasks N]

The log goes the way of `explain FILE`: blocks, the quick test, the assembler. Of the report the
reading alone is timed, and the reading with the whole event (diagnosis, account, sentences).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from watchdog.cli import explain  # noqa: E402
from watchdog.facts import KernelLine  # noqa: E402
from watchdog.judge.diagnosis import oom_kill_event  # noqa: E402
from watchdog.oom_report.assemble import Assembler, Report  # noqa: E402

# What fills kernel logs, some with "room" and "Bloom", which the quick test must pass over cheaply.
OTHERS = (
    "usb 1-1: new high-speed USB device number {n} using xhci_hcd",
    'audit: type=1400 audit(1795411868.123:{n}): apparmor="DENIED" operation="open" pid={n}',
    "IPv6: ADDRCONF(NETDEV_CHANGE): veth{n}: link becomes ready",
    "  ? __pfx_kthread+0x10/0x10",
    "EXT4-fs (sda{n}): mounted filesystem with ordered data mode. Opts: (null)",
    "docker0: port {n}(veth{n}) entered forwarding state",
    "[UFW BLOCK] IN=eth0 OUT= MAC=00:11 SRC=10.0.0.{n} DST=10.0.0.1 LEN=40 TTL=64 PROTO=TCP",
    "nvme nvme0: {n}/0/0 default/read/poll queues",
    "systemd-journald[375]: Time spent on flushing to /var/log is {n}us for 1024 entries.",
    "CPU{n}: Core temperature above threshold, cpu clock throttled (total events = {n})",
    "perf: interrupt took too long ({n} > 2500), lowering kernel.perf_event_max_sample_rate",
)
RARE = "mounting /srv/mushroom/room{n} with a Bloom filter"


def write_log(path: Path, size: int) -> int:
    """A log of so many bytes; how many lines it has."""
    lines = written = 0
    with path.open("w", encoding="ascii") as file:
        while written < size:
            made = []
            for number in range(lines, lines + 10_000):
                text = RARE if number % 5000 == 7 else OTHERS[number % len(OTHERS)]
                made.append(
                    f"Nov 23 05:31:08 host kernel: [{number / 50:12.6f}] "
                    + text.format(n=number % 997)
                )
            block = "\n".join(made) + "\n"
            file.write(block)
            written += len(block)
            lines += 10_000
    return lines


def report_of(tasks: int) -> list[str]:
    """The records of one report with so many rows."""
    rows = [
        f"[{n:7}] {n % 9:5} {n:5} {50_000 + n:8} {n % 977:8} {n % 700:8} {n % 277:8}        0 "
        f"{65_536 + n * 64:14} {n % 50:8}             0 task {n % 300}"
        for n in range(100, 100 + tasks)
    ]
    texts = [
        "worker 7 invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, "
        "oom_score_adj=0",
        "CPU: 1 UID: 0 PID: 107 Comm: worker 7 Not tainted 6.12.6-amd64 #1",
        "Mem-Info:",
        "active_anon:600000 inactive_anon:2000 isolated_anon:0\\x0a active_file:90 "
        "inactive_file:80 isolated_file:0\\x0a unevictable:10 dirty:0 writeback:0\\x0a "
        "slab_reclaimable:900 slab_unreclaimable:1500\\x0a mapped:90 shmem:100 "
        "pagetables:300\\x0a free:1200 free_cma:0",
        "Node 0 DMA32 free:4800kB min:5000kB low:6000kB high:7000kB present:3000000kB "
        "managed:2900000kB",
        "Node 0 DMA32: 300*4kB (U) 20*8kB (UM) = 1360kB",
        "Free swap  = 0kB", "Total swap = 0kB", "750000 pages RAM", "4096 pages reserved",
        "Tasks state (memory values in pages):",
        "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes "
        "swapents oom_score_adj name",
        *rows,
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        "task_memcg=/system.slice/x.service,task=task 1,pid=901,uid=1",
        "Out of memory: Killed process 901 (task 1) total-vm:203604kB, anon-rss:804kB, "
        "file-rss:276kB, shmem-rss:0kB, UID:1 pgtables:120kB oom_score_adj:0",
    ]  # fmt: skip
    return [f"6,{n},{2_000_000 + n},-;{text}" for n, text in enumerate(texts)]


def read(records: list[str]) -> Report:
    assembler = Assembler()
    for record in records:
        assembler.feed(KernelLine(5.0, 6.0, record))
    (report,) = assembler.flush()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--size", type=int, default=200, metavar="MB")
    parser.add_argument("--tasks", type=int, default=2000, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kern.log"
        count = write_log(path, options.size * 1_000_000)
        size = path.stat().st_size
        path.read_bytes()  # into the page cache
        best, found = 1e9, 0
        for _ in range(3):
            reader = explain._Reader()
            start, used = time.perf_counter(), time.process_time()
            reader.file(str(path))
            took, used = time.perf_counter() - start, time.process_time() - used
            best, found = min(best, used), len(reader.reports)
            if reader.lines != count:
                sys.exit(f"{reader.lines:,} of {count:,} lines were counted")
    print(
        f"{size / 1e6:.0f} MB, {count:,} lines, {found} reports: {best:.2f} s of processor time, "
        f"{size / 1e6 / best:.0f} MB/s (the last pass took {took:.2f} s)"
    )
    records = report_of(options.tasks)
    parsed = whole = 1e9
    for _ in range(7):
        start = time.process_time()
        report = read(records)
        middle = time.process_time()
        oom_kill_event(report)
        end = time.process_time()
        parsed, whole = min(parsed, middle - start), min(whole, end - start)
    assert report.tasks_count == options.tasks
    print(
        f"a report of {options.tasks:,} tasks: {parsed * 1000:.1f} ms to read, "
        f"{whole * 1000:.1f} ms with its event"
    )


if __name__ == "__main__":
    main()
