package registrytest

import (
	"encoding/json"
	"net/http"
)

// tokenPath is where the token server answers, on the same host.
const tokenPath = "/token"

// Basic makes the registry ask for a user and password with every request.
func (r *Registry) Basic(user, password string) {
	r.setAuth(func(w http.ResponseWriter, req *http.Request) bool {
		if has(req, user, password) {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="registrytest"`)
		unauthorized(w)
		return false
	})
}

// Token makes the registry ask for a bearer token, which its token server gives
// to user and password; with user "" to anybody, as Docker Hub does for public
// images.
func (r *Registry) Token(user, password string) {
	const token = "registrytest-token"
	r.setAuth(func(w http.ResponseWriter, req *http.Request) bool {
		switch {
		case req.URL.Path == tokenPath && (user == "" || has(req, user, password)):
			_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
			return false
		case req.URL.Path == tokenPath:
			unauthorized(w)
			return false
		case req.Header.Get("Authorization") == "Bearer "+token:
			return true
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+r.server.URL+tokenPath+`",service="registrytest"`)
		unauthorized(w)
		return false
	})
}

func (r *Registry) setAuth(auth func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth = auth
}

func has(req *http.Request, user, password string) bool {
	u, p, ok := req.BasicAuth()
	return ok && u == user && p == password
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
}
