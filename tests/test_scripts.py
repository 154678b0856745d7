"""What an interpreter runs, and whose lives are compared: those of one script, never of many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.engine import Engine
from watchdog.facts import EntityRecord, Event, Host, Sweep, Who
from watchdog.history import lives, scripts
from watchdog.history.lives import Programs
from watchdog.history.world import World
from watchdog.policy.rules import default_rules

MIB = 1 << 20
T0, UP0 = 1_700_000_000.0, 21600.0
PYTHON = "/usr/bin/python3.11"
LIFE_S = 92
LOGIN = "user@1000.service"


def follow(cmdlines, exe=PYTHON, comm="python3", unit=None, parent=None, retitle=None):
    """Lives one after the other, each of 92 s and rising by 80 MiB; `parent` is a command line.

    `retitle`: the command line that each has from its second look on, with its number in it.
    """
    facts = []
    for number, cmdline in enumerate(cmdlines):
        pid, birth = 3000 + number, number * LIFE_S
        ticks = int((UP0 + birth) * 100)
        for age in range(0, LIFE_S, 4):
            t, up = T0 + birth + age, UP0 + birth + age
            facts.append(Host(t, up, "b0000000", T0 - UP0, 24000 * MIB, 20000 * MIB, 0, 0))
            rows = [(pid, ticks, comm, (20 + age * 80 // LIFE_S) * MIB, 0, None, unit, None)]
            if parent is not None:
                rows.insert(0, (900, 100, comm, 12 * MIB, 0, None, unit, None))
            if parent is not None and not number and not age:
                facts.append(Who(t, up, 900, 100, 1, 33, exe, "/x", cmdline=parent, build="1"))
            if not age or (retitle and age == 4):
                line = cmdline if not age else f"{retitle}{number}"
                above = 1 if parent is None else 900
                facts.append(Who(t, up, pid, ticks, above, 33, exe, "/x", cmdline=line, build="1"))
            facts.append(Sweep(t, up, tuple(rows), census=True))
    end = len(cmdlines) * LIFE_S
    facts.append(Sweep(T0 + end, UP0 + end, (), census=True))
    engine = Engine(default_rules(), None)
    out = [one for fact in facts for one in engine.feed(fact) if isinstance(one, Event)]
    return [one for one in out if one.kind == "leak.advisory"]


SIX = ["import.py", "/opt/a/sync.py --once", "-m http.server 80", "-u train.py", "-X dev /x/y.py"]
SIX = [f"python3 {rest}" for rest in (*SIX, "-W ignore report.py")]


@pytest.mark.parametrize("unit", [None, LOGIN, "session-3.scope"])
@pytest.mark.parametrize("parent", [None, "python3 run.py"])
def test_scripts_that_follow_each_other_are_no_lives_of_one_program(unit, parent):
    assert follow(SIX, unit=unit, parent=parent) == []


@pytest.mark.parametrize("cmdline", [None, "python3", "python3 -", "python3 -c code()"])
def test_where_no_program_is_known_nothing_is_told_of_its_lives(cmdline):
    assert follow([cmdline] * 6) == []
    assert follow([cmdline] * 6, exe=None) == []
    assert len(follow([cmdline] * 6, unit="shop.service")) == 1, "its unit is known"


@pytest.mark.parametrize("unit", [None, LOGIN, "shop.service"])
def test_a_script_that_is_replaced_and_grows_in_each_life_is_told_once(unit):
    (told,) = follow([f"python3 -u /srv/shop.py --port {8000 + i}" for i in range(6)], unit=unit)
    assert told.body["exe"] == PYTHON and told.because[0].startswith("each of its last ")
    named = "its program is python3.11 /srv/shop.py"
    assert (named in told.because) == (unit != "shop.service")
    assert told.id.endswith(":python3.11-1" if unit == "shop.service" else " /srv/shop.py-1")


def test_scripts_of_one_name_in_two_folders_have_ids_of_their_own():
    one, other = (follow([f"python3 /srv/{shop}/app.py"] * 6)[0] for shop in "ab")
    assert one.id != other.id


def test_workers_of_a_pool_are_told_of_also_when_they_set_a_title_or_are_not_forked():
    shop = "/usr/bin/python3 /usr/bin/gunicorn shop:app"
    assert len(follow([shop] * 6, parent=shop)) == 1
    assert len(follow([shop] * 6, parent=shop, retitle="gunicorn: worker ")) == 1
    titles = [f"gunicorn: worker {i} [shop]" for i in range(6)]
    assert len(follow(titles, parent="gunicorn: master [shop]")) == 1
    spawned = [
        "/usr/bin/python3 -c from multiprocessing.spawn import spawn_main; "
        f"spawn_main(tracker_fd=5, pipe_handle={i}) --multiprocessing-fork"
        for i in range(6)
    ]
    assert len(follow(spawned, parent=shop)) == 1
    assert follow(spawned) == [], "whose they are is not known"


def process(*cmdlines, exe=PYTHON):
    """What runs in a process of which these were told, one after the other."""
    world = World()
    world.take_sweep(Sweep(T0, UP0, ((7, 100, "python3", MIB, 0, None, None, None),), True))
    for cmdline in cmdlines:
        world.take_who(Who(T0, UP0, 7, 100, exe=exe, cmdline=cmdline))
    return world.program((7, 100))[1], world.present.by_pid[7]


def test_a_title_makes_nobody_another_and_an_exec_does():
    whole = f"{PYTHON} /srv/a.py"
    assert process("python3 /srv/a.py", "a: 1 of 9 done", "a: 2 of 9 done")[0] == whole
    assert process("a: 1 of 9 done", "b: 2 of 9 done")[0] == f"{PYTHON} a:"
    assert process("python3 /srv/b.py", None, "python3 /srv/a.py")[0] == whole
    assert process("python3 /srv/b.py", None)[0] == f"{PYTHON} /srv/b.py"
    told = process("python3 /srv/a.py")[1].told()
    assert told.exe == PYTHON and told.cmdline == "python3 /srv/a.py"


@pytest.mark.parametrize(
    ("exe", "cmdline", "found"),
    [
        ("python3.11", "python3 -Im pip install x", "-m pip"),
        ("python3.13", "/usr/bin/python3 -Wignore -mjob 7", "-m job"),
        ("pypy3", "pypy3 -- -odd.py", "-odd.py"),
        ("perl", "/usr/bin/perl -w -T -I lib -MCarp /usr/bin/spamd -d", "/usr/bin/spamd"),
        ("perl", "perl -ne print", None),
        ("perl", "spamd child", "spamd child"),
        ("ruby3.1", "ruby -r bundler/setup -Ilib bin/rails s", "bin/rails"),
        ("ruby3.1", "puma: cluster worker 0: 17 [shop]", "puma: cluster worker"),
        ("node", "node --max-old-space-size 4096 -r dotenv /srv/app.js 1", "/srv/app.js"),
        ("node", "node --max-old-space-size=64 --import x.mjs a.mjs", "a.mjs"),
        ("node", "node --eval code", None),
        ("java", "java -Xmx1g -cp a.jar:b.jar --add-opens x=y com.shop.Main 1", "com.shop.Main"),
        ("java", "/usr/bin/java -Dx=1 -jar /srv/shop.jar --port 1", "-jar /srv/shop.jar"),
        ("java", "java -XX:+UseG1GC -m shop/com.shop.Main", "-m shop/com.shop.Main"),
        ("java", "java -Xmx1g -classpath /srv/lib/a.jar:/srv/li", "/srv/lib/a.jar:/srv/li"),
        ("java", "java @/srv/args", "@/srv/args"),
        ("bash", "/bin/bash -e -o pipefail /srv/job.sh", "/srv/job.sh"),
        ("bash", "-bash", None),
        ("dash", "sh -ec sleep 1; true", None),
        ("php8.2", "php -d memory_limit=1G artisan queue:work", "artisan"),
        ("php8.2", "php -q -f job.php", "-f job.php"),
        ("dotnet", "dotnet exec --depsfile a.json shop.dll", "shop.dll"),
        ("php-fpm8.2", "php-fpm: pool www", None),
        ("postgres", "postgres: checkpointer", None),
        ("python3.11", "[4]", None),
    ],
)
def test_what_an_interpreter_runs(exe, cmdline, found):
    assert scripts.script(f"/usr/bin/{exe}", cmdline, None, "its parent's") == found


EXES = st.sampled_from(["/usr/bin/python3", "/usr/bin/java", "/bin/bash", "/usr/bin/php8.2", "/x"])
WORDS = st.sampled_from(["python3", "java", "-m", "-cp", "-jar", "--", "-", "-c", "-X", "@a", "7"])


@given(EXES, st.lists(WORDS | st.text(max_size=300), max_size=8))
def test_whatever_a_command_line_is_its_program_is_short(exe, words):
    found = scripts.script(exe, " ".join(words), None, None)
    assert found is None or 0 < len(found) <= scripts.SCRIPT_MAX


def test_records_of_a_bare_interpreter_are_read_where_its_unit_says_what_it_is():
    old = Programs()
    for unit in ("", LOGIN, "shop.service"):
        old.seen[unit, PYTHON] = lives._Seen(T0)
    again = Programs()
    for record in old.dump():
        again.load(record)
    assert list(again.seen) == [("shop.service", PYTHON)]
    again.load(EntityRecord(f"life:\x1f{PYTHON} /srv/a.py", "", T0, T0, 0, old.dump()[0].blob))
    assert ("", f"{PYTHON} /srv/a.py") in again.seen


def test_a_script_that_is_called_like_an_interpreter_is_one() -> None:
    for name in ("/usr/bin/bash /srv/bin/node", "/usr/bin/java /usr/share/java"):
        assert not scripts.vague(None, name)
        assert scripts.parts(name) == tuple(name.split(" "))
    assert scripts.vague("user@1000.service", "/usr/bin/python3.11")


def test_an_executable_may_have_a_space_in_its_path() -> None:
    assert scripts.parts("/opt/My App/bin/x") == ("/opt/My App/bin/x", "")
    assert scripts.parts("/opt/My App/python3 -m x") == ("/opt/My App/python3", "-m x")
