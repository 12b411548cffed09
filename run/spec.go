package run

import (
	"errors"

	"cooper/layers"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Spec makes the runtime-spec for c in tier t. Users, groups and mount points
// are looked up in v, which may be nil for an empty root file system.
//
// What c asks for and t cannot give is an error when it is about isolation or
// limits that the user named (Network "none", Memory); what is only a default is
// left out, and t.Missing says so. Ulimits and OOMScoreAdj are lowered to what
// this process may set.
func (c *Config) Spec(v *layers.View, t Tier) (*specs.Spec, error) {
	return nil, errors.New("run: not implemented")
}

// ParseSecurityOpt applies one --security-opt value of docker run: "seccomp=FILE",
// "seccomp=unconfined", "no-new-privileges[=true|false]", "systempaths=unconfined",
// "unmask=PATH[:PATH]", "label=..." and "apparmor=..." (both ignored where the
// kernel has none).
func (c *Config) ParseSecurityOpt(opt string) error { return errors.New("run: not implemented") }
