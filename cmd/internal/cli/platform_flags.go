package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/builder/output"
)

// platformFlags are the flags of build about platforms and about what an image is
// put together from.
type platformFlags struct {
	platforms         []string
	allPlatforms      bool
	manifest          string
	squash, squashAll bool
}

func (f *platformFlags) declare(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.platforms, "platform", nil, "Build for `OS/ARCH[/VARIANT]`, several separated by commas for an index (default this machine's; repeatable)")
	fs.BoolVar(&f.allPlatforms, "all-platforms", false, "Build for all platforms that the base images have")
	fs.StringVar(&f.manifest, "manifest", "", "Add the image to the index `NAME` of the store, in place of one for the same platform; it is made if it is not there")
	fs.BoolVar(&f.squash, "squash", false, "Put the image's new layers into one")
	fs.BoolVar(&f.squashAll, "squash-all", false, "Put all the image's layers into one, the base image's too")
}

// apply puts the flags into o.
func (f *platformFlags) apply(o *builder.Options) error {
	for _, list := range f.platforms {
		for name := range strings.SplitSeq(list, ",") {
			p, err := platforms.Parse(name)
			if err != nil {
				return fmt.Errorf("invalid platform %q: want OS/ARCH[/VARIANT], such as linux/arm64", name)
			}
			// As with BuildKit, one named twice is built once.
			if p = platforms.Normalize(p); !slices.ContainsFunc(o.Platforms, func(q ocispec.Platform) bool { return platforms.FormatAll(q) == platforms.FormatAll(p) }) {
				o.Platforms = append(o.Platforms, p)
			}
		}
	}
	if f.allPlatforms && len(o.Platforms) > 0 {
		return errors.New("--all-platforms and --platform exclude each other")
	}
	o.AllPlatforms, o.Index = f.allPlatforms, f.manifest
	switch {
	case f.squashAll:
		o.Squash = builder.SquashAll
	case f.squash:
		o.Squash = builder.SquashNew
	}
	return nil
}

// checkManifest finds a build whose images --manifest could not add: they must be
// in the store.
func checkManifest(o *builder.Options) error {
	if o.Index == "" || len(o.Outputs) == 0 {
		return nil
	}
	for _, out := range o.Outputs {
		if out.Type == output.Image {
			return nil
		}
	}
	return withHint(errors.New("--manifest needs the image in the store"), "Add --load to the outputs.")
}
