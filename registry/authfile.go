package registry

import (
	"os"
	"path/filepath"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// authFile returns the file to read credentials for ref from, "" to let
// image/v5 look into all the usual ones. That works but for one case: in a user
// namespace without XDG_RUNTIME_DIR it takes the user for root and stumbles over
// /run/containers/0/auth.json, which is root's and not readable. Then the first
// of the user's own files with credentials for ref is taken.
func (c *Client) authFile(sys *types.SystemContext, ref Reference) string {
	if path := or(c.AuthFile, os.Getenv("REGISTRY_AUTH_FILE")); path != "" {
		return path
	}
	if ref.transport != Docker || os.Getenv("XDG_RUNTIME_DIR") != "" || !layers.Rootless() {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(ref.name)
	if err != nil {
		return ""
	}
	files := userAuthFiles()
	for _, path := range files {
		one := *sys
		one.AuthFilePath = path
		if creds, err := config.GetCredentialsForRef(&one, named); err == nil && creds != (types.DockerAuthConfig{}) {
			return path
		}
	}
	return files[0] // it may be missing, that counts as empty
}

// userAuthFiles are the user's auth files outside the runtime directory.
func userAuthFiles() []string {
	home := os.Getenv("HOME")
	files := []string{filepath.Join(or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "containers", "auth.json")}
	// storage's and podman's mark of who started the user namespace.
	if uid := os.Getenv("_CONTAINERS_ROOTLESS_UID"); uid != "" {
		files = append(files, filepath.Join("/run/containers", filepath.Base(uid), "auth.json"))
	}
	return append(files, filepath.Join(or(os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker")), "config.json"))
}
