package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"cooper/builder"
)

// editFlags are buildah's flags of build that change what the Dockerfile says
// and which stages are built and kept.
type editFlags struct {
	from                                      string
	env, unsetEnv, unsetLabels, layerLabels   []string
	inheritLabels, saveStages, stageLabels    bool
	skipUnused, identityLabel, inheritAnnotes bool
}

func (f *editFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.from, "from", "", "Start the first stage from `IMAGE`, whatever its FROM says")
	fs.StringArrayVar(&f.env, "env", nil, "Begin each stage with an ENV: `NAME[=VALUE]`, the value by default from the environment (repeatable)")
	fs.StringSliceVar(&f.unsetEnv, "unsetenv", nil, "Leave the variable `NAME` out of the image (repeatable)")
	fs.StringSliceVar(&f.unsetLabels, "unsetlabel", nil, "Leave the label `NAME` out of the image (repeatable)")
	fs.BoolVar(&f.inheritLabels, "inherit-labels", true, "Take over the labels of base images")
	fs.BoolVar(&f.skipUnused, "skip-unused-stages", true, "Build only stages that the target needs")
	fs.BoolVar(&f.saveStages, "save-stages", false, "Make an image without a name of each stage that the target is made from")
	fs.BoolVar(&f.stageLabels, "stage-labels", false, "Label these images, and the target's, with the name and base of their stage")
	fs.StringArrayVar(&f.layerLabels, "layer-label", nil, "Add a label to these images, but not to the target's: `NAME=VALUE` (repeatable)")
	fs.BoolVar(&f.identityLabel, "identity-label", false, "Label the image with the builder's version (it never is)")
	fs.BoolVar(&f.inheritAnnotes, "inherit-annotations", false, "Take over the annotations of base images (they never are)")
	for _, name := range []string{"identity-label", "inherit-annotations"} {
		fs.Lookup(name).Hidden = true
	}
}

// apply puts the flags into o.
func (f *editFlags) apply(o *builder.Options, lookupEnv func(string) (string, bool)) error {
	switch {
	case f.identityLabel:
		return errors.New("--identity-label is not supported: give the label that you want with --label")
	case f.inheritAnnotes:
		return errors.New("--inherit-annotations is not supported: give the annotations that you want with --annotation")
	case f.stageLabels && !f.saveStages:
		return errors.New("--stage-labels needs --save-stages as well")
	case len(f.layerLabels) > 0 && !f.saveStages:
		return errors.New("--layer-label needs --save-stages as well: no other image than the target's is made")
	}
	for _, entry := range f.env {
		name, value, found := strings.Cut(entry, "=")
		if name == "" {
			return fmt.Errorf("invalid variable %q: want NAME[=VALUE]", entry)
		}
		if !found {
			if value, found = lookupEnv(name); !found {
				continue
			}
		}
		o.Edits.Env = append(o.Edits.Env, name+"="+value)
	}
	o.Edits.From, o.Edits.UnsetEnv, o.Edits.UnsetLabels = f.from, f.unsetEnv, f.unsetLabels
	o.Edits.DropLabels, o.BuildUnused = !f.inheritLabels, !f.skipUnused
	labels, err := pairs("label", f.layerLabels)
	o.Save = builder.SaveOptions{Stages: f.saveStages, Labelled: f.stageLabels, Labels: labels}
	return err
}
