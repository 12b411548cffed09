package dockerfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// changeable are the instructions that Change takes.
var changeable = []string{
	command.Cmd, command.Entrypoint, command.Env, command.Expose, command.Healthcheck, command.Label, command.Maintainer,
	command.Onbuild, command.Shell, command.StopSignal, command.User, command.Volume, command.Workdir,
}

// Change applies instructions to an image's config, each a line of a Dockerfile, as
// commit --change does. Those that would run something or copy files are errors.
func Change(config dockerspec.DockerOCIImage, instructions []string) (dockerspec.DockerOCIImage, error) {
	if len(instructions) == 0 {
		return config, nil
	}
	for _, line := range instructions {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !slices.Contains(changeable, strings.ToLower(word)) {
			return config, fmt.Errorf("%q is not an instruction that can change an image's config: want one of %s",
				line, strings.ToUpper(strings.Join(changeable, ", ")))
		}
		if strings.ContainsAny(line, "\n\r") {
			return config, fmt.Errorf("%q is more than one line", line)
		}
	}
	f, err := Parse("change", []byte("FROM image\n"+strings.Join(instructions, "\n")+"\n"))
	if err != nil {
		return config, err
	}
	// Triggers are for builds on the image; they stay, before new ones.
	triggers := config.Config.OnBuild
	base := config
	base.Config.OnBuild = nil
	o := PlanOptions{TargetPlatform: config.Platform, Images: map[ImageRequest]*dockerspec.DockerOCIImage{}}
	plan, err := f.Plan(o)
	if err == nil && len(plan.Missing) > 0 {
		for _, request := range plan.Missing {
			o.Images[request] = &base
		}
		plan, err = f.Plan(o)
	}
	if err != nil {
		return config, err
	}
	changed := plan.Target().Config
	changed.RootFS, changed.History = config.RootFS, config.History
	changed.Config.OnBuild = append(slices.Clone(triggers), changed.Config.OnBuild...)
	return changed, nil
}
