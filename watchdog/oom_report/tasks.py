"""Pure: the task table of a report, in whichever columns the kernel printed.

The header names the columns, a row is cut by them, and what is left over is the name. Values are
pages but for pgtables_bytes; they stay pages until the size of a page is known.
"""

import re
from typing import NamedTuple

from watchdog import words

ROWS_MAX = 4096  # of more the smallest are only added up: a report never costs us more than 3 MiB

COLUMNS = frozenset(
    ("pid", "uid", "tgid", "total_vm", "rss", "rss_anon", "rss_file", "rss_shmem", "cpu",
     "oom_adj", "nr_ptes", "nr_pmds", "pgtables_bytes", "swapents", "oom_score_adj", "name")
)  # fmt: skip

_HEADER = re.compile(r"\[\s{0,6}pid\s{0,6}\]\s{1,9}uid\s{1,9}\S{1,12}\s{1,9}total_vm\s{1,9}rss\s")
_ROW = re.compile(r"\[\s{0,10}(\d{1,10})\]\s{1,12}")


class Row(NamedTuple):
    """One process; pages, but pagetables in bytes or (older kernels) pages as `Table` tells."""

    pid: int
    uid: int | None
    tgid: int | None
    total_vm: int
    rss: int
    anon: int | None
    file: int | None
    shmem: int | None
    pagetables: int | None
    swap: int | None
    oom_score_adj: int | None
    name: str


class Table:
    """Collects rows. `complete` is False once a row could not be read."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.header = ""
        self.rows: list[Row] = []
        self.count = 0
        self.dropped_rss = 0
        self.unread = 0
        self.bytes_in_pagetables = False

    def begin(self, text: str) -> bool:
        """A header line; a wrapped one is completed by `more`."""
        if _HEADER.match(text) is None:
            return False
        self._set(text)
        return True

    def more(self, text: str) -> None:
        """The rest of a header that a mail program wrapped."""
        self._set(self.header + text)

    @property
    def whole(self) -> bool:
        """Whether the header has its last column."""
        return self.columns[-1:] == ["name"]

    def _set(self, header: str) -> None:
        self.header = header[:400]
        self.columns = ["pid"]
        for word in self.header.partition("]")[2].split():
            # a mail program may have broken a column's name in two
            if self.columns[-1] not in COLUMNS and self.columns[-1] + word in COLUMNS:
                self.columns[-1] += word
            else:
                self.columns.append(word)
        self.bytes_in_pagetables = "pgtables_bytes" in self.columns

    def add(self, text: str) -> bool:
        """A row; False where this line is none."""
        found = _ROW.match(text)
        if found is None or not self.columns:
            return False
        row = self._cut(int(found[1]), text[found.end() :])
        if row is None:
            self.unread += 1
            return False
        self.count += 1
        if len(self.rows) < ROWS_MAX:
            self.rows.append(row)
        else:
            self._shed(row)
        return True

    def fits(self, text: str) -> bool:
        """Whether a row has all its columns and a name (so that a wrapped one waits for more)."""
        found = _ROW.match(text)
        return found is not None and len(text[found.end() :].split()) >= len(self.columns) - 1

    def _cut(self, pid: int, rest: str) -> Row | None:
        wanted = len(self.columns) - 2  # all but pid and name
        fields = rest.split(None, wanted)
        if len(fields) < wanted or wanted < 4:
            return None
        values: dict[str, int] = {}
        try:
            for column, field in zip(self.columns[1:-1], fields, strict=False):
                values[column] = int(field)
        except ValueError:
            return None
        # a comm may begin with a blank: only the one that parts the columns is the kernel's
        name = fields[wanted] if len(fields) > wanted else ""
        tables = values.get("pgtables_bytes")
        if tables is None and "nr_ptes" in values:
            tables = values["nr_ptes"] + values.get("nr_pmds", 0)
        return Row(
            pid, values.get("uid"), values.get("tgid"), values["total_vm"], values["rss"],
            values.get("rss_anon"), values.get("rss_file"), values.get("rss_shmem"), tables,
            values.get("swapents"), values.get("oom_score_adj"), words.safe(name),
        )  # fmt: skip

    def _shed(self, row: Row) -> None:
        """Keep the larger half when full; the others are counted."""
        self.rows.append(row)
        self.rows.sort(key=lambda r: -r.rss)
        for gone in self.rows[ROWS_MAX // 2 :]:
            self.dropped_rss += gone.rss
        del self.rows[ROWS_MAX // 2 :]

    def find(self, pid: int) -> Row | None:
        """The row of a process, also by its thread group."""
        for row in self.rows:
            if pid in (row.pid, row.tgid):
                return row
        return None
