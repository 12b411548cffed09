package remote

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestFetch(t *testing.T) {
	var requests []string
	content, etag := "one", `"1"`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Header.Get("If-None-Match"))
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Last-Modified", "Tue, 15 Nov 1994 12:45:26 GMT")
		fmt.Fprint(w, content)
	}))
	defer srv.Close()
	c := newClient(t)
	get := func(o FetchOptions) string {
		t.Helper()
		f, err := c.Fetch(t.Context(), srv.URL+"/f", o)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Digest != digest.FromBytes(data) || f.Size != int64(len(data)) || f.ModTime.Unix() != 784903526 {
			t.Errorf("Fetch = %+v for %q", f, data)
		}
		return string(data)
	}
	got := []string{get(FetchOptions{}), get(FetchOptions{})}
	content, etag = "two", `"2"`
	got = append(got, get(FetchOptions{}), get(FetchOptions{Checksum: digest.FromString("two")}), get(FetchOptions{Checksum: digest.SHA512.FromString("two")}))
	if diff := cmp.Diff([]string{"one", "one", "two", "two", "two"}, got); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
	// The fetch whose checksum names what is here asks nobody.
	if diff := cmp.Diff([]string{"", `"1"`, `"1"`, `"2"`}, requests); diff != "" {
		t.Errorf("If-None-Match (-want +got):\n%s", diff)
	}
}

func TestFetchErrors(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cut":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
		case "/file":
			fmt.Fprint(w, "content")
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	c := newClient(t)
	zero := digest.Digest("sha256:" + strings.Repeat("0", 64))
	secret := strings.Replace(srv.URL, "http://", "http://user:secret@", 1)
	for _, tc := range []struct {
		url  string
		o    FetchOptions
		want string
	}{
		{srv.URL + "/gone", FetchOptions{}, "invalid response status 404"},
		{srv.URL + "/cut", FetchOptions{}, "unexpected EOF"},
		{srv.URL + "/file", FetchOptions{Checksum: zero}, "digest mismatch for " + srv.URL + "/file: " + digest.FromString("content").String() + " (expected: " + zero.String() + ")"},
		{secret + "/gone", FetchOptions{}, "fetch http://user:xxxxx@"},
		{"http://127.0.0.1:1/", FetchOptions{}, "connection refused"},
	} {
		_, err := c.Fetch(t.Context(), tc.url, tc.o)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Fetch(%s) = %v, want %q", tc.url, err, tc.want)
		}
	}
	dir, _ := c.Store.Dir("http")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".part-") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestFetchAuth(t *testing.T) {
	var got []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, "other "+r.Header.Get("Authorization"))
	}))
	defer other.Close()
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		if r.URL.Path == "/away" {
			http.Redirect(w, r, elsewhere, http.StatusFound)
		}
	}))
	defer srv.Close()
	c := newClient(t)
	secrets := map[string]string{}
	c.Secret = func(name string) ([]byte, bool, error) {
		v, ok := secrets[name]
		return []byte(v), ok, nil
	}
	for _, s := range []map[string]string{
		{},
		{"HTTP_AUTH_HEADER_127.0.0.1": "Basic eA=="},
		{"HTTP_AUTH_TOKEN_127.0.0.1": "token\n"},
		{"HTTP_AUTH_TOKEN_127.0.0.1": "token", "HTTP_AUTH_HEADER_127.0.0.1": "Basic eA=="},
		{"HTTP_AUTH_TOKEN_localhost": "token"},
	} {
		secrets = s
		if _, err := c.Fetch(t.Context(), srv.URL+"/f", FetchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	secrets = map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "token"}
	if _, err := c.Fetch(t.Context(), srv.URL+"/away", FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"", "Basic eA==", "Bearer token", "Bearer token", "", "Bearer token", "other "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Authorization (-want +got):\n%s", diff)
	}
	failed := errors.New("unreadable")
	c.Secret = func(string) ([]byte, bool, error) { return nil, false, failed }
	if _, err := c.Fetch(t.Context(), srv.URL+"/f", FetchOptions{}); !errors.Is(err, failed) {
		t.Errorf("error = %v, want that of the secret", err)
	}
}

func TestOpenURL(t *testing.T) {
	archive := pack(t, "Dockerfile = FROM scratch", "d/f = x")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".tar") {
			w.Write(archive)
			return
		}
		http.ServeContent(w, r, "", time.Unix(5000, 0), strings.NewReader("FROM scratch"))
	}))
	defer srv.Close()
	c := newClient(t)
	for path, want := range map[string][2]string{
		"/ctx.tar":    {"", "Dockerfile 644 \"FROM scratch\"\nd/ 755\nd/f 644 \"x\""},
		"/Dockerfile": {"context", "context 600 \"FROM scratch\""},
	} {
		tree, err := c.Open(t.Context(), srv.URL+path, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, [2]string{tree.File, list(t, tree.Dir)}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		tree.Close()
	}
}

func TestIsRemote(t *testing.T) {
	for where, want := range map[string]bool{
		".": false, "/x": false, "git": false, "x.git": false, "oci-layout://x": false, "docker-image://x": false,
		"https://x/y.tar": true, "http://x": true, "https://x/y.git#main": true, "git@x:y.git": true, "git@x:y": true,
		"ssh://git@x/y": true, "git://x/y": true, "github.com/x/y": true, "github.com/x/y#z:d": true, "file:///x": false,
	} {
		if got := IsRemote(where); got != want {
			t.Errorf("IsRemote(%q) = %v, want %v", where, got, want)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://x/y":            "https://x/y",
		"https://u:p@x/y":        "https://u:xxxxx@x/y",
		"https://token@x/y?a=b":  "https://xxxxx@x/y?a=b",
		"ssh://git@x/y":          "ssh://git@x/y",
		"git@x:y":                "git@x:y",
		"https://u:p@x":          "https://u:xxxxx@x",
		"https://u:p@q@x/y@z:80": "https://u:xxxxx@x/y@z:80",
	} {
		if got := RedactURL(in); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", in, got, want)
		}
	}
}
