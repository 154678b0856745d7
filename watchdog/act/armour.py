"""What keeps the guard alive and awake while everybody else waits for memory.

Each function answers None, or in one sentence why it was not granted; nothing here is fatal.
"""

import gc
import os

OOM_SCORE_ADJ = -950  # not -1000: with a limit of our own that would be a hang
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


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
    except (ImportError, OSError, AttributeError) as error:
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
