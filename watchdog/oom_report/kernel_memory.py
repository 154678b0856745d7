"""Pure: what a report says of the kernel's own memory: its slabs, and who allocated."""

import re

from watchdog import words

SLABS_MAX = 512
ALLOCATIONS_MAX = 64

_SLAB = re.compile(r"(\S{1,64})\s{1,60}(\d{1,15})KB\s{1,20}(\d{1,15})KB\s*")
# "  1.00 GiB   262144 mm/slub.c:2319 func:alloc_slab_page": size, calls, place (6.10 and later)
_PLACE = re.compile(
    r"\s{0,20}(\d{1,7}(?:\.\d{1,3})?) ([KMGTPE]i)?B?\s{1,20}\d{1,20}\s"
    r"(\S{1,200} ?(?:\[\S{1,60}\] ?)?func:\S{1,100})\s*"
)
_UNITS = {None: 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
          "Ei": 1 << 60}  # fmt: skip
_PROTECTION = re.compile(
    r"Memory cgroup min protection (\d{1,20})kB -- low protection (\d{1,20})kB"
)


class KernelMemory:
    """Takes the lines of one report; sizes in bytes."""

    def __init__(self) -> None:
        self.slabs: list[tuple[str, int, int]] = []
        self.allocations: list[tuple[int, str]] = []
        self.protection: tuple[int, int] | None = None
        self._in_slabs = self._in_allocations = False

    def add(self, text: str) -> bool:
        """One line; False where it tells nothing of these."""
        if self._in_slabs and self._slab(text):
            return True
        if self._in_allocations and self._allocation(text):
            return True
        if text.startswith("Unreclaimable slab info"):
            self._in_slabs, self._in_allocations = True, False
            return True
        if text.startswith("Memory allocations"):
            self._in_slabs, self._in_allocations = False, True
            return True
        found = _PROTECTION.match(text)
        if found:
            self.protection = int(found[1]) * 1024, int(found[2]) * 1024
            return True
        return False

    def _slab(self, text: str) -> bool:
        if text.startswith("Name ") and "Used" in text:
            return True
        found = _SLAB.fullmatch(text)
        if found is None:
            return False
        if len(self.slabs) < SLABS_MAX:
            used, total = int(found[2]) * 1024, int(found[3]) * 1024
            self.slabs.append((words.safe(found[1]), used, total))
        return True

    def _allocation(self, text: str) -> bool:
        found = _PLACE.fullmatch(text)
        if found is None:
            return False
        if len(self.allocations) < ALLOCATIONS_MAX:
            size = int(float(found[1]) * _UNITS[found[2]])
            self.allocations.append((size, words.safe(found[3])))
        return True
