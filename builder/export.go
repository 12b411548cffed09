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

// export brings the image to its outputs, each of them a vertex.
func (bd *build) export(ctx context.Context) (*Result, error) {
	outputs := bd.o.Outputs
	if len(outputs) == 0 {
		outputs = []output.Output{{}}
	}
	v := bd.report.start(outputs[0].Title())
	img, err := bd.finish(ctx)
	if err != nil {
		v.end(false, -1, err)
		return nil, err
	}
	result := &Result{}
	for i, o := range outputs {
		if i > 0 {
			v = bd.report.start(o.Title())
		}
		e, copied := bd.exporter(v)
		done, err := e.Export(ctx, img, o)
		copied()
		v.end(false, -1, err)
		if err != nil {
			return nil, err
		}
		result.add(done)
	}
	if result.Image.ID == "" {
		docs, err := bd.b.Store.Describe(img)
		if err != nil {
			return nil, err
		}
		result.Image = layers.Image{ID: docs.ID(), Layer: img.Layer, Config: img.Config, Created: img.Created}
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
func (bd *build) exporter(v *vertex) (e *output.Exporter, copied func()) {
	client := *bd.b.Registry
	client.Store = bd.b.Store
	client.Progress = func(p registry.Progress) { v.progress(string(p.Blob), p.Offset, max(0, p.Total)) }
	stdout := bd.b.Stdout
	if stdout == nil {
		stdout = io.Discard
	}
	var last time.Time
	var total int64
	e = &output.Exporter{
		Store: bd.b.Store, Registry: &client, Stdout: stdout, Log: logWriter{v, 2},
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
