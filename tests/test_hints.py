"""Where a leak lies: the parts of real processes, recorded on Linux 6.18, and what is said."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from watchdog import parts, procfs, trace
from watchdog.engine import Engine
from watchdog.facts import Event, Group, Look, Parts, Sweep, Who
from watchdog.history.entities import Trend
from watchdog.history.world import World
from watchdog.judge import hints, runtimes
from watchdog.judge.looking import Looking
from watchdog.policy.rules import default_rules
from watchdog.sense import parts as sense_parts

MIB = 1 << 20
RECORDED = json.loads(
    gzip.decompress((Path(__file__).parent / "fixtures/parts.json.gz").read_bytes())
)


def looked(name, number):
    """One look as the daemon makes it, from the recorded texts."""
    one = RECORDED[name]["looks"][number]
    status = procfs.parse_kb(one["status"].encode())
    sums = parts.sort_out(parts.parse_smaps(one["smaps"].encode()))._asdict()
    return Parts(
        100.0 + 15 * number, 50.0 + 15 * number, "x", 7, 700, anon=status["RssAnon"],
        swap=0, threads=status["Threads"], descriptors=one["descriptors"], **sums,
    )  # fmt: skip


def said(name, limit=512 * MIB):
    who = Who(1.0, 1.0, 7, 700, exe=RECORDED[name]["exe"], cmdline=RECORDED[name]["cmdline"])
    found = hints.of_process([looked(name, 0), looked(name, 1)], who, None, limit, 1 << 34)
    assert found is not None and found.grown
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_the_parts_add_up_to_what_the_kernel_says(name):
    for number in (0, 1):
        one = RECORDED[name]["looks"][number]
        rollup = procfs.parse_kb(one["rollup"].encode())
        found = parts.sort_out(parts.parse_smaps(one["smaps"].encode()))
        sums = found.heap + found.arenas + found.stacks + found.mappings + found.files
        # the texts were read one after the other, of a process that went on
        assert abs(sums - rollup["Anonymous"] - rollup["Swap"]) <= 6 * MIB
        assert abs(found.thp - rollup["AnonHugePages"]) <= 2 * MIB
        assert found.maps == one["smaps"].count("VmFlags")


@pytest.mark.parametrize(
    ("name", "part", "runtime", "next_"),
    [
        ("malloc", "heap", "native", "memleak-bpfcc -p 7 10"),
        ("threads", "stacks", "native", "eu-stack -p 7"),
        ("go", "mappings", "go", "go tool pprof http://localhost:PORT/debug/pprof/heap"),
        ("python", "heap", "cpython", "memray attach --aggregate -o /tmp/7.memray 7"),
        ("node", "heap", "node", "memleak-bpfcc -p 7 10"),
        ("nodeheap", "mappings", "node", "kill -USR1 7; node inspect -p 7"),
        ("jvm", "mappings", "jvm", "jcmd 7 GC.class_histogram | head -n 30"),
        ("jvmdirect", "arenas", "jvm", "jcmd 7 VM.info"),
        ("perl", "heap", "perl", "perl -MDevel::MAT::Dumper=-dump_at_SIGQUIT"),
        ("ruby", "heap", "ruby", "rbtrace -p 7 -e "),
        ("shm", "shmem", "cpython", "grep -E -A4 "),
        ("arenas", "arenas", "native", "memleak-bpfcc -p 7 10"),
        ("thp", "mappings", "native", "memleak-bpfcc -p 7 10"),
    ],
)  # fmt: skip
def test_of_real_programs_the_part_that_grows_is_named(name, part, runtime, next_):
    found = said(name)
    assert (found.body["part"], found.body["runtime"]) == (part, runtime)
    assert found.body["next"][0].startswith(next_)
    assert found.because[-1].startswith(f"to see what it keeps: {next_}")
    assert 0 < found.body["grew_bytes"] <= found.body["part_bytes"]
    assert hints.NAMES[part].removeprefix("other ") in found.because[0]
    assert "in 15 s" in found.because[0]


def test_threads_descriptors_arenas_and_huge_pages_are_told():
    assert any("more than when suspected" in one and "threads" in one
               for one in said("threads").because)  # fmt: skip
    assert any("open descriptors, " in one for one in said("shm").because)
    assert any("MALLOC_ARENA_MAX=2" in one for one in said("arenas").because)
    assert any("transparent huge pages" in one for one in said("thp").because)
    assert not any("MALLOC_ARENA_MAX" in one for one in said("go").because)


def test_page_tables_and_hugetlb_are_told_where_they_are_a_relevant_share():
    def because(**beside):
        looks = [
            looked("malloc", 0)._replace(**{key: one for key, (one, _) in beside.items()}),
            looked("malloc", 1)._replace(**{key: two for key, (_, two) in beside.items()}),
        ]
        found = hints.of_process(looks, None, None, None, None)
        return [one for one in found.because if one.startswith("beside that")]

    assert because(pagetables=(MIB, 2 * MIB), hugetlb=(0, 0)) == because(hugetlb=(None, None)) == []
    assert because(pagetables=(40 * MIB, 90 * MIB), hugetlb=(None, 512 * MIB)) == [
        "beside that it has 90.0 MiB of page tables, which the kernel keeps for it (50.0 MiB more "
        "than when suspected)",
        "beside that it has 512 MiB of huge pages of hugetlbfs, which no resident size counts",
    ]


def test_a_cap_is_told_against_the_limit_and_only_of_the_part_that_it_bounds():
    heap, direct = said("jvm"), said("jvmdirect")
    assert heap.body["heap_cap_bytes"] == 400 * MIB and heap.body["heap_cap_from"] == "-Xmx400m"
    assert "it may hold 400 MiB of it (-Xmx400m): it levels off there, or fails by itself" in (
        heap.because
    )
    assert direct.body["heap_cap_from"] == "-XX:MaxDirectMemorySize=1g"
    assert any(one.endswith("the limit comes first") for one in direct.because)
    assert said("python").body["heap_cap_bytes"] is None


@pytest.mark.parametrize(
    ("kind", "cmdline", "most", "said_by"),
    [
        ("jvm", "java -Xmx1g -Xmx512M -jar x", 512 * MIB, "-Xmx512M"),
        ("jvm", "java -XX:MaxRAMPercentage=50.0 -jar x", 500, "-XX:MaxRAMPercentage=50.0"),
        ("jvm", "java -jar x", 250, "the JVM's default, a quarter of the memory it sees"),
        ("node", "node --max-old-space-size=300 x.js", 300 * MIB, "--max-old-space-size=300"),
        ("node", "node --max_old_space_size 300 x.js", 300 * MIB, "--max_old_space_size 300"),
        ("node", "node x.js", None, None),
        ("go", "env GOMEMLIMIT=2GiB server", 2 << 30, "GOMEMLIMIT=2GiB"),
        ("dotnet", "dotnet x DOTNET_GCHeapHardLimit=0x100000", MIB, "GCHeapHardLimit"),
        ("php", "php -d memory_limit=128M x.php", 128 * MIB, "memory_limit=128M"),
        ("redis", "redis-server --maxmemory 160mb", 160 * MIB, "--maxmemory 160mb"),
        ("memcached", "memcached -u nobody -m 128", 128 * MIB, "-m 128"),
        ("jvm", None, None, None),
    ],
)  # fmt: skip
def test_a_cap_is_read_from_the_command_line(kind, cmdline, most, said_by):
    found = runtimes.cap(kind, cmdline, 1000, "mappings")
    assert (found.bytes, found.said_by) == (most, said_by) if most else found is None


@pytest.mark.parametrize(
    ("exe", "comm", "kind"),
    [
        ("/usr/bin/python3.11", "gunicorn", "cpython"), ("/opt/jdk/bin/java", "x", "jvm"),
        ("/usr/sbin/php-fpm8.2", "php-fpm8.2", "php"),
        ("/usr/bin/redis-check-rdb", "redis-server", "redis"),
        ("/usr/bin/nodejs", None, "node"), (None, "ruby3.1", "ruby"), (None, None, "native"),
        ("/srv/app (deleted)", None, "native"), ("/usr/bin/dotnet", None, "dotnet"),
    ],
)  # fmt: skip
def test_a_runtime_is_known_by_its_name(exe, comm, kind):
    assert runtimes.runtime(Who(1.0, 1.0, 7, 7, exe=exe), comm, None) == kind


@pytest.mark.parametrize(
    ("exe", "cmdline", "size"),
    [
        ("/usr/bin/memcached", "memcached -u nobody -m 128", 176 * MIB),
        ("/usr/bin/memcached", "memcached -u nobody", 96 * MIB),
        ("/usr/bin/redis-server", "redis-server --maxmemory 160mb", 216 * MIB),
        ("/usr/bin/redis-server", "redis-server 127.0.0.1:6379", None),
        ("/usr/bin/memcached", None, None),
        ("/usr/bin/java", "java -m 128", None),
    ],
)  # fmt: skip
def test_where_a_cache_begins_to_evict(exe, cmdline, size):
    assert runtimes.evicts_at(Who(1.0, 1.0, 7, 7, exe=exe, cmdline=cmdline), None) == size


def test_a_cache_that_fills_is_suspected_and_one_that_outgrows_its_size_is_confirmed():
    def events(megabytes):
        engine = Engine(default_rules(), "box")
        who = Who(1.0, 1.0, 7, 100, exe="/usr/bin/memcached", cmdline=f"memcached -m {megabytes}")
        group = Group(1.0, 1.0, "m.service", "/m.service", anon=0, limit=400 * MIB)
        told = []
        engine.feed(who._replace(cgroup="/m.service"))
        for second in range(200):
            t, size = 1.0 + second, (30 + second) * MIB
            row = (7, 100, "memcached", size, 0, None, "m.service", None)
            for fact in (group._replace(t=t, up=t, anon=size), Sweep(t, t, (row,), True)):
                told += [one for one in engine.feed(fact) if isinstance(one, Event)]
        return {event.kind for event in told}

    assert events(256) == {"leak.suspected"}
    assert events(64) == {"leak.suspected", "leak.confirmed"}


def test_a_runtime_is_known_by_what_it_maps():
    assert runtimes.runtime(None, "app", looked("jvm", 0)) == "jvm"
    assert runtimes.runtime(None, "app", looked("go", 0)) == "go"
    assert runtimes.runtime(None, "app", looked("malloc", 0)) == "native"


def test_every_runtime_has_a_tool_for_every_part():
    kinds = {*runtimes._NAMES.values(), *runtimes._LIBRARIES.values(), "go", "native"}
    for kind in kinds:
        for part in hints.NAMES:
            found = runtimes.tools(kind, 7, part, "x --heapsnapshot-signal=SIGUSR2")
            assert 1 <= len(found) <= 2 and all(found)
    assert runtimes.tools("node", 7, "mappings", "--heapsnapshot-signal=SIGUSR2")[0].startswith(
        "kill -USR2 7"
    )


def test_one_look_says_where_most_of_it_lies():
    found = hints.of_process([looked("jvm", 0)], None, None, None, None)
    assert not found.grown and found.body["grew_bytes"] is None
    assert found.because[0].startswith("most of it, ")
    assert hints.of_process([], None, None, None, None) is None


def test_where_smaps_was_not_read_the_rest_still_counts():
    first = looked("threads", 0)._replace(heap=None)
    last = looked("threads", 1)
    found = hints.of_process([first, last], None, None, None, None)
    assert found.body["part"] == "anonymous" and found.body["grew_bytes"] > 0
    assert any("threads, " in one for one in found.because)


def test_a_unit_is_told_apart_by_its_cgroup():
    first = Group(1.0, 1.0, "a.service", "/a.service", anon=5, shmem=5, kernel=5)
    last = first._replace(t=61.0, up=61.0, shmem=90, anon=10)
    found = hints.of_unit(first, last, "a.service")
    assert found.body["part"] == "shmem" and found.body["grew_bytes"] == 85
    assert "85 B of 90 B in 1 min" in found.because[0]
    assert hints.of_unit(first, first, None) is None
    for part, tool in (("anon", "oom-watchdog memory --processes"), ("kernel", "slabtop")):
        grown = hints.of_unit(first, first._replace(**{part: 50}), None)
        assert grown.body["next"][0].startswith(tool)


# ---- smaps ---------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
@example(b" ")
@example(b"-")
def test_no_text_breaks_the_reader(text):
    parts.sort_out(parts.parse_smaps(text))


@given(st.sampled_from(sorted(RECORDED)), st.integers(0, 20000))
def test_what_was_cut_off_is_left_out(name, length):
    text = RECORDED[name]["looks"][0]["smaps"].encode()
    whole, torn = parts.parse_smaps(text), parts.parse_smaps(text[:length])
    assert torn == whole[: len(torn)]


def tree(tmp_path, name, status=None, smaps=None):
    base = tmp_path / "7"
    base.mkdir()
    one = RECORDED[name]["looks"][0]
    (base / "stat").write_text(one["stat"])
    (base / "status").write_text(status or one["status"])
    (base / "smaps").write_text(smaps or one["smaps"])
    (base / "smaps_rollup").write_text(one["rollup"])
    return procfs.parse_stat(one["stat"].encode()).start_ticks


def test_a_recorded_process_is_read_as_a_live_one(tmp_path):
    start = tree(tmp_path, "jvm")
    found = sense_parts.look(str(tmp_path), 7, start)
    assert found["heap"] == looked("jvm", 0).heap and found["libraries"] == ["libjvm"]
    assert found["threads"] == looked("jvm", 0).threads and found["descriptors"] is None
    status = procfs.parse_kb(RECORDED["jvm"]["looks"][0]["status"].encode())
    assert found["pagetables"] == status["VmPTE"] > 0 and found["hugetlb"] == 0
    assert sense_parts.look(str(tmp_path), 7, start + 1) is None
    assert sense_parts.look(str(tmp_path), 8, start) is None


def test_reading_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sense_parts, "TEXT_MAX", 1000)
    monkeypatch.setattr(sense_parts, "PIECE", 1000)
    found = sense_parts.look(str(tmp_path), 7, tree(tmp_path, "thp"))
    assert "heap" not in found and found["thp"] > 0 and found["anon"] > 0  # smaps_rollup


def test_the_very_large_are_not_walked(tmp_path):
    big = RECORDED["jvm"]["looks"][0]["status"].replace("VmRSS:", "VmRSS: 99999999 kB\nOld:")
    found = sense_parts.look(str(tmp_path), 7, tree(tmp_path, "jvm", status=big))
    assert "heap" not in found and "thp" not in found and found["anon"] > 0


# ---- when it looks ------------------------------------------------------------------------------

IDENT = (7, 700)


def suspected(kib=50_000, stage="suspected"):
    trend = Trend(1.0, 1.0)
    trend.episode, trend.stage, trend.kib = 1, stage, kib
    return trend


def answer(look, mib, t):
    return Parts(t, t, look.id, *IDENT, anon=mib * MIB, shmem=0)


def test_two_looks_an_episode_the_second_when_it_has_grown():
    looking, trend = Looking(World()), suspected()
    (first,) = looking.step(IDENT, trend, 10.0, calm=True)
    assert first == Look("parts-7-700-1-1", "parts", 10.0, process=IDENT)
    trend.kib += 20_000
    assert looking.step(IDENT, trend, 15.0, calm=True) == []  # the first is not answered yet
    assert list(looking.take(answer(first, 50, 16.0))) == []
    assert looking.step(IDENT, trend, 30.0, calm=True) == []  # a burst is no growth
    (second,) = looking.step(IDENT, trend, 31.0, calm=True)
    assert list(looking.take(answer(second, 70, 32.0))) == []
    trend.kib += 90_000
    assert looking.step(IDENT, trend, 60.0, calm=True) == []
    found = looking.confirmed(IDENT, None, trend, "e")
    assert found.body["grew_bytes"] == 20 * MIB
    looking.forget(IDENT, None)
    trend.episode = 2
    assert looking.step(IDENT, trend, 99.0, calm=True)[0].id == "parts-7-700-2-1"


def test_nobody_is_looked_at_while_memory_is_short():
    looking, trend = Looking(World()), suspected()
    assert looking.step(IDENT, trend, 10.0, calm=False) == []
    assert looking.confirmed(IDENT, None, trend, "e") is None
    assert len(looking.step(IDENT, trend, 11.0, calm=True)) == 1


def test_a_difference_that_comes_late_is_told_of_its_own():
    looking, trend = Looking(World()), suspected()
    (first,) = looking.step(IDENT, trend, 10.0, calm=True)
    assert list(looking.take(answer(first, 50, 11.0))) == []
    trend.stage = "confirmed"
    early = looking.confirmed(IDENT, None, trend, "the-confirmation")
    assert early.body["grew_bytes"] is None
    assert looking.step(IDENT, trend, 20.0, calm=True) == []  # too soon for a difference
    (second,) = looking.step(IDENT, trend, 30.0, calm=True)
    (event,) = looking.take(answer(second, 60, 31.0))
    assert (event.kind, event.cause, event.identity) == (
        "leak.hints", "the-confirmation", "7-700-1",
    )  # fmt: skip
    assert event.body["hints"]["grew_bytes"] == 10 * MIB and event.body["pid"] == 7
    assert list(looking.take(answer(second, 90, 40.0))) == []  # told once


def test_answers_to_nobodys_question_are_passed_over():
    looking, trend = Looking(World()), suspected()
    (first,) = looking.step(IDENT, trend, 10.0, calm=True)
    stray = answer(first, 50, 11.0)
    for other in (
        stray._replace(pid=8),
        stray._replace(start=1),
        stray._replace(look_id="parts-7-700-2-1"),
    ):
        assert list(looking.take(other)) == []
    assert looking.confirmed(IDENT, None, trend, "e") is None


def test_a_plateau_at_the_cap_is_explained_by_it():
    world = World()
    looking, trend = Looking(world), suspected(kib=400 << 10)
    who = Who(1.0, 1.0, *IDENT, exe="/usr/bin/java", cmdline="java -Xmx400m -jar x")
    world.take_who(who)
    world.take_sweep(Sweep(1.0, 1.0, ((*IDENT, "java", 400 * MIB, 0, None, None, None),), True))
    assert looking.plateau(IDENT, trend) == ()  # nobody suspects it
    looking.step(IDENT, trend, 1.0, calm=True)
    assert looking.plateau(IDENT, trend) == (
        "its heap may hold 400 MiB (-Xmx400m), and it is full",
    )
    for kib in (100 << 10, 900 << 10):
        trend.kib = kib
        assert looking.plateau(IDENT, trend) == ()
    assert looking.plateau(None, trend) == ()


def test_of_many_suspects_a_few_are_looked_at_and_whoever_is_confirmed():
    looking, trend = Looking(World()), suspected()
    asked = [looking.step((pid, 1), trend, 1.0 + pid, calm=True) for pid in range(20)]
    assert sum(map(len, asked)) == 8
    assert len(looking.step((19, 1), suspected(stage="confirmed"), 30.0, calm=True)) == 1
    assert looking.step((18, 1), trend, 200.0, calm=True) == []
    assert len(looking.step((18, 1), trend, 300.0, calm=True)) == 1


def test_suspects_are_bounded():
    looking, trend = Looking(World()), suspected()
    for pid in range(2000):
        looking.step((pid, 1), trend, 1.0, calm=True)
    assert len(looking.suspects) == 512


def test_parts_travel_through_a_trace():
    sent = looked("jvm", 1)
    assert trace.fact(trace.line(sent)) == sent
    with pytest.raises(trace.TraceError):
        trace.fact('{"type":"parts","t":1,"look_id":"x","pid":1}')
    with pytest.raises(trace.TraceError):
        trace.fact('{"type":"parts","t":1,"look_id":"x","pid":1,"start":1,"heap":"much"}')
    engine = Engine(default_rules(), "box")
    assert engine.feed(sent) == []
