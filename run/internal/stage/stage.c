/*
 * The last stage of a container's first process.
 *
 * libcontainer makes the namespaces, mounts and devices and then executes, as the
 * container's root with every capability it may have and without a seccomp filter,
 * the program "/proc/self/fd/3": the runner's own sealed copy in memory. The
 * constructor below finds STAGE_ENV, does what is left to do and executes the
 * user's program. It runs before the Go runtime is started, which saves about
 * 2 ms, and in a process with one thread, so that every call concerns the whole
 * process. The order is runc's (libcontainer/standard_init_linux.go):
 *
 *   standard streams, working directory, filter (without no_new_privs),
 *   bounding set, groups, gid, uid, working directory again if root was refused,
 *   capabilities, lookup of the program, no_new_privs, filter (with it), exec.
 *
 * Nothing of the host stays open: the instructions and the program's descriptor
 * are closed before the program is looked up (CVE-2024-21626), the error pipe is
 * close-on-exec. The process is not dumpable, so that a process of the same
 * container cannot look into it through /proc.
 */
#define _GNU_SOURCE
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_RAISE 2
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

_Static_assert(sizeof(struct stage_header) == 104, "stage.go has the same layout");

/* What ps shows for an init. */
#define INIT_NAME "cooper-init"

struct stage {
	struct stage_header h;
	struct stage_limit *limits;
	uint32_t *groups;
	struct sock_filter *filter;
	char *root, *dir, *path;
	char **args, **env;
};

static int error_fd = -1;
static int init_alone;

/* die_alone tells the user, as nobody else listens. */
static void __attribute__((noreturn)) die_alone(int errnum, const char *name)
{
	dprintf(2, "%s: %s: %s\n", INIT_NAME, name, strerror(errnum));
	_exit(errnum == ENOENT || errnum == ENOTDIR ? 127 : 126);
}

void __attribute__((noreturn)) stage_die(enum stage_step step, int errnum, const char *name)
{
	if (init_alone)
		die_alone(errnum, name);
	struct stage_error e = { .step = step, .errnum = errnum };
	struct iovec iov[2] = {
		{ .iov_base = &e, .iov_len = sizeof(e) },
		{ .iov_base = (void *)name, .iov_len = strlen(name) },
	};
	if (error_fd >= 0 && writev(error_fd, iov, 2) < 0)
		_exit(254);
	_exit(255);
}

/* load reads all of fd into memory and closes it. */
static char *load(int fd, size_t *size)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct stage_header))
		stage_die(STEP_INSTRUCTIONS, errno, "");
	char *buf = malloc(st.st_size + 1);
	if (!buf)
		stage_die(STEP_INSTRUCTIONS, ENOMEM, "");
	size_t n = 0;
	while (n < (size_t)st.st_size) {
		ssize_t r = pread(fd, buf + n, st.st_size - n, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			stage_die(STEP_INSTRUCTIONS, r < 0 ? errno : EIO, "");
		n += r;
	}
	buf[n] = 0;
	close(fd);
	*size = n;
	return buf;
}

/* take returns the next n bytes of the instructions. */
static void *take(char **p, char *end, size_t n)
{
	if (n > (size_t)(end - *p))
		stage_die(STEP_INSTRUCTIONS, EBADMSG, "");
	void *r = *p;
	*p += n;
	return r;
}

static char *take_string(char **p, char *end)
{
	return take(p, end, strnlen(*p, end - *p) + 1);
}

static char **take_strings(char **p, char *end, uint32_t n)
{
	char **v = calloc((size_t)n + 1, sizeof(char *));
	if (!v)
		stage_die(STEP_INSTRUCTIONS, ENOMEM, "");
	for (uint32_t i = 0; i < n; i++)
		v[i] = take_string(p, end);
	return v;
}

static void read_instructions(struct stage *s, int fd)
{
	size_t size;
	char *p = load(fd, &size), *end = p + size;
	memcpy(&s->h, take(&p, end, sizeof(s->h)), sizeof(s->h));
	if (s->h.magic != STAGE_MAGIC)
		stage_die(STEP_INSTRUCTIONS, EBADMSG, "");
	s->limits = take(&p, end, s->h.nlimits * sizeof(struct stage_limit));
	s->groups = take(&p, end, s->h.ngroups * sizeof(uint32_t));
	s->filter = take(&p, end, s->h.nfilter * sizeof(struct sock_filter));
	s->root = take_string(&p, end);
	s->dir = take_string(&p, end);
	s->path = take_string(&p, end);
	s->args = take_strings(&p, end, s->h.nargs);
	s->env = take_strings(&p, end, s->h.nenv);
	if (!s->args[0])
		stage_die(STEP_INSTRUCTIONS, EBADMSG, "");
}

/*
 * set_stdio puts the caller's streams in place. A pipe or socket, or the
 * container's own terminal, is given to the user, so that /dev/stdout can be
 * opened by name; a file or a terminal of the host keeps its owner.
 */
static void set_stdio(struct stage *s)
{
	for (int i = 0; i < 3; i++) {
		int from = s->h.stdio[i];
		if (from >= 0 && dup2(from, i) < 0)
			stage_die(STEP_STDIO, errno, "");
	}
	for (int i = 0; i < 3; i++) {
		struct stat st;
		if (fstat(i, &st) < 0)
			stage_die(STEP_STDIO, errno, "");
		int pty = S_ISCHR(st.st_mode) && major(st.st_rdev) >= 136 && major(st.st_rdev) <= 143;
		int ours = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || (pty && s->h.stdio[i] < 0);
		if (ours && st.st_uid != s->h.uid)
			(void)!fchown(i, s->h.uid, -1); /* unmapped owner, read-only: as it is */
	}
}

/* make_dir makes dir and its parents as container root. */
static void make_dir(char *dir)
{
	for (char *p = dir + 1;; p++) {
		if (*p && *p != '/')
			continue;
		char c = *p;
		*p = 0;
		int r = mkdir(dir, 0755);
		int err = errno;
		*p = c;
		/* Whatever else is wrong, chdir says it better. */
		if (r < 0 && err != EEXIST && err != EACCES && err != EPERM && err != EROFS)
			stage_die(STEP_MKDIR, err, dir);
		if (!c)
			return;
	}
}

/* enter_dir returns 0 if the user has to try again for root. */
static int enter_dir(struct stage *s, int last)
{
	if (chdir(s->dir) == 0)
		return 1;
	if (errno == ENOENT && !last && !(s->h.flags & STAGE_KEEP_DIR)) {
		make_dir(s->dir);
		if (chdir(s->dir) == 0)
			return 1;
	}
	if (errno == EACCES && !last)
		return 0;
	stage_die(STEP_CHDIR, errno, s->dir);
}

/* check_dir makes sure that the working directory is inside the container. */
static void check_dir(struct stage *s)
{
	char buf[PATH_MAX];
	long n = syscall(SYS_getcwd, buf, sizeof(buf));
	if (n < 0 && errno == ERANGE)
		return; /* deep, hence inside: "(unreachable)" is a prefix */
	if (n < 0 || buf[0] != '/')
		stage_die(STEP_CWD_OUTSIDE, n < 0 ? errno : 0, s->dir);
}

static void install_filter(struct stage *s)
{
	if (!s->h.nfilter)
		return;
	struct sock_fprog prog = { .len = s->h.nfilter, .filter = s->filter };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, s->h.filter_flags, &prog) < 0)
		stage_die(STEP_SECCOMP, errno, "");
}

static void drop_bounding(uint64_t keep)
{
	for (int c = 0; c < 64; c++) {
		if (keep & (1ULL << c))
			continue;
		if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0) {
			if (errno == EINVAL)
				return; /* beyond the last one that this kernel knows */
			if (errno == EPERM && prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 0)
				continue; /* not there, and not ours to drop: no CAP_SETPCAP */
			stage_die(STEP_BOUNDING, errno, "");
		}
	}
}

static int groups_denied(void)
{
	char buf[8] = "";
	int fd = open("/proc/self/setgroups", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	(void)!read(fd, buf, sizeof(buf) - 1);
	close(fd);
	return strncmp(buf, "deny", 4) == 0;
}

static void switch_user(struct stage *s)
{
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		stage_die(STEP_UID, errno, "");
	/* A user namespace made without privileges denies it: nothing to be done. */
	if ((s->h.flags & STAGE_SET_GROUPS) && syscall(SYS_setgroups, (size_t)s->h.ngroups, s->groups) < 0 &&
	    !(errno == EPERM && groups_denied()))
		stage_die(STEP_GROUPS, errno, "");
	if (syscall(SYS_setresgid, s->h.gid, s->h.gid, s->h.gid) < 0)
		stage_die(STEP_GID, errno, "");
	if (syscall(SYS_setresuid, s->h.uid, s->h.uid, s->h.uid) < 0)
		stage_die(STEP_UID, errno, "");
}

static void set_caps(struct stage *s)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		stage_die(STEP_CAPS, errno, "");
	for (int i = 0; i < 2; i++) {
		data[i].effective = s->h.effective >> (32 * i);
		data[i].permitted = s->h.permitted >> (32 * i);
		data[i].inheritable = s->h.inheritable >> (32 * i);
	}
	if (syscall(SYS_capset, &head, data) < 0)
		stage_die(STEP_CAPS, errno, "");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		stage_die(STEP_AMBIENT, errno, "");
	for (int c = 0; c < 64; c++) {
		if ((s->h.ambient & (1ULL << c)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0) < 0)
			stage_die(STEP_AMBIENT, errno, "");
	}
}

/* executable answers as access(2) would for the effective user: 0 or an errno. */
static int executable(const char *file)
{
	struct stat st;
	if (stat(file, &st) < 0)
		return errno;
	if (S_ISDIR(st.st_mode))
		return EISDIR;
	/* The real and effective users are the same here, access will do. */
	if (access(file, X_OK) < 0)
		return errno;
	return 0;
}

/* find_program returns the path to execute, as exec.LookPath would. */
static char *find_program(struct stage *s)
{
	char *name = s->args[0];
	if (strchr(name, '/')) {
		int err = executable(name);
		if (err == EACCES || err == EISDIR || err == EPERM)
			stage_die(STEP_NOT_EXECUTABLE, err, name);
		if (err)
			stage_die(STEP_LOOKUP, err, name);
		return name;
	}
	char *file = malloc(strlen(s->path) + strlen(name) + 3);
	if (!file)
		stage_die(STEP_LOOKUP, ENOMEM, name);
	for (char *p = s->path; *name && *p;) {
		size_t n = strcspn(p, ":");
		/* An empty or relative element would be the working directory: skipped, for safety. */
		if (n > 0 && *p == '/') {
			memcpy(file, p, n);
			file[n] = '/';
			strcpy(file + n + 1, name);
			if (executable(file) == 0)
				return file;
		}
		p += n + (p[n] == ':');
	}
	stage_die(STEP_NOT_IN_PATH, ENOENT, name);
}

/* close_others leaves 0, 1, 2 and the error pipe. */
static void close_others(struct stage *s)
{
	for (int fd = 3; fd < s->h.close_from; fd++) {
		if (fd != error_fd)
			close(fd);
	}
	/* libcontainer has closed the rest already; ENOSYS is harmless. */
	syscall(SYS_close_range, s->h.close_from, ~0U, 0);
}

/* reap collects what has ended, and ends with the program. */
static void reap(pid_t program)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == program)
			_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	}
}

/*
 * be_init makes this process the container's init: it starts the program as the
 * foreground of the terminal, passes every signal on to it, and waits for the
 * processes that others leave behind. It has the program's rights and filter, and
 * keeps none of its streams open.
 */
static void __attribute__((noreturn)) be_init(struct stage *s, char *file, char *name)
{
	sigset_t all, before;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	/* Without a process id namespace orphans would go to the host's. */
	if (getpid() != 1)
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	/* Before the program runs, which may look; its execve names it anew. */
	prctl(PR_SET_NAME, INIT_NAME, 0, 0, 0);
	strncpy(name, INIT_NAME, strlen(name)); /* and zero bytes after it */
	pid_t program = fork();
	if (program < 0)
		stage_die(STEP_INIT, errno, "");
	if (program == 0) {
		setpgid(0, 0);
		(void)!tcsetpgrp(0, getpid()); /* SIGTTOU is blocked; no terminal, no matter */
		sigprocmask(SIG_SETMASK, &before, NULL);
		execve(file, s->args, s->env);
		stage_die(STEP_EXEC, errno, file);
	}
	syscall(SYS_close_range, 0, ~0U, 0);
	for (;;) {
		int sig = sigwaitinfo(&all, NULL);
		if (sig == SIGCHLD)
			reap(program);
		else if (sig > 0)
			kill(program, sig);
	}
}

/* leave_host does in libcontainer's place what a process by chroot needs. */
static void leave_host(struct stage *s)
{
	stage_keep();
	for (uint32_t i = 0; i < s->h.nlimits; i++) {
		struct rlimit r = { .rlim_cur = s->limits[i].soft, .rlim_max = s->limits[i].hard };
		if (setrlimit(s->limits[i].resource, &r) < 0)
			stage_die(STEP_LIMIT, errno, "");
	}
	umask(s->h.umask);
	stage_enter_root(s->root, s->h.flags);
}

static void __attribute__((noreturn)) run_stage(int fd, char *name)
{
	struct stage s;

	error_fd = fd + 1;
	if (fcntl(error_fd, F_SETFD, FD_CLOEXEC) < 0)
		_exit(255);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	read_instructions(&s, fd);
	set_stdio(&s);
	close_others(&s);
	if (s.root[0])
		leave_host(&s);
	int entered = enter_dir(&s, 0);
	if (!(s.h.flags & STAGE_NO_NEW_PRIVS))
		install_filter(&s);
	drop_bounding(s.h.bounding);
	switch_user(&s);
	if (!entered)
		enter_dir(&s, 1);
	check_dir(&s);
	set_caps(&s);
	/* Changing the user would have cleared it. */
	if ((s.h.flags & STAGE_DIE_WITH_PARENT) && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		stage_die(STEP_PARENT, errno, "");
	char *file = find_program(&s);
	if (s.h.flags & STAGE_NO_NEW_PRIVS) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			stage_die(STEP_NO_NEW_PRIVS, errno, "");
		install_filter(&s);
	}
	if (s.h.flags & STAGE_INIT)
		be_init(&s, file, name);
	execve(file, s.args, s.env);
	stage_die(STEP_EXEC, errno, file);
}

/* can_mount_proc: in a new process id namespace, which begins with a child. */
static int can_mount_proc(void)
{
	if (unshare(CLONE_NEWPID) < 0)
		return 0;
	pid_t pid = fork();
	if (pid == 0)
		_exit(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0);
	int status = -1;
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* run_probe tries what a container needs; the exit status says what works. */
static void __attribute__((noreturn)) run_probe(void)
{
	int found = 0;
	if (unshare(CLONE_NEWNS) == 0 && mount("", "/", "", MS_REC | MS_SLAVE, NULL) == 0)
		found |= PROBE_MOUNTS;
	if (unshare(CLONE_NEWUTS) == 0 && sethostname("probe", 5) == 0)
		found |= PROBE_UTS;
	if (stage_new_network() == 0)
		found |= PROBE_NET;
	if ((found & PROBE_MOUNTS) && can_mount_proc())
		found |= PROBE_PROC;
	/* Docker's seccomp profile refuses these two to everybody. */
	if (syscall(SYS_pivot_root, "", "") < 0 && errno == ENOENT)
		found |= PROBE_PIVOT;
	if (syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) >= 0 || (errno != EPERM && errno != ENOSYS))
		found |= PROBE_KEYS;
	_exit(found);
}

/* run_init starts the program of the remaining arguments below this process. */
static void __attribute__((noreturn)) run_init(char **argv)
{
	struct stage s = { .path = getenv("PATH"), .args = argv + 1, .env = environ };

	init_alone = 1;
	if (!s.path)
		s.path = "";
	if (!s.args[0])
		stage_die(STEP_INSTRUCTIONS, EINVAL, "");
	be_init(&s, find_program(&s), argv[0]);
}

void cooper_stage(char **argv)
{
	if (argv[0] && strcmp(argv[0], INIT_PATH) == 0)
		run_init(argv);
	const char *v = getenv(STAGE_ENV);
	if (v)
		run_stage(atoi(v), argv[0]);
	if (getenv(PROBE_ENV))
		run_probe();
}
