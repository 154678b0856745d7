"""Pure: bytes, durations and rates as people read them, tables, and names made safe to print.

Powers of 1024 throughout; `measures` reads them. Names of processes, units and files come from
anybody: `name` and `safe` are the only way by which they become text.
"""

from collections.abc import Iterable, Sequence


def size(count: float) -> str:
    """Three figures at the most: "1.4 GiB"."""
    sign, rest = ("-", -count) if count < 0 else ("", count)
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if rest < 1023.5:
            break
        rest, unit = rest / 1024, larger
    figure = f"{rest:.0f}" if unit == "B" or rest >= 99.95 else f"{rest:.1f}"
    return f"{sign}{figure} {unit}"


def duration(seconds: float) -> str:
    """The two largest units that are not zero: "2 h 5 min"."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append((f"{count} {unit}", length))
    first = parts[0][1]
    keep = [word for word, length in parts[:2] if length * 100 >= first]
    return " ".join(keep)


def rate(bytes_per_s: float) -> str:
    """As "2.0 MiB/s", or by the hour or the day where a second is too short to say anything."""
    if abs(bytes_per_s) >= 100 * 1024:
        return size(bytes_per_s) + "/s"
    if abs(bytes_per_s) * 3600 >= 1024 * 1024:
        return size(bytes_per_s * 3600) + "/h"
    return size(bytes_per_s * 86400) + "/d"


def share(part: float) -> str:
    """The text "5 %" for 0.05."""
    return f"{part * 100:.0f} %" if part >= 0.0995 or part == 0 else f"{part * 100:.1f} %"


def count(number: int, noun: str) -> str:
    """With its plural: "1 process", "2 processes"."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        plural = noun[:-1] + "ies"
    else:
        plural = noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{number:,} {plural}"


def safe(text: str) -> str:
    """Text that cannot move a cursor or hide itself: what is not printable becomes \\xNN.

    Idempotent, and leaves a backslash alone (systemd escapes unit names with it).
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _hex(c) for c in text)


def _hex(char: str) -> str:
    try:
        raw = char.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, of which JSON can tell: it stands for no byte
        raw = char.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in raw)


def name(raw: bytes) -> str:
    """The one way from the bytes of a name (comm, exe, cgroup, …) to text."""
    return safe(raw.decode("utf-8", "surrogateescape"))


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean "X"?)', or "" where nothing is near."""
    import difflib  # the guard loads this room and never needs it

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns two blanks apart, those in `right` flush right; no trailing blanks."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    flush = set(right)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in flush else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
