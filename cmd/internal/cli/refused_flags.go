package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// refusedFlag is a flag that another builder has and this one has not. Scripts
// that give it are told what to do instead; it is not in the help.
type refusedFlag struct {
	name string
	bare bool // it may stand without a value
	// harmless are the values that ask for what is so anyway.
	harmless []string
	advice   string
}

// refusedFlags are those of buildx, buildah and kaniko.
var refusedFlags = []refusedFlag{
	{name: "policy", advice: "name the images to build from instead, --build-context NAME=docker-image://OTHER"},
	{name: "source-policy-file", advice: "name the images to build from instead, --build-context NAME=docker-image://OTHER"},
	{name: "cgroupns", harmless: []string{"", "private"}, advice: "steps have control groups of their own"},
	{name: "ipc", harmless: []string{"", "private", "container"}, advice: "steps have memory of their own to share, see --shm-size"},
	{name: "pid", harmless: []string{"", "private", "container"}, advice: "steps see their own processes only"},
	{name: "uts", harmless: []string{"", "private", "container"}, advice: "steps have a host name of their own, see --hostname"},
	{name: "userns", harmless: []string{"", "host"}, advice: "steps have the user IDs of who builds; an ordinary user builds in a namespace anyway"},
	{name: "userns-uid-map", advice: "an ordinary user has the ranges of /etc/subuid"},
	{name: "userns-gid-map", advice: "an ordinary user has the ranges of /etc/subgid"},
	{name: "userns-uid-map-user", advice: "an ordinary user has the ranges of /etc/subuid"},
	{name: "userns-gid-map-group", advice: "an ordinary user has the ranges of /etc/subgid"},
	{name: "hooks-dir", advice: "hooks are not run; make them steps, or give --volume"},
	{name: "compat-volumes", bare: true, harmless: []string{"false"}, advice: "what steps write into a VOLUME stays in the image; remove it in the same step"},
	{name: "stdin", bare: true, harmless: []string{"false"}, advice: "steps read nothing; give files with --volume or --secret"},
	{name: "cpp-flag", advice: "run the preprocessor before: cpp -E FLAGS Dockerfile.in | build -f - ."},
	{name: "created-annotation", bare: true, harmless: []string{"false"}, advice: "give --annotation org.opencontainers.image.created=TIME"},
	{name: "cw", advice: "convert the image afterwards, with buildah"},
	{name: "decryption-key", advice: "decrypt the base image before, with skopeo copy --decryption-key"},
	{name: "sign-by", advice: "sign the image when it is copied, with skopeo copy --sign-by"},
	{name: "os-feature", advice: "it is for Windows; leave it out"},
	{name: "os-version", advice: "it is for Windows; leave it out"},
	{name: "sbom-output", advice: noSBOM},
	{name: "sbom-image-output", advice: noSBOM},
	{name: "sbom-purl-output", advice: noSBOM},
	{name: "sbom-image-purl-output", advice: noSBOM},
	{name: "sbom-scanner-image", advice: noSBOM},
	{name: "sbom-scanner-command", advice: noSBOM},
	{name: "sbom-merge-strategy", advice: noSBOM},
	{name: "context", advice: "the context is the last argument"},
	{name: "context-sub-path", advice: "the context is the last argument: give the directory in it"},
	{name: "dockerfile", advice: "give --file"},
	{name: "destination", advice: "give --tag NAME --push"},
	{name: "no-push", bare: true, harmless: []string{"true"}, advice: "give --push"},
	{name: "tar-path", advice: "give --output type=docker,dest=FILE"},
	{name: "oci-layout-path", advice: "give --output type=oci,dest=DIR,tar=false"},
	{name: "digest-file", advice: "give --metadata-file, or --iidfile for the image ID"},
	{name: "custom-platform", advice: "give --platform"},
	{name: "single-snapshot", bare: true, harmless: []string{"false"}, advice: "give --squash"},
	{name: "reproducible", bare: true, harmless: []string{"false"}, advice: "give --timestamp 0"},
	{name: "cache", bare: true, harmless: []string{"true"}, advice: "give --no-cache"},
	{name: "cache-repo", advice: "steps are cached in the image store, and only there"},
}

const noSBOM = "no SBOM is made; scan the image afterwards"

// refused are the values of refusedFlags.
type refused map[string]*string

func (r *refused) declare(fs *pflag.FlagSet) {
	*r = refused{}
	for _, f := range refusedFlags {
		(*r)[f.name] = fs.String(f.name, "", "Refused")
		if f.bare {
			fs.Lookup(f.name).NoOptDefVal = "true"
		}
		fs.Lookup(f.name).Hidden = true
	}
}

// check says what to do instead of the first flag that was given.
func (r refused) check(fs *pflag.FlagSet) error {
	for _, f := range refusedFlags {
		value := *r[f.name]
		if !fs.Changed(f.name) || slices.Contains(f.harmless, value) {
			continue
		}
		given := "--" + f.name
		if value != "" && (!f.bare || value != "true") {
			given += "=" + strings.ReplaceAll(value, "\n", " ")
		}
		return fmt.Errorf("%s is not supported: %s", given, f.advice)
	}
	return nil
}
