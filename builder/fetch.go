package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"cooper/layers"
)

// fetched is a file that ADD got over HTTP; its content is in the store's own
// directory, named by digest.
type fetched struct {
	Digest  digest.Digest
	ModTime time.Time
	// ETag and LastModified let the next build ask whether it changed.
	ETag         string `json:",omitempty"`
	LastModified string `json:",omitempty"`

	path string
	size int64
}

// fetchTimeout bounds the wait for a server's answer, not the transfer.
const fetchTimeout = 60 * time.Second

// fetch gets u. What an earlier build has got is used again when the server
// says that it has not changed, and without asking when want names it.
func (bd *build) fetch(ctx context.Context, v *vertex, u, want string) (*fetched, error) {
	dir, err := bd.b.Store.Dir("http")
	if err != nil {
		return nil, err
	}
	key := newKey("http")
	key.text(u)
	id := layers.Key(key.sum())
	old := bd.fetchedBefore(dir, id)
	if old != nil && want != "" && old.Digest.String() == want {
		return old, nil
	}
	f, err := bd.download(ctx, v, dir, u, old)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", redactURL(u), err)
	}
	if want != "" && f.Digest.String() != want {
		return nil, fmt.Errorf("digest mismatch %s: %s", f.Digest, want)
	}
	value, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return f, bd.b.Store.PutRecord(layers.Record{Key: id, Value: value, Created: time.Now(), Step: "ADD " + redactURL(u)})
}

// redactURL hides a password in a URL.
func redactURL(u string) string {
	p, err := url.Parse(u)
	if err != nil {
		return "the URL"
	}
	return p.Redacted()
}

// fetchedBefore returns what an earlier build has got under id, if it is still
// there.
func (bd *build) fetchedBefore(dir string, id layers.Key) *fetched {
	rec, ok := bd.b.Store.Lookup(id)
	if !ok {
		return nil
	}
	var f fetched
	if json.Unmarshal(rec.Value, &f) != nil || f.Digest.Validate() != nil {
		return nil
	}
	f.path = filepath.Join(dir, f.Digest.Encoded())
	st, err := os.Stat(f.path)
	if err != nil {
		return nil
	}
	f.size = st.Size()
	return &f
}

func (bd *build) download(ctx context.Context, v *vertex, dir, u string, old *fetched) (*fetched, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	if old != nil {
		if old.ETag != "" {
			req.Header.Set("If-None-Match", old.ETag)
		}
		if old.LastModified != "" {
			req.Header.Set("If-Modified-Since", old.LastModified)
		}
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: fetchTimeout}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		return old, nil
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("invalid response status %d", resp.StatusCode)
	}
	f := &fetched{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"), ModTime: time.Unix(0, 0)}
	if t, err := http.ParseTime(f.LastModified); err == nil {
		f.ModTime = t
	}
	return f, f.receive(dir, resp, v)
}

// receive stores the body of resp in dir under its digest.
func (f *fetched) receive(dir string, resp *http.Response, v *vertex) (err error) {
	tmp, err := os.CreateTemp(dir, ".part-")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, tmp.Close())
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	d := digest.SHA256.Digester()
	meter := &meter{v: v, id: "downloading", total: max(resp.ContentLength, 0)}
	if f.size, err = io.Copy(io.MultiWriter(tmp, d.Hash(), meter), resp.Body); err != nil {
		return err
	}
	f.Digest = d.Digest()
	f.path = filepath.Join(dir, f.Digest.Encoded())
	return os.Rename(tmp.Name(), f.path)
}

// meter is an io.Writer that reports how much has passed, now and then.
type meter struct {
	v     *vertex
	id    string
	n     int64
	total int64
	last  time.Time
}

func (m *meter) Write(p []byte) (int, error) {
	m.add(int64(len(p)))
	return len(p), nil
}

// add counts n more bytes.
func (m *meter) add(n int64) {
	m.n += n
	if now := time.Now(); m.v != nil && now.Sub(m.last) > 100*time.Millisecond {
		m.last = now
		m.v.progress(m.id, m.n, cmp.Or(m.total, m.n))
	}
}
