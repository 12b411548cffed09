/*
 * Enters a user namespace before Go starts, while the process has one thread:
 * only then may it unshare one. See the package comment in userns.go.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "userns.h"

/* Set to 1 by cooper/layers/rootless, where that is linked in. */
extern int cooper_userns_early __attribute__((weak));

int cooper_userns_state = COOPER_USERNS_UNTOUCHED;
int cooper_userns_errno;
int cooper_userns_single;

enum { MAX_RANGES = 32, MAX_LINE = 512, MAX_KEY = 3072 };

/* The ids of one kind that the namespace is to have. */
struct ids {
	const char *subids; /* /etc/subuid */
	const char *tool;   /* newuidmap */
	const char *map;    /* /proc/self/uid_map */
	unsigned own;       /* the user's id, which becomes 0 */
	int n;
	unsigned long start[MAX_RANGES], count[MAX_RANGES];
	char path[4096]; /* of tool, "" = none */
	pid_t mapper;
};

/* The user's name as /etc/passwd has it, or $USER for users from elsewhere. */
static void user_name(unsigned uid, char *name, size_t size)
{
	char line[MAX_LINE], found[MAX_LINE];
	unsigned id;
	const char *env = getenv("USER");
	snprintf(name, size, "%s", env ? env : "");
	FILE *f = fopen("/etc/passwd", "re");
	if (!f)
		return;
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%511[^:]:%*[^:]:%u:", found, &id) == 2 && id == uid) {
			snprintf(name, size, "%s", found);
			break;
		}
	}
	fclose(f);
}

/* Reads the ranges set aside for a user, the lowest first as podman has them. */
static void read_ranges(struct ids *ids, unsigned uid, const char *name)
{
	char line[MAX_LINE], who[MAX_LINE], number[16];
	unsigned long start, count;
	snprintf(number, sizeof number, "%u", uid);
	FILE *f = fopen(ids->subids, "re");
	if (!f)
		return;
	while (ids->n < MAX_RANGES && fgets(line, sizeof line, f)) {
		if (sscanf(line, " %511[^:#]:%lu:%lu", who, &start, &count) != 3 || count == 0)
			continue;
		if (strcmp(who, number) && (!*name || strcmp(who, name)))
			continue;
		int i = ids->n++;
		for (; i > 0 && ids->start[i - 1] > start; i--) {
			ids->start[i] = ids->start[i - 1];
			ids->count[i] = ids->count[i - 1];
		}
		ids->start[i] = start;
		ids->count[i] = count;
	}
	fclose(f);
}

/* Finds the setuid helper that may map the ranges. */
static void find_tool(struct ids *ids)
{
	const char *path = getenv("PATH");
	if (!path || !*path)
		path = "/usr/local/bin:/usr/bin:/bin";
	while (*path) {
		int n = strcspn(path, ":");
		if (n > 0 && snprintf(ids->path, sizeof ids->path, "%.*s/%s", n, path, ids->tool) < (int)sizeof ids->path &&
		    access(ids->path, X_OK) == 0)
			return;
		path += n + (path[n] == ':');
	}
	ids->path[0] = 0;
}

/*
 * Starts a process that stays in the old namespace, waits for a byte on a pipe
 * and then runs the helper for the process with the given id.
 */
static pid_t start_mapper(struct ids *ids, int wait_fd, int close_fd)
{
	char numbers[3 * (MAX_RANGES + 1) + 1][24], *argv[3 * (MAX_RANGES + 1) + 3];
	int argc = 0, k = 0;
	unsigned long inside = 1;
	argv[argc++] = (char *)ids->tool;
	snprintf(numbers[k], sizeof numbers[k], "%d", (int)getpid());
	argv[argc++] = numbers[k++];
	for (int i = -1; i < ids->n; i++) {
		snprintf(numbers[k], sizeof numbers[k], "%lu", i < 0 ? 0 : inside);
		argv[argc++] = numbers[k++];
		snprintf(numbers[k], sizeof numbers[k], "%lu", i < 0 ? (unsigned long)ids->own : ids->start[i]);
		argv[argc++] = numbers[k++];
		snprintf(numbers[k], sizeof numbers[k], "%lu", i < 0 ? 1 : ids->count[i]);
		argv[argc++] = numbers[k++];
		if (i >= 0)
			inside += ids->count[i];
	}
	argv[argc] = NULL;
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	char go;
	close(close_fd);
	if (read(wait_fd, &go, 1) != 1)
		_exit(1);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, 1);
		dup2(null, 2);
	}
	execv(ids->path, argv);
	_exit(127);
}

static int succeeded(pid_t pid)
{
	int status;
	if (pid <= 0)
		return 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* Maps nothing but the user's own id, which needs no helper. */
static int map_own(struct ids *ids)
{
	char text[64];
	snprintf(text, sizeof text, "0 %u 1\n", ids->own);
	return write_file(ids->map, text);
}

static void announce(unsigned uid, unsigned gid)
{
	char number[16];
	setenv("_CONTAINERS_USERNS_CONFIGURED", "done", 1);
	snprintf(number, sizeof number, "%u", uid);
	setenv("_CONTAINERS_ROOTLESS_UID", number, 1);
	snprintf(number, sizeof number, "%u", gid);
	setenv("_CONTAINERS_ROOTLESS_GID", number, 1);
}

/* Appends the ids of one kind to the key of a namespace that has them. */
static void add_to_key(char *key, size_t size, const struct ids *ids, int ranges)
{
	size_t n = strlen(key);
	n += snprintf(key + n, size - n, "%s0:%u:1", n ? " " : "", ids->own);
	for (int i = 0; ranges && i < ids->n && n < size; i++)
		n += snprintf(key + n, size - n, ",%lu:%lu", ids->start[i], ids->count[i]);
}

/*
 * Makes a namespace and has the ids mapped, with ranges if they are wanted: 1 if so,
 * 0 if that is forbidden, -1 if it is there and of no use.
 */
static int make_namespace(struct ids *uids, struct ids *gids, int ranges)
{
	int pipefd[2], have_uids = 0, have_gids = 0;
	if (ranges && pipe2(pipefd, O_CLOEXEC) < 0)
		ranges = 0;
	if (ranges) {
		uids->mapper = start_mapper(uids, pipefd[0], pipefd[1]);
		gids->mapper = start_mapper(gids, pipefd[0], pipefd[1]);
	}
	int entered = unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
	cooper_userns_errno = entered ? 0 : errno;
	if (ranges) {
		/* Without the bytes the mappers only end. */
		if (entered && write(pipefd[1], "gg", 2) != 2)
			cooper_userns_errno = errno;
		close(pipefd[1]);
		close(pipefd[0]);
		have_uids = succeeded(uids->mapper);
		have_gids = succeeded(gids->mapper);
	}
	if (!entered)
		return 0;
	if (ranges && !(have_uids && have_gids))
		cooper_userns_single = COOPER_USERNS_SINGLE_TOOLS_FAILED;
	if (!have_gids) {
		write_file("/proc/self/setgroups", "deny");
		have_gids = map_own(gids) == 0;
	}
	if (!have_uids)
		have_uids = map_own(uids) == 0;
	if (!have_uids || !have_gids) {
		cooper_userns_errno = errno;
		return -1;
	}
	return 1;
}

static void enter_as_user(void)
{
	static struct ids uids = {.subids = "/etc/subuid", .tool = "newuidmap", .map = "/proc/self/uid_map"};
	static struct ids gids = {.subids = "/etc/subgid", .tool = "newgidmap", .map = "/proc/self/gid_map"};
	char name[MAX_LINE], key[MAX_KEY] = "";
	uids.own = geteuid();
	gids.own = getegid();
	user_name(uids.own, name, sizeof name);
	read_ranges(&uids, uids.own, name);
	read_ranges(&gids, uids.own, name);
	find_tool(&uids);
	find_tool(&gids);
	int ranges = uids.n && gids.n && uids.path[0] && gids.path[0];
	add_to_key(key, sizeof key, &uids, ranges);
	add_to_key(key, sizeof key, &gids, ranges);

	int entered = cooper_userns_join(key);
	if (entered < 0) {
		cooper_userns_errno = errno;
	} else if (entered == 0) {
		if (!uids.n || !gids.n)
			cooper_userns_single = COOPER_USERNS_SINGLE_NO_RANGES;
		else if (!ranges)
			cooper_userns_single = COOPER_USERNS_SINGLE_NO_TOOLS;
		entered = make_namespace(&uids, &gids, ranges);
	}
	cooper_userns_register(entered > 0 ? key : NULL);
	cooper_userns_state = entered < 0 ? COOPER_USERNS_FAILED : entered ? COOPER_USERNS_ENTERED : COOPER_USERNS_REFUSED;
	if (entered > 0)
		announce(uids.own, gids.own);
}

static int has_capability(int cap)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	if (syscall(SYS_capget, &header, data) < 0)
		return 1;
	return data[cap / 32].effective >> (cap % 32) & 1;
}

/* Copies a map so that every id stays what it is. */
static int copy_map(const char *from, pid_t pid, const char *to)
{
	char text[4096], path[64];
	size_t n = 0;
	unsigned long id, host, count;
	FILE *f = fopen(from, "re");
	if (!f)
		return -1;
	while (n < sizeof text - 64 && fscanf(f, "%lu %lu %lu", &id, &host, &count) == 3)
		n += snprintf(text + n, sizeof text - n, "%lu %lu %lu\n", id, id, count);
	fclose(f);
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, to);
	return write_file(path, text);
}

/* Makes a namespace with the same ids: 1 if so, 0 if that is forbidden. */
static int make_same(void)
{
	int pipefd[2];
	pid_t self = getpid();
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return 0;
	pid_t mapper = fork();
	if (mapper == 0) {
		char go;
		close(pipefd[1]);
		if (read(pipefd[0], &go, 1) != 1)
			_exit(1);
		_exit(copy_map("/proc/self/gid_map", self, "gid_map") || copy_map("/proc/self/uid_map", self, "uid_map"));
	}
	int entered = unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
	cooper_userns_errno = entered ? 0 : errno;
	if (entered && write(pipefd[1], "g", 1) != 1)
		cooper_userns_errno = errno;
	close(pipefd[1]);
	close(pipefd[0]);
	int mapped = succeeded(mapper);
	if (!entered)
		return 0;
	if (mapped)
		return 1;
	errno = EPERM;
	return -1;
}

/*
 * Root that may not mount, as in an ordinary container: a namespace with the
 * same ids may. When even that is forbidden, nothing has happened. Without these
 * capabilities the kernel maps no id of root's.
 */
static void enter_as_weak_root(void)
{
	const char *key = "the same ids";
	if (!has_capability(CAP_SETUID) || !has_capability(CAP_SETGID) || !has_capability(CAP_SETFCAP)) {
		cooper_userns_errno = EPERM;
		cooper_userns_state = COOPER_USERNS_REFUSED;
		return;
	}
	int entered = cooper_userns_join(key);
	if (entered == 0)
		entered = make_same();
	int reason = errno;
	cooper_userns_register(entered > 0 ? key : NULL);
	if (entered < 0) {
		cooper_userns_errno = reason;
		cooper_userns_state = COOPER_USERNS_FAILED;
	} else if (entered > 0) {
		cooper_userns_state = COOPER_USERNS_ENTERED;
		announce(geteuid(), getegid());
	} else {
		cooper_userns_state = COOPER_USERNS_REFUSED;
	}
}

__attribute__((constructor)) static void cooper_userns(void)
{
	const char *asked = getenv("_COOPER_USERNS");
	const char *configured = getenv("_CONTAINERS_USERNS_CONFIGURED");
	int early = &cooper_userns_early && cooper_userns_early;
	if (!early && !(asked && *asked))
		return;
	if (configured && *configured)
		return;
	if (geteuid() != 0)
		enter_as_user();
	else if (!has_capability(CAP_SYS_ADMIN))
		enter_as_weak_root();
}
