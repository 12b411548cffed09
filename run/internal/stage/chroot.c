/*
 * A process by chroot(2), where no container can be made or none was wanted.
 *
 * Nothing but a process stands between it and the host, so that one does what the
 * kernel does for a process id namespace: the keeper. It is the stage itself, which
 * forks and stays outside. Being a subreaper it becomes the parent of whatever the
 * program leaves behind, and when the program has ended, or a signal came, it kills
 * them all. It gets a signal when the runner's thread ends, the program when the
 * keeper does.
 */
#define _GNU_SOURCE
#include "stage.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#define KEEPER_NAME "cooper-step"

/* parent_of returns a process's parent, 0 if it is gone. */
static pid_t parent_of(const char *pid)
{
	char path[300], text[512];
	int ppid = 0;
	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	char *name_end = strrchr(text, ')'); /* the name may hold anything */
	if (!name_end || sscanf(name_end + 1, " %*c %d", &ppid) != 1)
		return 0;
	return ppid;
}

/* kill_children kills those that are this process's own now. */
static void kill_children(void)
{
	struct dirent *entry;
	pid_t self = getpid();
	DIR *proc = opendir("/proc");
	if (!proc)
		return;
	while ((entry = readdir(proc))) {
		if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == self) {
			int pid;
			if (sscanf(entry->d_name, "%d", &pid) == 1)
				kill(pid, SIGKILL);
		}
	}
	closedir(proc);
}

/* end_descendants returns when there are none: each kill hands us the next ones. */
static void end_descendants(void)
{
	for (;;) {
		pid_t pid;
		kill_children();
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return;
		usleep(1000);
	}
}

/* await returns the program's exit status, or 128 plus a signal's number. */
static int await(pid_t program, const sigset_t *all)
{
	for (;;) {
		int status, sig = sigwaitinfo(all, NULL);
		pid_t pid;
		if (sig > 0 && sig != SIGCHLD)
			return 128 + SIGKILL;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == program)
				return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		}
	}
}

/* stage_keep returns in the process that becomes the program; the other stays. */
void stage_keep(void)
{
	sigset_t all, before;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0)
		stage_die(STEP_KEEPER, errno, "");
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t program = fork();
	if (program < 0)
		stage_die(STEP_KEEPER, errno, "");
	if (program == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL); /* where that is allowed */
		return;
	}
	syscall(SYS_close_range, 0, ~0U, 0);
	prctl(PR_SET_NAME, KEEPER_NAME, 0, 0, 0);
	int status = await(program, &all);
	end_descendants();
	_exit(status);
}

int stage_new_network(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	int up = ioctl(fd, SIOCSIFFLAGS, &lo);
	int err = errno;
	close(fd);
	errno = err;
	return up;
}

/* take_root makes root the root of a mount namespace of its own. */
static void take_root(const char *root)
{
	if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		stage_die(STEP_MOUNTS, errno, "");
	if (chdir(root) < 0)
		stage_die(STEP_ROOT, errno, root);
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		/* What was the root lies on top of the new one now: off with it. */
		if (umount2(".", MNT_DETACH) < 0)
			stage_die(STEP_ROOT, errno, root);
	} else if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
		stage_die(STEP_ROOT, errno, root);
	}
}

void stage_enter_root(const char *root, uint32_t flags)
{
	if ((flags & STAGE_NETWORK) && stage_new_network() < 0)
		stage_die(STEP_NETWORK, errno, "");
	if (flags & STAGE_MOUNTS)
		take_root(root);
	else if (chroot(root) < 0)
		stage_die(STEP_ROOT, errno, root);
	if (chdir("/") < 0)
		stage_die(STEP_ROOT, errno, root);
}
