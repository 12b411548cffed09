package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"cooper/layers"
)

// File is what a URL gave. Its content is in the store's own directory and not
// to be changed.
type File struct {
	Digest  digest.Digest // SHA-256
	ModTime time.Time     // Last-Modified, or the start of 1970
	// ETag and LastModified let the next build ask whether it changed.
	ETag         string `json:",omitempty"`
	LastModified string `json:",omitempty"`
	Path         string `json:"-"`
	Size         int64  `json:"-"` // bytes
}

// FetchOptions are the choices of Fetch.
type FetchOptions struct {
	// Checksum is the digest that the content must have; "" accepts any.
	Checksum digest.Digest
	// Progress is called now and then with how many bytes have arrived, of a
	// total that is 0 when the server doesn't say; nil is not called.
	Progress func(current, total int64)
}

// fetchTimeout bounds the wait for a server's answer, not the transfer.
const fetchTimeout = 60 * time.Second

// Fetch gets a http or https URL. What was got before is used again when the
// server says that it has not changed, and without asking when the checksum
// names it.
func (c *Client) Fetch(ctx context.Context, u string, o FetchOptions) (*File, error) {
	dir, err := c.Store.Dir("http")
	if err != nil {
		return nil, err
	}
	id := layers.Key(digest.FromString("http\x00" + u))
	old := c.fetchedBefore(dir, id)
	if old != nil && o.Checksum != "" && old.Digest == o.Checksum {
		return old, nil
	}
	f, sum, err := c.download(ctx, dir, u, old, o)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", RedactURL(u), err)
	}
	value, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	if err := c.Store.PutRecord(layers.Record{Key: id, Value: value, Created: time.Now(), Step: "ADD " + RedactURL(u)}); err != nil {
		return nil, err
	}
	if o.Checksum != "" && sum != o.Checksum {
		return nil, fmt.Errorf("digest mismatch for %s: %s (expected: %s)", RedactURL(u), sum, o.Checksum)
	}
	return f, nil
}

// fetchedBefore returns what an earlier build has got under id, if it is still
// there.
func (c *Client) fetchedBefore(dir string, id layers.Key) *File {
	rec, ok := c.Store.Lookup(id)
	if !ok {
		return nil
	}
	var f File
	if json.Unmarshal(rec.Value, &f) != nil || f.Digest.Validate() != nil || f.Digest.Algorithm() != digest.SHA256 {
		return nil
	}
	f.Path = filepath.Join(dir, f.Digest.Encoded())
	st, err := os.Stat(f.Path)
	if err != nil {
		return nil
	}
	f.Size = st.Size()
	return &f
}

// request asks for u, unless it is still old.
func (c *Client) request(ctx context.Context, u string, old *File) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "cooper")
	host := req.URL.Hostname()
	name, value, err := c.secret("HTTP_AUTH_TOKEN_"+host, "HTTP_AUTH_HEADER_"+host)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	if name != "" {
		header := strings.TrimSpace(string(value))
		if strings.HasPrefix(name, "HTTP_AUTH_TOKEN_") {
			header = "Bearer " + header
		}
		req.Header.Set("Authorization", header)
	}
	if old != nil && old.ETag != "" {
		req.Header.Set("If-None-Match", old.ETag)
	}
	if old != nil && old.LastModified != "" {
		req.Header.Set("If-Modified-Since", old.LastModified)
	}
	return req, nil
}

// download gets u, or returns old when the server says so. sum is the digest of
// the content in the algorithm that o wants.
func (c *Client) download(ctx context.Context, dir, u string, old *File, o FetchOptions) (f *File, sum digest.Digest, err error) {
	req, err := c.request(ctx, u, old)
	if err != nil {
		return nil, "", err
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: fetchTimeout, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, "", err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		sum, err := old.sum(o.Checksum)
		return old, sum, err
	case resp.StatusCode < 200 || resp.StatusCode >= 300:
		return nil, "", fmt.Errorf("invalid response status %d", resp.StatusCode)
	}
	f = &File{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"), ModTime: time.Unix(0, 0)}
	if t, err := http.ParseTime(f.LastModified); err == nil {
		f.ModTime = t
	}
	if err := f.receive(dir, resp, o.Progress); err != nil {
		return nil, "", err
	}
	sum, err = f.sum(o.Checksum)
	return f, sum, err
}

// receive stores the body of resp in dir under its digest.
func (f *File) receive(dir string, resp *http.Response, progress func(current, total int64)) (err error) {
	tmp, err := os.CreateTemp(dir, ".part-")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, tmp.Close())
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(tmp.Name())))
		}
	}()
	d := digest.SHA256.Digester()
	meter := &meter{total: max(resp.ContentLength, 0), progress: progress}
	if f.Size, err = io.Copy(io.MultiWriter(tmp, d.Hash(), meter), resp.Body); err != nil {
		return err
	}
	f.Digest = d.Digest()
	f.Path = filepath.Join(dir, f.Digest.Encoded())
	return os.Rename(tmp.Name(), f.Path)
}

// sum is the file's digest in the algorithm of want.
func (f *File) sum(want digest.Digest) (_ digest.Digest, err error) {
	if want == "" || want.Algorithm() == f.Digest.Algorithm() {
		return f.Digest, nil
	}
	if err := want.Validate(); err != nil {
		return "", err
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return want.Algorithm().FromReader(file)
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// meter is an io.Writer that reports how much has passed, now and then.
type meter struct {
	n, total int64
	last     time.Time
	progress func(current, total int64)
}

func (m *meter) Write(p []byte) (int, error) {
	m.n += int64(len(p))
	if now := time.Now(); m.progress != nil && now.Sub(m.last) > 100*time.Millisecond {
		m.last = now
		m.progress(m.n, m.total)
	}
	return len(p), nil
}
