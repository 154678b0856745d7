/* Process 1 of the little machines in which tests/vm/kernels records real OOM kills.
 *
 * It makes one situation after the other (the word set=NAME on the kernel's command line says
 * which), takes what the kernel logged of each from /dev/kmsg as it is, and writes beside it what
 * truly happened: who died by SIGKILL, as wait() told it, and how far the counters rose. All of it
 * leaves as one tar stream through the second serial line. Static, no library but libc.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MIB (1UL << 20)
#define V2 "/sys/fs/cgroup"
#define NAME_IS(text) (text), (sizeof(text) - 1)

/* ---------- small things ---------- */

static void pause_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void say(const char *format, ...) { /* on the console, for whoever looks on */
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n > 0 && write(2, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0) {}
    tcdrain(2); /* before the kernel itself goes on printing there */
}

static int put(const char *path, const char *format, ...) { /* write a setting; 0 if taken */
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t done = write(fd, text, n);
    int error = errno;
    close(fd);
    errno = error;
    return done == n ? 0 : -1;
}

static ssize_t slurp(const char *path, char *into, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    size_t have = 0;
    ssize_t n;
    while (have < size - 1 && (n = read(fd, into + have, size - 1 - have)) > 0) have += n;
    close(fd);
    into[have] = 0;
    return n < 0 && !have ? -1 : (ssize_t)have;
}

static long field(const char *path, const char *key) { /* the number after a word; -1 */
    static char text[65536];
    if (slurp(path, text, sizeof text) < 0) return -1;
    size_t n = strlen(key);
    for (char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (!strncmp(at, key, n) && (at[n] == ' ' || at[n] == ':' || at[n] == '\t'))
            return strtol(at + n + 1, NULL, 10);
    return -1;
}

static void make_dirs(const char *path) {
    char part[1024];
    for (size_t i = 1; path[i]; i++)
        if (path[i] == '/') {
            memcpy(part, path, i);
            part[i] = 0;
            mkdir(part, 0755);
        }
    if (mkdir(path, 0755) && errno != EEXIST) say("mkdir %s: %s\n", path, strerror(errno));
}

/* bytes as one word: what is no plain character, and what separates, as \xNN */
static void escape(char *into, size_t size, const char *from, size_t n) {
    size_t at = 0;
    for (size_t i = 0; i < n && at + 5 < size; i++) {
        unsigned char c = from[i];
        if (c <= ' ' || c >= 127 || c == '\\' || c == ':')
            at += sprintf(into + at, "\\x%02x", c);
        else
            into[at++] = c;
    }
    into[at] = 0;
}

/* ---------- the results: a tar stream ---------- */

static int results = -1;

static void emit(const void *data, size_t n) {
    const char *at = data;
    while (n) {
        ssize_t done = write(results, at, n);
        if (done < 0) {
            if (errno == EINTR || errno == EAGAIN) continue;
            return;
        }
        at += done;
        n -= done;
    }
}

static void save(const char *name, const void *data, size_t size) {
    unsigned char head[512] = {0};
    snprintf((char *)head, 100, "%s", name);
    memcpy(head + 100, "0000644", 7);
    memcpy(head + 108, "0000000", 7);
    memcpy(head + 116, "0000000", 7);
    snprintf((char *)head + 124, 12, "%011zo", size);
    memcpy(head + 136, "00000000000", 11);
    memset(head + 148, ' ', 8);
    head[156] = '0';
    memcpy(head + 257, "ustar\00000", 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++) sum += head[i];
    snprintf((char *)head + 148, 8, "%06o", sum);
    emit(head, 512);
    emit(data, size);
    static const char zeros[512];
    if (size % 512) emit(zeros, 512 - size % 512);
}

/* ---------- processes ---------- */

struct plan {
    const char *comm;
    size_t comm_size;
    const char *cgroup; /* where the hierarchy is mounted, then the path; NULL: the root */
    int uid, adj;
    void (*work)(long);
    long argument;
};

static struct { pid_t pid; const char *cgroup; } born[256];
static int born_count;
static int ready_fd = -1;
static const char *mounted = V2; /* of the hierarchy whose limit is meant */

static void ready(void) {
    if (ready_fd >= 0) {
        if (write(ready_fd, "", 1) < 0) {}
        close(ready_fd);
        ready_fd = -1;
    }
}

static pid_t start(struct plan p) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC)) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        ready_fd = fds[1];
        if (p.cgroup) {
            char path[1200];
            snprintf(path, sizeof path, "%s%s/cgroup.procs", mounted, p.cgroup);
            if (put(path, "0")) say("join %s: %s\n", path, strerror(errno));
        }
        if (p.adj) put("/proc/self/oom_score_adj", "%d", p.adj);
        if (p.uid && (setgid(p.uid) || setuid(p.uid))) _exit(1);
        char comm[16] = {0};
        memcpy(comm, p.comm, p.comm_size < 15 ? p.comm_size : 15);
        prctl(PR_SET_NAME, comm);
        p.work(p.argument);
        _exit(0);
    }
    close(fds[1]);
    if (born_count < 256) {
        born[born_count].pid = pid;
        born[born_count++].cgroup = p.cgroup;
    }
    struct pollfd wait = {fds[0], POLLIN, 0};
    poll(&wait, 1, 20000);
    close(fds[0]);
    return pid;
}

static char *more(size_t bytes) {
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void hold(long mib) { /* take that much, then stand still */
    char *at = more(mib * MIB);
    if (at) memset(at, 1, mib * MIB);
    ready();
    for (;;) pause();
}

static void hog(long unused) { /* take all there is */
    (void)unused;
    ready();
    for (;;) {
        char *at = more(MIB);
        if (!at) pause_ms(10);
        else memset(at, 1, MIB);
    }
}

static void hog_slowly(long mib) { /* hold, wait until all the others stand, then take all */
    char *at = more(mib * MIB);
    if (at) memset(at, 1, mib * MIB);
    ready();
    pause_ms(300);
    hog(0);
}

static void hog_group(long unused) { hog_slowly(unused); }

static void *hog_thread(void *name) {
    prctl(PR_SET_NAME, name);
    hog(0);
    return NULL;
}

static void threads(long unused) { /* the thread that asks has a name of its own */
    (void)unused;
    pthread_t thread;
    pthread_create(&thread, NULL, hog_thread, "worker-7");
    ready();
    for (;;) pause();
}

static void leaderless(long unused) { /* the first thread is gone, the others go on */
    (void)unused;
    pthread_t thread;
    pthread_create(&thread, NULL, hog_thread, "orphan-thread");
    ready();
    syscall(SYS_exit, 0); /* of this thread alone */
}

static int share_memory(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "mm-twin");
    for (;;) pause();
    return 0;
}

static void twins(long unused) { /* two processes, one memory: both die, one is logged */
    (void)unused;
    char *stack = more(65536);
    clone(share_memory, stack + 65536, CLONE_VM | SIGCHLD, NULL);
    hog_slowly(0);
}

static void family(long children) {
    for (int i = 0; i < (int)children; i++)
        if (fork() == 0) {
            char comm[16];
            snprintf(comm, sizeof comm, "child-%d", i & 7);
            prctl(PR_SET_NAME, comm);
            close(ready_fd);
            ready_fd = -1;
            hold(6);
        }
    hog_slowly(1);
}

static void fill_private(long unused) { /* the same in a mount of its own, which goes with it */
    (void)unused;
    static char block[65536];
    memset(block, 7, sizeof block);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", "/tmpfs", "tmpfs", 0, "size=1g"))
        say("tmpfs: %s\n", strerror(errno));
    int fd = open("/tmpfs/cache.bin", O_CREAT | O_WRONLY, 0644);
    ready();
    pause_ms(200);
    for (;;)
        if (write(fd, block, sizeof block) < 0) pause_ms(20);
}

static void fill_tmpfs(long to_mib) { /* write a file in memory until nothing goes in any more */
    static char block[65536];
    memset(block, 7, sizeof block);
    int fd = open("/tmpfs/cache.bin", O_CREAT | O_WRONLY | O_TRUNC, 0644);
    ready();
    pause_ms(200);
    for (long done = 0; to_mib == 0 || done < to_mib * (long)MIB; done += sizeof block)
        if (write(fd, block, sizeof block) < 0) pause_ms(20);
    for (;;) pause();
}

static void pipes(long unused) { /* memory of the kernel's that no process is shown with */
    (void)unused;
    static char block[65536];
    struct rlimit many = {30000, 30000};
    setrlimit(RLIMIT_NOFILE, &many);
    ready();
    pause_ms(200);
    for (;;) {
        int fds[2];
        if (pipe2(fds, O_NONBLOCK)) {
            pause_ms(20);
            continue;
        }
        for (int i = 0; i < 16; i++)
            if (write(fds[1], block, 4096) < 4096) break;
    }
}

static void messages(long unused) { /* slab that cannot be reclaimed */
    (void)unused;
    static struct { long type; char text[900]; } message = {1, {0}};
    if (unshare(CLONE_NEWIPC)) say("ipc: %s\n", strerror(errno)); /* so that they go with it */
    put("/proc/sys/kernel/msgmnb", "%ld", 1L << 30);
    put("/proc/sys/kernel/msgmni", "100");
    ready();
    pause_ms(200);
    int queue = msgget(IPC_PRIVATE, 0600);
    for (;;)
        if (msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT)) pause_ms(20);
}

static void page_tables(long unused) { /* read one byte of every 2 MiB: the zero page and its tables */
    (void)unused;
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    ready();
    pause_ms(200);
    for (;;) {
        volatile char *at = mmap(NULL, 1UL << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if ((void *)at == MAP_FAILED) {
            pause_ms(20);
            continue;
        }
        for (unsigned long i = 0; i < 1UL << 30; i += 2 * MIB) (void)at[i];
    }
}

static void fragment(long unused) { /* own every second page, so that no two free ones touch */
    (void)unused;
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    put("/proc/sys/vm/max_map_count", "1000000");
    static char *taken[4096];
    long n = 0;
    while (n < 4096 && field("/proc/meminfo", "MemFree") > 12000) {
        char *at = more(MIB);
        if (!at || mlock(at, MIB)) break;
        taken[n++] = at;
    }
    for (long i = 0; i < n && i < 48; i++)
        for (unsigned long page = 0; page < MIB; page += 8192) munmap(taken[i] + page, 4096);
    ready();
    for (;;) pause();
}

static void ask_blocks(long order) { /* blocks of 2^order pages: the copy of a socket filter */
    static struct sock_filter code[4096];
    int n = (4096 << order) / sizeof code[0];
    for (int i = 0; i < n; i++) code[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 1);
    struct sock_fprog program = {n, code};
    struct rlimit many = {30000, 30000};
    setrlimit(RLIMIT_NOFILE, &many);
    put("/proc/sys/net/core/optmem_max", "1000000");
    ready();
    pause_ms(200);
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program)) {
            static int told;
            if (!told++) say("filter: %s\n", strerror(errno));
            pause_ms(20);
        }
    }
}

static void populate(long mib) { /* ask for more than the limit at once; a refusal is no end */
    ready();
    pause_ms(200);
    char *at = more(mib * MIB);
    if (at && madvise(at, mib * MIB, 23 /* MADV_POPULATE_WRITE */)) {
        int zero = open("/dev/zero", O_RDONLY); /* before 5.14: let the kernel itself write there */
        if (read(zero, at, mib * MIB) < 0) {}
    }
    for (;;) pause();
}

static void bind_then_hog(long node) {
    unsigned long nodes = 1UL << node;
    if (syscall(SYS_set_mempolicy, 2 /* MPOL_BIND */, &nodes, 65UL)) say("set_mempolicy: %s\n", strerror(errno));
    hog(0);
}

static void bind_range(long node) {
    unsigned long nodes = 1UL << node;
    char *at = more(1024 * MIB);
    if (syscall(SYS_mbind, at, 1024 * MIB, 2, &nodes, 65UL, 0)) say("mbind: %s\n", strerror(errno));
    ready();
    memset(at, 1, 1024 * MIB);
    for (;;) pause();
}

static void crash(long unused) { /* a genuine record that begins with a name of anybody's choice */
    (void)unused;
    ready();
    char *volatile nowhere = (char *)8;
    *nowhere = 1;
}

static void fail_to_allocate(long unused) { /* more than there is, for a module; the kernel says all about it */
    (void)unused;
    int fd = open("/tmpfs/huge.ko", O_CREAT | O_RDWR, 0600);
    if (ftruncate(fd, 1L << 30)) {}
    close(fd);
    fd = open("/tmpfs/huge.ko", O_RDONLY);
    ready();
    syscall(SYS_finit_module, fd, "", 0);
    unlink("/tmpfs/huge.ko");
    for (;;) pause();
}

static void nothing(long unused) {
    (void)unused;
    ready();
    for (;;) pause();
}

/* ---------- one scenario ---------- */

static char log_text[4 << 20];
static size_t log_size;
static int kmsg = -1;
static char title[100], truth[65536];
static size_t truth_size;
static long kills_before;
static char limit_events[1200];

static void tell(const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(truth + truth_size, sizeof truth - truth_size, format, args);
    va_end(args);
    if (n > 0 && truth_size + n < sizeof truth) truth_size += n;
}

static void read_log(void) {
    for (;;) {
        ssize_t n = read(kmsg, log_text + log_size, sizeof log_text - log_size);
        if (n > 0) log_size += n;
        else if (n < 0 && errno == EPIPE) { tell("lost\t1\n"); continue; }
        else if (n < 0 && errno == EINTR) continue;
        else return;
        if (log_size + 8192 > sizeof log_text) return;
    }
}

static void begin(const char *name, const char *scope, const char *limit_cgroup) {
    char text[1200];
    snprintf(title, sizeof title, "%s", name);
    say("-- %s\n", name);
    truth_size = log_size = 0;
    born_count = 0;
    kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    lseek(kmsg, 0, SEEK_END);
    kills_before = field("/proc/vmstat", "oom_kill");
    tell("scope\t%s\n", scope);
    limit_events[0] = 0;
    if (limit_cgroup) {
        escape(text, sizeof text, limit_cgroup, strlen(limit_cgroup));
        tell("cgroup\t%s\n", text);
        snprintf(limit_events, sizeof limit_events, "%s%s/memory.events", mounted, limit_cgroup);
    }
}

static bool any_end; /* wait() does not tell of a signal where the first thread had ended before */

static int bury(void) { /* everyone who is dead; how many of them by SIGKILL */
    int killed = 0;
    siginfo_t info;
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid) return killed;
        if (any_end || (info.si_code == CLD_KILLED && info.si_status == SIGKILL)) {
            char path[64], comm[64], word[256], group[2400] = "?"; /* not born here: a child */
            snprintf(path, sizeof path, "/proc/%d/comm", info.si_pid);
            ssize_t n = slurp(path, comm, sizeof comm);
            escape(word, sizeof word, comm, n > 0 ? (size_t)n - 1 : 0);
            snprintf(path, sizeof path, "/proc/%d/status", info.si_pid);
            for (int i = 0; i < born_count; i++)
                if (born[i].pid == info.si_pid) {
                    bool other = !born[i].cgroup || strstr(mounted, "cpuset");
                    if (other) strcpy(group, "-"); /* the root of the memory hierarchy */
                    else escape(group, sizeof group, born[i].cgroup, strlen(born[i].cgroup));
                }
            tell("dead\t%d\t%s\t%ld\t%s\n", info.si_pid, word, field(path, "Uid"), group);
            killed++;
        } else if (info.si_code != CLD_KILLED || info.si_status != SIGSEGV)
            tell("gone\t%d\t%d\t%d\n", info.si_pid, info.si_code, info.si_status);
        waitid(P_PID, info.si_pid, &info, WEXITED);
    }
}

static void end(int expected, int settle_ms) {
    char name[160];
    int killed = 0;
    double until = now_s() + 25;
    while (killed < expected && now_s() < until) {
        killed += bury();
        pause_ms(20);
    }
    pause_ms(settle_ms);
    killed += bury();
    long after = field("/proc/vmstat", "oom_kill");
    read_log();
    tell("rise\t%ld\n", after - kills_before);
    if (limit_events[0]) {
        static char events[4096];
        if (slurp(limit_events, events, sizeof events) > 0)
            for (char *at = events; *at; at++) {
                char *stop = strchrnul(at, '\n');
                tell("event\t%.*s\n", (int)(stop - at), at);
                if (!*stop) break;
                at = stop;
            }
    }
    close(kmsg);
    say("   %d died, counter +%ld, %zu bytes\n", killed, after - kills_before, log_size);
    kill(-1, SIGKILL);
    for (double stop = now_s() + 5; now_s() < stop && waitpid(-1, NULL, WNOHANG) >= 0;) pause_ms(5);
    snprintf(name, sizeof name, "%s.kmsg", title);
    save(name, log_text, log_size);
    snprintf(name, sizeof name, "%s.truth", title);
    save(name, truth, truth_size);
}

static void skip(const char *name, const char *why) {
    char file[160];
    say("-- %s: skipped: %s\n", name, why);
    snprintf(file, sizeof file, "%s.skip", name);
    save(file, why, strlen(why));
}

/* ---------- cgroups ---------- */

static void limit(const char *group, const char *file, const char *format, ...) {
    char path[1200], text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s%s/%s", mounted, group, file);
    if (put(path, "%s", text)) say("%s: %s\n", path, strerror(errno));
}

static void group(const char *path) { /* with its parents; on v2 the controllers go down with it */
    char part[1200];
    size_t base = strlen(mounted);
    snprintf(part, sizeof part, "%s%s", mounted, path);
    make_dirs(part);
    if (strcmp(mounted, V2)) return;
    for (size_t i = base; part[i]; i++)
        if (part[i] == '/') {
            char control[1300];
            snprintf(control, sizeof control, "%.*s/cgroup.subtree_control", (int)i, part);
            put(control, "+memory");
            put(control, "+cpuset");
        }
}

static void limited(const char *path, long mib) {
    group(path);
    if (!strcmp(mounted, V2)) {
        limit(path, "memory.max", "%ld", mib * (long)MIB);
        limit(path, "memory.swap.max", "0");
    } else
        limit(path, "memory.limit_in_bytes", "%ld", mib * (long)MIB);
}

/* a kill in a cgroup of that path: one hog, one bystander */
static void cgroup_kill(const char *name, const char *path, const char *comm, size_t comm_size) {
    limited(path, 16);
    begin(name, "memcg", path);
    start((struct plan){NAME_IS("bystander"), path, 0, 0, hold, 3});
    start((struct plan){comm, comm_size, path, 1000, 0, hog, 0});
    end(1, 400);
}

static void global_kill(const char *name, const char *comm, size_t comm_size) {
    begin(name, "global", NULL);
    start((struct plan){NAME_IS("sshd"), NULL, 0, 0, hold, 2});
    start((struct plan){NAME_IS("postgres"), NULL, 105, 0, hold, 24});
    start((struct plan){NAME_IS("rsyslogd"), NULL, 0, 0, hold, 3});
    start((struct plan){comm, comm_size, NULL, 1000, 0, hog, 0});
    end(1, 700);
}

/* ---------- sets of scenarios, one boot each ---------- */

static void set_hostile(void) {
    static const struct { const char *name, *comm; size_t size; } names[] = {
        {"name-kill-line", NAME_IS("x) total-vm:0kB, anon-rss:0kB (")},
        {"name-newline", NAME_IS("a\nb")},
        {"name-forged-line", NAME_IS("\nKilled process")},
        {"name-task", NAME_IS(",task=sshd,pid=1")},
        {"name-bytes", NAME_IS("\xff\xfe\x80\xc3")},
        {"name-cut-utf8", NAME_IS("caf\xc3\xa9 gr\xc3\xb6\xc3\x9f" "e \xe2\x82\xac")},
        {"name-escape", NAME_IS("\x1b[31mred\x1b[0m\x07")},
        {"name-brackets", NAME_IS("(a) [12] (b) c)")},
        {"name-blanks", NAME_IS("  two  words  ")},
        {"name-empty", NAME_IS("")},
        {"name-backslash", NAME_IS("a\\x0ab\\")},
        {"name-invoked", NAME_IS("invoked oom-kil")},
        {"name-digits", NAME_IS("123  456  789 0")},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cgroup_kill(names[i].name, "/names", names[i].comm, names[i].size);
    pause_ms(4000); /* as below */
    static const struct { const char *name, *path; } groups[] = {
        {"cgroup-summary", "/a,task_memcg=/system.slice/ssh.service,task=x,pid=1"},
        {"cgroup-escaped", "/system.slice/dev-disk\\x2dby\\x2duuid.service"},
        {"cgroup-global", "/g,global_oom,task_memcg=/x,task=y,pid=2,uid=0"},
        {"cgroup-bytes", "/\xff\xc3\x28\x1b[31m"},
        {"cgroup-blanks", "/two words (and) brackets"},
        {"cgroup-group", "/x are going to be killed due to memory.oom.group set"},
        {"cgroup-container", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-"
            "pod62015ce8_a46f_4b0e_a5a1_3082235c62dd.slice/cri-containerd-"
            "6c6fcab8562fd3150854986b78552c732f234fd405b624207b8843528a145e70.scope"},
    };
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        cgroup_kill(groups[i].name, groups[i].path, NAME_IS("worker"));
}

static void set_v2(void) {
    cgroup_kill("memcg", "/app.service", NAME_IS("worker"));

    limited("/shop.slice", 24);
    group("/shop.slice/web.service");
    group("/shop.slice/db.service");
    begin("memcg-parent", "memcg", "/shop.slice");
    start((struct plan){NAME_IS("db"), "/shop.slice/db.service", 105, 0, hold, 6});
    start((struct plan){NAME_IS("web"), "/shop.slice/web.service", 33, 0, hog, 0});
    end(1, 400);

    limited("/batch", 32);
    limit("/batch", "memory.oom.group", "1");
    begin("memcg-group", "memcg", "/batch");
    for (int i = 0; i < 4; i++) start((struct plan){NAME_IS("helper"), "/batch", 1000, 0, hold, 2 + i});
    start((struct plan){NAME_IS("batch main"), "/batch", 1000, 0, hog_group, 0});
    end(5, 600);

    limited("/pod", 40);
    limit("/pod", "memory.oom.group", "1");
    group("/pod/a");
    group("/pod/b");
    begin("memcg-group-nested", "memcg", "/pod");
    start((struct plan){NAME_IS("spared"), "/pod/a", 0, -1000, hold, 3});
    start((struct plan){NAME_IS("side car"), "/pod/a", 1000, 0, hold, 5});
    start((struct plan){NAME_IS("side"), "/pod/b", 1000, 500, hold, 2});
    start((struct plan){NAME_IS("main"), "/pod/b", 1000, 0, hog_group, 0});
    end(3, 600);

    pause_ms(5000); /* dumps are rate-limited: ten in five seconds */
    limited("/family", 40);
    begin("memcg-children", "memcg", "/family");
    start((struct plan){NAME_IS("parent"), "/family", 0, 0, family, 3});
    end(1, 600);

    limited("/twins", 16);
    begin("memcg-shared-mm", "memcg", "/twins");
    tell("unlogged\t1\n");
    start((struct plan){NAME_IS("twin"), "/twins", 0, 0, twins, 0});
    end(2, 600);

    limited("/threads", 16);
    begin("memcg-thread", "memcg", "/threads");
    start((struct plan){NAME_IS("java"), "/threads", 0, 0, threads, 0});
    end(1, 600);

    limited("/leaderless", 16);
    begin("memcg-leader-gone", "memcg", "/leaderless");
    any_end = true;
    tell("thread\t1\n");
    start((struct plan){NAME_IS("leader"), "/leaderless", 0, 0, leaderless, 0});
    end(1, 600);
    any_end = false;

    limited("/files", 24);
    begin("memcg-tmpfs", "memcg", "/files");
    start((struct plan){NAME_IS("tmp-writer"), "/files", 0, 0, fill_tmpfs, 0});
    end(1, 600);
    unlink("/tmpfs/cache.bin");

    limited("/spared", 12);
    begin("memcg-no-killable", "memcg", "/spared");
    start((struct plan){NAME_IS("untouchable"), "/spared", 0, -1000, populate, 64});
    end(0, 1500);

    pause_ms(4000);
    limited("/scores", 40);
    begin("memcg-protected", "memcg", "/scores");
    start((struct plan){NAME_IS("untouchable"), "/scores", 0, -1000, hold, 8});
    start((struct plan){NAME_IS("database"), "/scores", 105, -900, hold, 16});
    start((struct plan){NAME_IS("volunteer"), "/scores", 1000, 900, hold, 2});
    start((struct plan){NAME_IS("worker"), "/scores", 1000, 0, hog_slowly, 2});
    end(2, 600);

    limited("/many", 8);
    begin("memcg-storm", "memcg", "/many");
    for (int i = 0; i < 30; i++) {
        char comm[16];
        start((struct plan){comm, (size_t)snprintf(comm, sizeof comm, "storm-%02d", i), "/many", 0, 0, hog, 0});
    }
    end(30, 800);

    pause_ms(5000);
    limited("/left", 8);
    limited("/right", 12);
    begin("memcg-two-at-once", "memcg", NULL);
    for (int i = 0; i < 4; i++) {
        start((struct plan){NAME_IS("left"), "/left", 0, 0, hog, 0});
        start((struct plan){NAME_IS("right"), "/right", 0, 0, hog, 0});
    }
    end(8, 800);
}

static void set_global(void) {
    klogctl(5 /* clear */, NULL, 0);
    global_kill("global", NAME_IS("leaker"));
    static char printed[1 << 18];
    int n = klogctl(3 /* all since the last clear */, printed, sizeof printed);
    if (n > 0) save("global.syslog", printed, n);

    global_kill("global-name-kill-line", NAME_IS("x) total-vm:0kB, anon-rss:0kB ("));
    global_kill("global-name-newline", NAME_IS("a\nb,task=init"));

    group("/system.slice/leaker.service");
    begin("global-from-cgroup", "global", NULL);
    start((struct plan){NAME_IS("postgres"), NULL, 105, 0, hold, 24});
    start((struct plan){NAME_IS("leaker"), "/system.slice/leaker.service", 1000, 0, hog, 0});
    end(1, 700);

    put("/proc/sys/kernel/sysrq", "1");
    begin("sysrq", "global", NULL);
    start((struct plan){NAME_IS("small"), NULL, 0, 0, hold, 4});
    start((struct plan){NAME_IS("biggest"), NULL, 1000, 0, hold, 40});
    put("/proc/sysrq-trigger", "f");
    end(1, 700);

    put("/proc/sys/vm/oom_kill_allocating_task", "1");
    begin("allocating-task", "global", NULL);
    start((struct plan){NAME_IS("biggest"), NULL, 0, 0, hold, 80});
    start((struct plan){NAME_IS("asker"), NULL, 1000, 0, hog, 0});
    end(1, 700);
    put("/proc/sys/vm/oom_kill_allocating_task", "0");

    put("/proc/sys/vm/oom_dump_tasks", "0");
    begin("no-dump-tasks", "global", NULL);
    start((struct plan){NAME_IS("leaker"), NULL, 1000, 0, hog, 0});
    end(1, 700);
    put("/proc/sys/vm/oom_dump_tasks", "1");
    pause_ms(5000);

    begin("children", "global", NULL);
    start((struct plan){NAME_IS("parent"), NULL, 1000, 0, family, 4});
    end(1, 700);

    begin("protected", "global", NULL);
    start((struct plan){NAME_IS("untouchable"), NULL, 0, -1000, hold, 24});
    start((struct plan){NAME_IS("database"), NULL, 105, -900, hold, 72});
    start((struct plan){NAME_IS("small"), NULL, 0, 0, hold, 4});
    start((struct plan){NAME_IS("worker"), NULL, 1000, 0, hog, 0});
    end(1, 700);

    begin("volunteer", "global", NULL);
    start((struct plan){NAME_IS("browser tab"), NULL, 1000, 300, hold, 16});
    start((struct plan){NAME_IS("editor"), NULL, 1000, 0, hold, 24});
    start((struct plan){NAME_IS("compiler"), NULL, 1000, 0, hog, 0});
    end(2, 700);

    put("/proc/sys/vm/nr_hugepages", "32");
    begin("hugepages", "global", NULL);
    tell("note\thugepages %ld\n", field("/proc/meminfo", "HugePages_Total"));
    start((struct plan){NAME_IS("leaker"), NULL, 1000, 0, hog, 0});
    end(1, 700);
    put("/proc/sys/vm/nr_hugepages", "0");
    pause_ms(4000);

    begin("tmpfs", "global", NULL);
    start((struct plan){NAME_IS("tmp-writer"), NULL, 0, 0, fill_tmpfs, 80});
    start((struct plan){NAME_IS("bystander"), NULL, 0, 0, hold, 8});
    start((struct plan){NAME_IS("asker"), NULL, 1000, 0, hog, 0});
    end(1, 700);
    unlink("/tmpfs/cache.bin");

    begin("tmpfs-private", "global", NULL);
    start((struct plan){NAME_IS("bystander"), NULL, 0, 0, hold, 8});
    start((struct plan){NAME_IS("tmp-writer"), NULL, 0, 0, fill_private, 0});
    end(2, 1200);

    begin("pipes", "global", NULL);
    start((struct plan){NAME_IS("bystander"), NULL, 0, 0, hold, 8});
    start((struct plan){NAME_IS("pipe-filler"), NULL, 0, 0, pipes, 0});
    end(2, 1200);
    pause_ms(3000);

    begin("page-tables", "global", NULL);
    start((struct plan){NAME_IS("bystander"), NULL, 0, 0, hold, 8});
    start((struct plan){NAME_IS("mapper"), NULL, 1000, 0, page_tables, 0});
    end(1, 700);

    begin("slab", "global", NULL);
    start((struct plan){NAME_IS("bystander"), NULL, 0, 0, hold, 8});
    start((struct plan){NAME_IS("msg-sender"), NULL, 0, 0, messages, 0});
    end(2, 1200);
}

static void set_order(void) {
    put("/proc/sys/vm/compact_unevictable_allowed", "0");
    put("/proc/sys/vm/overcommit_memory", "1");
    for (int order = 1; order <= 3; order++) {
        char name[32];
        snprintf(name, sizeof name, "order-%d", order);
        begin(name, "global", NULL);
        start((struct plan){NAME_IS("fragmenter"), NULL, 0, 0, fragment, 0});
        start((struct plan){NAME_IS("asker"), NULL, 0, 0, ask_blocks, order});
        end(1, 700);
        pause_ms(2000);
    }
}

static void set_v1(void) {
    char path[128];
    mounted = "/sys/fs/cgroup/memory";
    make_dirs(mounted);
    if (mount("cgroup", mounted, "cgroup", 0, "memory")) {
        skip("v1-memcg", "the kernel is built without the memory controller of cgroup v1");
        return;
    }
    put("/sys/fs/cgroup/memory/memory.use_hierarchy", "1");
    cgroup_kill("v1-memcg", "/app", NAME_IS("worker"));
    limited("/shop", 24);
    group("/shop/web");
    group("/shop/db");
    begin("v1-memcg-parent", "memcg", "/shop");
    start((struct plan){NAME_IS("db"), "/shop/db", 105, 0, hold, 6});
    start((struct plan){NAME_IS("web"), "/shop/web", 33, 0, hog, 0});
    end(1, 400);
    cgroup_kill("v1-cgroup-summary", "/a,task_memcg=/system.slice/ssh.service,task=x,pid=1", NAME_IS("x"));
    cgroup_kill("v1-name-kill-line", "/names", NAME_IS("x) total-vm:0kB, anon-rss:0kB ("));
    cgroup_kill("v1-cgroup-stats", "/Memory cgroup stats for ,", NAME_IS("y"));
    snprintf(path, sizeof path, "%s/swap/memory.memsw.limit_in_bytes", mounted);
    limited("/swap", 16);
    if (put(path, "%ld", 24 * (long)MIB)) skip("v1-memsw", "the kernel counts no swap for cgroup v1");
    else {
        begin("v1-memsw", "memcg", "/swap");
        start((struct plan){NAME_IS("worker"), "/swap", 0, 0, hog, 0});
        end(1, 600);
    }
    mounted = "/sys/fs/cgroup/cpuset";
    make_dirs(mounted);
    if (mount("cgroup", mounted, "cgroup", 0, "cpuset")) {
        skip("v1-cpuset", "the kernel is built without cpusets of cgroup v1");
        return;
    }
    group("/second");
    limit("/second", "cpuset.cpus", "0-1");
    limit("/second", "cpuset.mems", "1");
    begin("v1-cpuset", "cpuset", NULL);
    tell("cpuset\tsecond\n");
    start((struct plan){NAME_IS("bound"), "/second", 0, 0, hog, 0});
    end(1, 700);
}

static void set_nodes(void) {
    put("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset");
    group("/second");
    limit("/second", "cpuset.mems", "1");
    begin("cpuset", "cpuset", NULL);
    tell("cpuset\tsecond\n");
    start((struct plan){NAME_IS("free"), NULL, 0, 0, hold, 24});
    start((struct plan){NAME_IS("bound"), "/second", 0, 0, hog, 0});
    end(1, 700);

    group("/set,mems_allowed=0,global_oom");
    limit("/set,mems_allowed=0,global_oom", "cpuset.mems", "1");
    begin("cpuset-hostile", "cpuset", NULL);
    tell("cpuset\tset,mems_allowed=0,global_oom\n");
    start((struct plan){NAME_IS("bound"), "/set,mems_allowed=0,global_oom", 0, 0, hog, 0});
    end(1, 700);

    begin("mempolicy", "mempolicy", NULL);
    start((struct plan){NAME_IS("policy"), NULL, 1000, 0, bind_then_hog, 1});
    end(1, 700);

    begin("mempolicy-range", "mempolicy", NULL);
    start((struct plan){NAME_IS("range"), NULL, 1000, 0, bind_range, 0});
    end(1, 700);

    limited("/both", 24);
    limit("/both", "cpuset.mems", "1");
    begin("cpuset-memcg", "memcg", "/both");
    start((struct plan){NAME_IS("bound"), "/both", 0, 0, hog, 0});
    end(1, 700);
}

/* ---------- a picture of /proc and /sys with memory in use ---------- */

static void copy(const char *path) {
    static char text[1 << 18];
    ssize_t n = slurp(path, text, sizeof text);
    if (n >= 0) save(path + 1, text, n);
}

static void copy_folder(const char *path) {
    char child[1024];
    DIR *folder = opendir(path);
    struct dirent *entry;
    struct stat status;
    while (folder && (entry = readdir(folder))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (lstat(child, &status)) continue;
        if (S_ISDIR(status.st_mode)) copy_folder(child);
        else if (S_ISREG(status.st_mode) && status.st_mode & 0444) copy(child);
    }
    if (folder) closedir(folder);
}

static void picture(void) {
    static const char *files[] = {
        "/proc/meminfo", "/proc/vmstat", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/pagetypeinfo",
        "/proc/slabinfo", "/proc/swaps", "/proc/self/mountinfo", "/proc/vmallocinfo", "/proc/version",
        "/proc/pressure/memory", "/proc/pressure/io", "/proc/pressure/cpu", "/proc/stat",
        "/proc/loadavg", "/proc/uptime", "/proc/cmdline", "/proc/modules", "/proc/allocinfo",
        "/proc/cgroups", "/proc/filesystems", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/printk",
        "/sys/module/zswap/parameters/enabled", "/sys/devices/system/node/node0/meminfo",
        "/sys/devices/system/node/online", "/sys/kernel/mm/lru_gen/enabled",
    };
    static const char *of_a_process[] = {
        "stat", "statm", "status", "smaps_rollup", "smaps", "maps", "cgroup", "comm", "cmdline",
        "oom_score", "oom_score_adj", "limits", "io", "numa_maps",
    };
    char path[256];
    make_dirs("/hugepages");
    mount("hugetlbfs", "/hugepages", "hugetlbfs", 0, NULL);
    put("/proc/sys/vm/nr_hugepages", "4");
    limited("/system.slice/app.service", 48);
    limit("/system.slice/app.service", "memory.swap.max", "max");
    pid_t writer = start((struct plan){NAME_IS("tmp-writer"), "/system.slice/app.service", 0, 0, fill_tmpfs, 12});
    pid_t holder = start((struct plan){NAME_IS("my app) S (x"), "/system.slice/app.service", 1000, 100, hold, 60});
    pause_ms(2000);
    if (chdir("/")) {}
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) copy(files[i]);
    copy_folder("/proc/sys/vm");
    copy_folder("/sys/kernel/mm/transparent_hugepage");
    copy_folder("/sys/kernel/mm/hugepages");
    copy_folder("/sys/kernel/mm/ksm");
    copy_folder("/sys/fs/cgroup/system.slice/app.service");
    copy("/sys/fs/cgroup/memory.stat");
    copy("/sys/fs/cgroup/memory.pressure");
    copy("/sys/fs/cgroup/cgroup.controllers");
    const pid_t pids[] = {1, 2, writer, holder};
    for (int p = 0; p < 4; p++)
        for (size_t i = 0; i < sizeof of_a_process / sizeof of_a_process[0]; i++) {
            snprintf(path, sizeof path, "/proc/%d/%s", pids[p], of_a_process[i]);
            copy(path);
        }
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    unlink("/tmpfs/cache.bin");
    put("/proc/sys/vm/nr_hugepages", "0");
}

static bool swap_on(void) {
    if (access("/dev/vda", F_OK)) return false;
    static char page[4096];
    int fd = open("/dev/vda", O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);
    unsigned *head = (unsigned *)(page + 1024);
    head[0] = 1;                 /* version */
    head[1] = size / 4096 - 1;   /* last page */
    memcpy(page + 4086, "SWAPSPACE2", 10);
    lseek(fd, 0, SEEK_SET);
    bool written = write(fd, page, sizeof page) == sizeof page && !fsync(fd);
    close(fd);
    return written && !swapon("/dev/vda", 0);
}

static void set_swap(void) {
    if (!swap_on()) {
        skip("global-swap", "no swap could be had");
        return;
    }
    picture();
    pause_ms(500);
    begin("global-swap", "global", NULL);
    start((struct plan){NAME_IS("idle"), NULL, 1000, 0, hold, 32});
    start((struct plan){NAME_IS("leaker"), NULL, 1000, 0, hog, 0});
    end(1, 1000);

    limited("/app.service", 16);
    limit("/app.service", "memory.swap.max", "%ld", 8 * (long)MIB);
    begin("memcg-swap", "memcg", "/app.service");
    start((struct plan){NAME_IS("idle"), "/app.service", 1000, 0, hold, 4});
    start((struct plan){NAME_IS("worker"), "/app.service", 0, 0, hog, 0});
    end(1, 600);

    begin("global-swap-tmpfs", "global", NULL);
    start((struct plan){NAME_IS("tmp-writer"), NULL, 0, 0, fill_private, 0});
    end(1, 1200);
}

/* ---------- no OOM at all: nothing of it may be read as a report ---------- */

static void set_noise(void) {
    title[0] = 0;
    kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* from the first record */
    read_log();
    save("boot.kmsg", log_text, log_size);
    close(kmsg);

    put("/proc/sys/kernel/sysrq", "1");
    begin("sysrq-shows", "none", NULL);
    start((struct plan){NAME_IS("Out of memory: "), NULL, 0, 0, hold, 8});
    start((struct plan){NAME_IS("invoked oom-kil"), NULL, 0, 0, nothing, 0});
    for (const char *key = "9hmtwlpqd"; *key; key++) {
        put("/proc/sysrq-trigger", "%c", *key);
        pause_ms(400);
    }
    end(0, 300);

    begin("allocation-failure", "none", NULL);
    start((struct plan){NAME_IS("modprobe"), NULL, 0, 0, fail_to_allocate, 0});
    pause_ms(500);
    start((struct plan){NAME_IS("oom_reaper: rea"), NULL, 0, 0, fail_to_allocate, 0});
    pause_ms(500);
    end(0, 300);

    begin("forged", "none", NULL);
    int out = open("/dev/kmsg", O_WRONLY);
    static const char *const lies[] = {
        "x invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0",
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        "task_memcg=/system.slice/ssh.service,task=sshd,pid=1,uid=0",
        "<3>Out of memory: Killed process 1 (systemd) total-vm:1kB, anon-rss:1kB, file-rss:0kB, "
        "shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0",
        "Out of memory: Killed process 1 (systemd) total-vm:1kB, anon-rss:1kB, file-rss:0kB, "
        "shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0",
        "a line\nOut of memory: Killed process 1 (systemd) total-vm:1kB, anon-rss:1kB",
        "Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled",
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++)
        if (write(out, lies[i], strlen(lies[i])) < 0) say("kmsg: %s\n", strerror(errno));
    close(out);
    start((struct plan){NAME_IS("Killed process "), NULL, 1000, 0, crash, 0});
    start((struct plan){NAME_IS("Out of memory: "), NULL, 1000, 0, crash, 0});
    start((struct plan){NAME_IS("x\nKilled proces"), NULL, 1000, 0, crash, 0});
    start((struct plan){NAME_IS("oom_reaper: rea"), NULL, 1000, 0, crash, 0});
    pause_ms(300);
    end(0, 300);
}

/* ---------- the end of the machine: read from the console, and after the next start ---------- */

static void set_pstore(void) { /* what the firmware kept of the panic of the boot before */
    mount("pstore", "/sys/fs/pstore", "pstore", 0, NULL);
    copy_folder("/sys/fs/pstore");
}

static void foretell(const char *name, const char *scope, const char *path) {
    begin(name, scope, path);
    tell("rise\t0\noutcome\tpanic\n");
    close(kmsg);
    char file[160];
    snprintf(file, sizeof file, "%s.truth", name);
    save(file, truth, truth_size);
    tcdrain(results);
    pause_ms(300);
}

static void set_panic(void) {
    cgroup_kill("console-memcg", "/app.service", NAME_IS("worker"));
    put("/proc/sys/vm/panic_on_oom", "1");
    foretell("panic", "global", NULL);
    start((struct plan){NAME_IS("leaker"), NULL, 1000, 0, hog, 0});
    end(1, 0);
}

static void set_panic_compulsory(void) {
    global_kill("console-global", NAME_IS("leaker"));
    put("/proc/sys/vm/panic_on_oom", "2");
    limited("/app.service", 16);
    foretell("panic-compulsory", "memcg", "/app.service");
    start((struct plan){NAME_IS("worker"), "/app.service", 1000, 0, hog, 0});
    end(1, 0);
}

static void set_deadlock(void) {
    foretell("panic-no-killable", "global", NULL);
    start((struct plan){NAME_IS("untouchable"), NULL, 0, -1000, hog, 0});
    end(1, 0);
}

int main(void) {
    static const struct { const char *name; void (*run)(void); } sets[] = {
        {"v2", set_v2}, {"hostile", set_hostile}, {"global", set_global}, {"order", set_order},
        {"v1", set_v1}, {"nodes", set_nodes}, {"swap", set_swap}, {"noise", set_noise},
        {"panic", set_panic}, {"pstore", set_pstore}, {"panic-compulsory", set_panic_compulsory}, {"deadlock", set_deadlock},
    };
    static char words[4096], module[1 << 20];
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    int console = open("/dev/ttyS0", O_WRONLY | O_NOCTTY);
    if (console >= 0) dup2(console, 2);
    results = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
    struct termios raw;
    tcgetattr(results, &raw);
    cfmakeraw(&raw);
    cfsetspeed(&raw, B115200);
    tcsetattr(results, TCSANOW, &raw);
    sethostname("oom-vm", 6);
    mkdir("/tmpfs", 0755);
    mount("tmpfs", "/tmpfs", "tmpfs", 0, "size=100%");
    for (int i = 0; i < 20; i++) { /* in the order in which they need each other */
        char path[32];
        snprintf(path, sizeof path, "/modules/%02d.ko", i);
        ssize_t n = slurp(path, module, sizeof module);
        if (n > 0 && syscall(SYS_init_module, module, (unsigned long)n, "")) say("%s: %s\n", path, strerror(errno));
    }
    pause_ms(300);
    slurp("/proc/cmdline", words, sizeof words);
    char *set = strstr(words, "set=");
    set = set ? strtok(set + 4, " \n") : "v2";
    if (strcmp(set, "v1")) {
        if (mount("cgroup2", V2, "cgroup2", 0, NULL)) say("cgroup2: %s\n", strerror(errno));
        put(V2 "/cgroup.subtree_control", "+memory");
    } else {
        mount("tmpfs", V2, "tmpfs", 0, NULL);
        swap_on();
    }
    struct utsname name;
    uname(&name);
    save("release", name.release, strlen(name.release));
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        if (!strcmp(sets[i].name, set)) sets[i].run();
    static char zeros[1024];
    emit(zeros, sizeof zeros);
    tcdrain(results);
    say("-- done\n");
    reboot(RB_POWER_OFF);
    for (;;) pause();
}
