package registry

import (
	"time"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/types"
)

// interval is how often a blob's progress is reported.
const interval = 100 * time.Millisecond

// observe makes a copy report to c.Progress. The caller calls stop when the copy
// has returned; after that there are no more reports.
func (c *Client) observe(ref Reference, o *copy.Options) (stop func()) {
	if c.Progress == nil {
		return func() {}
	}
	name := ref.Name()
	if ref.transport != Docker {
		name = ref.String()
	}
	reports := make(chan types.ProgressProperties)
	done, stopped := make(chan struct{}), make(chan struct{})
	o.Progress, o.ProgressInterval = reports, interval
	go func() {
		defer close(stopped)
		for {
			select {
			case p := <-reports:
				c.Progress(progress(name, p))
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}

func progress(name string, p types.ProgressProperties) Progress {
	out := Progress{
		Ref:    name,
		Blob:   p.Artifact.Digest,
		Offset: int64(p.Offset),
		Total:  p.Artifact.Size,
		Done:   p.Event == types.ProgressEventDone || p.Event == types.ProgressEventSkipped,
	}
	return out
}
