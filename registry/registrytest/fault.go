package registrytest

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"
)

// Do answers a request in place of the registry, base.
type Do func(w http.ResponseWriter, r *http.Request, base http.Handler)

// Fault says which requests go wrong, and how. The zero value fits every request.
type Fault struct {
	// Method is GET, HEAD, ...; "" is any.
	Method string
	// Path is a part of the URL's path, such as "/manifests/latest" or a
	// blob's digest; "" is any.
	Path string
	// Times is how many requests go wrong; 0 is all.
	Times int
	// Do is what happens to them.
	Do Do

	used int
}

func (f *Fault) fits(r *http.Request) bool {
	return (f.Method == "" || f.Method == r.Method) &&
		strings.Contains(r.URL.Path, f.Path) &&
		(f.Times == 0 || f.used < f.Times)
}

// Status answers with an HTTP status and a body that is not the spec's JSON.
func Status(code int, body string) Do {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, body, code)
	}
}

// Code answers with an HTTP status and an error of the distribution spec.
func Code(status int, code, message string) Do {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}}))
	}
}

// Reset breaks the connection without an answer.
func Reset(http.ResponseWriter, *http.Request, http.Handler) {
	panic(http.ErrAbortHandler)
}

// Truncate breaks the connection in the middle of the body.
func Truncate(w http.ResponseWriter, r *http.Request, base http.Handler) {
	answer := record(w, r, base)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	flush(w)
	panic(http.ErrAbortHandler)
}

// Corrupt changes a byte in the middle of the body.
func Corrupt(w http.ResponseWriter, r *http.Request, base http.Handler) {
	answer := record(w, r, base)
	body := answer.Body.Bytes()
	if len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	_, _ = w.Write(body)
}

// Short sends half of the body as though it were all of it.
func Short(w http.ResponseWriter, r *http.Request, base http.Handler) {
	answer := httptest.NewRecorder()
	base.ServeHTTP(answer, r)
	copyHeader(w, answer)
	w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()/2))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
}

// Endless sends a body that does not end, whatever was asked for.
func Endless(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	chunk := []byte(strings.Repeat(" ", 1<<16))
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// Loop redirects to the same place.
func Loop(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	http.Redirect(w, r, r.URL.Path+"?X-Signature=secret", http.StatusTemporaryRedirect)
}

// Redirect sends the client to url.
func Redirect(url string) Do {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, url, http.StatusTemporaryRedirect)
	}
}

// Slow answers after d, or never if the client goes away before.
func Slow(d time.Duration) Do {
	return func(w http.ResponseWriter, r *http.Request, base http.Handler) {
		select {
		case <-r.Context().Done():
		case <-time.After(d):
			base.ServeHTTP(w, r)
		}
	}
}

// Stall sends half of the body and then nothing until the client goes away.
func Stall(w http.ResponseWriter, r *http.Request, base http.Handler) {
	answer := record(w, r, base)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	flush(w)
	<-r.Context().Done()
}

// record lets base answer and passes its header on, but not its body.
func record(w http.ResponseWriter, r *http.Request, base http.Handler) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	base.ServeHTTP(answer, r)
	copyHeader(w, answer)
	w.WriteHeader(answer.Code)
	return answer
}

func copyHeader(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
