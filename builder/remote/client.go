package remote

import (
	"sync"

	"cooper/layers"
)

// Client gets things from elsewhere into a store's own directories. Its fields
// are set before the first use; its methods may then be called concurrently.
type Client struct {
	Store *layers.Store
	// Secret returns a secret by name, and false when there is none. nil has
	// no secrets. HTTP_AUTH_HEADER_<host> and HTTP_AUTH_TOKEN_<host> go to
	// HTTP servers, GIT_AUTH_HEADER and GIT_AUTH_TOKEN, plain or with .<host>
	// at the end, to git servers.
	Secret func(name string) ([]byte, bool, error)
	// SSHAuthSock is the socket of the ssh agent that git may ask, ""
	// means the one in the environment.
	SSHAuthSock string

	mu      sync.Mutex
	commits map[string]Commit // by remote and ref, so that one build sees one state
}

// secret returns the first of names that is known.
func (c *Client) secret(names ...string) (name string, value []byte, err error) {
	if c.Secret == nil {
		return "", nil, nil
	}
	for _, name := range names {
		value, ok, err := c.Secret(name)
		if err != nil || ok {
			return name, value, err
		}
	}
	return "", nil, nil
}
