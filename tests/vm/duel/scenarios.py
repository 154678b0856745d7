"""What happens in each cell of the duel; read by the host (keys, table) and in the machine (cells).

Sizes are in MiB, of a machine of 1 GiB. A scenario begins from a warm machine: the daemon runs and
its innocents have been steady for a while. With what is left of the rates memory ends 60 to 100 s
after they were.
"""

from typing import NamedTuple


class Role(NamedTuple):
    """A service: the arguments of load.py, when it starts, and whether it may die.

    `at_s` counts from the begin of the cell; `at_used` is a share of all memory that must be in
    use first. At `restart_at_used` the service is restarted by systemctl, once.
    """

    name: str
    load: str
    at_s: float = 0.0
    guilty: bool = False
    unit: str = ""  # more lines for [Service]
    called: str = ""  # the unit, where it is not duel-NAME.service
    at_used: float = 0.0
    restart_at_used: float = 0.0


class Warm(NamedTuple):
    """What a saved machine holds: these services, steady for `age_s`, and swap or none."""

    roles: tuple[Role, ...] = ()
    age_s: float = 5.0
    swap: bool = False


class Scenario(NamedTuple):
    """Who comes to a warm machine.

    With `quiet_s` nobody has to die; the cell ends so long after the last service has started.
    `kill_daemon_at`: of the way that memory falls to the mark. `shm_left`: /dev/shm is made so
    large that this share of all memory is left when it is full.
    """

    warm: str
    roles: tuple[Role, ...]
    says: str
    quiet_s: float = 0.0
    kill_daemon_at: float = 0.0
    shm_left: float = 0.0


BACK = "Restart=on-failure\n"  # which a SIGTERM is not, to systemd
SHOP = Role("shop", "steady 350", unit=BACK)
SHOP_LARGE = Role("shop", "steady 480", unit=BACK)
WARM = {
    "empty": Warm(),
    "shop": Warm((SHOP,), 55),
    "shop-swap": Warm((SHOP,), 55, swap=True),
    "large": Warm((SHOP_LARGE,), 30),
    "large-swap": Warm((SHOP_LARGE,), 30, swap=True),
}
HOG = Role("hog", "grow 0 120", guilty=True)
LEAK = Role("hog", "grow 20 6", guilty=True)
CONTAINER = "docker-{}.scope"

SCENARIOS = {
    "hog": Scenario("shop", (HOG,), "a service of 350 MiB; then one that takes 120 MiB/s"),
    "hog-swap": Scenario("shop-swap", (HOG,), "as `hog`, with 512 MiB of swap"),
    "noswap-unit": Scenario(
        "shop-swap", (HOG._replace(unit="MemorySwapMax=0\n"),),
        "as `hog-swap`, and the hog has `MemorySwapMax=0`: swap stays free, and helps nobody",
    ),
    "leak": Scenario(
        "large", (LEAK,),
        "a service of 480 MiB; then one that begins with 20 MiB and leaks 6 MiB/s",
    ),
    "leak-swap": Scenario(
        "large-swap", (LEAK._replace(load="grow 20 12"),),
        "as `leak`, with 512 MiB of swap, at 12 MiB/s",
    ),
    "daemon-restart": Scenario(
        "large", (LEAK,),
        "as `leak`; the daemon is ended by `kill -9` when 60 % of what was left is gone",
        kill_daemon_at=0.6,
    ),
    "two-hogs": Scenario(
        "shop", (Role("hog", "grow 0 60", guilty=True), Role("pig", "grow 0 60", guilty=True)),
        "a service of 350 MiB; then two that take 60 MiB/s each",
    ),
    "stubborn": Scenario(
        "shop", (Role("hog", "stubborn 20 12", guilty=True),),
        "a service of 350 MiB; a leak of 12 MiB/s that ignores SIGTERM",
    ),
    "respawn": Scenario(
        "shop", (Role("hog", "grow 20 40", guilty=True, unit="Restart=always\nRestartSec=0\n"),),
        "a service of 350 MiB; a leak of 40 MiB/s that systemd starts again at once",
    ),
    "late-riser": Scenario(
        "shop", (Role("hog", "grow 20 8", guilty=True), Role("riser", "warm 150 20", at_used=0.8)),
        "a service of 350 MiB, a leak of 8 MiB/s, and at 80 % a new service that takes 150 MiB",
    ),
    "restarted-db": Scenario(
        "empty",
        (Role("shop", "steady 200", unit=BACK),
         Role("db", "warm 300 8", unit=BACK, restart_at_used=0.85),
         Role("hog", "grow 60 2", 20, guilty=True)),
        "a service of 200 MiB, a database of 300 MiB that is restarted at 85 %, a leak of 2 MiB/s",
    ),
    "forkers": Scenario(
        "large", (Role("hog", "forkers 12 0.6", guilty=True),),
        "a service of 480 MiB; 12 workers of one unit that grow by 0.6 MiB/s each",
    ),
    "moving-leak": Scenario(
        "large", (Role("hog", "moving 5 10", guilty=True),),
        "a service of 480 MiB; a unit that grows by 5 MiB/s and replaces its worker every 10 s",
    ),
    "container": Scenario(
        "empty",
        (Role("box", "--adj -997 --below box steady 350", called=CONTAINER.format("b0" * 32)),
         Role("hog", "--below docker/app grow 20 8", 20, guilty=True,
              called=CONTAINER.format("a1" * 32))),
        "a container of 350 MiB at oom_score_adj -997; in another one, nested, a leak of 8 MiB/s",
    ),
    "imposter": Scenario(
        "shop",
        (Role("ssh", "--comm sshd steady 5", called="ssh.service"),
         Role("postgresql", "--comm postgres steady 30", called="postgresql.service"),
         Role("hog", "--comm sshd --below app.slice/postgresql.service grow 20 40", 5, guilty=True,
              unit="Slice=user-1000.slice\nDelegate=yes\n", called="user@1000.service")),
        "a leak of 40 MiB/s that calls itself `sshd`, in a control group "
        "`user@1000.service/app.slice/postgresql.service`, beside real units of those names",
    ),
    "memfd": Scenario(
        "shop", (Role("hog", "memfd 20", guilty=True),),
        "a service of 350 MiB; one that writes 20 MiB/s into a memfd that it never maps",
    ),
    "shm-map": Scenario(
        "shop", (Role("hog", "shm 20", guilty=True),),
        "a service of 350 MiB; one that fills a shared anonymous mapping at 20 MiB/s",
    ),
    "tmpfs-file": Scenario(
        "shop", (Role("writer", "tmpfs 20", guilty=True),),
        "a service of 350 MiB; a program writes 20 MiB/s into `/dev/shm` until it is full, "
        "when 4 % of the memory are left; nobody frees it by dying",
        quiet_s=60, shm_left=0.04,
    ),
    "plateau": Scenario(
        "empty", (Role("riser", "warm 575 60"),),
        "nobody leaks: a service warms up to 60 % of the memory and stays", quiet_s=100,
    ),
    "cow": Scenario(
        "empty", (Role("filler", "steady 190"), Role("parent", "cow 300 15 30")),
        "nobody leaks: at 70 % a service of 300 MiB forks for 30 s, as databases do to save",
        quiet_s=60,
    ),
    "cache": Scenario(
        "shop", (Role("reader", "cache"),),
        "nobody leaks: a file of 1.2 GiB is read over and over", quiet_s=60,
    ),
    "cache-tight": Scenario(
        "shop", (Role("reader", "mapread 0 1.1"),),
        "nobody leaks: random reads of a mapped file of 1.1 times the available memory", quiet_s=60,
    ),
    "own-limit": Scenario(
        "empty", (Role("reader", "mapread 200 0", unit="MemoryHigh=64M\n"),),
        "nobody leaks: a unit thrashes at its `MemoryHigh` of 64 MiB; the machine is mostly free",
        quiet_s=60,
    ),
}  # fmt: skip
