package registry

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
)

// Transport is where a Reference points: a registry, or a kind of file.
type Transport string

// The transports, named as skopeo and podman name them.
const (
	Docker            Transport = "docker"             // a registry
	OCI               Transport = "oci"                // an image layout, a directory
	OCIArchive        Transport = "oci-archive"        // an image layout in a tar
	DockerArchive     Transport = "docker-archive"     // what docker save writes
	Dir               Transport = "dir"                // skopeo's plain directory
	ContainersStorage Transport = "containers-storage" // an image of the store
)

// Reference names an image: where it is and which one of those there. The zero
// value names nothing. References are values and may be compared with ==.
type Reference struct {
	transport Transport
	// name is the normalised name with tag or digest for Docker; for
	// DockerArchive that of the image within, if any; for ContainersStorage
	// whatever names an image of the store.
	name  string
	short bool   // Docker: written without a registry
	path  string // file or directory, as written
	tag   string // OCI, OCIArchive: the annotation that names the image, or ""
	// digest picks a manifest in an image layout.
	digest digest.Digest
	latest bool // OCI: no tag given, "latest" is preferred (BuildKit's rule)
}

// schemePrefixes are the schemes that a name with a tag could be taken for.
var schemePrefixes = []string{"oci:", "oci-archive:", "docker-archive:", "dir:", "containers-storage:"}

// schemes maps the spellings to transports. BuildKit writes docker-image:// and
// oci-layout://, skopeo and podman the others.
var schemes = []struct {
	prefix string
	parse  func(rest string) (Reference, error)
}{
	{"docker://", parseName},
	{"docker-image://", parseName},
	{"oci-layout://", parseOCILayout},
	{"oci:", parseOCI},
	{"oci-archive:", parseOCIArchive},
	{"docker-archive:", parseDockerArchive},
	{"dir:", parseDir},
	{"containers-storage:", parseStorage},
}

// ParseReference reads a reference in any of the usual spellings:
//
//	alpine, alpine:3.20, localhost:5000/x@sha256:...   a registry; docker.io and latest are implied
//	docker://NAME, docker-image://NAME                 the same
//	oci-layout://DIR[:TAG][@DIGEST]                    a layout, TAG "latest" or its only image
//	oci:DIR[:TAG]                                      a layout, its only image when there is no TAG
//	oci-archive:FILE[:TAG]                             a layout in a tar
//	docker-archive:FILE[:NAME[:TAG]]                   a tar made by docker save
//	dir:DIR                                            a directory made by skopeo
//	containers-storage:NAME or ID                      an image of the store
//
// DIR and FILE may be relative to the working directory and contain no colon.
// A name with both a tag and a digest means the digest, as in docker. Nothing
// is looked up: whether a name without a registry means docker.io is settled by
// the Client, see Client.Candidates.
func ParseReference(s string) (Reference, error) {
	for _, scheme := range schemes {
		rest, ok := strings.CutPrefix(s, scheme.prefix)
		if !ok {
			continue
		}
		ref, err := scheme.parse(rest)
		if err != nil {
			return Reference{}, fmt.Errorf("invalid reference %q: %w", redact(s), err)
		}
		return ref, nil
	}
	ref, err := parseName(s)
	if err != nil {
		return Reference{}, fmt.Errorf("invalid reference %q: %w", redact(s), err)
	}
	return ref, nil
}

// parseName reads the name of an image in a registry.
func parseName(s string) (Reference, error) {
	if err := checkName(s); err != nil {
		return Reference{}, err
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, nameError(s, err)
	}
	named, err = pinned(named)
	if err != nil {
		return Reference{}, err
	}
	return Reference{transport: Docker, name: named.String(), short: isShort(s)}, nil
}

// checkName refuses what is certainly no image name, with better words than
// "invalid reference format".
func checkName(s string) error {
	switch scheme, _, found := strings.Cut(s, "://"); {
	case s == "":
		return errors.New("it is empty")
	case found && (scheme == "http" || scheme == "https"):
		return errors.New("write the registry's name without http:// or https://, e.g. registry.example.com/app")
	case found:
		return fmt.Errorf("unknown transport %q: write docker-image://, docker://, oci-layout://, oci:, oci-archive:, docker-archive:, dir: or containers-storage: before it", scheme)
	case s == "scratch":
		return errors.New("scratch is the empty base, not an image")
	}
	return nil
}

// nameError explains why reference.ParseNormalizedNamed refused s.
func nameError(s string, err error) error {
	if lower := lowerName(s); lower != s {
		if _, lowerErr := reference.ParseNormalizedNamed(lower); lowerErr == nil {
			return fmt.Errorf("image names are lower case: try %q", lower)
		}
	}
	switch {
	case len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "":
		return errors.New("this is an image id, not a name: write containers-storage:ID")
	case errors.Is(err, reference.ErrReferenceInvalidFormat):
		return errors.New("want [REGISTRY/]NAME[:TAG][@DIGEST], e.g. registry.example.com:5000/team/app:1.0")
	}
	return err
}

// lowerName is s with the repository in lower case, tag and digest kept.
func lowerName(s string) string {
	slash := strings.LastIndexByte(s, '/')
	if i := strings.IndexAny(s[slash+1:], ":@"); i >= 0 {
		i += slash + 1
		return strings.ToLower(s[:i]) + s[i:]
	}
	return strings.ToLower(s)
}

// pinned gives named exactly one of tag and digest: latest if it has none, and
// only the digest if it has both, since no registry takes both.
func pinned(named reference.Named) (reference.Named, error) {
	canonical, ok := named.(reference.Canonical)
	if !ok {
		return reference.TagNameOnly(named), nil
	}
	if err := canonical.Digest().Validate(); err != nil {
		return nil, err
	}
	return reference.WithDigest(reference.TrimNamed(named), canonical.Digest())
}

// isShort reports whether s is written without a registry, by docker's rule:
// the part before the first slash is a registry if it has a dot or a colon, is
// localhost, or has an upper case letter.
func isShort(s string) bool {
	domain, _, found := strings.Cut(s, "/")
	return !found || domain != "localhost" && !strings.ContainsAny(domain, ".:") && strings.ToLower(domain) == domain
}

// parseOCILayout reads BuildKit's DIR[:TAG][@DIGEST].
func parseOCILayout(s string) (Reference, error) {
	ref := Reference{transport: OCI}
	rest, dgst, found := cutDigest(s)
	if found {
		ref.digest = digest.Digest(dgst)
		if err := ref.digest.Validate(); err != nil {
			return Reference{}, fmt.Errorf("digest %q: %w", dgst, err)
		}
	}
	ref.path, ref.tag, _ = strings.Cut(rest, ":")
	ref.latest = ref.tag == "" && ref.digest == ""
	if ref.digest != "" {
		ref.tag = "" // the digest says more
	}
	return ref, checkPath(ref.path)
}

// cutDigest splits s before a trailing @ALGORITHM:HEX. An @ may well be part of
// a directory's name, so only what looks like a digest is taken for one.
func cutDigest(s string) (before, dgst string, found bool) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 || strings.ContainsRune(s[i:], '/') {
		return s, "", false
	}
	if algorithm, _, ok := strings.Cut(s[i+1:], ":"); !ok || !digest.Algorithm(algorithm).Available() {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func parseOCI(s string) (Reference, error) {
	path, tag, _ := strings.Cut(s, ":")
	return Reference{transport: OCI, path: path, tag: tag}, checkPath(path)
}

func parseOCIArchive(s string) (Reference, error) {
	path, tag, _ := strings.Cut(s, ":")
	return Reference{transport: OCIArchive, path: path, tag: tag}, checkPath(path)
}

func parseDockerArchive(s string) (Reference, error) {
	path, name, found := strings.Cut(s, ":")
	ref := Reference{transport: DockerArchive, path: path}
	if err := checkPath(path); err != nil || !found {
		return ref, err
	}
	within, err := parseName(name)
	if err != nil {
		return Reference{}, err
	}
	if strings.Contains(within.name, "@") {
		return Reference{}, errors.New("images in a docker archive have tags, not digests")
	}
	ref.name = within.name
	return ref, nil
}

func parseDir(s string) (Reference, error) {
	return Reference{transport: Dir, path: s}, checkPath(s)
}

func parseStorage(s string) (Reference, error) {
	switch {
	case s == "":
		return Reference{}, errors.New("the image's name is missing")
	case s[0] == '[':
		return Reference{}, errors.New("another store cannot be named here: use --root and --storage-driver")
	}
	return Reference{transport: ContainersStorage, name: s}, nil
}

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("the path is missing")
	case strings.ContainsRune(path, 0):
		return errors.New("the path has a NUL byte")
	case strings.ContainsRune(path, ':'):
		return errors.New("the path has a colon")
	}
	return nil
}

// Transport says where the image is.
func (r Reference) Transport() Transport { return r.transport }

// Name returns the normalised name, docker.io/library/alpine:latest for alpine,
// if r is in a registry; else the name within the archive or store, or "".
func (r Reference) Name() string { return r.name }

// IsRegistry reports whether r is in a registry, not in a file or the store.
func (r Reference) IsRegistry() bool { return r.transport == Docker }

// Short reports whether r was written without a registry, so that registries.conf
// has a say in what it means.
func (r Reference) Short() bool { return r.short }

// ShortName returns the name without docker.io/library/ or docker.io/, tag or
// digest included ("alpine:latest"), and whether r can be written so at all. It
// serves to find images of the store that have no registry in their name.
func (r Reference) ShortName() (string, bool) {
	if r.transport != Docker || r.Registry() != "docker.io" {
		return "", false
	}
	name := r.familiar()
	return name, isShort(name)
}

// Path returns the file or directory of a layout or archive, as it was written.
func (r Reference) Path() string { return r.path }

// Registry returns the host and port of the registry, or "" if r is not in one.
func (r Reference) Registry() string {
	if r.transport != Docker {
		return ""
	}
	host, _, _ := strings.Cut(r.name, "/")
	return host
}

// Digest returns the manifest digest that r pins, or "".
func (r Reference) Digest() digest.Digest {
	if r.transport == Docker {
		_, dgst, _ := strings.Cut(r.name, "@")
		return digest.Digest(dgst)
	}
	return r.digest
}

// String returns a spelling that ParseReference reads back as r.
func (r Reference) String() string {
	switch {
	case r.transport == Docker && !r.short:
		return r.name
	case r.transport == Docker:
		return r.shortString()
	case r.transport == OCI && (r.latest || r.digest != ""):
		s := "oci-layout://" + r.path
		if r.digest != "" {
			s += "@" + r.digest.String()
		}
		return s
	case r.transport == ContainersStorage:
		return string(r.transport) + ":" + r.name
	case r.transport == "":
		return ""
	}
	s := string(r.transport) + ":" + r.path
	if within := r.tag + r.name; within != "" {
		s += ":" + within
	}
	return s
}

// shortString spells a name without a registry, which must not look like one of
// the schemes: there are images named "dir" and "oci".
func (r Reference) shortString() string {
	s := r.familiar()
	for _, scheme := range schemePrefixes {
		if strings.HasPrefix(s, scheme) {
			return "docker://" + s
		}
	}
	return s
}

// familiar is the name without docker.io/library/.
func (r Reference) familiar() string {
	s := strings.TrimPrefix(r.name, "docker.io/")
	if rest, ok := strings.CutPrefix(s, "library/"); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return s
}

// withDigest pins a registry reference to one manifest.
func (r Reference) withDigest(dgst digest.Digest) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(r.name)
	if err != nil {
		return Reference{}, err
	}
	canonical, err := reference.WithDigest(reference.TrimNamed(named), dgst)
	if err != nil {
		return Reference{}, err
	}
	r.name, r.short = canonical.String(), false
	return r, nil
}
