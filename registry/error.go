package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"go.podman.io/image/v5/docker"
	ociarchive "go.podman.io/image/v5/oci/archive"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/storage"

	"cooper/layers"
)

// Kinds of failure that callers tell apart with errors.Is. Anything else is a
// fault of the image itself (a digest that does not match, say) or of the disk.
var (
	// ErrNotFound: the registry, file or store answered, and has no such
	// image or none for the platform. Trying again does not help.
	ErrNotFound = errors.New("no such image")
	// ErrUnauthorized: the registry wants other credentials than it got, or
	// the image does not exist; many registries do not tell which.
	ErrUnauthorized = errors.New("access denied")
	// ErrUnreachable: no usable answer: no route, no such host, TLS,
	// overload, a broken transfer. Trying again later may help.
	ErrUnreachable = errors.New("registry not reachable")
	// ErrRejected: the signature policy does not allow the image.
	ErrRejected = errors.New("rejected by the signature policy")
)

// Error is how Client's methods fail: what was being done to which image, the
// kind, and what the user may do. Its message is one line without secrets.
type Error struct {
	Op   string    // "pull", "read config of", "push"
	Ref  Reference // the image, as asked for or as a short name turned out
	Kind error     // ErrNotFound, ErrUnauthorized, ErrUnreachable, ErrRejected or nil
	Hint string    // what to try next, or ""
	Err  error     // the cause; its own text may hold a secret, use Error
}

func (e *Error) Error() string {
	name := e.Ref.Name()
	if e.Ref.Transport() != Docker {
		name = e.Ref.String()
	}
	s := e.Op + " " + name + ": "
	switch {
	case e.Kind == ErrUnreachable && e.Ref.Registry() != "":
		s += "registry " + e.Ref.Registry() + " not reachable: "
	case e.Kind != nil:
		s += e.Kind.Error() + ": "
	}
	// image/v5 says the name again.
	s += redact(oneLine(strings.TrimPrefix(e.Err.Error(), "initializing source docker://"+name+": ")))
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Err}
	}
	return []error{e.Kind, e.Err}
}

// failure makes an Error of err, unless it is one already or ctx has ended:
// then the reason ctx ended is returned.
func failure(ctx context.Context, op string, ref Reference, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", op, ref, context.Cause(ctx))
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	kind := kindOf(err)
	if kind == ErrUnreachable && ref.transport != Docker {
		kind = nil // a file cut short, say
	}
	return &Error{Op: op, Ref: ref, Kind: kind, Hint: hint(ref, kind, err), Err: err}
}

// kindOf sorts what image/v5, the network and the store return.
func kindOf(err error) error {
	switch {
	case isRejected(err):
		return ErrRejected
	case isUnauthorized(err):
		return ErrUnauthorized
	case isNotFound(err):
		return ErrNotFound
	case isUnreachable(err):
		return ErrUnreachable
	}
	return nil
}

func isRejected(err error) bool {
	_, ok := errors.AsType[signature.PolicyRequirementError](err)
	return ok
}

func isUnauthorized(err error) bool {
	if _, ok := errors.AsType[docker.ErrUnauthorizedForCredentials](err); ok {
		return true
	}
	switch status(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return false
}

func isNotFound(err error) bool {
	if _, ok := errors.AsType[layout.ImageNotFoundError](err); ok {
		return true
	}
	if _, ok := errors.AsType[ociarchive.ArchiveFileNotFoundError](err); ok {
		return true
	}
	if _, ok := errors.AsType[ociarchive.ImageNotFoundError](err); ok {
		return true
	}
	for _, target := range []error{ErrNotFound, fs.ErrNotExist, layers.ErrNotFound, storage.ErrNoSuchImage} {
		if errors.Is(err, target) {
			return true
		}
	}
	if status(err) == http.StatusNotFound {
		return true
	}
	// Of an index without the platform, and of a docker archive without the
	// tag, the message is the only sign.
	msg := err.Error()
	return strings.Contains(msg, "no image found in ") || strings.Contains(msg, `Tag "`) && strings.Contains(msg, `" not found`)
}

// status is the HTTP status a registry's answer had, as far as image/v5 keeps
// it, or 0. Registries disagree on error codes, so several stand for one status.
func status(err error) int {
	if e, ok := errors.AsType[docker.UnexpectedHTTPStatusError](err); ok {
		return e.StatusCode
	}
	if errors.Is(err, docker.ErrTooManyRequests) {
		return http.StatusTooManyRequests
	}
	var coded errcode.ErrorCoder
	if errors.As(err, &coded) {
		switch coded.ErrorCode() {
		case errcode.ErrorCodeUnauthorized:
			return http.StatusUnauthorized
		case errcode.ErrorCodeDenied:
			return http.StatusForbidden
		case v2.ErrorCodeManifestUnknown, v2.ErrorCodeNameUnknown, v2.ErrorCodeBlobUnknown:
			return http.StatusNotFound
		case errcode.ErrorCodeTooManyRequests:
			return http.StatusTooManyRequests
		case errcode.ErrorCodeUnavailable:
			return http.StatusServiceUnavailable
		}
		if strings.Contains(strings.ToLower(err.Error()), "not found") {
			return http.StatusNotFound // Harbor, registry.redhat.io
		}
		return 0
	}
	// An answer that is not the spec's JSON keeps its status in the text only.
	var code int
	if _, rest, ok := strings.Cut(err.Error(), "StatusCode: "); ok {
		if _, scanErr := fmt.Sscanf(rest, "%d", &code); scanErr != nil {
			return 0
		}
	}
	return code
}

func isUnreachable(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if code := status(err); code == http.StatusTooManyRequests || code >= 500 {
		return true
	}
	for _, target := range []error{io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED} {
		if errors.Is(err, target) {
			return true
		}
	}
	return isTLS(err) || isPlain(err)
}

// isTLS reports whether the registry's certificate or handshake was refused.
func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

// isPlain reports whether the registry speaks HTTP where HTTPS was wanted.
func isPlain(err error) bool {
	return strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// hint says what the user can do about it.
func hint(ref Reference, kind error, err error) string {
	host := ref.Registry()
	if host == "" {
		return fileHint(ref, kind, err)
	}
	switch kind {
	case ErrNotFound:
		return "check the name and the tag, and that the image has this platform"
	case ErrUnauthorized:
		return "check the name, or log in to " + host + " with podman login or docker login, or give --authfile"
	case ErrUnreachable:
		return unreachableHint(host, err)
	}
	return ""
}

func fileHint(ref Reference, kind error, err error) string {
	switch {
	case errors.Is(err, layout.ErrMoreThanOneImage):
		return "name one: " + ref.String() + ":TAG"
	case kind == ErrNotFound && ref.Path() != "":
		return "check that " + ref.Path() + " is there and holds this image"
	}
	return ""
}

func unreachableHint(host string, err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "check the registry's name, DNS and HTTPS_PROXY"
	}
	switch {
	case isPlain(err):
		return "the registry speaks plain HTTP: use --tls-verify=false, or insecure = true for " + host + " in registries.conf"
	case isTLS(err):
		return "put the registry's CA into /etc/containers/certs.d/" + host + "/ca.crt or --cert-dir, or use --tls-verify=false"
	case status(err) == http.StatusTooManyRequests:
		return "the registry limits requests: log in, or try again later"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "check that the registry is running and the port is right"
	}
	return "check the network and HTTPS_PROXY, or try again later"
}

// oneLine keeps a registry's answer from forging lines or terminal controls,
// and from filling the screen.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	const most = 600
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// secretParts matches user:password@ in URLs, their queries, which in the
// redirects of cloud registries are signatures that grant access, and the values
// of Authorization headers.
var secretParts = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(://)[^/\s"'@]*@|\?[^\s"'?]*=[^\s"']*|(?i:(\b(?:bearer|basic) )[a-z0-9+/._~-]{8,}=*)`)
})

// redact takes secrets out of a message.
func redact(s string) string { return secretParts().ReplaceAllString(s, "$1$2") }
