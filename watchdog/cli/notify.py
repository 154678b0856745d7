"""`oom-watchdog notify --test NAME`: send a test, the way a real one goes, and say how it ended."""

import json
import os
import sys
import time

from watchdog import words
from watchdog.cli import args as common
from watchdog.cli import asking

ARRIVED_S = 150.0  # the sender has two minutes, the daemon looks every 5 s


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "notify",
        "Prove that a notification arrives. Where the daemon runs it is asked to send one, on the "
        "way that a real one takes; else, and with --direct, it is sent from here. Exit status "
        "1: it did not arrive.",
        "oom-watchdog notify --test ops",
    )
    parser.add_argument("--test", metavar="NAME", help="send a test to this [notify.NAME]")
    parser.add_argument("--direct", action="store_true", help="from here, without the daemon")
    parser.add_argument("--deliver", action="store_true",
                        help="send the outbox: what oom-watchdog-notify.service runs")  # fmt: skip
    options = parser.parse_args(argv)
    if options.deliver:
        from watchdog.tell import send

        return send.main([])
    if options.test is not None and not options.direct and asking.is_running(options.state):
        try:
            found = _by_daemon(options.test, options.state)
        except asking.AskError as error:
            return asking.failed(error)
        way = "by the daemon"
    else:
        rules = common.load_rules(options.config)
        if options.test is None:
            parser.error("which one? --test NAME" + _known(list(rules.notify)))
        if options.test not in rules.notify:
            near = words.nearest(options.test, rules.notify) or _known(list(rules.notify))
            common.complain(f"no [notify.{words.safe(options.test)}] in the configuration{near}")
            return common.USAGE
        from watchdog.cli import sending

        found = sending.once(options.test, rules.notify[options.test])
        way = "from here"
    problem, took_s = found
    if options.json:
        print(json.dumps({"notifier": options.test, "arrived": problem is None, "why": problem,
                          "way": way, "took_s": round(took_s, 1)}))  # fmt: skip
    elif problem is None:
        print(f"{options.test}: sent {way}, in {words.duration(took_s)}; look whether it is there")
    else:
        print(f"{options.test}: not sent {way}: {words.safe(problem)}", file=sys.stderr)
    return common.NOTHING if problem else 0


def _known(names: list[str]) -> str:
    if not names:
        return ": there is no [notify.NAME] at all"
    return f" ({', '.join(words.safe(name) for name in names)})"


def _by_daemon(name: str, state: str | None) -> tuple[str | None, float]:
    """(why it did not arrive or None, seconds). Raises AskError."""
    began = time.monotonic()
    one = f"watchdog.test-{os.getpid()}-{time.time_ns():x}"
    request, _ = asking.ask(state, {"do": "notify-test", "notifier": name, "id": one})
    if not asking.is_taken(state, request):
        return "the daemon did not take the request", time.monotonic() - began
    if (now := asking.seen(state)) is None or now.data.get("notify") is None:
        return "the daemon's configuration has no [notify.NAME]", time.monotonic() - began
    while time.monotonic() - began < ARRIVED_S:
        found = asking.seen(state)
        told = found.data.get("notify") if found else None
        last = told.get("last", {}).get(name, {}) if isinstance(told, dict) else {}
        if last.get("id") == one:
            return last.get("why"), time.monotonic() - began
        if isinstance(told, dict) and told.get("held"):
            print("memory is short: it is held back for a while", file=sys.stderr)
            time.sleep(5)
        time.sleep(0.2)
    return f"no answer within {words.duration(ARRIVED_S)}", time.monotonic() - began
