package builder

import (
	"context"
	"maps"
	"strconv"

	"cooper/builder/output"
	"cooper/dockerfile"
	"cooper/layers"
)

// The labels that SaveOptions.Labelled gives to images of stages.
const (
	stageNameLabel = "io.buildah.stage.name"
	stageBaseLabel = "io.buildah.stage.base"
)

// SaveOptions say what becomes of the stages that the target is made from. The
// zero value keeps nothing but their cache.
type SaveOptions struct {
	// Stages makes an image without a name of each such stage that has an
	// instruction.
	Stages bool
	// Labelled labels these images, and that of the target, with the name of
	// the stage or its number, and with its base: an image's name, or the ID of
	// the image that was made of a stage.
	Labelled bool
	// Labels are given to the images of stages, but not to the target's. Those
	// that the Dockerfile sets win.
	Labels map[string]string
}

// saveStages makes the images that SaveOptions ask for. The target's is left to
// export.
func (bd *build) saveStages(ctx context.Context) error {
	if !bd.o.Save.Stages {
		return nil
	}
	ids := map[int]string{} // of images, by stage
	for _, st := range bd.stages {
		if bd.o.Save.Labelled && len(st.spec.Steps) > 0 {
			st.spec.Config.Config.Labels = withLabels(st.spec.Config.Config.Labels, map[string]string{
				stageNameLabel: stageName(st.spec), stageBaseLabel: bd.baseName(st.spec, ids),
			})
		}
		if st == bd.target() || len(st.spec.Steps) == 0 {
			continue
		}
		if err := bd.saveStage(ctx, st, ids); err != nil {
			return err
		}
	}
	return nil
}

// saveStage makes the image of one stage and notes its ID.
func (bd *build) saveStage(ctx context.Context, st *stage, ids map[int]string) error {
	v := bd.report.start("exporting stage " + st.label() + " to image")
	labels := withLabels(bd.o.Save.Labels, st.spec.Config.Config.Labels)
	st.spec.Config.Config.Labels = labels
	img, err := bd.describe(ctx, st)
	if err == nil {
		e, copied := bd.exporter(v)
		var done output.Done
		done, err = e.Export(ctx, output.Product{Images: []layers.ImageOptions{img}}, output.Output{})
		copied()
		if err == nil {
			ids[st.spec.ID] = done.Image.ID
		}
	}
	v.end(false, -1, err)
	return err
}

// withLabels returns the labels of both maps; those of over win. It is nil
// where there are none.
func withLabels(labels, over map[string]string) map[string]string {
	if len(labels) == 0 {
		return over
	}
	all := maps.Clone(labels)
	maps.Copy(all, over)
	return all
}

func stageName(spec *dockerfile.Stage) string {
	if spec.Name != "" {
		return spec.Name
	}
	return strconv.Itoa(spec.Index)
}

// baseName is what the label says about the base of a stage.
func (bd *build) baseName(spec *dockerfile.Stage, ids map[int]string) string {
	switch base := spec.Base; {
	case base.Image != nil && base.Image.Context != "":
		return base.Image.Context
	case base.Image != nil:
		return base.Image.Ref
	case base.Scratch:
		return "scratch"
	default:
		below := bd.stages[base.Stage].spec
		if id, ok := ids[below.ID]; ok {
			return id
		}
		return bd.baseName(below, ids) // it has no instruction: its image is its base
	}
}
