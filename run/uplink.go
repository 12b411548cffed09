package run

import (
	"io"

	"cooper/run/internal/network"
	"cooper/run/internal/network/uplink/launch"
)

// holdUplink makes sure that the user's network process runs if r asks for one, and
// goes on until what is returned has been closed: then the container's monitor has
// joined it. It is nil for other containers.
func holdUplink(r *network.Request) (io.Closer, error) {
	if r == nil || !r.Rootless || len(r.Attachments) == 0 {
		return nil, nil
	}
	return launch.Start(r.RunDir)
}
