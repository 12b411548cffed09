package dockerfile

import (
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PlanOptions says what to plan. The zero value plans the last stage for
// linux/amd64.
type PlanOptions struct {
	// Target is the name or the index of the stage to build; "" = the last.
	Target string
	// BuildArgs are the values of --build-arg, proxies included.
	BuildArgs map[string]string
	// Labels are added to the config of the target stage.
	Labels map[string]string
	// BuildPlatform is where RUN is executed; zero = linux/amd64.
	BuildPlatform ocispec.Platform
	// TargetPlatform is the platform asked for; zero = that of the build, while
	// the image keeps the platform of its base.
	TargetPlatform ocispec.Platform
	// MultiPlatform puts the platform into the names of steps, as is wanted
	// when several platforms are built at once.
	MultiPlatform bool
	// Contexts are the named contexts. Their keys are "NAME", "NAME::PLATFORM"
	// or an image reference. A named context replaces the stage or image of
	// that name. Of the values only one matters here: "target:STAGE" is a stage
	// of the same Dockerfile.
	Contexts map[string]string
	// Images are the base configs that are known so far. A nil value says that
	// the named context has no config, as is so for a directory.
	Images map[ImageRequest]*dockerspec.DockerOCIImage
	// Network is the network of RUN steps that don't choose one; "" = "default".
	Network string
	// Ignore is the ignore file of the main context. It only serves the check
	// for copies of ignored files; nil = none.
	Ignore *Ignore
	// Epoch answers Plan.Epoch with seconds since 1970; nil = not known.
	Epoch *int64
	// AllStages plans and checks also the stages that the target does not need.
	AllStages bool
	// BuildUnused makes the target need every stage above it.
	BuildUnused bool
	// Edits change what the Dockerfile says.
	Edits Edits
	// Outline asks for Plan.Outline.
	Outline bool
}

// ImageRequest names the config of an image for one platform. It is comparable
// and serves as a map key.
type ImageRequest struct {
	Ref      string `json:",omitempty"` // normalised: "docker.io/library/alpine:3.22"; "" with Context
	Context  string `json:",omitempty"` // key in PlanOptions.Contexts, instead of a reference
	Platform string // "linux/arm64", as platforms.FormatAll writes it
}

// String returns the reference or "context NAME".
func (r ImageRequest) String() string {
	if r.Context != "" {
		return "context " + r.Context
	}
	return r.Ref
}

// Plan is a build ready to be executed.
type Plan struct {
	// Stages are those that the target needs, each after the ones it needs. The
	// target is the last.
	Stages []*Stage
	// Missing are configs that are needed to go on. When there are any, the
	// rest of the Plan is incomplete: add all of them to PlanOptions.Images and
	// call Plan again, which may ask for more, because ONBUILD triggers in a
	// base image can name further images.
	Missing []ImageRequest
	// Images are all images and named contexts that the plan reads: as a base,
	// or as a source of COPY and RUN --mount (for those no config is needed).
	Images []ImageUse
	// Warnings are the results of BuildKit's checks in a fixed order.
	Warnings []Warning
	// Skipped are the stages that the target does not need, by name or index.
	Skipped []string
	// UnusedBuildArgs are the names of build arguments that nothing in the
	// Dockerfile declares, sorted.
	UnusedBuildArgs []string
	// Epoch is what SOURCE_DATE_EPOCH says, nil when it is not set.
	Epoch *Epoch
	// Outline describes the target, if PlanOptions asks for it.
	Outline *Outline
}

// Target returns the stage that the build is for, or nil for an incomplete
// Plan.
func (p *Plan) Target() *Stage {
	if len(p.Stages) == 0 {
		return nil
	}
	return p.Stages[len(p.Stages)-1]
}

// ImageUse says where a plan names an image.
type ImageUse struct {
	Request  ImageRequest
	Name     string   // as written in the Dockerfile, expanded
	Base     bool     // FROM rather than a source of files
	Location Location // of the first instruction that does
	// Fixed says that FROM --platform chooses the platform whatever the target's
	// is, wherever the image is a base.
	Fixed bool `json:",omitempty"`
}

// Stage is one FROM and the steps after it.
type Stage struct {
	ID       int    // index in Plan.Stages
	Index    int    // index in the Dockerfile
	Name     string // "" when it has none
	Location Location
	Platform ocispec.Platform
	Base     Base
	After    []int // ids of earlier stages that must be finished first (FROM --after)
	Steps    []Step
	// Config is the image config after the last step. RootFS and History are
	// left empty: they are those of the base and of the steps executed.
	Config dockerspec.DockerOCIImage
}

// Base is what a stage starts from: exactly one of the fields, where Stage
// counts only when the others are not set.
type Base struct {
	Scratch bool `json:",omitempty"`
	// Image is a base image, or a named context when Image.Context is set.
	Image *ImageRequest `json:",omitempty"`
	Stage int           // Plan id; -1 when one of the others is set
	// Name is what BuildKit calls the step, such as
	// "[build 1/4] FROM docker.io/library/alpine:3.22"; "" unless Image is set.
	Name string `json:",omitempty"`
}

// Step is one instruction of a stage.
type Step struct {
	Op       Op
	Location Location // of the FROM when OnBuild is set
	OnBuild  bool     // comes from an ONBUILD trigger of the base
	// Text is the instruction with its flags and variables expanded, such as
	// "RUN make -j4".
	Text string
	// Name is what BuildKit calls the step: "[build 2/4] RUN make -j4". It is ""
	// for steps that only change the config.
	Name string
	// CreatedBy is the text for the image's history. It is "" when the step
	// leaves no entry, as ONBUILD doesn't.
	CreatedBy string
	// Comment goes into the history beside CreatedBy.
	Comment string
	// EmptyLayer is set when the step can't change a file.
	EmptyLayer bool
}

// Epoch is where the time for SOURCE_DATE_EPOCH comes from: Seconds when it is
// known, else one of the others. The caller then finds out the time (of the
// last commit of a git repository, the Last-Modified of a file, or the newest
// file of an archive), and plans again with PlanOptions.Epoch.
type Epoch struct {
	Seconds *int64  // since 1970
	Context bool    // time of the main build context
	Named   string  // time of a named context
	Remote  *Remote // time of a remote source, named by way of a stage
}
