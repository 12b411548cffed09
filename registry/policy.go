package registry

import (
	"errors"
	"fmt"

	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/configfile" // for the error signature.DefaultPolicy returns, nothing else
)

// policy reads the signature policy. Fresh machines and rootless users have
// none; for them any image is accepted, as docker accepts it. A policy that was
// named, or that is there and cannot be read, is never passed over.
// The caller destroys the result.
func policy(sys *types.SystemContext) (*signature.PolicyContext, error) {
	p, err := signature.DefaultPolicy(sys)
	if errors.Is(err, configfile.ErrConfigFileNotFound) {
		p = &signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}}
	} else if err != nil {
		return nil, fmt.Errorf("read signature policy: %w", err)
	}
	return signature.NewPolicyContext(p)
}
