package builder

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/builder/output"
	"cooper/builder/remote"
	"cooper/dockerfile"
	"cooper/layers"
	"cooper/registry"
	"cooper/run"
)

// Builder builds images into a store. Its fields are set before the first
// Build; Build may then be called concurrently.
type Builder struct {
	Store *layers.Store
	// Registry resolves and pulls base images.
	Registry *registry.Client
	// Runtime runs RUN steps.
	Runtime *run.Runtime
	// Events receives what happens; nil is silence.
	Events func(Event)
	// Stdout takes what Outputs send to standard output; nil discards it.
	Stdout io.Writer
	// Log receives detail for debugging; nil discards it.
	Log *slog.Logger

	// opened is how many vertexes have shown the opening of the next
	// build's context.
	opened atomic.Int64
}

// Options say what to build. The zero value of every field is useful except
// Dockerfile.
type Options struct {
	// ContextDir is the build context; "" means there is none, and a COPY
	// from it fails.
	ContextDir string
	// Context is the build context instead of ContextDir when it comes from
	// elsewhere: an archive, a repository. It stays the caller's to close.
	Context *remote.Tree
	// Dockerfile is the source, DockerfileName its name in messages.
	Dockerfile     []byte
	DockerfileName string
	// Ignore hides files of the context; nil hides none.
	Ignore *dockerfile.Ignore
	// IgnoreName is the ignore file's name in the display.
	IgnoreName string
	// Tags name the image: "app", "localhost:5000/app:v1". None leaves an
	// image known by its ID only.
	Tags []string
	// Target is the stage to build; "" is the last.
	Target string
	// BuildArgs are --build-arg values.
	BuildArgs map[string]string
	// Labels are added to the image last.
	Labels map[string]string
	// NamedContexts are --build-context values by name: a directory, a URL
	// of an archive or a git repository, docker-image://NAME,
	// oci-layout://DIR and the other forms of registry.ParseReference, or
	// target:STAGE.
	NamedContexts map[string]string
	// Secrets are what RUN --mount=type=secret can ask for, by id.
	Secrets map[string]Secret
	// SSH are the sockets of ssh agents for RUN --mount=type=ssh, by id;
	// "default" is the one asked for without an id.
	SSH map[string]string
	// NoCache runs every step even if a record would give its layer.
	NoCache bool
	// CacheTTL is how old the results of earlier builds may be; 0 is no
	// limit.
	CacheTTL time.Duration
	// Pull says when base images are fetched.
	Pull PullPolicy
	// Platforms are the target platforms; none is the host's. For several the
	// result is an index, as it is for one with the build argument
	// BUILDKIT_MULTI_PLATFORM=true.
	Platforms []ocispec.Platform
	// AllPlatforms builds for every platform that all base images have, in
	// place of Platforms.
	AllPlatforms bool
	// Network is the default network of RUN steps: "", "default", "host"
	// or "none".
	Network string
	// Container is what RUN steps' containers have beside what the Dockerfile
	// says: limits, names, name servers, rights. Of its fields NoHosts,
	// GroupAdd, those from Hostname to DNSOptions and from CapAdd to ShmSize,
	// and Ulimits to CgroupParent count. ExtraHosts, Hostname and where Mounts
	// come from and go to belong to the identity of a step, the others don't.
	Container run.Config
	// Chroot runs the processes of RUN steps and tests by chroot(2) instead of in
	// containers, see run.Task. It is no part of a step's identity.
	Chroot bool
	// Overlays are directories of the host that RUN steps see and may
	// change; changes are thrown away. They belong to a step's identity.
	Overlays []Overlay
	// Chown are directories and files of the host that are given, with all
	// that is in them, to the user of each RUN step before it runs.
	Chown []string
	// Jobs bounds how many steps run at once; 0 is no bound.
	Jobs int
	// NoCacheFilter names stages all whose steps run.
	NoCacheFilter []string
	// OmitHistory leaves the history out of the image's config.
	OmitHistory bool
	// Allow lists what RUN steps may do that could hurt the host:
	// AllowInsecure, AllowDevice, "device=PATH" or "device=NAME" with a
	// name of the Container Device Interface. "device=NAME,alias=OTHER" gives
	// the device to steps that ask for OTHER. AllowNetworkHost is taken, but
	// nothing needs it.
	Allow []string
	// Tests are command lines for the image's shell. Each runs in a container
	// of the finished image, cached or not, before the image gets its names
	// and goes to its outputs; the first to fail ends the build. TestHealth
	// starts the image as run would and waits until its health check
	// succeeds. TestTimeout bounds each test; 0 is no bound.
	Tests       []string
	TestHealth  bool
	TestTimeout time.Duration
	// Outputs say where the image goes; none is the store. An image whose
	// only outputs are files is not kept in the store.
	Outputs []output.Output
	// Timestamp is when the build pretends to happen, in place of what
	// SOURCE_DATE_EPOCH says; nil leaves it to that.
	Timestamp *time.Time
	// RewriteTimestamp lets no file in the layers that the build makes be
	// newer than that time; those of the base stay as they are.
	RewriteTimestamp bool
	// Annotations are given to every output, beside its own.
	Annotations []output.Annotation
	// Format is that of the manifest: "oci" or "docker". "" is oci.
	Format string
	// Edits change what the Dockerfile says.
	Edits dockerfile.Edits
	// BuildUnused builds every stage above the target, needed or not.
	BuildUnused bool
	// Squash puts the layers of this build into one.
	Squash Squash
	// Index is an index of the store that the images are added to, in place
	// of those for the same platforms; it is made if it is not there. "" is
	// none.
	Index string
	// Save says which stages become images too.
	Save SaveOptions
}

// Overlay is a directory of the host shown in RUN steps at Target.
type Overlay struct{ Source, Target string }

// Squash says which layers become one.
type Squash string

// The zero value of Squash keeps every layer.
const (
	SquashNew Squash = "new" // those of this build, on top of the base image's
	SquashAll Squash = "all" // those of the base image too
)

// PullPolicy says when a base image is fetched from its registry.
type PullPolicy string

// The policies. The zero value is PullMissing.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
	PullNewer   PullPolicy = "newer"
)

// Result is a finished build.
type Result struct {
	// Image is the image or the index. It has neither Names nor Digest if it
	// is not in the store; the ID of an index is its digest then.
	Image layers.Image
	// Index says that the result is an index.
	Index bool
	// Manifest describes the manifest, or index, as the last registry, archive or the
	// store got it; zero if the only outputs are files of the image.
	Manifest ocispec.Descriptor
	// Names are the full names given, in registries, archives or the store.
	Names []string
	// Warnings are the checks that the Dockerfile did not pass.
	Warnings []dockerfile.Warning
}

// fill puts the defaults into o.
func (o *Options) fill() {
	if o.DockerfileName == "" {
		o.DockerfileName = "Dockerfile"
	}
	if len(o.Platforms) == 0 {
		o.Platforms = []ocispec.Platform{platforms.DefaultSpec()}
	}
	if len(o.Outputs) == 0 {
		o.Outputs = []output.Output{{}}
	}
	if o.Pull == "" {
		o.Pull = PullMissing
	}
}
