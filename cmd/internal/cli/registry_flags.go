package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"cooper/layers"
	"cooper/registry"
)

// registryFlags say how registries are spoken to.
type registryFlags struct {
	authFile, creds, certDir string
	tlsVerify                string
	retry                    int
	retryDelay               time.Duration
}

func (f *registryFlags) declare(fs *pflag.FlagSet) {
	f.retry = -1
	fs.StringVar(&f.authFile, "authfile", "", "Read user names and passwords from `FILE` (default those of docker and podman)")
	fs.StringVar(&f.certDir, "cert-dir", "", "Take certificates for the registry from `DIR` (default certs.d)")
	fs.StringVar(&f.tlsVerify, "tls-verify", "", "Require HTTPS with a valid certificate: `BOOL` (default true but for registries on this machine)")
	fs.Lookup("tls-verify").NoOptDefVal = "true"
}

// declareCreds adds --creds and --retry, which login has no use for.
func (f *registryFlags) declareCreds(fs *pflag.FlagSet) {
	fs.StringVar(&f.creds, "creds", "", "Log in to the registry as `USER[:PASSWORD]`")
	fs.IntVar(&f.retry, "retry", -1, "Try `N` times more when the registry does not answer (default twice, but not after a refused connection)")
	fs.DurationVar(&f.retryDelay, "retry-delay", 0, "Wait `DURATION` (2s) before each further attempt")
}

// client returns a client for store.
func (f *registryFlags) client(store *layers.Store) (*registry.Client, error) {
	c := &registry.Client{Store: store, AuthFile: f.authFile, Creds: f.creds, CertDir: f.certDir}
	c.RetryDelay = f.retryDelay
	if f.retry >= 0 {
		c.Retries = &f.retry
	}
	if f.tlsVerify != "" {
		verify, err := strconv.ParseBool(f.tlsVerify)
		if err != nil {
			return nil, fmt.Errorf("invalid --tls-verify %q: want true or false", f.tlsVerify)
		}
		c.TLSVerify = &verify
	}
	return c, nil
}
