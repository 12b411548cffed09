/*
 * What the last stage is told and what it answers; stage.go writes and reads the
 * same layout. All integers are in native byte order: both ends are one program.
 */
#ifndef COOPER_STAGE_H
#define COOPER_STAGE_H

#include <stdint.h>

/*
 * The environment variable's value is the descriptor of the instructions; the one
 * after it is where a stage_error is written. End-of-file there without one means
 * that the user's program has been executed.
 */
#define STAGE_ENV "_COOPER_STAGE"
#define STAGE_MAGIC 0x31677453    /* "Stg1" */

enum stage_flag {
	STAGE_NO_NEW_PRIVS = 1 << 0,
	STAGE_SET_GROUPS = 1 << 1,
	STAGE_DIE_WITH_PARENT = 1 << 2, /* the thread that started libcontainer */
	STAGE_INIT = 1 << 3,            /* stay, as an init above the program */
	STAGE_KEEP_DIR = 1 << 4,        /* don't make the working directory */
	STAGE_MOUNTS = 1 << 5,          /* a mount namespace of its own, with root as its root */
	STAGE_NETWORK = 1 << 6,         /* a network namespace of its own, without a way out */
};

struct stage_limit {
	uint64_t resource, soft, hard;
};

/* The instructions begin with this; limits, groups, filter and strings follow. */
struct stage_header {
	uint32_t magic;
	uint32_t flags;
	uint32_t uid, gid;
	uint64_t bounding, effective, permitted, inheritable, ambient;
	uint32_t filter_flags;
	uint32_t ngroups; /* uint32_t each */
	uint32_t nfilter; /* struct sock_filter each */
	uint32_t nargs, nenv;
	int32_t stdio[3]; /* descriptors that become 0, 1, 2, or -1 */
	int32_t close_from; /* every descriptor from here on is closed */
	uint32_t umask;
	uint32_t nlimits; /* struct stage_limit each */
	uint32_t unused;
	/* then: root\0 dir\0 path\0 args\0... env\0... */
};

/*
 * With a root that is not empty there is no container: see chroot.c. Limits and
 * umask are set only then, otherwise libcontainer has.
 */

/* The first argument that makes a process an init alone, in a container of another
 * runtime: what else the last stage does, that has done. */
#define INIT_PATH "/dev/cooper-init"

/* This variable makes a process try what a container needs; tier.go has the bits. */
#define PROBE_ENV "_COOPER_PROBE"

enum probe_bit {
	PROBE_MOUNTS = 1 << 0,
	PROBE_PROC = 1 << 1,
	PROBE_UTS = 1 << 2,
	PROBE_NET = 1 << 3,
	PROBE_KEYS = 1 << 4,
	PROBE_PIVOT = 1 << 5,
};

/* What failed; stage.go turns it into the words docker users know. */
enum stage_step {
	STEP_INSTRUCTIONS = 1,
	STEP_STDIO,
	STEP_MKDIR,
	STEP_CHDIR,
	STEP_CWD_OUTSIDE,
	STEP_SECCOMP,
	STEP_BOUNDING,
	STEP_GROUPS,
	STEP_GID,
	STEP_UID,
	STEP_CAPS,
	STEP_AMBIENT,
	STEP_NO_NEW_PRIVS,
	STEP_NOT_IN_PATH,
	STEP_LOOKUP,
	STEP_NOT_EXECUTABLE,
	STEP_EXEC,
	STEP_PARENT,
	STEP_INIT,
	STEP_LIMIT,
	STEP_KEEPER,
	STEP_NETWORK,
	STEP_MOUNTS,
	STEP_ROOT,
};

struct stage_error {
	uint32_t step;
	int32_t errnum;
	/* then, up to the end: the name that it is about */
};

/* stage_die reports and ends the process; the runner sees the message on the pipe. */
void __attribute__((noreturn)) stage_die(enum stage_step step, int errnum, const char *name);

/* chroot.c */
void stage_keep(void);
/* A network namespace needs CAP_NET_ADMIN to set its only interface up. */
int stage_new_network(void);
void stage_enter_root(const char *root, uint32_t flags);

#endif
