enum {
	COOPER_USERNS_UNTOUCHED,
	COOPER_USERNS_ENTERED,
	COOPER_USERNS_REFUSED, /* the process is what it was */
	COOPER_USERNS_FAILED,  /* it is in a namespace that is no use */
};

extern int cooper_userns_state;
extern int cooper_userns_errno;

/* Why only the user's own id is mapped. */
enum cooper_userns_single {
	COOPER_USERNS_SINGLE_UNKNOWN, /* it is not, or that was another process */
	COOPER_USERNS_SINGLE_NO_RANGES,
	COOPER_USERNS_SINGLE_NO_TOOLS,
	COOPER_USERNS_SINGLE_TOOLS_FAILED,
};

extern int cooper_userns_single;

/* The link that registers this process, NULL = none: see share.c. */
extern char *cooper_userns_link;

/*
 * Takes the register's lock and joins the namespace of a registered process that
 * has the key. Returns 0 when there is none; errno is set when it is -1: then the
 * process is in a user namespace without a mount namespace of its own.
 */
int cooper_userns_join(const char *key);

/* Ends what cooper_userns_join has begun: registers this process under key, unless
   that is NULL, and gives the lock back. */
void cooper_userns_register(const char *key);
