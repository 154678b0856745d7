"""Whom a rule is about, who is protected, and what is not known."""

import re
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.facts import Entity, Subject
from watchdog.policy import pattern
from watchdog.policy.match import look, matches, names, protected, selects, weight
from watchdog.policy.rules import Match, Rules, Selector, default_rules, from_plain, to_plain
from watchdog.policy.tries import Tries


def process(
    comm: str | None = "shop", exe: str | None = "/usr/bin/shop", **more: object
) -> Subject:
    entity = {"pid": 7, "start": 9, "comm": comm, "exe": exe, "uid": 33, "unit": "shop-1.service"}
    own = {key: more.pop(key) for key in list(more) if key in Entity._fields}
    return Subject("7:9", Entity(**(entity | own)), False)._replace(**more)  # type: ignore[arg-type]


def unit(name: str) -> Subject:
    return Subject(f"unit:{name}", Entity(unit=name), True)


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        (Match(name=("shop",)), True),
        (Match(name=("SHOP",)), False),
        (Match(name=("x", "sh*")), True),
        (Match(unit=("shop-*.service",)), True),
        (Match(unit=("shop-*.service",), name=("other",)), False),
        (Match(exe=("/usr/bin/*",)), True),
        (Match(exe=("shop",)), False),
        (Match(user=(33, 34)), True),
        (Match(user=(0,)), False),
        (Match(cmdline=("~--mode=(eu|us)",)), True),
        (Match(cmdline=("~^--mode",)), False),
        (Match(cmdline=("shop --mode*",)), True),
        (Match(cgroup=("/system.slice/*",)), True),
        (Match(container=("web*",)), False),
        (Match(min_age_s=10, min_resident=100), True),
        (Match(min_age_s=100), False),
        (Match(min_resident=1000), False),
        (Match(), True),
    ],
)
def test_every_key_must_match_and_one_entry_of_it(match: Match, holds: bool) -> None:
    s = process(cmdline="shop --mode=eu", cgroup="/system.slice/shop-1.service", age_s=50.0,
                resident_bytes=500)  # fmt: skip
    assert matches(match, s) is holds


@pytest.mark.parametrize(
    ("match", "missing"),
    [
        (Match(name=("shop",)), "comm"),
        (Match(exe=("/x",)), "exe"),
        (Match(user=(0,)), "uid"),
        (Match(cmdline=("~x",)), "cmdline"),
        (Match(cgroup=("/x",)), "cgroup"),
        (Match(container=("x",)), "cgroup"),
        (Match(min_age_s=1), "age"),
        (Match(min_resident=1), "resident"),
    ],
)
def test_what_is_not_known_cannot_be_judged(match: Match, missing: str) -> None:
    s = process(comm=None, exe=None, uid=None)
    assert look(match, s) == (None, missing, ())
    # a key that fails decides without it
    assert matches(match._replace(unit=("other.service",)), s) is False


def test_who_is_in_no_container_or_unit_is_known_to_be_in_none() -> None:
    s = process(cgroup="/x", unit=None)
    assert matches(Match(container=("x",)), s) is False
    assert matches(Match(unit=("*",)), s) is False


def test_a_unit_has_no_name_and_no_command_line() -> None:
    s = unit("shop-1.service")
    assert matches(Match(name=("*",)), s) is False
    assert matches(Match(cmdline=("*",)), s) is False
    assert matches(Match(cgroup=("*",)), s) is False
    assert look(Match(unit=("shop-*",)), s).because == ("unit shop-1.service matches shop-*",)


def test_a_cut_name_is_completed_by_the_executable() -> None:
    cut = process("prometheus-node", "/usr/bin/prometheus-node-exporter")
    assert matches(Match(name=("prometheus-node-exporter",)), cut)
    assert matches(Match(name=("prometheus-node",)), cut)
    # 15 bytes, but no beginning of the executable's name: an interpreter
    other = process("fifteen-letters", "/usr/bin/python3.11")
    assert matches(Match(name=("python3.11",)), other) is False
    assert names(process("prometheus-node", None)) == (("prometheus-node",), False)
    assert look(Match(name=("prometheus-node-exporter",)), process("prometheus-node", None)) == (
        None, "exe", (),
    )  # fmt: skip
    # a short name is the whole name
    assert matches(Match(name=("python3.11",)), process("worker", "/usr/bin/python3.11")) is False


def rules(**selector: object) -> Rules:
    return Rules(protect=Selector(**selector))  # type: ignore[arg-type]


def test_a_protected_name_wants_a_trusted_executable() -> None:
    by_name = rules(name=("sshd",))
    assert protected(by_name, process("sshd", trusted=True)) == (
        "name sshd is protected (protect.name sshd)"
    )
    assert protected(by_name, process("sshd", trusted=False)) is None
    # where it cannot be looked at a system account is believed
    assert "not known" in str(protected(by_name, process("sshd")))
    assert "not known" in str(protected(by_name, process("sshd", uid=None)))
    assert protected(rules(name_unverified=("sshd",)), process("sshd", trusted=False))


def test_a_protected_executable_must_be_roots_too() -> None:
    by_exe = rules(exe=("/usr/sbin/sshd",))
    assert protected(by_exe, process("x", "/usr/sbin/sshd", trusted=True))
    assert protected(by_exe, process("x", "/usr/sbin/sshd (deleted)", trusted=True))
    assert protected(by_exe, process("x", "/usr/sbin/sshd", trusted=False)) is None
    assert protected(by_exe, process("x", None)) is None


@pytest.mark.parametrize("uid", [1000, 65534, 100_000, 1_000_000_000])
def test_a_person_cannot_hide_an_executable_and_be_protected_for_it(uid: int) -> None:
    """His own FUSE mount in his own namespace refuses root, and can show any path."""
    hidden = process("sshd", "/usr/sbin/sshd", uid=uid)
    assert protected(rules(name=("sshd",)), hidden) is None
    assert protected(rules(exe=("/usr/sbin/sshd",)), hidden) is None
    assert protected(default_rules(), hidden) is None


def test_units_users_scores_and_the_first_processes_are_protected() -> None:
    assert protected(rules(), process(pid=1)) == "it is PID 1"
    assert protected(rules(), process(pid=2)) == "it is PID 2"
    assert protected(rules(unit=("shop-*",)), process())
    assert protected(rules(unit=("shop-*",)), unit("shop-2.service"))
    assert protected(rules(user=(33,)), process())
    assert protected(rules(user=(33,)), process(uid=None)) is None
    assert protected(rules(), process(oom_score_adj=-900)) == "its oom_score_adj is -900"
    assert protected(rules(), process(oom_score_adj=-899)) is None
    assert protected(rules(), unit("a.service")) is None


@pytest.mark.parametrize(
    "name",
    ["ssh.service", "systemd-journald.service", "dbus.service", "getty@tty1.service",
     "serial-getty@ttyS0.service", "docker.service", "containerd.service", "init.scope"],
)  # fmt: skip
def test_what_is_protected_from_the_start(name: str) -> None:
    assert protected(default_rules(), unit(name))


def test_a_name_below_a_delegated_subtree_protects_nobody() -> None:
    forged = process("sshd", "/home/x/sshd", uid=1000, unit="user@1000.service",
                     inner="postgresql.service", trusted=False)  # fmt: skip
    assert protected(Rules(protect=Selector(unit=("postgresql*",), name=("sshd",))), forged) is None


def test_weights() -> None:
    both = Rules(prefer=Selector(unit=("shop-*",), name=("a",)), avoid=Selector(name=("redis",)))
    assert weight(both, process()) == 1
    assert weight(both, process("redis")) == -1  # avoid goes first
    assert weight(Rules(), process(oom_score_adj=5)) == 1
    assert weight(Rules(), process(oom_score_adj=-5)) == -1
    assert weight(Rules(), process(oom_score_adj=-950)) == 0
    assert weight(Rules(), process()) == 0
    assert selects(Selector(user=(33,)), process()) == "user 33"
    assert selects(Selector(container=("w*",)), process(container="web")) == "container w*"
    assert selects(Selector(name=("x",)), process()) is None


def test_what_the_administrator_said_to_systemd_oomd_counts() -> None:
    assert protected(rules(), process(oomd="omit")) == (
        "unit shop-1.service is omitted by the administrator (ManagedOOMPreference=omit)"
    )
    assert protected(rules(), unit("a.service")._replace(oomd="omit"))
    assert protected(rules(), process(oomd="avoid")) is None
    assert weight(Rules(), process(oomd="avoid", oom_score_adj=500)) == -1
    assert weight(Rules(prefer=Selector(unit=("shop-*",))), process(oomd="avoid")) == 1


def test_the_rules_survive_json() -> None:
    assert from_plain(to_plain(default_rules())) == default_rules()
    assert from_plain({}) == default_rules()


# ---- patterns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "regex",
    ["(a+)+", "(a*)*b", "(a|b)*", "(a?a?)*", "(x(y+)z){2,}", "(?:a+)+", "(a{1,3}){5}",
     r"(\w+\s?)*x", "((ab)*c)+", "(a+?)+"],
)  # fmt: skip
def test_a_repeat_around_a_repeat_or_a_choice_is_refused(regex: str) -> None:
    assert "around a repeat" in str(pattern.regex_flaw(regex))


@pytest.mark.parametrize(
    "regex",
    ["java.*-jar", "(a|b)c", "(a+)b", "[*+(|]+x", r"\(a\+\)+", "(abc)+", "a{2,3}", "x{,}", "a{2",
     "a{}", "(a+)?", "[]a]+b", "[^]a]+", r"[\]]+", "(?i)abc", r"\bfoo\b", "a?b?", "a++b", "^a$",
     "(?:abc)+", "(?P<x>ab)*c", "(?i:ab){2,}"],
)  # fmt: skip
def test_other_regexes_are_taken(regex: str) -> None:
    assert pattern.regex_flaw(regex) is None


def test_other_reasons_to_refuse_a_regex() -> None:
    assert "not a regular expression" in str(pattern.regex_flaw("(a"))
    for reference in (r"(a)\1", "(?P<x>a)(?P=x)", "(a)?(?(1)b|c)"):
        assert "back-reference" in str(pattern.regex_flaw(reference))


@pytest.mark.parametrize(
    "regex",
    ["(?x) a # ) (", "(?x)(a+) +b", "(?x:(a+) +b)", "(?ix:a) b", "a(?sx-i:(b # ) (\n))", "(?x)"],
)
def test_blanks_and_comments_hide_what_is_repeated(regex: str) -> None:
    assert "the flag x" in str(pattern.regex_flaw(regex))


def test_a_comment_could_hide_a_repeat_and_other_flags_are_taken() -> None:
    assert "a comment" in str(pattern.regex_flaw("(?#[)(a+)+b]"))
    for regex in ("(?i)ab", "(?s-i:x)", "(?i-x:x)", "(?:x)", "(?=x)", "(?P<x>x)", "(?<!x)"):
        assert pattern.regex_flaw(regex) is None


def tries(regex: str, text: str) -> int:
    """How often a backtracking matcher looks at an element of `regex` (letters and `.*`).

    It is counted by how often each element is arrived at with each rest of the text; all of it, as
    where nothing matches in the end.
    """
    elements = re.findall(r"\^|\.\*|.", regex)
    arrivals = [1] * (len(text) + 1)  # a search begins anywhere
    total = 0
    for element in elements:
        total += sum(arrivals)
        if element == "^":
            arrivals = [1] + [0] * len(text)
        elif element == ".*":
            arrivals = list(accumulate(arrivals))
        else:
            arrivals = [0] + [
                n if c == element else 0 for n, c in zip(arrivals, text, strict=False)
            ]
    return total


@pytest.mark.parametrize(("regex", "sees"), [
    ("x", 1024), ("x.*y", 1024), ("^x.*x.*y", 1024), ("x.*x.*y", 286), ("^x.*x.*x.*y", 286),
    ("x.*x.*x.*y", 96), ("^x.*x.*x.*x.*y", 96), ("x.*x.*x.*x.*y", 0), ("^x.*x.*x.*x.*x.*y", 0),
])  # fmt: skip
def test_the_more_repeats_the_less_a_regex_sees_so_that_it_never_takes_long(
    regex: str, sees: int
) -> None:
    """`x` is the worst that anybody can write there; 130 of them once took a fifth of a second."""
    if not sees:
        assert "can take for ever" in str(pattern.regex_flaw(regex))
        return
    assert pattern.regex_flaw(regex) is None
    assert pattern.sight(regex) == sees
    assert tries(regex, "x" * sees) <= 3 * pattern.WAYS_MAX
    if regex != "x":
        assert pattern.first_cmdline((f"~{regex}",), "x" * (sees - 1) + "y")
        assert pattern.first_cmdline((f"~{regex}",), "x" * sees + "y") is None


def test_the_worst_that_was_taken_before_is_refused_now() -> None:
    assert tries("x.*x.*x.*x.*y", "x" * 130) > 3 * pattern.WAYS_MAX
    for regex in ("x.{0,99}x.{0,99}x.{0,99}x.{0,99}y", "x{,}" * 4 + "y", "a?" * 20 + "b",
                  "(a|ab)" * 20, "a{0,9}" * 7, "a*a*a*a*b", "(a*)(a*)(a*)(a*)", r"\d+" * 4 + "x",
                  r"\w*\d*\S*.*x", r"(?i)k*[^b]*K*\w*k"):  # fmt: skip
        assert 'behind a "^"' in str(pattern.regex_flaw(regex)), regex


def test_what_can_never_be_tried_again_is_taken_at_its_worst() -> None:
    for regex in ("a*b*c*d*", "x{,}" * 4, "a*a*a*a*", ".*.*"):
        assert (pattern.regex_flaw(regex), pattern.sight(regex)) == (None, 1024), regex
    assert pattern.sight("x.*x.*x*") == 1024 > pattern.sight("x.*x.*x*y")
    assert pattern.sight("x.*x.*x+") == 286, "the x that must be there can fail"


ELASTIC = (
    "/usr/share/elasticsearch/jdk/bin/java -Xshare:auto -Des.networkaddress.cache.ttl=60 "
    "-XX:+AlwaysPreTouch -Xss1m -Djava.awt.headless=true -Dfile.encoding=UTF-8 -Xms4g -Xmx4g "
    "-cp /usr/share/elasticsearch/lib/* org.elasticsearch.bootstrap.Elasticsearch -p x.pid"
)


@pytest.mark.parametrize(("regex", "line", "sees"), [
    (r".*java.*bootstrap\.Elasticsearch.*", ELASTIC, 1024),
    (r"(?i).*JAVA.*?bootstrap\.elasticsearch.*?$", ELASTIC, 1024),
    (r"ruby .*sidekiq \d+\.\d+\.\d+", "ruby /usr/bin/sidekiq 6.5.12 app", 900),
    (r"python\d*(\.\d+)? .*train.*\.py", "/usr/bin/python3.11 -u /srv/train/main.py", 180),
    (r"java.*-D\S+=\S+.*Main", "java -Xmx4g -Dx.y=z -cp a.jar org.shop.Main", 70),
    (r"\d+\.\d+\.\d+\.\d+", "server --listen 10.0.0.1:80", 1024),
    (r"java .*-jar .*\.jar", "java " + "-Dx=y " * 100 + "-jar /srv/shop.jar", 800),
    (r"/opt/[^/]+/bin/\w+", "sh -c " + "x" * 900 + " /opt/shop/bin/run", 1024),
    (r"^(\d+)\.(\d+)?-[^ ]* .*x .*y", "1.2-a bx y", 1024),
])  # fmt: skip
def test_ordinary_regexes_are_taken_and_see_enough(regex: str, line: str, sees: int) -> None:
    assert pattern.regex_flaw(regex) is None
    assert pattern.sight(regex) >= sees
    assert pattern.first_cmdline((f"~{regex}",), line)


KEEP = r"~python(?!.*--keep).*train.*\.py"


def test_a_cut_never_adds_whom_a_regex_excludes() -> None:
    """A policy that kills by it would kill the one it was to spare."""
    line = "python /srv/train.py " + "-x " * 600
    assert pattern.first_cmdline((KEEP,), line[:90])
    assert pattern.first_cmdline((KEEP,), line[:90] + " --keep") is None
    assert pattern.first_cmdline((KEEP,), line + "--keep") is None
    assert pattern.first_cmdline((KEEP,), line[:1024]) is None, "what is read ends there"
    sees = pattern.sight("x.*x.*x.*y")
    for end in ("$", r"\Z", "(?! z)"):
        regex = f"~x.*x.*x.*y{end}"
        assert pattern.first_cmdline((regex,), "xxx y") == regex
        assert pattern.first_cmdline((regex,), "x" * (sees - 1) + "y z") is None
    assert pattern.first_cmdline((r"~x.*x.*x.*y\b",), "x" * (sees - 1) + "yz") is None
    assert pattern.first_cmdline((r"~x.*x.*x.*y\b",), "xxx y" + " z" * sees), "no word is cut"


def test_a_glob_is_about_the_whole_line_also_where_that_is_cut() -> None:
    assert pattern.first_cmdline(("x*y",), "x" * 1023 + "yz") is None
    assert pattern.first_cmdline(("x*y*",), "x" * 1023 + "yz") == "x*y*"


PIECES = ["a", "b", ".*", "a+", "b?", "$", r"\b", r"\B", "(?!b)", "(?=.*b)", "(?<!a)", "(?>a|ab)",
          "(ab)?+", "a*+", r"\Z", " ", "|", r"\w+", "^", "(a|ab)", r"\.*"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.text("ab _.", max_size=12),
       st.integers(0, 12))  # fmt: skip
def test_what_matches_in_a_part_of_a_line_matches_in_the_whole(
    regex: str, text: str, sees: int
) -> None:
    try:
        plain = re.compile(regex)
    except re.error:
        return
    plan = pattern._plan(regex)
    whole = plain.search(text) is not None
    assert pattern._found(plan, text, False) == whole
    if pattern._found(plan._replace(sight=sees), text, False):
        assert whole


WORDS = ["x", "xy", "java", "aab", "train"]


@given(
    st.lists(st.sampled_from([*WORDS, ".*"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
)
def test_no_text_is_tried_more_often_than_is_said(pieces: list[str], words: list[str]) -> None:
    regex = "".join(pieces) + "#"
    text = ("".join(words) * 150)[:150]
    count = len(re.findall(r"\.\*|.", regex))
    assert tries(regex, text) <= count * Tries(regex).ways(len(text))


def test_a_choice_is_as_dear_as_its_worst_branch() -> None:
    names = "|".join(f"name{number}?" for number in range(300))
    assert pattern.regex_flaw(f"({names})") is None
    assert pattern.sight(f"({names})") == 1024
    assert pattern.sight("(a.*b|c.*d|e.*f)g") == pattern.sight("a.*bg") == 1024
    assert pattern.sight("(?i)a.*(?:b|c).*(?=d)") == pattern.sight("a.*(b|c).*d")
    assert pattern.sight("^a.*b.*c|d") > pattern.sight("d|^a.*b.*c") == pattern.sight("a.*b.*c|d")
    assert pattern.sight("^a.*b.*c") == pattern.sight(r"\Aa.*b.*c") == 1024


def test_a_regex_sees_no_more_than_its_share_of_a_command_line() -> None:
    assert pattern.first_cmdline(("~needle",), "x" * 1010 + "needle") == "~needle"
    assert pattern.first_cmdline(("~needle",), "x" * 1020 + "needle") is None
    assert pattern.first_cmdline(("nothing", "x*"), "xyz") == "x*"


def test_a_literal_matches_only_itself() -> None:
    assert pattern.is_literal("shop-1.service")
    assert not pattern.is_literal("shop-*.service")
    assert not pattern.is_literal("~shop")


@given(st.text(), st.text())
def test_any_text_is_a_pattern_and_any_text_is_a_name(one: str, other: str) -> None:
    assert pattern.hit("*", other)
    pattern.hit(one, other)
    pattern.regex_flaw(one)
