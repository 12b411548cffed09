package builder

import (
	"context"
	"io"
	"slices"
	"time"

	"cooper/builder/output"
	"cooper/layers"
	"cooper/registry"
)

// export brings what the builds have made to its outputs, each of them a vertex.
func (s *session) export(ctx context.Context) (*Result, error) {
	product := output.Product{Names: s.o.Tags, Index: s.index, List: s.o.Index}
	for _, bd := range s.builds {
		img, err := bd.finish(ctx)
		if err != nil {
			return nil, err
		}
		product.Images = append(product.Images, img)
	}
	result := &Result{Index: s.index}
	for _, o := range s.o.Outputs {
		o.Annotations = slices.Concat(s.o.Annotations, o.Annotations)
		v := s.report.start(o.Title())
		e, copied := s.exporter(v)
		done, err := e.Export(ctx, product, o)
		copied()
		v.end(false, -1, err)
		if err != nil {
			return nil, err
		}
		result.add(done)
	}
	if result.Image.ID == "" {
		id, err := product.ID(s.b.Store)
		if err != nil {
			return nil, err
		}
		img := product.Images[0]
		result.Image = layers.Image{ID: id}
		if !s.index {
			result.Image.Layer, result.Image.Config, result.Image.Created = img.Layer, img.Config, img.Created
		}
	}
	return result, nil
}

// add notes what an output came to. A manifest that left counts more than the
// store's, which lists the layers uncompressed.
func (r *Result) add(done output.Done) {
	if done.Image != nil {
		r.Image = *done.Image
	}
	if done.Manifest.Digest != "" && (r.Manifest.Digest == "" || done.Manifest.Digest != r.Image.Digest) {
		r.Manifest = done.Manifest
	}
	for _, n := range done.Names {
		if !slices.Contains(r.Names, n) {
			r.Names = append(r.Names, n)
		}
	}
}

// exporter is an Exporter that reports to v, some times a second. copied reports
// the files once more, in the end.
func (s *session) exporter(v *vertex) (e *output.Exporter, copied func()) {
	client := *s.b.Registry
	client.Store = s.b.Store
	client.Progress = func(p registry.Progress) { v.progress(string(p.Blob), p.Offset, max(0, p.Total)) }
	stdout := s.b.Stdout
	if stdout == nil {
		stdout = io.Discard
	}
	var last time.Time
	var total int64
	e = &output.Exporter{
		Store: s.b.Store, Registry: &client, Stdout: stdout, Log: logWriter{v, 2},
		Progress: func(bytes int64) {
			total = bytes
			if now := time.Now(); now.Sub(last) >= reportEvery {
				last = now
				v.progress("copying files", total, 0)
			}
		},
	}
	return e, func() {
		if total > 0 {
			v.progress("copying files", total, 0)
		}
	}
}

// reportEvery bounds how often the copying of files is reported.
const reportEvery = 100 * time.Millisecond
