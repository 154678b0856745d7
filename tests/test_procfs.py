"""The text of /proc files: what kernels write, what hostile names make of it, and garbage."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import procfs
from watchdog.procfs import Place, place

REST = b" S 1 1 1 0 -1 %d 0 0 0 0 0 0 0 0 20 0 7 0 4242 1000 50"


@given(st.binary(max_size=15).filter(lambda comm: b"\0" not in comm))
def test_any_comm_leaves_the_other_fields_alone(comm):
    stat = procfs.parse_stat(b"77 (" + comm + b")" + REST % 0x400000)
    assert stat == procfs.Stat(comm, "S", 1, 4242, False, 7)


def test_kernel_threads_are_known_by_their_flag():
    assert procfs.parse_stat(b"2 (kthreadd)" + REST % 0x208040).kernel_thread


@pytest.mark.parametrize("raw", [b"", b"77", b"77 (x", b")(", b"77 (x) S", b"77 (x) S a b"])
def test_what_is_no_stat_is_none(raw):
    assert procfs.parse_stat(raw) is None


def test_our_own_stat_is_read():
    with open("/proc/self/stat", "rb") as file:
        stat = procfs.parse_stat(file.read())
    assert stat.ppid == os.getppid() and not stat.kernel_thread and stat.threads >= 1


def test_statm_is_in_pages():
    assert procfs.parse_statm(b"765 438 410 5 0 123 0\n") == (438, 410)
    assert procfs.parse_statm(b"") is None
    assert procfs.parse_statm(b"1 x y") is None


def test_kb_lines_become_bytes():
    raw = b"MemTotal:  16 kB\nHugePages_Total:   3\nName:\tx\nVmSwap:\t 2 kB\nodd\n"
    assert procfs.parse_kb(raw) == {"MemTotal": 16384, "HugePages_Total": 3, "VmSwap": 2048}


def test_counters():
    assert procfs.parse_counters(b"oom_kill 3\nmax -1\nx\n") == {"oom_kill": 3}


def test_pressure_totals():
    raw = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=32\nfull avg10=0.1 total=7\n"
    assert procfs.parse_pressure(raw) == {"some": 32, "full": 7}
    assert procfs.parse_pressure(b"odd\n") == {}


@pytest.mark.parametrize(
    ("raw", "systemd", "memory"),
    [
        (b"0::/system.slice/a.service\n", "/system.slice/a.service", "/system.slice/a.service"),
        (b"9:name=systemd:/s.slice/b.service\n4:memory:/m\n0::/\n", "/s.slice/b.service", "/m"),
        (b"9:name=systemd:/\n4:cpu,memory:/m\n0::/u.service\n", "/u.service", "/m"),
        (b"9:name=systemd:/\n4:memory:/\n0::/\n", "/", "/"),
        (b"0::/a.service (deleted)\n", "/a.service", "/a.service"),
        (b"4:memory:/m\n", None, "/m"),
        (b"", None, None),
    ],
)
def test_the_hierarchies_of_v1_v2_and_hybrid(raw, systemd, memory):
    assert procfs.parse_cgroup(raw) == procfs.Cgroups(systemd, memory)


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/system.slice/shop.service", Place("shop.service", None, None)),
        ("/init.scope", Place("init.scope", None, None)),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/postgresql.service",
            Place("user@1000.service", "postgresql.service", None),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/system.slice/shop-1.service",
            Place("user@1000.service", "shop-1.service", None),
        ),
        (f"/system.slice/docker-{HEX}.scope", Place(f"docker-{HEX}.scope", None, HEX[:12])),
        (
            f"/system.slice/docker-{HEX}.scope/system.slice/ssh.service",
            Place(f"docker-{HEX}.scope", "ssh.service", HEX[:12]),
        ),
        (f"/docker/{HEX}/system.slice/ssh.service", Place(None, "ssh.service", HEX[:12])),
        (
            f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{HEX}.scope",
            Place(f"cri-containerd-{HEX}.scope", None, HEX[:12]),
        ),
        (f"/kubepods/burstable/pod1/{HEX}", Place(None, HEX, HEX[:12])),
        ("/lxc.payload.web/system.slice/a.service", Place(None, "a.service", "web")),
        ("/lxc.payload/web/init.scope", Place(None, "init.scope", "web")),
        ("/lxc.monitor.web", Place(None, None, None)),
        # a service whose name only begins like a container's
        ("/system.slice/docker-registry.service", Place("docker-registry.service", None, None)),
        ("/system.slice/machine-check.service", Place("machine-check.service", None, None)),
        # who looks after a container from outside is not in it
        (
            f"/machine.slice/libpod-conmon-{HEX}.scope",
            Place(f"libpod-conmon-{HEX}.scope", None, None),
        ),
        (
            f"/system.slice/crio-conmon-{HEX}.scope",
            Place(f"crio-conmon-{HEX}.scope", None, None),
        ),
        (f"/system.slice/nerdctl-{HEX}.scope", Place(f"nerdctl-{HEX}.scope", None, HEX[:12])),
        ("/lxc/web", Place(None, "web", "web")),
        ("/mine/postgresql.service", Place(None, "postgresql.service", None)),
        ("/system.slice", Place(None, None, None)),
        ("/../../system.slice/a.service", Place(None, None, None)),
        ("/", Place(None, None, None)),
        (None, Place(None, None, None)),
    ],
)
def test_only_the_outermost_name_is_a_unit(path, expected):
    assert place(path) == expected
