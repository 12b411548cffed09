package layers

import (
	"context"
)

// digestAll puts the batches into the stream as they become ready. Without a
// stream it only lets the workers go on.
func (w *writer) digestAll(ctx context.Context, batches <-chan *batch) error {
	if w.stream != nil {
		if err := w.digestRoot(); err != nil {
			return err
		}
	}
	for {
		select {
		case b, ok := <-batches:
			if !ok {
				return nil
			}
			if w.stream == nil {
				continue
			}
			if err := w.digestBatch(ctx, b); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// digestRoot adds the root directory, if it is not as the parent layer has it.
func (w *writer) digestRoot() error {
	e := w.plan.root.entry
	if sameRoot(e, &w.root) {
		return nil
	}
	return w.stream.entry(e)
}

func (w *writer) digestBatch(ctx context.Context, b *batch) error {
	select {
	case <-b.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if b.chunks != nil {
		return w.digestChunks(ctx, b)
	}
	content, file := *b.content, 0
	for _, n := range b.nodes {
		if err := w.stream.entry(n.entry); err != nil {
			return err
		}
		if !n.entry.IsRegular() || n.link != nil {
			continue
		}
		size := n.entry.Size
		if err := w.stream.content(content[:size], b.crcs[file]); err != nil {
			return err
		}
		content, file = content[size:], file+1
	}
	batchBuffers.Put(b.content)
	return nil
}

func (w *writer) digestChunks(ctx context.Context, b *batch) error {
	if err := w.stream.entry(b.nodes[0].entry); err != nil {
		return err
	}
	for {
		select {
		case c, ok := <-b.chunks:
			if !ok {
				return nil
			}
			_, err := w.stream.Write(c.data())
			c.release()
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
