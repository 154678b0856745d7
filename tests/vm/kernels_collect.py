"""Make fixtures of what tests/vm/kernels recorded: kernels_collect.py RECORDINGS FIXTURES.

RECORDINGS holds one folder a kernel, in it one a boot, in it `results` (a tar stream) and
`console`. Nothing is changed in what the kernel said; it is only cut and packed.
"""

import gzip
import io
import re
import shutil
import sys
import tarfile
from pathlib import Path

COLUMNS = (
    "kernel", "release", "scenario", "file", "source", "scope", "cgroup", "outcome", "rise",
    "dead", "unlogged", "note",
)  # fmt: skip
CONSOLE = ("console-", "panic")  # scenarios that are read from the console
MARK = re.compile(rb"^(?:-- (\S+)|   \d+ died).*\n", re.MULTILINE)
LARGE = 16384  # of the picture of /proc: what is larger is packed


def pack(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=0) as file:
        file.write(data)


def members(path: Path) -> dict[str, bytes]:
    """What the tar stream holds; one that a panic cut off holds what came before."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    found[member.name] = file.read()
    except tarfile.ReadError as error:
        print(f"{path}: {error}", file=sys.stderr)
    return found


def console_parts(data: bytes) -> dict[str, bytes]:
    """What was printed after each mark of the guest's, without the marks."""
    data = data.replace(b"\r\n", b"\n")
    marks = [*MARK.finditer(data)]
    ends = [*(mark.start() for mark in marks[1:]), len(data)][: len(marks)]
    return {
        mark[1].decode(): data[mark.end() : end]
        for mark, end in zip(marks, ends, strict=True)
        if mark[1]
    }


def row(text: str, log: bytes) -> dict[str, str]:
    """The truth as the guest wrote it, one line of the index."""
    out = {"cgroup": "-", "outcome": "killed", "unlogged": "-", "note": ""}
    dead, unlogged, notes = [], [], []
    shared = "unlogged\t1" in text
    for line in text.splitlines():
        key, *values = line.split("\t")
        if key == "dead":
            pid, comm, uid, cgroup = values
            one = f"{pid}:{comm}:{uid}:{cgroup}"
            # of two processes with one memory the kernel logs and counts the one that it chose
            if shared and b"Killed process %d " % int(pid) not in log:
                unlogged.append(one)
            else:
                dead.append(one)
        elif key == "note":
            notes.append(values[0])
        elif key == "thread":
            notes.append("told with the id and name of a thread")
        elif key == "cpuset":
            notes.append(f"cpuset={values[0]}")
        elif key in ("scope", "cgroup", "outcome", "rise"):
            out[key] = values[0]
        elif key == "event" and values[0].startswith(("oom_kill ", "oom_group_kill ")):
            notes.append(values[0].replace(" ", "="))
        elif key in ("lost", "gone"):
            notes.append(f"{key}={','.join(values)}")
    if out["scope"] == "none":
        out["outcome"] = "none"
    elif not dead and out["outcome"] == "killed":
        out["outcome"] = "no-victim"
    out["dead"] = " ".join(dead) or "-"
    out["unlogged"] = " ".join(unlogged) or "-"
    out["note"] = "; ".join(notes) or "-"
    return out


def picture(files: dict[str, bytes], folder: Path) -> None:
    """The tree of /proc and /sys: small files as they are, so that people can read them."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        if name.startswith(("proc/", "sys/")) and "/stats/" not in name:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if len(data) > LARGE:
                pack(path.with_name(path.name + ".gz"), data)
            else:
                path.write_bytes(data)


def kernel(folder: Path, fixtures: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    boots = {boot.name: members(boot / "results") for boot in sorted(folder.iterdir())}
    release = next(iter(boots.values()))["release"].decode()
    label = ".".join(re.findall(r"\d+", release)[:2])
    label = next((files["label"].decode() for files in boots.values() if "label" in files), label)
    shutil.rmtree(fixtures / "kmsg" / label, ignore_errors=True)

    def add(scenario: str, source: str, data: bytes, truth: dict[str, str]) -> None:
        suffix = "kmsg" if source == "kmsg" else "txt"
        name = f"{label}/{scenario}.{suffix}.gz"
        pack(fixtures / "kmsg" / name, data)
        rows.append(
            {"kernel": label, "release": release, "scenario": scenario, "file": name,
             "source": source} | truth
        )  # fmt: skip

    for boot, files in boots.items():
        console = console_parts((folder / boot / "console").read_bytes())
        if boot == "pstore":
            shutil.rmtree(fixtures / "pstore" / label, ignore_errors=True)
            for name, data in files.items():
                if name.startswith("sys/fs/pstore/"):
                    pack(fixtures / "pstore" / label / f"{Path(name).name}.gz", data)
        if boot == "swap":
            picture(files, fixtures / "proc" / label)
        for name, data in files.items():
            scenario, _, kind = name.rpartition(".")
            if name == "boot.kmsg":
                pack(fixtures / "boot" / f"{label}.kmsg.gz", data)
            elif kind == "skip" and "/" not in name:
                rows.append(
                    {"kernel": label, "release": release, "scenario": scenario, "file": "-",
                     "note": f"not recorded: {data.decode()}"}
                )  # fmt: skip
            elif kind == "truth":
                text = data.decode()
                if scenario.startswith(CONSOLE):
                    printed = console[scenario]
                    add(scenario, "console", printed, row(text, printed))
                    continue
                log = files[f"{scenario}.kmsg"]
                truth = row(text, log)
                add(scenario, "kmsg", log, truth)
                if f"{scenario}.syslog" in files:
                    add(f"{scenario}-printed", "syslog", files[f"{scenario}.syslog"], truth)
                for other, printed in files.items():
                    if other.startswith(f"{scenario}.form-"):
                        form = other.partition(".form-")[2]
                        add(f"{scenario}-{form}", form, printed, truth)
    return rows


def main(recordings: Path, fixtures: Path) -> None:
    index = fixtures / "kmsg" / "INDEX.tsv"
    rows = [one for folder in sorted(recordings.iterdir()) for one in kernel(folder, fixtures)]
    fresh = {one["kernel"] for one in rows}
    old: list[dict[str, str]] = []
    if index.exists():
        head, *lines = index.read_text("utf-8").splitlines()
        assert tuple(head.split("\t")) == COLUMNS, "an index of another form: remove it first"
        old = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]
    rows += [one for one in old if one["kernel"] not in fresh]
    numbers = re.compile(r"\d+")
    rows.sort(key=lambda one: (*map(int, numbers.findall(one["kernel"])), one["scenario"]))
    lines = ["\t".join(one.get(column, "-") for column in COLUMNS) for one in rows]
    index.write_text("\n".join(["\t".join(COLUMNS), *lines, ""]), "utf-8")
    print(f"{len(rows)} rows in {index}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
