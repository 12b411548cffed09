package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"cooper/dockerfile"
	"cooper/layers"
	"cooper/registry"
)

// image is an image that the build stands on or copies from. Its config is
// known from the start; its layers are fetched when the first step needs them.
type image struct {
	request  dockerfile.ImageRequest
	ref      registry.Reference
	manifest digest.Digest // "" = whatever ref means when it is fetched
	platform ocispec.Platform
	config   dockerspec.DockerOCIImage
	chain    digest.Digest // ChainID of all its layers

	once    sync.Once
	fetched atomic.Bool
	shown   atomic.Bool // the display has it
	layer   string      // top layer in the store, once fetched
	err     error
}

// lockUnnamed keeps others from fetching images that get no name: while one is
// fetched and forgotten, nobody else may count on its record.
func (bd *build) lockUnnamed(ctx context.Context) (func() error, error) {
	dir, err := bd.b.Store.Dir("locks")
	if err != nil {
		return nil, err
	}
	f, err := lockFile(ctx, filepath.Join(dir, "unnamed"), unix.LOCK_EX, true)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// setLayer says that the image is in the store already.
func (img *image) setLayer(id string) {
	img.once.Do(func() {
		img.layer = id
		img.fetched.Store(true)
	})
}

// images finds images by request, each once per build.
type images struct {
	b       *Builder
	o       *Options
	report  *reporter
	mu      sync.Mutex
	entries map[dockerfile.ImageRequest]*imageEntry
	// written are references as the Dockerfile has them: what a short name
	// means is the registry room's to say.
	written map[dockerfile.ImageRequest]string
	file    *dockerfile.File
}

type imageEntry struct {
	once sync.Once
	img  *image
	err  error
}

func newImages(b *Builder, o *Options, r *reporter) *images {
	return &images{b: b, o: o, report: r, entries: map[dockerfile.ImageRequest]*imageEntry{}, written: map[dockerfile.ImageRequest]string{}}
}

// learn notes how the images of the plan for file are written.
func (im *images) learn(file *dockerfile.File, p *dockerfile.Plan) {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.file = file
	for _, use := range p.Images {
		im.written[use.Request] = use.Name
	}
}

// get returns the image for r with its config; its layers may still be remote.
func (im *images) get(ctx context.Context, r dockerfile.ImageRequest) (*image, error) {
	im.mu.Lock()
	e, ok := im.entries[r]
	if !ok {
		e = &imageEntry{}
		im.entries[r] = e
	}
	im.mu.Unlock()
	e.once.Do(func() {
		if e.img, e.err = im.resolve(ctx, r); e.img != nil {
			e.img.request = r
		}
	})
	return e.img, e.err
}

// config returns the config of r, nil when r is a directory.
func (im *images) config(ctx context.Context, r dockerfile.ImageRequest) (*dockerspec.DockerOCIImage, error) {
	if isTree(im.o, r.Context) {
		return nil, nil
	}
	img, err := im.get(ctx, r)
	if err != nil {
		return nil, err
	}
	return &img.config, nil
}

// resolve finds the config of r: in the store unless the pull policy says
// otherwise, else at its source.
func (im *images) resolve(ctx context.Context, r dockerfile.ImageRequest) (_ *image, err error) {
	name, platform, err := im.source(r)
	if err != nil {
		return nil, err
	}
	v := im.report.start("[internal] load metadata for " + cmp.Or(r.Ref, name))
	defer func() { v.end(false, -1, err) }()

	local, localErr := im.local(r, name, platform)
	if localErr == nil && (im.o.Pull == PullMissing || im.o.Pull == PullNever || im.o.Pull == "") {
		return local, nil
	}
	if im.o.Pull == PullNever {
		return nil, fmt.Errorf("%s is not in the store and --pull=never forbids fetching it", name)
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	config, manifest, err := im.b.Registry.Config(ctx, ref, platform)
	if err != nil {
		if localErr == nil && im.o.Pull == PullNewer && errors.Is(err, registry.ErrUnreachable) {
			return local, nil
		}
		return nil, im.unresolved(name, r, err)
	}
	img := &image{ref: ref, manifest: manifest, platform: platform, config: config, chain: chainID(config)}
	if top, ok := im.stored(config); ok {
		img.setLayer(top)
		err = img.remember(im.b.Store, top)
	}
	return img, err
}

// unresolved says in BuildKit's words that there is no image name, and what else
// may have been meant: a stage perhaps.
func (im *images) unresolved(name string, r dockerfile.ImageRequest, err error) error {
	near, ok := im.file.Suggest(name)
	if ok {
		near = " (did you mean " + near + "?)"
	}
	return fmt.Errorf("%s: failed to resolve source metadata for %s: %w%s", name, cmp.Or(r.Ref, name), err, near)
}

// stored returns the layer that config's layers end in, if all of them are in the
// store, from whatever image they came.
func (im *images) stored(config dockerspec.DockerOCIImage) (string, bool) {
	top := ""
	for _, d := range config.RootFS.DiffIDs {
		top = im.b.Store.LayerID(top, d)
	}
	if top == "" {
		return "", true
	}
	_, err := im.b.Store.Layer(top)
	return top, err == nil
}

// source says where r is to be found and for which platform.
func (im *images) source(r dockerfile.ImageRequest) (string, ocispec.Platform, error) {
	platform := im.o.Platforms[0]
	if r.Platform != "" {
		p, err := platforms.Parse(r.Platform)
		if err != nil {
			return "", platform, fmt.Errorf("platform %q: %w", r.Platform, err)
		}
		platform = p
	}
	if r.Context == "" {
		im.mu.Lock()
		defer im.mu.Unlock()
		return cmp.Or(im.written[r], r.Ref), platform, nil
	}
	value, ok := im.o.NamedContexts[r.Context]
	if !ok {
		return "", platform, fmt.Errorf("build context %q is not defined: add --build-context %s=VALUE", r.Context, r.Context)
	}
	return value, platform, nil
}

// local finds an image that is already in the store. Only registry references
// are looked for: an archive or a layout is always read, it is near anyway.
func (im *images) local(r dockerfile.ImageRequest, name string, platform ocispec.Platform) (*image, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	if !ref.IsRegistry() {
		return nil, layers.ErrNotFound
	}
	stored, err := im.b.Store.ImageFor(ref.Name(), platform)
	if err != nil {
		// A name as the user wrote it also finds what was built here:
		// FROM app is localhost/app before it is docker.io/library/app.
		short, ok := ref.ShortName()
		if !ok {
			return im.remembered(ref, platform)
		}
		if stored, err = im.b.Store.ImageFor("localhost/"+short, platform); err != nil {
			return im.remembered(ref, platform)
		}
	}
	if !samePlatform(stored.Config.Platform, platform) {
		return im.remembered(ref, platform)
	}
	img := &image{ref: ref, platform: platform, config: stored.Config, chain: chainID(stored.Config)}
	img.setLayer(stored.Layer)
	return img, nil
}

// samePlatform reports whether an image for have runs where want is asked
// for. A config that names no architecture is taken as it is.
func samePlatform(have, want ocispec.Platform) bool {
	if have.Architecture == "" || want.Architecture == "" {
		return true
	}
	return platforms.NewMatcher(platforms.Normalize(want)).Match(platforms.Normalize(have))
}

// chainID identifies the layers of an image by content; "" for none.
func chainID(c dockerspec.DockerOCIImage) digest.Digest {
	if len(c.RootFS.DiffIDs) == 0 {
		return ""
	}
	return identity.ChainID(c.RootFS.DiffIDs)
}

// here reports whether the image's layers are known to be in the store.
func (img *image) here() bool { return img.fetched.Load() }

// top fetches the image's layers, if they are not in the store, as a vertex of
// its own, and returns the topmost.
func (img *image) top(ctx context.Context, bd *build, name string) (string, error) {
	img.once.Do(func() {
		v := bd.report.startNode(name, bd.nodes[img.request])
		defer func() { v.end(false, -1, img.err) }()
		if !img.named() {
			var unlock func() error
			if unlock, img.err = bd.lockUnnamed(ctx); img.err != nil {
				return
			}
			defer unlock()
			if top, ok := bd.images.stored(img.config); ok { // another build was here
				img.layer = top
				img.fetched.Store(true)
				img.err = img.remember(bd.b.Store, top)
				return
			}
		}
		client := *bd.b.Registry
		client.Progress = func(p registry.Progress) {
			v.progress(string(p.Blob), p.Offset, p.Total)
		}
		pulled, err := client.Pull(ctx, img.ref, registry.PullOptions{Platform: img.platform, Manifest: img.manifest, Unnamed: !img.named()})
		if err != nil {
			img.err = fmt.Errorf("pull %s: %w", img.ref, err)
			return
		}
		if len(pulled.Names) == 0 {
			// Its layers serve as cache, but nobody asked for an image
			// in the store.
			if img.err = bd.b.Store.Forget(pulled.ID); img.err == nil {
				img.err = img.remember(bd.b.Store, pulled.Layer)
			}
			if img.err != nil {
				return
			}
		}
		img.layer = pulled.Layer
		img.fetched.Store(true)
	})
	return img.layer, img.err
}
