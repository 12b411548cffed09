enum {
	COOPER_USERNS_UNTOUCHED,
	COOPER_USERNS_ENTERED,
	COOPER_USERNS_FAILED,
};

extern int cooper_userns_state;
extern int cooper_userns_errno;
