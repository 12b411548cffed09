package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"cooper/builder"
)

// compatFlags are flags of other builders that scripts give. Some ask for what is
// so anyway and have no effect, some for what is not there and are refused; none
// is in the help.
type compatFlags struct {
	builderName, provenance, sbom string
	attest, cacheFrom, cacheTo    []string
	httpProxy                     bool
}

func (f *compatFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.builderName, "builder", "", "Without effect: there is one builder")
	fs.StringVar(&f.provenance, "provenance", "", "Make no provenance attestation: `BOOL` false")
	fs.StringVar(&f.sbom, "sbom", "", "Make no SBOM attestation: `BOOL` false")
	fs.StringArrayVar(&f.attest, "attest", nil, "Refused: no attestations are made")
	fs.StringArrayVar(&f.cacheFrom, "cache-from", nil, "Refused: the cache is in the store")
	fs.StringArrayVar(&f.cacheTo, "cache-to", nil, "Refused: the cache is in the store")
	fs.BoolVar(&f.httpProxy, "http-proxy", false, "Set the proxy arguments as in the environment")
	for _, name := range []string{"provenance", "sbom"} {
		fs.Lookup(name).NoOptDefVal = "true"
	}
	for _, name := range []string{"builder", "provenance", "sbom", "attest", "cache-from", "cache-to", "http-proxy"} {
		fs.Lookup(name).Hidden = true
	}
}

// apply puts the flags into o, or says why they can't be had.
func (f *compatFlags) apply(o *builder.Options, lookupEnv func(string) (string, bool)) error {
	for _, flag := range []struct{ name, value string }{{"provenance", f.provenance}, {"sbom", f.sbom}} {
		if wanted, err := strconv.ParseBool(cmp.Or(flag.value, "false")); wanted || err != nil {
			return fmt.Errorf("--%s=%s is not supported: no attestations are made; leave it out or give --%[1]s=false", flag.name, flag.value)
		}
	}
	for _, value := range f.attest {
		if !strings.Contains(","+value+",", ",disabled=true,") {
			return fmt.Errorf("--attest %s is not supported: no attestations are made", value)
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
