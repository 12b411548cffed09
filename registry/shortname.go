package registry

import (
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
)

// Candidates returns what ref may mean, best first. A name with a registry, or
// not in a registry at all, means itself. One without is what an alias in
// registries.conf makes of it, else that name in each of the configured
// unqualified-search-registries, else the name at docker.io. Nobody is asked,
// whatever short-name-mode says.
func (c *Client) Candidates(ref Reference) ([]Reference, error) {
	if !ref.short {
		return []Reference{ref}, nil
	}
	sys, err := c.system(ref, ocispec.Platform{})
	if err != nil {
		return nil, err
	}
	name, suffix := splitName(ref.familiar())
	alias, _, err := sysregistriesv2.ResolveShortNameAlias(sys, name)
	if err != nil {
		return nil, fmt.Errorf("look %s up in registries.conf: %w", name, err)
	}
	if alias != nil {
		return qualified(suffix, alias.String())
	}
	registries, err := sysregistriesv2.UnqualifiedSearchRegistries(sys)
	if err != nil {
		return nil, fmt.Errorf("read registries.conf: %w", err)
	}
	if len(registries) == 0 {
		registries = []string{"docker.io"}
	}
	for i, host := range registries {
		registries[i] = host + "/" + name
	}
	return qualified(suffix, slices.Clone(registries)...)
}

// splitName splits a name before its tag or digest.
func splitName(s string) (name, suffix string) {
	i := strings.LastIndexByte(s, '/') + 1
	if j := strings.IndexAny(s[i:], ":@"); j >= 0 {
		return s[:i+j], s[i+j:]
	}
	return s, ""
}

// qualified makes references of names with a registry.
func qualified(suffix string, names ...string) ([]Reference, error) {
	var refs []Reference
	for _, name := range names {
		named, err := reference.ParseNormalizedNamed(name + suffix)
		if err != nil {
			return nil, fmt.Errorf("registries.conf names %q: %w", name, err)
		}
		refs = append(refs, Reference{transport: Docker, name: named.String()})
	}
	return refs, nil
}
