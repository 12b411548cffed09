/*
 * The register of processes in a user's namespace. As long as one of them lives,
 * the next command joins its namespace instead of making one: so all containers
 * of a user see each other's networks, and nobody waits for newuidmap.
 *
 * It is the directory RUNDIR/cooper-UID/userns with a symbolic link for each
 * process, named PID-STARTTIME (field 22 of /proc/PID/stat), whose text is the
 * key: the ids that the namespace was made for. Whoever looks holds a lock on the
 * directory until it has a namespace and a link of its own, and removes the links
 * of processes that are no more.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "userns.h"

char *cooper_userns_link;

/* The register's path, and its descriptor, which holds the lock. */
static char register_path[PATH_MAX - 64];
static int register_fd = -1;

/* Opens a directory that is this user's alone, making it when it is missing. */
static int open_own(int at, const char *path)
{
	struct stat st;
	if (mkdirat(at, path, 0700) < 0 && errno != EEXIST)
		return -1;
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || st.st_mode & 022) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The directory for what need not outlive a boot, as the storage library has it. */
static const char *run_dir(void)
{
	static char path[32];
	const char *base = getenv("XDG_RUNTIME_DIR");
	if (base && *base && access(base, W_OK) == 0)
		return base;
	snprintf(path, sizeof path, "/run/user/%u", (unsigned)geteuid());
	if (access(path, W_OK) == 0)
		return path;
	base = getenv("TMPDIR");
	return base && *base ? base : "/tmp";
}

/* Opens the register and locks it. */
static int open_register(void)
{
	const char *base = run_dir();
	int n = snprintf(register_path, sizeof register_path, "%s/cooper-%u", base, (unsigned)geteuid());
	if (n >= (int)sizeof register_path - 8)
		return -1;
	int dir = open_own(AT_FDCWD, register_path);
	if (dir < 0)
		return -1;
	int fd = open_own(dir, "userns");
	close(dir);
	strcat(register_path, "/userns");
	if (fd < 0)
		return -1;
	while (flock(fd, LOCK_EX) < 0) {
		if (errno != EINTR) {
			close(fd);
			return -1;
		}
	}
	return fd;
}

/* When the process below /proc/PID was started, 0 = it is no more. */
static unsigned long long start_time(int proc)
{
	char text[1024], state;
	unsigned long long start;
	int fd = openat(proc, "stat", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	char *name_end = strrchr(text, ')');
	if (!name_end || sscanf(name_end + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
				&state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}

/* Opens /proc/PID if that process is the registered one and has not ended. */
static int open_process(const char *link)
{
	int pid;
	unsigned long long start;
	char path[32];
	if (sscanf(link, "%d-%llu", &pid, &start) != 2)
		return -1;
	snprintf(path, sizeof path, "/proc/%d", pid);
	int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc >= 0 && start_time(proc) != start) {
		close(proc);
		return -1;
	}
	return proc;
}

/*
 * Opens the user namespace of a process. It must be one that this user made, or
 * somebody who may write to the register could have us in theirs.
 */
static int open_namespace(int proc)
{
	uid_t owner;
	int fd = openat(proc, "ns/user", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && (ioctl(fd, NS_GET_OWNER_UID, &owner) < 0 || owner != geteuid())) {
		close(fd);
		return -1;
	}
	return fd;
}

static int has_key(const char *link, const char *key)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(register_fd, link, text, sizeof text);
	return n == (ssize_t)strlen(key) && memcmp(text, key, n) == 0;
}

/* Joins the namespace of a registered process: 1 if so, 0 if that can't be. */
static int join_process(const char *link, const char *key)
{
	int proc = open_process(link);
	if (proc < 0) {
		unlinkat(register_fd, link, 0);
		return 0;
	}
	int ns = has_key(link, key) ? open_namespace(proc) : -1;
	close(proc);
	if (ns < 0)
		return 0;
	int joined = setns(ns, CLONE_NEWUSER) == 0;
	close(ns);
	return joined;
}

/* Whether a process with the link's number, be it another one, exists. */
static int may_exist(const char *link)
{
	char path[32];
	int pid;
	if (sscanf(link, "%d-", &pid) != 1)
		return 1;
	snprintf(path, sizeof path, "/proc/%d", pid);
	return access(path, F_OK) == 0;
}

int cooper_userns_join(const char *key)
{
	int joined = 0;
	struct dirent *entry;
	register_fd = open_register();
	if (register_fd < 0)
		return 0;
	int fd = openat(register_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (!joined)
			joined = join_process(entry->d_name, key);
		else if (!may_exist(entry->d_name))
			unlinkat(register_fd, entry->d_name, 0);
	}
	closedir(dir);
	if (joined && unshare(CLONE_NEWNS) < 0)
		return -1;
	return joined;
}

void cooper_userns_register(const char *key)
{
	static char link[PATH_MAX];
	char name[64];
	if (register_fd < 0)
		return;
	int proc = key ? open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (proc >= 0) {
		/* Else other processes could not look at /proc/PID/ns/user. */
		prctl(PR_SET_DUMPABLE, 1);
		snprintf(name, sizeof name, "%d-%llu", (int)getpid(), start_time(proc));
		close(proc);
		snprintf(link, sizeof link, "%s/%s", register_path, name);
		if (symlinkat(key, register_fd, name) == 0 || errno == EEXIST)
			cooper_userns_link = link;
	}
	/* Forked mappers may still hold the descriptor. */
	flock(register_fd, LOCK_UN);
	close(register_fd);
	register_fd = -1;
}
