"""Pure: what programs, pagers, mails and forums put before a line of the kernel log, taken off.

Piece by piece, by shape. What a piece tells is kept: the kernel's clock, a date, and whether the
line is the kernel's own. `anchored` says that a piece came that only a log of the kernel has, so
that the kernel's text begins right here.
"""

import re
from typing import NamedTuple

PREFIX_MAX = 240  # what stands before the kernel's clock in any capture is shorter

# how the lines of a report begin
START = (
    r"(?:.{0,40} invoked oom|(?:Memory cgroup out|Out) of memory|[Kk]illed process \d|oom-kill:"
    r"|[Kk]ill process \d|Tasks? in /|\[\s*pid\s*\]|\[\s*\d{1,10}\]\s+\d|Mem-Info|Call [Tt]race"
    r"|C?PU: \d|Pid: \d|oom_reaper|memory: usage|memory\+swap: |swap: usage|kmem: usage"
    r"|Memory cgroup |Node \d|Tasks state|Kernel panic|Hardware name|RIP: |Free swap|Total swap"
    r"|\d+ pages |\[\.\.\.\]|\.\.\.$)"
)

_BLANK = "[\\s>\0\u200b\ufeff\u2502\u2503\u2551]"
_QUOTE = re.compile(_BLANK + "+")
# marks of pagers, mails, forums and tools, where a blank or a prefix follows: a piece of a wrapped
# line can begin with the same characters
_MARK = re.compile(
    r"(?:[|*#:+-]|//|;)(?=[ \t])"
    r"|[|+`\"'-](?=\[ *\d|<\d|\d{1,3},\d+,\d+,|\[[A-Za-z]|kern|[A-Z][a-z]{2} +\d|" + START + ")"
    r"|\*\*|`{1,3}|\"(?=[A-Za-z\[<])"
)
TAG = (
    r"(?:</?(?:pre|p|div|span|code|tt|br|td|tr|th|li|ul|ol|blockquote|font|b|i|u|strong|em|samp|kbd"
    r"|html|body|table|entry|event|line|log|message|msg|record|row|text)(?:\s[^<>]{0,80})?/?>)+"
)
_TAG = re.compile(TAG, re.IGNORECASE)
_PRIO = re.compile(r"<(\d{1,3})>(?:1 )?|<(kern|user|daemon|syslog|auth|local\d)\.[a-z]{3,7}> ?")
_CLOCK = re.compile(
    r"\[ {0,12}(\d{1,9})\.(\d{1,9})(?:(?: <[ \d.+-]{1,16}>)? ?\]"
    r"| / \d\d-\d\d [\d:.]{8,15}\](?:\[\d{1,2}\])?) ?"
)
# what the kernels of telephones put behind the clock: the CPU, and the task that printed
_VENDOR = re.compile(
    r" ?-?\(\d{1,2}\)\[\d{1,10}:[^\[\]]{1,20}?\] ?|c\d{1,2} {1,6}\d{1,10} "
    r"| ?\[\d{1,2}: {0,15}[^\[\]]{1,20}?: {0,10}\d{1,10}\] | ?\(CPU:\d{1,2}-pid:[^()]{1,40}\) ?"
)
_DELTA = re.compile(
    r"\[<?[ +]{0,8}\d{1,9}\.\d{3,9}>?\] ?|\[\w{2,5}\.? ?\d{1,2} \d\d:\d\d(?::\d\d)?\] ?"
)
_CALLER = re.compile(r"\[\s*([TC]\d{1,9})\]\s?")
_DATE = re.compile(
    r"\[([^\[\]<>]{0,40}?\d\d?:\d\d:\d\d(?![^\]]{0,8} (?:TRACE|DEBUG|INFO|WARN|ERROR|FATAL))"
    r"[^\[\]<>]{0,16}?)(?: <[ \d.+-]{1,16}>)?\](?:: |\s)?"
)
_LEVEL = re.compile(
    r"(kern|user|daemon|syslog|auth|authpriv|mail|cron|local\d)(?: {0,6}: {0,6}[a-z]{3,7} {0,6}: ?"
    r"|\.[a-z]{3,7}(?:: ?| (?=kernel|\[)))"
)
_STAMP = re.compile(
    r"((?:\w{2,4}\.?,? )?\w{2,5}\.? +\d{1,2} \d\d:\d\d:\d\d(?:\.\d+)?(?: [12]\d{3})?"
    r"|(?:\w{2,4}\.?,? )?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?"
    r"(?: ?[+-]\d\d:?\d\d|Z| [A-Z]{3,4}(?= ))?"
    r"|\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?|1\d{9}\.\d{6})(?:\s+|$)"
)
_IDENT = re.compile(
    r"(?:(?P<host>\S+) +)?(?:(kern)\.[a-z]{3,7} )?(kernel|klogd|vmunix)(?:\[[\dn/a]{1,10}\])?"
    r": ?(?:- - - )?"
    r"|(?P<name>\S+) kernel - - (?:- |\[[^\]]{0,200}\] )"
)
# no sequence number and no level, which differ from line to line
_HOST = re.compile(r"(?!(?:kern|user|daemon)\.)(?=[\w.:-]{0,64}[A-Za-z.:])[A-Za-z0-9][\w.:-]{1,64}")
_STREAM = re.compile(r"std(?:out|err) [FP] ")
_FOREIGN = re.compile(
    r"[\w.:%-]{1,64} +(?:(?:user|daemon|auth|authpriv|mail|cron|local\d)\.[a-z]{3,7} )?"
    r"[\w./@()-]{1,64}(?:\[\d+\])?: "
)
_COMM_OF_WORDS = re.compile(r"[^\[]{1,15} invoked oom-killer: gfp_mask=0x")
_NUMBER = re.compile(
    r"(?:[\w./-]{1,200}:)?\d{1,9}(?:[:-]|\t) ?(?=\[ *\d|<\d|\[[A-Z]|\w{3} +\d|\d{4}-)"
    r"|\d{1,7}\t|\d{1,6}[.:)]? {1,4}(?=" + START + r"|\s?(?:in)?active_|\s?(?:unevictable|slab_\w+"
    r"|mapped|free|shmem|kernel_misc_reclaimable|sec_pagetables):\d|lowmem_reserve|(?:Normal|DMA|DMA32"
    r"|HighMem) (?:free|per-cpu):)"
)
_LOGCAT = re.compile(r"(?:root +)?\d+ +\d+ [VDIWEF] (kernel)? *: ")
_RELAY = re.compile(
    r"[\w.:-]{1,64}: +(?=kern|[A-Z][a-z]{2} +\d|\d{4}-\d\d|\[\w{2,4}\.? \w{2,5}\.? )"
    r"|[\w.:-]{1,64} {1,8}\| (?=\s*\S)"
)
_LABELS = re.compile(r'\{[A-Za-z_]\w{0,40}="[^{}]{0,400}\} ?')  # as Loki prints them
_NESTED = re.compile(r"\S{1,64} +(?=[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d \S+ kernel)")
# the kernel's clock further in, behind something that nobody here has seen before
_DEEP = re.compile(
    r"(?:<\d{1,2}>)?\[ {0,12}\d{1,9}\.\d{6}\](?=[ \[])"
    r"|\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\](?= )"
)
# how the programs that are not the kernel write of anything
_PROGRAM = re.compile(
    r"(?:\[[^\]]{0,60}\] *|\S{1,40} +){0,3}?[\[(<|*-]{0,3}(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING"
    r"|ERROR|CRITICAL|FATAL|SEVERE)[\])>|*:]{0,2}(?=[\s:-])"
    r"|[IWEF]\d{4} \d\d:\d\d:\d\d|time=\"|ts=\d|level=|msg=|type=[A-Z_]{3,30} msg=audit"
    r"|audit(?:\(|: )|[\d.:a-f]{7,45} [^\s\[]+ [^\s\[]+ \[|\[(?:[a-z]{3,7}|\w{2,16}:[a-z]{3,7})\] "
)


class Prefix(NamedTuple):
    """What stood before the text, which begins at `at`; see `lines.Line` for the rest."""

    at: int
    usec: int | None
    stamp: str | None
    kernel: bool
    own: bool
    anchored: bool
    mark: str
    caller: str | None
    host: str | None


def strip(text: str) -> Prefix:
    """The prefix of a line of text. Never raises."""
    usec: int | None = None
    stamp: str | None = None
    kernel, own, anchored = True, False, False
    at, mark = 0, ""
    caller: str | None = None
    host: str | None = None
    for _ in range(12):
        found = _QUOTE.match(text, at)
        if found:
            at = found.end()
        char = text[at : at + 1]
        step: re.Match[str] | None = None
        if char == "<":
            step = _PRIO.match(text, at)
            if step:
                kernel = kernel and (step[2] == "kern" if step[2] else int(step[1]) < 8)
            else:
                step = _TAG.match(text, at)
                if step:
                    at = step.end()
                    continue
        elif char == "[":
            step = _CLOCK.match(text, at)
            if step:
                anchored = True
                usec = int(step[1]) * 1_000_000 + int(step[2][:6].ljust(6, "0"))
                step = _VENDOR.match(text, step.end()) or step
            else:
                step = _CALLER.match(text, at)
                if step:
                    caller = step[1]
                else:
                    step = _DELTA.match(text, at)
                if step is None:
                    step = _DATE.match(text, at)
                    stamp = step[1] if step else stamp
        elif char == "{":
            step = _LABELS.match(text, at)
        elif char in "|*#:+-/;`\"'" and char:
            step = _MARK.match(text, at)
            if step:
                at, mark = step.end(), char
                continue
        else:
            step = _STAMP.match(text, at)
            if step:
                stamp = step[1]
                end = step.end()
                nested = _NESTED.match(text, end)
                stream = _STREAM.match(text, end) or _LOGCAT.match(text, end)
                ident = _IDENT.match(text, end)
                if nested or stream or ident:
                    anchored = anchored or ident is not None
                    if ident:
                        host = ident["host"] or ident["name"]
                    step = nested or stream or ident
                elif _FOREIGN.match(text, end) and not _COMM_OF_WORDS.match(text, end):
                    kernel = False
            else:
                step = _LEVEL.match(text, at)
                if step:
                    kernel = kernel and step[1] == "kern"
                    anchored = anchored or kernel
                else:
                    step = _IDENT.match(text, at)
                    if step:
                        anchored, host = True, host or step["host"] or step["name"]
                    if step is None:
                        relay = _RELAY.match(text, at)
                        if relay:
                            at = relay.end()
                            continue
                        step = _NUMBER.match(text, at)
        if not step:
            break
        own, at = True, step.end()
    if kernel and not anchored:
        deep = _DEEP.search(text, at, at + PREFIX_MAX)
        if _PROGRAM.match(text, at):
            kernel = False
        elif deep and not _FOREIGN.match(text, at):
            inner = strip(text[deep.start() :])
            return inner._replace(at=deep.start() + inner.at, stamp=inner.stamp or stamp)
    host = host if host and _HOST.fullmatch(host) else None
    return Prefix(at, usec, stamp, kernel, own, anchored, mark, caller, host)
