// Package registrytest is a registry for tests: an http.Handler in memory that
// can be told to misbehave, and small images to fill it with.
//
//	reg := registrytest.New(t)                       // http://127.0.0.1:PORT
//	reg.Put("app:1", registrytest.Image{Layers: []registrytest.Layer{{"hello": "world"}}})
//	reg.Fault(registrytest.Fault{Path: "/blobs/", Do: registrytest.Reset, Times: 1})
//	... pull reg.Host()+"/app:1" ...
//	reg.Requests()                                   // what was asked for
//
// Images are put in past the faults and past the authentication. Everything may
// be called concurrently.
package registrytest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Registry is an http.Handler that speaks the distribution protocol.
type Registry struct {
	base   http.Handler
	server *httptest.Server

	mu       sync.Mutex
	faults   []*Fault
	auth     func(w http.ResponseWriter, r *http.Request) bool
	requests []string
}

// New starts a registry on a free port of 127.0.0.1, over plain HTTP, until the
// test ends.
func New(t testing.TB) *Registry {
	r := handler()
	r.server = httptest.NewServer(r)
	t.Cleanup(r.close)
	return r
}

// NewTLS is like New, over HTTPS with a certificate nobody has signed; Server
// has it.
func NewTLS(t testing.TB) *Registry {
	r := handler()
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.server.StartTLS()
	t.Cleanup(r.close)
	return r
}

func handler() *Registry {
	return &Registry{base: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

// close breaks connections first: a client that was told to wait may wait long.
func (r *Registry) close() {
	r.server.CloseClientConnections()
	r.server.Close()
}

// Server returns the server that answers.
func (r *Registry) Server() *httptest.Server { return r.server }

// Host is the registry's name in references, 127.0.0.1:PORT.
func (r *Registry) Host() string {
	_, host, _ := strings.Cut(r.server.URL, "://")
	return host
}

// Requests returns what was asked for since the last call, as "METHOD PATH".
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	requests := r.requests
	r.requests = nil
	return requests
}

// ServeHTTP answers with the first fault that fits, else as a registry does.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	auth, fault := r.auth, r.take(req)
	r.mu.Unlock()
	if auth != nil && !auth(w, req) {
		return
	}
	if fault != nil {
		fault(w, req, r.base)
		return
	}
	r.base.ServeHTTP(w, req)
}

// take returns what the first fault that fits does, and counts it.
func (r *Registry) take(req *http.Request) Do {
	for _, f := range r.faults {
		if f.fits(req) {
			f.used++
			return f.Do
		}
	}
	return nil
}

// Fault adds a fault; earlier ones come first.
func (r *Registry) Fault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal removes all faults.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}
