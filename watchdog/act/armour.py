"""What keeps the guard alive and awake while everybody else waits for memory.

Each function answers None, or in one sentence why it was not granted; nothing here is fatal.
"""

import gc
import os
from collections.abc import Iterable

OOM_SCORE_ADJ = -950  # not -1000: with a limit of our own that would be a hang
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_DONTNEED = 4
_PR_SET_THP_DISABLE = 41


def small_pages() -> None:
    """No transparent huge pages for us and for whom we start; kept over exec.

    Where they are "always" on, an interpreter of 5 MiB is given up to 2 MiB more at any moment.
    """
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    except (ImportError, OSError):
        return


def shed() -> int:
    """Give back the pages of programs and libraries that only start-up needed; bytes given back.

    A third of an interpreter is its compiler and its import machinery. Only mappings of files of
    which we have no page of our own are touched: what is needed again is read from the file. To be
    called before the rehearsal, so that all that acting needs is there again, and then locked.
    """
    try:
        import ctypes

        libc = ctypes.CDLL(None)
        with open("/proc/self/smaps", "rb") as file:
            clean = _clean_files(file)
    except (ImportError, OSError):
        return 0
    given = 0
    for start, end, resident in clean:
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED) == 0:
            given += resident
    return given


def _clean_files(smaps: Iterable[bytes]) -> list[tuple[int, int, int]]:
    """(start, end, resident bytes) of mapped files that cannot be written and hold none of ours."""
    found: list[tuple[int, int, int]] = []
    span, resident = (0, 0), 0
    for line in smaps:
        fields = line.split()
        if not fields[0].endswith(b":"):
            start, _, end = fields[0].partition(b"-")
            fit = len(fields) > 5 and fields[5].startswith(b"/") and b"w" not in fields[1]
            span = (int(start, 16), int(end, 16)) if fit else (0, 0)
        elif fields[0] == b"Rss:":
            resident = int(fields[1]) * 1024
        elif fields[0] == b"Anonymous:" and span[1] and resident and fields[1] == b"0":
            found.append((*span, resident))
    return found


def lock_memory() -> str | None:
    """Keep every page that was ever used in memory; ONFAULT, or it would cost 8 MiB more."""
    gc.collect()
    gc.freeze()
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
            return None
        reason = os.strerror(ctypes.get_errno())
    except (ImportError, OSError, AttributeError, MemoryError) as error:
        reason = str(error)
    return f"the guard's memory can be swapped out: mlockall: {reason} (CAP_IPC_LOCK is needed)"


def oom_score_adj() -> int:
    """Our own, as we were started."""
    try:
        with open("/proc/self/oom_score_adj", "rb", buffering=0) as file:
            return int(file.read(16))
    except (OSError, ValueError):
        return 0


def ask_to_be_spared() -> str | None:
    """Lower our oom_score_adj to -950, where the unit has not done so already."""
    now = oom_score_adj()
    if now <= OOM_SCORE_ADJ:
        return None
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(str(OOM_SCORE_ADJ).encode())
    except OSError as error:
        return (
            f"the kernel may choose the guard itself: oom_score_adj stays {now}: {error.strerror} "
            "(CAP_SYS_RESOURCE, or OOMScoreAdjust= in the unit)"
        )
    return None
