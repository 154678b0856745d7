"""A few lines in a file in memory, which outlive this process."""

import os


class KeptLines:
    """The file should lie in memory (/run): then writing it waits for nobody.

    `lines` are those that were found, and `boot` is the id of the boot that wrote them, "" where
    there are none. Without a `path`, or where it cannot be opened, nothing is kept.
    """

    def __init__(self, path: str | None, boot_id: str) -> None:
        self.boot_id = boot_id
        self.boot = ""
        self.lines: list[str] = []
        self._fd: int | None = None
        if path is None:
            return
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            raw = os.pread(self._fd, 8192, 0)
        except OSError:
            return
        self.boot, *self.lines = raw.decode("utf-8", "replace").split("\n")

    @property
    def ours(self) -> bool:
        """Were they written since the machine was started?"""
        return self.boot == self.boot_id

    def write(self, lines: list[str]) -> None:
        """These instead, of this boot."""
        if self._fd is None:
            return
        raw = "\n".join([self.boot_id, *lines]).encode("utf-8", "replace") + b"\n"
        try:
            os.pwrite(self._fd, raw, 0)
            os.ftruncate(self._fd, len(raw))
        except OSError:
            return  # a full /run: this process remembers them

    def rehearse(self) -> None:
        """The calls of `write`, and nothing is written."""
        if self._fd is None:
            return
        try:
            os.pwrite(self._fd, b"", 0)
            os.ftruncate(self._fd, os.fstat(self._fd).st_size)
        except OSError:
            return

    def close(self) -> None:
        """Let go of the descriptor; nothing is kept from now on."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None
