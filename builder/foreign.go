package builder

import (
	"cooper/dockerfile"
	"cooper/run"
)

// checkForeign finds a RUN step whose programs this machine cannot run. Nothing
// is known of the programs of a stage that begins with nothing or a directory.
func (bd *build) checkForeign() error {
	for _, st := range bd.stages {
		if bd.baseImage(st.spec) == nil {
			continue
		}
		err := run.CheckPlatform(st.spec.Config.Platform)
		if err == nil {
			continue
		}
		for _, step := range st.spec.Steps {
			if _, ok := step.Op.(*dockerfile.Run); ok {
				return &dockerfile.Error{File: bd.o.DockerfileName, Source: bd.o.Dockerfile, Location: step.Location, Err: err}
			}
		}
	}
	return bd.checkTests()
}

// baseImage is the image that a stage stands on, itself or by way of other
// stages; nil if there is none.
func (bd *build) baseImage(spec *dockerfile.Stage) *dockerfile.ImageRequest {
	for spec.Base.Image == nil && !spec.Base.Scratch {
		spec = bd.stages[spec.Base.Stage].spec
	}
	if req := spec.Base.Image; req != nil && !isTree(bd.o, req.Context) {
		return req
	}
	return nil
}
