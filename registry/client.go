package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"cooper/layers"
)

// Client moves images between the store and everywhere else. Fields are set
// before first use; its methods may be called concurrently.
type Client struct {
	// Store is where images are pulled to and pushed from.
	Store *layers.Store
	// Log takes debug detail; nil discards it.
	Log *slog.Logger
	// Progress is told how transfers go, from one goroutine at a time for
	// each transfer; it must return quickly. nil is fine.
	Progress func(Progress)

	// AuthFile holds credentials in docker's config.json form. "" =
	// $REGISTRY_AUTH_FILE, else the user's usual files (package comment).
	AuthFile string
	// Creds is USER[:PASSWORD], used with every registry instead of the
	// files. "" = from the files.
	Creds string
	// TLSVerify nil means: HTTPS with a certificate that verifies, except
	// for registries that registries.conf calls insecure and, as in docker,
	// those on this machine (localhost, 127.0.0.0/8, ::1), which may have
	// any certificate or speak plain HTTP. false allows that everywhere,
	// true nowhere.
	TLSVerify *bool
	// CertDir has *.crt (authorities), *.cert and *.key (of the client) for
	// any registry. "" = certs.d of the system and the user.
	CertDir string
	// Retries is how often what failed in a way that may pass is tried once
	// more, a refused connection too, every RetryDelay. nil = twice, soon; but
	// not when the connection was refused.
	Retries    *int
	RetryDelay time.Duration
	// RegistriesConf replaces the system's registries.conf. "" = system's.
	RegistriesConf string
	// SignaturePolicy replaces the system's policy.json. "" = the user's or
	// system's, or accept anything when there is neither.
	SignaturePolicy string

	// root stands before the system's configuration files, for tests.
	root string
}

// Progress is the state of one blob's transfer.
type Progress struct {
	// Ref is the image's name, as Reference.Name or String gives it.
	Ref string
	// Blob is the digest of a layer or config as it is transferred.
	Blob digest.Digest
	// Offset is how many bytes were transferred, of Total; Total is 0 or
	// negative when it is not known.
	Offset, Total int64
	// Done is set in the last report for a blob, also if it was here
	// already and nothing was transferred.
	Done bool
}

// system returns the configuration image/v5 needs for ref and platform.
func (c *Client) system(ref Reference, p ocispec.Platform) (*types.SystemContext, error) {
	sys := &types.SystemContext{
		RootForImplicitAbsolutePaths: c.root,
		SignaturePolicyPath:          c.SignaturePolicy,
		SystemRegistriesConfPath:     c.RegistriesConf,
		DockerCertPath:               c.CertDir,
		DockerRegistryUserAgent:      "cooper",
		OSChoice:                     or(p.OS, runtime.GOOS),
		ArchitectureChoice:           p.Architecture,
		VariantChoice:                p.Variant,
	}
	sys.AuthFilePath = c.authFile(sys, ref)
	if err := c.checkFiles(); err != nil {
		return nil, err
	}
	if c.Creds != "" {
		user, password, _ := strings.Cut(c.Creds, ":")
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: user, Password: password}
	}
	return sys, c.setTLS(sys, ref)
}

// open is system with room in the store for temporary files, until close.
// image/v5 would put them into /var/tmp, where what a killed process leaves
// stays for ever.
func (c *Client) open(ref Reference, p ocispec.Platform) (sys *types.SystemContext, close func() error, err error) {
	sys, err = c.system(ref, p)
	if err != nil {
		return nil, nil, err
	}
	dir, err := c.Store.Dir("transfer")
	if err != nil {
		return nil, nil, err
	}
	s, err := newScratch(dir)
	if err != nil {
		return nil, nil, err
	}
	sys.BigFilesTemporaryDir = s.path
	return sys, s.Close, nil
}

// checkFiles refuses files that were named but are not there, which image/v5
// would read as empty.
func (c *Client) checkFiles() error {
	for _, path := range []string{c.AuthFile, c.CertDir, c.RegistriesConf, c.SignaturePolicy} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			// Not fs.ErrNotExist: the image is not what is missing.
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: file does not exist", path)
			}
			return err
		}
	}
	return nil
}

// setTLS decides whether an unverified or plain connection is allowed.
func (c *Client) setTLS(sys *types.SystemContext, ref Reference) error {
	if c.TLSVerify != nil {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(!*c.TLSVerify)
		return nil
	}
	if !isLocal(ref.Registry()) {
		return nil
	}
	// A registry that registries.conf has an entry for is as that says, and
	// its mirrors may be elsewhere.
	entry, err := sysregistriesv2.FindRegistry(sys, ref.Name())
	if err != nil {
		return fmt.Errorf("read registries.conf: %w", err)
	}
	if entry == nil {
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	return nil
}

// isLocal reports whether a registry is on this machine. Names are not looked
// up: a name server must not be able to switch verification off.
func isLocal(registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = strings.Trim(registry, "[]")
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (c *Client) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
