package cli

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/builder/output"
)

// compatFlags are flags of other builders that scripts give. Some ask for what is
// so anyway and have no effect, some for what is not there and are refused; none
// is in the help.
type compatFlags struct {
	builderName, provenance, sbom string
	attest, cacheFrom, cacheTo    []string
	httpProxy                     bool
	os, arch, variant             string
	compression                   string
	compressionLevel              int
	forceCompression              bool
}

func (f *compatFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.builderName, "builder", "", "Without effect: there is one builder")
	fs.StringVar(&f.provenance, "provenance", "", "Make no provenance attestation: `BOOL` false")
	fs.StringVar(&f.sbom, "sbom", "", "Make no SBOM attestation: `BOOL` false")
	fs.StringArrayVar(&f.attest, "attest", nil, "Refused: no attestations are made")
	fs.StringArrayVar(&f.cacheFrom, "cache-from", nil, "Refused: the cache is in the store")
	fs.StringArrayVar(&f.cacheTo, "cache-to", nil, "Refused: the cache is in the store")
	fs.BoolVar(&f.httpProxy, "http-proxy", false, "Set the proxy arguments as in the environment")
	fs.StringVar(&f.os, "os", "", "Build for operating system `OS`")
	fs.StringVar(&f.arch, "arch", "", "Build for architecture `ARCH`")
	fs.StringVar(&f.variant, "variant", "", "Build for `VARIANT` of the architecture")
	fs.StringVar(&f.compression, "compression-format", "", "Compress layers that leave by `FORMAT` gzip, zstd or uncompressed")
	fs.IntVar(&f.compressionLevel, "compression-level", -1, "Compress them at `LEVEL`")
	fs.BoolVar(&f.forceCompression, "force-compression", false, "Compress also those that the registry has otherwise")
	for name, short := range map[string]string{"debug": "D", "disable-compression": ""} {
		fs.StringP(name, short, "", "Without effect")
		fs.Lookup(name).NoOptDefVal = "true"
		fs.Lookup(name).Hidden = true
	}
	for _, name := range []string{"provenance", "sbom"} {
		fs.Lookup(name).NoOptDefVal = "true"
	}
	fs.String("unsetannotation", "", "Without effect: annotations are not inherited")
	for _, name := range []string{"unsetannotation", "builder", "provenance", "sbom", "attest", "cache-from", "cache-to", "http-proxy",
		"os", "arch", "variant", "compression-format", "compression-level", "force-compression"} {
		fs.Lookup(name).Hidden = true
	}
}

// apply puts the flags into o, or says why they can't be had.
func (f *compatFlags) apply(o *builder.Options, lookupEnv func(string) (string, bool)) error {
	for _, flag := range []struct{ name, value string }{{"provenance", f.provenance}, {"sbom", f.sbom}} {
		if wanted, err := strconv.ParseBool(cmp.Or(flag.value, "false")); (wanted || err != nil) && !disabled(flag.value) {
			return fmt.Errorf("--%s=%s is not supported: no %[1]s attestation is made; leave it out or give --%[1]s=false", flag.name, flag.value)
		}
	}
	for _, value := range f.attest {
		if !disabled(value) {
			return fmt.Errorf("--attest %s is not supported: no attestations are made; leave it out or add disabled=true", value)
		}
	}
	for name, values := range map[string][]string{"cache-from": f.cacheFrom, "cache-to": f.cacheTo} {
		if len(values) > 0 {
			return fmt.Errorf("--%s is not supported: steps are cached in the image store, and only there", name)
		}
	}
	if f.httpProxy {
		o.BuildArgs = withProxies(o.BuildArgs, lookupEnv)
	}
	return f.platform(o)
}

// disabled reports whether an attestation is asked not to be made.
func disabled(value string) bool {
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	return err == nil && slices.ContainsFunc(fields, func(field string) bool {
		key, off, _ := strings.Cut(field, "=")
		yes, err := strconv.ParseBool(off)
		return key == "disabled" && yes && err == nil
	})
}

// platform makes one of buildah's --os, --arch and --variant.
func (f *compatFlags) platform(o *builder.Options) error {
	if f.os+f.arch+f.variant == "" {
		return nil
	}
	if len(o.Platforms) > 0 || o.AllPlatforms {
		return errors.New("--os, --arch and --variant exclude --platform and --all-platforms")
	}
	p := platforms.DefaultSpec()
	if f.arch != "" && f.arch != p.Architecture {
		p.Variant = ""
	}
	p.OS, p.Architecture, p.Variant = cmp.Or(f.os, p.OS), cmp.Or(f.arch, p.Architecture), cmp.Or(f.variant, p.Variant)
	o.Platforms = []ocispec.Platform{platforms.Normalize(p)}
	return nil
}

// compress gives the outputs that don't say themselves how they are compressed
// what the flags say.
func (f *compatFlags) compress(outputs []output.Output) error {
	if err := checkCompression(output.Output{Compression: f.compression}); err != nil {
		return err
	}
	for i := range outputs {
		out := &outputs[i]
		if out.Compression == "" {
			out.Compression = f.compression
		}
		if out.CompressionLevel == nil && f.compressionLevel >= 0 {
			out.CompressionLevel = &f.compressionLevel
		}
		out.ForceCompression = out.ForceCompression || f.forceCompression
		if err := checkCompression(*out); err != nil {
			return err
		}
	}
	return nil
}

// withProxies adds the proxies of the environment to build arguments; those given
// win.
func withProxies(args map[string]string, lookupEnv func(string) (string, bool)) map[string]string {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"} {
		for _, spelling := range []string{name, strings.ToLower(name)} {
			if _, given := args[spelling]; given {
				break
			}
			if value, ok := lookupEnv(spelling); ok && value != "" {
				args[spelling] = value
			}
		}
	}
	return args
}
