package registry

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
	"cooper/registry/registrytest"
)

// stored returns a client with the image hello in its store, and its documents.
func stored(t *testing.T) (*Client, layers.Image, layers.Documents) {
	t.Helper()
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	c := newClient(t)
	image, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := c.Store.Documents(image.ID)
	if err != nil {
		t.Fatal(err)
	}
	if docs.ID() != image.ID {
		t.Fatalf("Documents has ID %s, want %s", docs.ID(), image.ID)
	}
	return c, image, docs
}

// What WriteArchive writes, to a file or a pipe, Load, skopeo and umoci read.
func TestWriteArchive(t *testing.T) {
	c, image, docs := stored(t)
	names := []string{"localhost/app:1", "docker.io/library/other:latest"}
	for _, o := range []ArchiveOptions{{}, {Docker: true, Compression: Uncompressed}, {Compression: "zstd"}, {Docker: true, Compression: "gzip"}} {
		t.Run(fmt.Sprintf("%s %t", o.Compression, o.Docker), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.tar")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			descs, err := c.WriteArchive(t.Context(), f, []ArchiveImage{{Documents: docs, Names: names}}, o)
			if err != nil {
				t.Fatal(err)
			}
			var piped bytes.Buffer
			again, err := c.WriteArchive(t.Context(), &piped, []ArchiveImage{{Documents: docs, Names: names}}, o)
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content, piped.Bytes()) || descs[0].Digest != again[0].Digest {
				t.Error("a pipe gets other bytes than a file")
			}
			back := newClient(t)
			loaded, err := back.Load(t.Context(), bytes.NewReader(content), ocispec.Platform{})
			if err != nil {
				t.Fatal(err)
			}
			if len(loaded) != 1 || loaded[0].ID != image.ID {
				t.Fatalf("loaded %+v, want %s", loaded, image.ID)
			}
			if diff := cmp.Diff(names, loaded[0].Names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(image.Config.RootFS.DiffIDs, diffIDs(t, back, loaded[0])); diff != "" {
				t.Errorf("layers (-want +got):\n%s", diff)
			}
			if got := inspect(t, "oci-archive:"+path+":1"); got.Digest != descs[0].Digest || len(got.Layers) != 2 {
				t.Errorf("skopeo sees %+v, want %s", got, descs[0].Digest)
			}
			if o.Docker {
				if got := inspect(t, "docker-archive:"+path+":localhost/app:1"); len(got.Layers) != 2 {
					t.Errorf("skopeo sees %+v", got)
				}
			}
		})
	}
}

// An archive of several images has each layer once, and gives back all.
func TestWriteArchiveSeveral(t *testing.T) {
	c, image, docs := stored(t)
	other := image.Config
	other.Config.Cmd = []string{"other"}
	second, err := c.Store.Describe(layers.ImageOptions{Layer: image.Layer, Config: other})
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	_, err = c.WriteArchive(t.Context(), &archive, []ArchiveImage{{Documents: docs, Names: []string{"localhost/a:1"}}, {Documents: second}}, ArchiveOptions{Docker: true, Compression: Uncompressed})
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := io.Copy(z, bytes.NewReader(archive.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{"plain": &archive, "gzip": &zipped} {
		back := newClient(t)
		loaded, err := back.Load(t.Context(), r, ocispec.Platform{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, l := range loaded {
			got = append(got, l.ID+" "+strings.Join(l.Names, " "))
		}
		if diff := cmp.Diff([]string{docs.ID() + " localhost/a:1", second.ID() + " "}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A layout is added to, and a name moves.
func TestWriteLayout(t *testing.T) {
	c, image, docs := stored(t)
	dir := filepath.Join(t.TempDir(), "layout")
	other := image.Config
	other.Config.Cmd = []string{"other"}
	second, err := c.Store.Describe(layers.ImageOptions{Layer: image.Layer, Config: other, Annotations: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []ArchiveImage{{Documents: docs, Names: []string{"localhost/app:1"}}, {Documents: second, Names: []string{"localhost/app:1", "localhost/app:2"}}} {
		if _, err := c.WriteLayout(t.Context(), dir, []ArchiveImage{one}, ArchiveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for tag, want := range map[string]string{"1": second.ID(), "2": second.ID()} {
		back := newClient(t)
		got, err := back.Pull(t.Context(), mustParse(t, "oci:"+dir+":"+tag), PullOptions{})
		if err != nil || got.ID != want {
			t.Errorf("%s: %s, %v, want %s", tag, got.ID, err, want)
		}
	}
	command(t, "umoci", "stat", "--image", dir+":2")
	parts, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/.part-*"))
	if err != nil || len(parts) > 0 {
		t.Errorf("left behind: %v, %v", parts, err)
	}
}

// Files of an archive that are no part of a layout are not unpacked, and what
// is not what its name says is refused.
func TestLoadHostile(t *testing.T) {
	c, _, docs := stored(t)
	var good bytes.Buffer
	if _, err := c.WriteArchive(t.Context(), &good, []ArchiveImage{{Documents: docs}}, ArchiveOptions{Compression: Uncompressed}); err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Replace(good.Bytes(), []byte("welcome"), []byte("WELCOME"), 1)
	for name, archive := range map[string]string{
		"empty": "", "junk": strings.Repeat("junk ", 4096), "cut short": good.String()[:good.Len()/2], "changed layer": string(wrong),
	} {
		back := newClient(t)
		_, err := back.Load(t.Context(), strings.NewReader(archive), ocispec.Platform{})
		if err == nil {
			t.Errorf("%s was accepted", name)
		} else {
			t.Log(err)
		}
		noImages(t, back)
	}
}

// Skopeo's archives keep their names.
func TestLoadPeers(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	dir := archives(t, reg)
	for file, want := range map[string][]string{"docker.tar": {"docker.io/library/app:1"}, "oci.tar": nil} {
		f, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c := newClient(t)
		loaded, err := c.Load(t.Context(), f, ocispec.Platform{})
		if err != nil || len(loaded) != 1 {
			t.Fatalf("%s: %d images, %v", file, len(loaded), err)
		}
		if diff := cmp.Diff(want, loaded[0].Names); diff != "" {
			t.Errorf("%s: names (-want +got):\n%s", file, diff)
		}
	}
}

// A push without compression sends the layers as they are.
func TestPushUncompressed(t *testing.T) {
	c, _, docs := stored(t)
	reg := registrytest.New(t)
	desc, err := c.PushDocuments(t.Context(), docs, mustParse(t, reg.Host()+"/x:1"), PushOptions{Compression: Uncompressed})
	if err != nil || desc.Digest != digest.FromBytes(docs.Manifest) {
		t.Errorf("pushed %s, %v; want %s", desc.Digest, err, digest.FromBytes(docs.Manifest))
	}
}

func TestLogin(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	reg.Basic("me", "hunter2")
	c := newClient(t)
	c.AuthFile = filepath.Join(t.TempDir(), "sub", "auth.json")
	_, err := c.Login(t.Context(), reg.Host(), "me", "wrong")
	if !errors.Is(err, ErrUnauthorized) || strings.Contains(err.Error(), "wrong\"") {
		t.Errorf("Login with another password: %v, want ErrUnauthorized", err)
	}
	t.Log(err)
	where, err := c.Login(t.Context(), reg.Host(), "me", "hunter2")
	if err != nil || where != c.AuthFile {
		t.Fatalf("Login: %q, %v; want %s", where, err, c.AuthFile)
	}
	if user, err := c.LoggedIn(reg.Host()); user != "me" || err != nil {
		t.Errorf("LoggedIn = %q, %v", user, err)
	}
	if _, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{}); err != nil {
		t.Error(err)
	}
	if err := c.Logout(reg.Host()); err != nil {
		t.Error(err)
	}
	if err := c.Logout(reg.Host()); !errors.Is(err, ErrNotLoggedIn) {
		t.Errorf("second Logout: %v, want ErrNotLoggedIn", err)
	}
	if _, err := c.Login(t.Context(), "localhost:1", "a", "b"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no registry: %v, want ErrUnreachable", err)
	} else {
		t.Log(err)
	}
}

func TestRegistryHost(t *testing.T) {
	for in, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io",
		"https://ghcr.io": "ghcr.io", "localhost:5000/": "localhost:5000", "ghcr.io/me": "ghcr.io",
		"Not A Host": "!", "plain": "!",
	} {
		got, err := RegistryHost(in)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("RegistryHost(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}
