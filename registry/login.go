package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// ErrNotLoggedIn is returned by Logout when there is nothing to forget.
var ErrNotLoggedIn = errors.New("not logged in")

// DockerHub is the registry of names without one.
const DockerHub = "docker.io"

// RegistryHost returns the host and port of a registry as users write it: docker
// takes URLs too. "" and Docker Hub's other names are DockerHub.
func RegistryHost(s string) (string, error) {
	host := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "", "index.docker.io", "registry-1.docker.io", DockerHub:
		return DockerHub, nil
	}
	ref, err := ParseReference(host + "/x")
	if err != nil || ref.Registry() != host {
		return "", fmt.Errorf("invalid registry %q: want HOST[:PORT]", redact(s))
	}
	return host, nil
}

// Login asks the registry host whether user and password are right, and then
// keeps them where registries.conf says: in AuthFile, in the user's auth file or
// with a credential helper. It returns a name of that place.
func (c *Client) Login(ctx context.Context, host, user, password string) (string, error) {
	ref, sys, err := c.loginSystem(host)
	if err != nil {
		return "", failure(ctx, "log in to", ref, err)
	}
	if err := docker.CheckAuth(ctx, sys, user, password, host); err != nil {
		return "", loginFailure(ctx, ref, host, err)
	}
	where, err := config.SetCredentials(sys, host, user, password)
	if err != nil {
		return "", fmt.Errorf("keep the password for %s: %w", host, err)
	}
	return where, nil
}

// loginFailure says in a line why a login failed.
func loginFailure(ctx context.Context, ref Reference, host string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := &Error{Op: "log in to", Ref: ref, Kind: kindOf(err), Err: err}
	if e.Kind == ErrUnauthorized {
		return fmt.Errorf("log in to %s: %w: wrong user name or password", host, ErrUnauthorized)
	}
	return fmt.Errorf("log in to %s: %s%w", host, redact(oneLine(err.Error())), kindOnly{e.Kind})
}

// kindOnly is a kind of failure for errors.Is that adds nothing to a message.
type kindOnly struct{ kind error }

func (k kindOnly) Error() string { return "" }
func (k kindOnly) Unwrap() error { return k.kind }

// Logout forgets the user and password for the registry host. The error wraps
// ErrNotLoggedIn when none are kept.
func (c *Client) Logout(host string) error {
	_, sys, err := c.loginSystem(host)
	if err != nil {
		return err
	}
	err = config.RemoveAuthentication(sys, host)
	if errors.Is(err, config.ErrNotLoggedIn) {
		err = ErrNotLoggedIn
	}
	if err != nil {
		return fmt.Errorf("log out of %s: %w", host, err)
	}
	return nil
}

// LoggedIn returns the user name kept for the registry host, "" if none.
func (c *Client) LoggedIn(host string) (string, error) {
	_, sys, err := c.loginSystem(host)
	if err != nil {
		return "", err
	}
	auth, err := config.GetCredentials(sys, host)
	if err != nil {
		return "", fmt.Errorf("read credentials for %s: %w", host, err)
	}
	return auth.Username, nil
}

// loginSystem is the configuration for writing credentials of host.
func (c *Client) loginSystem(host string) (Reference, *types.SystemContext, error) {
	ref, err := ParseReference(host + "/x")
	if err != nil {
		return ref, nil, err
	}
	path := c.writtenAuthFile()
	named := *c
	named.AuthFile = "" // it need not exist yet
	sys, err := named.system(ref, ocispec.Platform{})
	if err == nil {
		sys.AuthFilePath, sys.DockerAuthConfig = path, nil
	}
	return ref, sys, err
}

// writtenAuthFile is the file that credentials are written to; "" leaves it to
// image/v5. See authFile.
func (c *Client) writtenAuthFile() string {
	if path := or(c.AuthFile, os.Getenv("REGISTRY_AUTH_FILE")); path != "" {
		return path
	}
	if os.Getenv("XDG_RUNTIME_DIR") == "" && layers.Rootless() {
		return userAuthFiles()[0]
	}
	return ""
}
