"""One report in whatever a program, a pager or a forum put around its lines: the same report."""

import html
import json
import quopri
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from watchdog.facts import KernelLine
from watchdog.oom_report import lines
from watchdog.oom_report.assemble import Assembler, Report

FIXTURES = Path(__file__).parent / "fixtures"
CORPUS = Path(__file__).parents[2] / "shared" / "oom_corpus"
POD = (
    "/kubepods/burstable/pod0a1b2c3d-1111-2222-3333-444455556666/"
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)
NONE: dict[str, Any] = {"cgroup": None, "task_cgroup": None}

# What stands in fixtures/oom_eras: texts written by us after the format strings of each kernel.
EXPECTED: dict[str, dict[str, Any]] = {
    "2.6.31": NONE | {"dead": [(4495, "firefox")], "scope": "global", "selected": 4400},
    "2.6.32-mpol": NONE | {"dead": [(3001, "numademo")], "scope": "mempolicy", "selected": 3001},
    "el6": NONE | {"dead": [(28656, "java")], "scope": "global", "uid": 602},
    "el7": {
        "dead": [(2200, "gbased main: x")], "scope": "memcg", "uid": 1001, "selected": 2231,
        "cgroup": "/system.slice/gbase.service", "task_cgroup": "/system.slice/gbase.service",
    },
    "3.16": {
        "dead": [(700, "stress")], "scope": "memcg", "cgroup": "/a", "task_cgroup": "/a/b",
    },
    "4.4": NONE | {"dead": [(900, "mmap(2)-er"), (901, "mm sharer")], "scope": "global"},
    "4.9": NONE | {"dead": [(995, "named")], "scope": "global"},
    "4.19-group": {
        "dead": [(411, "worker 3"), (412, "(sd-pam)")], "scope": "memcg", "cgroup": "/batch",
        "task_cgroup": "/batch/j1",
    },
    "5.0": {
        "dead": [(6010, "chrome --type=r")], "scope": "global", "selected": 6000, "cgroup": None,
        "task_cgroup": "/user.slice",
    },
    "5.4": {
        "dead": [(812, "mysqld")], "scope": "global", "uid": 113, "pagetables": 1835008,
        "cgroup": None, "task_cgroup": "/system.slice/mysql.service",
    },
    "5.10-cpuset": {
        "dead": [(3391, "qemu-kvm")], "scope": "cpuset", "pagetables": 1856 << 10, "cgroup": None,
        "task_cgroup": "/machine.slice/machine-qemu\\x2d1.scope",
    },
    "5.15": {
        "dead": [(9001, "python3")], "scope": "memcg", "cgroup": POD, "task_cgroup": POD,
    },
    "6.12": {
        "dead": [(5600, "node /opt/www/p")], "scope": "global", "uid": 1000, "cgroup": None,
        "task_cgroup": "/user.slice/user-1000.slice/session-3.scope",
    },
    "6.19": {
        "dead": [(5359, "leaker")], "scope": "memcg", "cgroup": "/box", "task_cgroup": "/box/in",
    },
    "sysrq": {
        "dead": [(2525, "unattended-upgr")], "scope": "global", "cgroup": None,
        "task_cgroup": "/user.slice",
    },
    "panic": NONE | {"dead": [], "scope": "global"},
}  # fmt: skip


class Record(NamedTuple):
    """One record of a kernel: text as printed, with its line feeds."""

    level: int
    usec: int
    text: str


def records(name: str) -> list[Record]:
    out = []
    for number, line in enumerate((FIXTURES / "oom_eras" / f"{name}.txt").read_text().splitlines()):
        level, _, text = line.partition(" ")
        out.append(Record(int(level), 2098_377_504 + number * 7, lines.unescape(text)))
    return out


def recorded(name: str) -> list[Record]:
    text = (FIXTURES / "kmsg" / f"{name}.kmsg").read_text("utf-8", "surrogateescape")
    out = []
    for line in text.splitlines():
        head, _, rest = line.partition(";")
        prio, _, usec, *_ = head.split(",")
        out.append(Record(int(prio), int(usec), lines.unescape(rest)))
    return out


def read(text: list[str], assembler: Assembler | None = None) -> list[Report]:
    assembler = assembler or Assembler()
    out: list[Report] = []
    for line in text:
        out += assembler.feed(KernelLine(1000.0, None, line))
    return out + assembler.flush()


def dead(found: list[Report]) -> list[tuple[int, str | None]]:
    out = []
    for report in found:
        if report.victim:
            out.append((report.victim.pid, report.victim.comm))
        out += [(one.pid, one.comm) for one in report.also_killed if not one.again]
    return out


# -- what stands around the lines -----------------------------------------------------------------

LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
Form = Callable[[list[Record]], list[str]]


def each(prefix: Callable[[Record], str], stamped: bool = True) -> Form:
    """The prefix before every line; of a record of several lines before each, or the first."""

    def form(made: list[Record]) -> list[str]:
        out = []
        for record in made:
            first, *rest = record.text.split("\n")
            lead = prefix(record)
            out.append(lead + first)
            out += [(lead if stamped else " " * len(lead)) + line for line in rest]
        return out

    return form


def clock(record: Record) -> str:
    return f"[{record.usec // 1_000_000:5}.{record.usec % 1_000_000:06}] "


def kmsg(made: list[Record], flags: str = "-", dictionary: bool = False) -> list[str]:
    more = "\n SUBSYSTEM=memory\n DEVICE=+mm:1" if dictionary else ""
    return [
        f"{r.level},{number},{r.usec},{flags};{lines.escape(r.text)}{more}"
        for number, r in enumerate(made, 100)
    ]


def kmsg_file(made: list[Record]) -> list[str]:
    """Records as `cat /dev/kmsg` gives them: the dictionary on lines of its own."""
    return "\n".join(kmsg(made, "-,caller=T5359", dictionary=True)).split("\n")


def entry(record: Record, message: object = None) -> dict[str, Any]:
    return {
        "__CURSOR": "s=1;i=2", "_TRANSPORT": "kernel", "SYSLOG_FACILITY": "0",
        "SYSLOG_IDENTIFIER": "kernel", "_SOURCE_MONOTONIC_TIMESTAMP": str(record.usec),
        "MESSAGE": record.text if message is None else message, "PRIORITY": str(record.level),
        "__REALTIME_TIMESTAMP": "1795411868000000", "_HOSTNAME": "host",
        "_BOOT_ID": "0123456789abcdef0123456789abcdef",
    }  # fmt: skip


def as_json(shape: Callable[[Record], object]) -> Form:
    return lambda made: [json.dumps(shape(record)) for record in made]


def pretty(made: list[Record]) -> list[str]:
    return "\n".join(json.dumps(entry(r), indent="\t") for r in made).split("\n")


def export(made: list[Record]) -> list[str]:
    """The journal's export format; a text of several lines is told with its length in binary."""
    out = []
    for record in made:
        for key, value in entry(record).items():
            if "\n" in value:
                size = len(value.encode()).to_bytes(8, "little").decode("latin-1")
                out += [key, size + value.split("\n")[0], *value.split("\n")[1:]]
            else:
                out.append(f"{key}={value}")
        out.append("")
    return out


def verbose(made: list[Record]) -> list[str]:
    out = []
    for record in made:
        out.append("Mon 2026-11-23 05:31:08.123456 UTC [s=7d;i=2;b=01;m=2;t=3;x=4]")
        for key, value in entry(record).items():
            first, *rest = value.split("\n")
            out += [f"    {key}={first}", *(" " * (5 + len(key)) + line for line in rest)]
    return out


def quoted_printable(made: list[Record]) -> list[str]:
    raw = "\n".join(each(clock)(made)).encode("utf-8", "surrogateescape")
    return quopri.encodestring(raw).decode("ascii").split("\n")


def wrapped(width: int, prefix: Callable[[Record], str] = clock) -> Form:
    """At blanks, as mail programs do; a word that is too long stays whole."""

    def form(made: list[Record]) -> list[str]:
        out = []
        for line in each(prefix)(made):
            out += textwrap.wrap(
                line, width, break_long_words=False, break_on_hyphens=False,
                drop_whitespace=True, replace_whitespace=False,
            ) or [""]  # fmt: skip
        return out

    return form


def cut(width: int) -> Form:
    """At the column, as terminals do."""

    def form(made: list[Record]) -> list[str]:
        out = []
        for line in each(clock)(made):
            out += [line[at : at + width] for at in range(0, len(line), width)]
        return out

    return form


def around(before: str, after: str, prefix: Callable[[Record], str] = clock) -> Form:
    return lambda made: [f"{before}{line}{after}" for line in each(prefix)(made)]


def in_html(made: list[Record]) -> list[str]:
    inside = [html.escape(line) for line in each(lambda r: f"<{r.level}>{clock(r)}")(made)]
    return ["<html><body><pre>", *inside, "</pre></body></html>"]


def numbered(made: list[Record]) -> list[str]:
    return [f"{number:6}\t{line}" for number, line in enumerate(each(clock)(made), 1)]


def found_by_grep(made: list[Record]) -> list[str]:
    return [
        f"/var/log/messages:{number}:Nov 23 05:31:08 host kernel: {line}"
        for number, line in enumerate(each(clock)(made), 1)
    ]


def coloured(made: list[Record]) -> list[str]:
    out = []
    for record in made:
        colour = "\x1b[1m\x1b[31m" if record.level < 4 else "\x1b[33m"
        first, *rest = record.text.split("\n")
        out.append(f"\x1b[32m{clock(record)}\x1b[0m{colour}{first}\x1b[0m")
        out += [f"{colour}{line}\x1b[0m" for line in rest]
    return out


def split_summary(made: list[Record]) -> list[str]:
    """As kernels with pr_cont write records: a line in fragments, another CPU's between."""
    out, number = [], 100
    for record in made:
        pieces = [lines.escape(record.text)]
        if record.text.startswith("oom-kill:"):
            pieces = re.split(r"(?=,mems_allowed=|,oom_memcg=|,task=)", lines.escape(record.text))
        for at, piece in enumerate(pieces):
            flags = ("c" if at < len(pieces) - 1 else "-") if len(pieces) > 1 else "-"
            flags = "-,caller=T77" if at == 0 and len(pieces) > 1 else flags
            out.append(f"{record.level},{number},{record.usec},{flags};{piece}")
            number += 1
            if at == 0 and len(pieces) > 1:
                out.append(f"6,{number},{record.usec},-,caller=C1;usb 1-1: new device")
                number += 1
    return out


def listed(made: list[Record]) -> list[str]:
    """As Ansible prints the lines of a command."""
    inside = [f"        {json.dumps(line)}," for line in each(clock)(made)]
    return ["ok: [host-17] => {", '    "stdout_lines": [', *inside, "    ]", "}"]


def console_output(made: list[Record]) -> list[str]:
    """As a cloud prints the console of a machine: one string."""
    text = "\r\n".join(each(clock)(made))
    return [json.dumps({"InstanceId": "i-0a1b", "Output": text, "Timestamp": "2026-11-23"})]


def log_entries(made: list[Record]) -> list[str]:
    """As a cloud's log viewer prints a list of entries."""
    out = ["["]
    for record in made:
        payload = {"MESSAGE": record.text, "SYSLOG_IDENTIFIER": "kernel", "_TRANSPORT": "kernel"}
        one = {"insertId": "a", "jsonPayload": payload, "resource": {"labels": {"node": "n"}}}
        out += (json.dumps(one | {"timestamp": "2026-11-23T05:31:08Z"}, indent=2) + ",").split("\n")
    return [*out, "]"]


def documents(made: list[Record]) -> list[str]:
    out = []
    for record in made:
        for line in record.text.split("\n"):
            out += ["---", "insertId: a", "jsonPayload:", f"  MESSAGE: {json.dumps(line)}"]
            out += ["  PRIORITY: '6'", "timestamp: '2026-11-23T05:31:08Z'"]
    return out


def cut_syslog(made: list[Record]) -> list[str]:
    """At the column; the lines of a boot before it show the column."""
    before = "systemd[1]: Mounted a file system whose name is a long one of many words, /srv/data/"
    lines_before = [f"{SYSLOG}{before}{number} and more." for number in range(8)]
    out = []
    for line in lines_before + each(lambda r: SYSLOG + clock(r))(made):
        out += [line[at : at + 100] for at in range(0, len(line), 100)]
    return out


SYSLOG = "Nov 23 05:31:08 host kernel: "
ISO = "2026-11-23T05:31:08.123456+01:00"
DATES = {
    "english": "[Mon Nov 23 05:31:08 2026] ", "german": "[Mo 23. Nov 05:31:08 2026] ",
    "japanese": "[月 11月 23 05:31:08 2026] ", "french": "[lun. 23 nov. 05:31:08 2026] ",
    "portuguese": "[seg nov 23 05:31:08 2026] ", "swedish": "[mån 23 nov 2026 05:31:08] ",
    "chinese": "[一 11月 23 05:31:08 2026] ", "russian": "[Пн ноя 23 05:31:08 2026] ",
}  # fmt: skip

FORMS: dict[str, Form] = {
    "kmsg": kmsg,
    "kmsg caller": lambda made: kmsg(made, "-,caller=T5359"),
    "kmsg dictionary": lambda made: kmsg(made, dictionary=True),
    "kmsg file": kmsg_file,
    "kmsg fragments": split_summary,
    "kmsg no flags": lambda made: [line.replace(",-;", ";", 1) for line in kmsg(made)],
    "bare": each(lambda _: ""),
    "dmesg": each(clock),
    "dmesg unstamped rest": each(clock, stamped=False),
    "dmesg -x": each(lambda r: f"kern  :{LEVELS[r.level]:7}: {clock(r)}"),
    "dmesg -x -T": each(lambda r: f"kern  :{LEVELS[r.level]:7}: {DATES['english']}"),
    "dmesg --raw": each(lambda r: f"<{r.level}>{clock(r)}"),
    "dmesg -d": each(lambda _: "[<    0.000012>] "),
    "dmesg -dT": each(lambda _: "[Mon Nov 23 05:31:08 2026 <    0.000012>] "),
    "dmesg -e": each(lambda r: "[  +0.000012] " if r.usec % 3 else "[Nov23 05:31] "),
    "dmesg iso": each(lambda _: "2026-11-23T05:31:08,123456+00:00 "),
    "dmesg -x iso": each(lambda r: f"kern  :{LEVELS[r.level]:7}: 2026-11-23T05:31:08,123456+0000 "),
    "dmesg -J": lambda made: [
        "{", '   "dmesg": [',
        *"\n".join(
            json.dumps({"pri": r.level, "time": r.usec / 1e6, "msg": r.text}, indent=9) + ","
            for r in made
        ).split("\n"),
        "   ]", "}",
    ],
    "colours": coloured,
    "caller": each(lambda r: f"{clock(r)[:-1]}[ T5359] "),
    "caller interrupt": each(lambda r: f"{clock(r)[:-1]}[    C0] "),
    "caller alone": each(lambda _: "[ T5359] "),
    "raw caller": each(lambda r: f"<{r.level}>{clock(r)[:-1]}[T5359] "),
    "syslog": each(lambda _: SYSLOG),
    "syslog clock": each(lambda r: SYSLOG + clock(r)),
    "syslog blanks stripped": lambda made: [
        SYSLOG + line.lstrip() for line in each(lambda _: "")(made)
    ],
    "syslog pid": each(lambda r: "Nov  3 05:31:08 host.example.org kernel[0]: " + clock(r)),
    "syslog umlaut": each(lambda r: "Mär  3 05:31:08 host kernel: " + clock(r)),
    "syslog japanese": each(lambda r: "11月 23 05:31:08 host kernel: " + clock(r)),
    "syslog #012": lambda made: [
        SYSLOG + clock(r) + r.text.replace("\n", "#012").replace("\t", "#011") for r in made
    ],
    "syslog year": each(lambda r: "Nov 23 05:31:08 2026 host kernel: " + clock(r)),
    "syslog facility": each(lambda r: "Nov 23 05:31:08 host kern.warn kernel: " + clock(r)),
    "busybox": each(lambda r: "Nov 23 05:31:08 host kern.warn kernel: " + clock(r)),
    "busybox no host": each(lambda r: "Mon Nov 23 05:31:08 2026 kern.warn kernel: " + clock(r)),
    "rfc5424": each(lambda r: f"<{r.level}>1 {ISO} host kernel - - - {clock(r)}"),
    "rfc5424 bare": each(lambda r: f"{ISO} host kernel - - - {clock(r)}"),
    "rfc5424 iso": each(lambda r: f"2026-11-23T05:31:08Z host kernel: {clock(r)}"),
    "rfc5424 data": each(lambda r: f'<4>1 {ISO} host kernel - - [meta seq="1"] {clock(r)}'),
    "journal short": each(lambda _: SYSLOG, stamped=False),
    "journal short-iso": each(lambda _: "2026-11-23T05:31:08+0100 host kernel: ", stamped=False),
    "journal short-iso blank": each(lambda _: "2026-11-23 05:31:08+01:00 host kernel: "),
    "journal short-precise": each(lambda _: "Nov 23 05:31:08.123456 host kernel: ", stamped=False),
    "journal short-full": each(lambda _: "Mon 2026-11-23 05:31:08 UTC host kernel: "),
    "journal short-monotonic": each(lambda r: f"{clock(r)}host kernel: ", stamped=False),
    "journal short-unix": each(lambda _: "1795411868.123456 host kernel: "),
    "journal short-delta": each(lambda r: f"[ {clock(r)[1:-2]} <    0.000001 >] host kernel: "),
    "journal with-unit": each(lambda _: "Mon 2026-11-23 05:31:08 UTC host kernel[n/a]: "),
    "journal no-hostname": each(lambda _: "Nov 23 05:31:08 kernel: "),
    "journal cat": each(lambda _: ""),
    "journal json": as_json(entry),
    "journal json bytes": as_json(
        lambda r: entry(r, list(r.text.encode("utf-8", "surrogateescape")))
    ),
    "journal json-pretty": pretty,
    "journal json-sse": lambda made: [
        line for r in made for line in ("data: " + json.dumps(entry(r)), "")
    ],
    "journal json-seq": lambda made: ["\x1e" + json.dumps(entry(r)) for r in made],
    "journal export": export,
    "journal verbose": verbose,
    "fluentd": as_json(lambda r: {"log": clock(r) + r.text + "\n", "stream": "stdout"}),
    "fluentd message": as_json(lambda r: {"ident": "kernel", "message": r.text}),
    "fluentd tag": lambda made: [
        "2026-11-23 05:31:08 +0000 kern.warn: " + json.dumps({"host": "h", "message": r.text})
        for r in made
    ],
    "loki": as_json(lambda r: {"line": clock(r) + r.text, "timestamp": "2026-11-23T05:31:08Z"}),
    "loki fields": as_json(lambda r: {"fields": {"job": "kernel"}, "line": SYSLOG + r.text}),
    "elastic": as_json(lambda r: {"_index": "x", "_source": {"message": SYSLOG + r.text}}),
    "gcp": as_json(lambda r: {"jsonPayload": {"MESSAGE": r.text, "SYSLOG_IDENTIFIER": "kernel"}}),
    "gcp text": as_json(lambda r: {"textPayload": clock(r) + r.text, "logName": "serial"}),
    "vector": as_json(lambda r: {"message": r.text, "appname": "kernel", "facility": "kern"}),
    "csv": lambda made: [
        '"2026-11-23T05:31:08Z","host","kernel","' + line.replace('"', '""') + '"'
        for line in each(clock)(made)
    ],
    "csv half": lambda made: [
        '2026-11-23T05:31:08Z,host,"' + line.replace('"', '""') + '"' for line in each(clock)(made)
    ],
    "quoted strings": around('"', '",'),
    "cri": each(lambda r: f"2026-11-23T05:31:08.123456789Z stderr F {clock(r)}"),
    "kubectl stamps": each(lambda r: f"2026-11-23T05:31:08.123456789Z {clock(r)}"),
    "kubectl prefix": each(lambda r: f"[pod/dmesg-7x/main] {clock(r)}"),
    "compose": each(lambda r: f"dmesg-1  | {clock(r)}"),
    "github actions": each(lambda r: f"2026-11-23T05:31:08.1234567Z {clock(r)}"),
    "talos": each(lambda r: f"kern: {LEVELS[r.level]:>7}: [2026-11-23T05:31:08.913975631Z]: "),
    "talos node": each(lambda _: "10.0.0.7: kern:    info: [2026-11-23T05:31:08.9139Z]: "),
    "vmware": each(lambda r: f"{ISO[:23]}Z In(05) vcpu-5 - Guest: <{r.level}>{clock(r)}"),
    "xen": each(lambda r: f"(XEN) [2026-11-23 05:31:08.12] d1v0 {clock(r)}"),
    "console stamps": each(lambda r: f"[2026-11-23 05:31:08.123] {clock(r)}"),
    "console time": each(lambda r: f"05:31:08.123  {clock(r)}"),
    "console time in brackets": each(lambda r: f"[05:31:08] {clock(r)}"),
    "ts": each(lambda r: f"Nov 23 05:31:08 {clock(r)}"),
    "lava": each(lambda r: f"2026-11-23T05:31:08.123 # {clock(r)}"),
    "logcat": each(lambda _: "11-23 05:31:08.123     0     0 W         : "),
    "logcat kernel": each(lambda r: f"11-23 05:31:08.123  root     0     0 W kernel  : {clock(r)}"),
    "ansible": around("    host1 | ", ""),
    "pssh": each(lambda r: f"host-17: {clock(r)}"),
    "pdsh syslog": each(lambda r: f"host-17: {SYSLOG}{clock(r)}"),
    "clock of milliseconds": each(lambda r: f"[{r.usec // 1_000_000}.{r.usec // 1000 % 1000:03}] "),
    "klogd old": each(lambda r: f"Nov 23 05:31:08 host klogd: {clock(r)}"),
    "nested syslog": each(lambda r: f"Nov 23 05:31:09 loghost {SYSLOG}{clock(r)}"),
    "phone": each(lambda r: f"<{r.level}>{clock(r)[:-1]}  (2)[1234:kworker/2:1]"),
    "phone minus": each(lambda r: f"{clock(r)[:-1]} -(0)[822:system_server]"),
    "phone task": each(lambda r: f"<{r.level}>{clock(r)[:-1]}  [0:  system_server: 2345] "),
    "phone cpu": each(lambda r: f"{clock(r)[:-1]} c2   1234 "),
    "phone cpu pid": each(lambda r: f"{clock(r)[:-1]} (CPU:2-pid:1234:system_server) "),
    "phone date": each(lambda r: f"<4>{clock(r)[:-2]} / 11-23 05:31:08.123][2] "),
    "netconsole": each(lambda r: f"Nov 23 05:31:08 10.0.0.7 {clock(r)}"),
    "logcli": each(lambda _: '2026-11-23T05:31:08Z {host="h-1", job="systemd-journal"} '),
    "logcli syslog": each(lambda _: '2026-11-23T05:31:08Z {host="h-1"} ' + SYSLOG),
    "splunk": lambda made: [
        f'"2026-11-23T05:31:08.0+0000","{SYSLOG}{line}","host","/var/log/messages"'
        for line in each(clock)(made)
    ],
    "splunk json": as_json(lambda r: {"preview": False, "result": {"_raw": SYSLOG + r.text}}),
    "datadog": as_json(lambda r: {"id": "a", "content": {"host": "h", "message": SYSLOG + r.text}}),
    "vector journal": as_json(
        lambda r: {"SYSLOG_IDENTIFIER": "kernel", "_TRANSPORT": "kernel", "message": r.text}
    ),
    "log viewer": log_entries,
    "log viewer yaml": documents,
    "console of a cloud": console_output,
    "console of a cloud pretty": lambda made: json.dumps(
        json.loads(console_output(made)[0]), indent=4
    ).split("\n"),
    "ansible lines": listed,
    "ansible text": lambda made: [
        "ok: [h] => {", '    "msg": ' + json.dumps("\n".join(each(clock)(made))), "}",
    ],
    "pdsh dates": each(lambda _: f"host-17: {DATES['english']}"),
    "numbered bare": lambda made: [
        f"{number:6}\t{line}" for number, line in enumerate(each(lambda _: "")(made), 1)
    ],
    "numbers between": lambda made: [
        part for number, line in enumerate(each(clock)(made), 1) for part in (str(number), line)
    ],
    "html one line": lambda made: ["<br>".join(html.escape(one) for one in each(clock)(made))],
    "html numbers": lambda made: [
        re.sub(r"[\[\]()_]", lambda found: f"&#{ord(found[0])};", line)
        for line in each(clock)(made)
    ],
    "xml": lambda made: [
        f"<entry><msg>{html.escape(line)}</msg></entry>" for line in each(clock)(made)
    ],
    "single quotes": around("  '", "',"),
    "box": around("│ ", " │"),
    "cut at 100 syslog": cut_syslog,
    "mail quote": around("> ", ""),
    "mail quotes": around("> > >", ""),
    "mail quote bar": around("| ", ""),
    "table": around("| ", " |"),
    "markdown bold": around("**", "**"),
    "markdown code": around("`", "`"),
    "markdown list": around("  * ", ""),
    "indented": around("        ", ""),
    "tabs": around("\t", ""),
    "diff added": around("+", ""),
    "diff removed": around("-", ""),
    "comment hash": around("# ", ""),
    "comment c": around(" * ", ""),
    "comment slash": around("// ", ""),
    "wiki": around(": ", ""),
    "html": in_html,
    "html break": around("", "<br>"),
    "html break slash": around("", "<br />"),
    "html quote": lambda made: [html.escape("> " + line) for line in each(clock)(made)],
    "numbered": numbered,
    "grep": found_by_grep,
    "grep -n": lambda made: [f"{n}:{line}" for n, line in enumerate(each(clock)(made), 1)],
    "grep context": lambda made: [f"{n}-{line}" for n, line in enumerate(each(clock)(made), 1)],
    "crlf": around("", "\r"),
    "cr cr": around("", "\r\r"),
    "cr before": around("\r", ""),
    "trailing blanks": around("", "    "),
    "no-break spaces": lambda made: [line.replace("  ", " \u00a0") for line in each(clock)(made)],
    "zero width": around("\u200b", ""),
    "byte order mark": lambda made: ["\ufeff" + each(clock)(made)[0], *each(clock)(made)[1:]],
    "nul bytes": around("\0", ""),
    "empty lines between": lambda made: [
        line for one in each(clock)(made) for line in (one, "")
    ],
    "quoted-printable": quoted_printable,
    "wrapped 72": wrapped(72),
    "wrapped 76 syslog": wrapped(76, lambda r: SYSLOG + clock(r)),
    "wrapped 80 quoted": lambda made: ["> " + line for line in wrapped(78)(made)],
    "wrapped indented": lambda made: [
        line if line.startswith("[ ") else "    " + line for line in wrapped(72)(made)
    ],
    "wrapped without stamps": wrapped(76, lambda _: ""),
    "cut at 80": cut(80),
    "cut at 120": cut(120),
}  # fmt: skip

TEXTS = [*EXPECTED, "kmsg/memcg-plain", "kmsg/memcg-volunteer", "kmsg/memcg-storm"]


def made_of(name: str) -> list[Record]:
    return recorded(name[5:]) if name.startswith("kmsg/") else records(name)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("form", FORMS)
def test_whatever_stands_around_it_a_report_is_the_same(name: str, form: str) -> None:
    made = made_of(name)
    want = read(kmsg(made))
    have = read(FORMS[form](made))
    assert dead(have) == dead(want)
    assert [(r.scope, r.cgroup, r.task_cgroup) for r in have] == [
        (r.scope, r.cgroup, r.task_cgroup) for r in want
    ]
    for one, other in zip(have, want, strict=True):
        assert one.outcome == other.outcome
        assert one.manual == other.manual
        assert one.selected is None or other.selected is None or one.selected == other.selected
        assert (one.invoker and one.invoker.comm) == (other.invoker and other.invoker.comm)
        assert one.tasks_count == other.tasks_count
        # whether a mail wrapped at a blank of a name or in its middle, nobody can tell
        assert [row.name.replace(" ", "") for row in one.rows] == [
            row.name.replace(" ", "") for row in other.rows
        ]
        assert one.victim == other.victim


@pytest.mark.parametrize("name", EXPECTED)
def test_each_era_is_read_right(name: str) -> None:
    want = EXPECTED[name]
    (report,) = read(kmsg(records(name)))
    assert dead([report]) == want["dead"]
    assert report.scope == want["scope"]
    assert (report.cgroup, report.task_cgroup) == (want["cgroup"], want["task_cgroup"])
    rows = [r for r in records(name) if re.match(r"\[ *\d+\] ", r.text)]
    assert report.tasks_count == len(rows)
    if "uid" in want:
        assert report.victim is not None
        assert report.victim.uid == want["uid"]
    if "pagetables" in want:
        assert report.victim is not None
        assert report.victim.pagetables == want["pagetables"]
    if "selected" in want:
        assert report.selected is not None
        assert report.selected[0] == want["selected"]


# -- the same around real reports -----------------------------------------------------------------

AROUND = (
    "mail quote", "mail quotes", "table", "markdown bold", "markdown code", "indented", "tabs",
    "diff added", "crlf", "trailing blanks", "zero width", "nul bytes", "compose",
    "ansible", "comment hash", "csv half", "quoted strings",
)  # fmt: skip
CORPUS_TEXTS = sorted(path.name for path in CORPUS.glob("*.log")) if CORPUS.is_dir() else []


def as_text(name: str) -> list[Record]:
    """Lines of a saved text, as if each were a record without a clock."""
    text = (CORPUS / name).read_text("utf-8", "surrogateescape")
    return [Record(6, 0, line) for line in text.split("\n")]


def bare(form: Form) -> Form:
    """The form without the clock that it puts before a line."""
    return lambda made: [line.replace(clock(Record(6, 0, "")), "", 1) for line in form(made)]


@pytest.mark.skipif(not CORPUS_TEXTS, reason="the shared corpus of OOM reports is not here")
@pytest.mark.parametrize("form", AROUND)
@pytest.mark.parametrize("name", CORPUS_TEXTS)
def test_whatever_stands_around_a_real_text(name: str, form: str) -> None:
    made = as_text(name)
    want = read([record.text for record in made])
    have = read(bare(FORMS[form])(made))
    assert dead(have) == dead(want)
    assert [(r.scope, r.cgroup, r.task_cgroup) for r in have] == [
        (r.scope, r.cgroup, r.task_cgroup) for r in want
    ]
