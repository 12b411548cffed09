package registry

import (
	"context"
	"fmt"
	"time"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/types"
)

// interval is how often a blob's progress is reported.
const interval = 100 * time.Millisecond

// observe makes a copy report to c.Progress, and ends its context when a blob
// is longer than its manifest says: image/v5 compares digests at the end only,
// and a hostile registry could go on until the disk is full.
// The caller calls stop when the copy has returned; it returns the reason the
// copy was ended for, if it was, and after it there are no more reports.
func (c *Client) observe(ctx context.Context, ref Reference, o *copy.Options) (_ context.Context, stop func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	name := ref.Name()
	if ref.transport != Docker {
		name = ref.String()
	}
	reports := make(chan types.ProgressProperties)
	done, stopped := make(chan struct{}), make(chan struct{})
	o.Progress, o.ProgressInterval = reports, interval
	var exceeded error
	go func() {
		defer close(stopped)
		for {
			select {
			case p := <-reports:
				if exceeded == nil && exceeds(o, p) {
					exceeded = tooLong(p.Artifact)
					cancel(exceeded)
				}
				if c.Progress != nil {
					c.Progress(progress(name, p))
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() error {
		close(done)
		<-stopped
		cancel(nil)
		return exceeded
	}
}

// exceeds reports whether a blob was longer than announced. When layers are
// compressed on the way, as by Push, the counts are of different things.
func exceeds(o *copy.Options, p types.ProgressProperties) bool {
	pulling := o.ReportResolvedReference != nil
	return pulling && p.Artifact.Size > 0 && p.Offset > uint64(p.Artifact.Size)
}

func tooLong(blob types.BlobInfo) error {
	return fmt.Errorf("blob %s is longer than the %d bytes its manifest says", blob.Digest, blob.Size)
}

func progress(name string, p types.ProgressProperties) Progress {
	return Progress{
		Ref:    name,
		Blob:   p.Artifact.Digest,
		Offset: int64(p.Offset),
		Total:  p.Artifact.Size,
		Done:   p.Event == types.ProgressEventDone || p.Event == types.ProgressEventSkipped,
	}
}
