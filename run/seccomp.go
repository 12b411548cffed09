package run

import (
	"fmt"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	compiler "cooper/run/internal/seccomp"
)

// seccomp returns the profile for c: Docker's default unless told otherwise. It
// depends on the capabilities that s has got.
func (c *Config) seccomp(s *specs.Spec) (*specs.LinuxSeccomp, error) {
	switch {
	case c.Seccomp == "unconfined", c.Seccomp == "" && c.Privileged:
		return nil, nil
	case c.Seccomp != "":
		p, err := seccomp.LoadProfile(c.Seccomp, s)
		if err != nil {
			return nil, fmt.Errorf("seccomp profile: %w", err)
		}
		return p, nil
	}
	key := strings.Join(s.Process.Capabilities.Bounding, " ")
	profiles.Lock()
	defer profiles.Unlock()
	if p, ok := profiles.byCaps[key]; ok {
		return p, nil
	}
	p, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		return nil, fmt.Errorf("seccomp default profile: %w", err)
	}
	profiles.byCaps[key] = p
	return p, nil
}

// profiles keeps what is made once per process: default profiles, which are never
// changed afterwards, and their filters.
var profiles = struct {
	sync.Mutex
	byCaps  map[string]*specs.LinuxSeccomp
	filters map[*specs.LinuxSeccomp]compiler.Filter
}{byCaps: map[string]*specs.LinuxSeccomp{}, filters: map[*specs.LinuxSeccomp]compiler.Filter{}}

// compileFilter compiles p, once for a default profile.
func compileFilter(p *specs.LinuxSeccomp) (compiler.Filter, error) {
	profiles.Lock()
	defer profiles.Unlock()
	if f, ok := profiles.filters[p]; ok {
		return f, nil
	}
	f, err := compiler.Compile(p)
	if err != nil {
		return f, err
	}
	for _, kept := range profiles.byCaps {
		if kept == p {
			profiles.filters[p] = f
		}
	}
	return f, nil
}
