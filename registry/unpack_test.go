package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/registry/registrytest"
)

// checkStored compares an image of the store with what it was made of, and looks
// for anything left over.
func checkStored(t *testing.T, c *Client, image layers.Image, want []registrytest.Layer) {
	t.Helper()
	var ids []digest.Digest
	for _, l := range want {
		ids = append(ids, l.DiffID())
	}
	if diff := cmp.Diff(ids, diffIDs(t, c, image)); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	chain, err := c.Store.Chain(image.Layer)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range chain {
		r, err := c.Store.Diff(t.Context(), l.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, want[i].Tar()) {
			t.Errorf("layer %d is given back as %d bytes (%v), not as it came", i, len(got), err)
		}
	}
	nothingStaged(t, c)
}

func nothingStaged(t *testing.T, c *Client) {
	t.Helper()
	staged, _ := os.ReadDir(filepath.Join(c.Store.Root(), "overlay/staging"))
	if len(staged) > 0 {
		t.Errorf("left behind: %v", staged)
	}
}

// many has n layers, of which every third is the same.
func many(n int) registrytest.Image {
	image := hello()
	image.Layers = nil
	for i := range n {
		l := registrytest.Layer{"same": "x"}
		if i%3 > 0 {
			l = registrytest.Layer{fmt.Sprint("file", i): strings.Repeat(fmt.Sprint(i), 10_000)}
		}
		image.Layers = append(image.Layers, l)
	}
	return image
}

// TestPullUnpacks: layers that arrive in any order, come twice, or are in the store
// on another parent already.
func TestPullUnpacks(t *testing.T) {
	reg := registrytest.New(t)
	c := newClient(t)
	image := many(10)
	reg.Put("many:1", image)
	pulled, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/many:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkStored(t, c, pulled, image.Layers)

	reversed := many(11)
	slices.Reverse(reversed.Layers)
	reg.Put("reversed:1", reversed)
	reg.Requests()
	pulled, err = c.Pull(t.Context(), mustParse(t, reg.Host()+"/reversed:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkStored(t, c, pulled, reversed.Layers)
	fetched := 0
	for _, r := range reg.Requests() {
		if strings.HasPrefix(r, "GET ") && strings.Contains(r, "/blobs/") {
			fetched++
		}
	}
	if fetched != 2 { // file10 and the config
		t.Errorf("fetched %d blobs, want 2", fetched)
	}
}

// TestPullIntoKnownLayers: a layer that was built or loaded here has no blob that
// it is known by.
func TestPullIntoKnownLayers(t *testing.T) {
	reg := registrytest.New(t)
	c := newClient(t)
	image := hello()
	if _, err := c.Store.Apply(t.Context(), "", bytes.NewReader(image.Layers[0].Tar())); err != nil {
		t.Fatal(err)
	}
	reg.Put("app:1", image)
	pulled, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkStored(t, c, pulled, image.Layers)
}

// TestPullByIndexDigest: the name has the digest of an index, not of the image.
func TestPullByIndexDigest(t *testing.T) {
	reg := registrytest.New(t)
	c := newClient(t)
	desc := reg.PutIndex("multi:1", hello())
	ref := mustParse(t, reg.Host()+"/multi@"+desc.Digest.String())
	image, err := c.Pull(t.Context(), ref, PullOptions{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(image.Names, ref.Name()) {
		t.Errorf("names = %q, want %q among them", image.Names, ref.Name())
	}
	checkStored(t, c, image, hello().Layers)
}

// TestPullKeepsWhatArrived: an interrupted pull does not begin again from nothing,
// and an image whose config lies leaves no layers.
func TestPullKeepsWhatArrived(t *testing.T) {
	fast(t)
	reg := registrytest.New(t)
	image := hello()
	reg.Put("app:1", image)
	last := digest.FromBytes(image.Layers[1].Blob()).String()
	reg.Fault(registrytest.Fault{Method: http.MethodGet, Path: last, Do: registrytest.Status(500, "oops")})
	c := newClient(t)
	ref := mustParse(t, reg.Host()+"/app:1")
	if _, err := c.Pull(t.Context(), ref, PullOptions{}); err == nil {
		t.Fatal("Pull succeeded")
	}
	nothingStaged(t, c)
	reg.Heal()
	reg.Requests()
	pulled, err := c.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkStored(t, c, pulled, image.Layers)
	first := digest.FromBytes(image.Layers[0].Blob()).String()
	for _, r := range reg.Requests() {
		if strings.Contains(r, first) {
			t.Errorf("the second pull asked for a layer that is there: %s", r)
		}
	}

	other := many(3)
	other.DiffIDs = []digest.Digest{other.Layers[0].DiffID(), other.Layers[1].DiffID(), digest.FromString("something else")}
	reg.Put("lying:1", other)
	if _, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/lying:1"), PullOptions{}); err == nil {
		t.Fatal("an image whose layers are not those its config lists was accepted")
	}
	for _, l := range other.Layers {
		if _, ok := c.Store.LayerOf(l.DiffID()); ok {
			t.Errorf("layer %s of the refused image is in the store", l.DiffID())
		}
	}
	nothingStaged(t, c)
}

// TestPullSigned: signatures that image/v5 alone can store are kept.
func TestPullSigned(t *testing.T) {
	reg := registrytest.New(t)
	c := newClient(t)
	desc := reg.Put("app:1", hello())
	payload := []byte(`{"critical":{}}`)
	config := []byte("{}")
	for _, blob := range [][]byte{payload, config} {
		request(t, http.MethodPost, fmt.Sprintf("http://%s/v2/app/blobs/uploads/?digest=%s", reg.Host(), digest.FromBytes(blob)), "application/octet-stream", blob)
	}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers: []ocispec.Descriptor{{
			MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Digest: digest.FromBytes(payload), Size: int64(len(payload)),
			Annotations: map[string]string{"dev.cosignproject.cosign/signature": "c2lnbmF0dXJl"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	tag := strings.Replace(desc.Digest.String(), ":", "-", 1) + ".sig"
	request(t, http.MethodPut, fmt.Sprintf("http://%s/v2/app/manifests/%s", reg.Host(), tag), ocispec.MediaTypeImageManifest, raw)
	write(t, filepath.Join(c.root, "etc/containers/registries.d/default.yaml"), "default-docker:\n  use-sigstore-attachments: true\n")
	image, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkStored(t, c, image, hello().Layers)
	stored, err := c.Store.Containers().ImageBigData(image.ID, "signature-"+desc.Digest.Encoded())
	if err != nil || !bytes.Contains(stored, []byte("c2lnbmF0dXJl")) {
		t.Errorf("the stored signature is %q (%v)", stored, err)
	}
}

func request(t *testing.T, method, url, mediaType string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
}

// TestPullReadByOthers: skopeo gives back what was pulled, digest by digest.
func TestPullReadByOthers(t *testing.T) {
	reg := registrytest.New(t)
	c := newClient(t)
	image := many(4)
	reg.Put("app:1", image)
	ref := mustParse(t, reg.Host()+"/app:1")
	pulled, err := c.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(c.Store.Root(), "overlay"), unix.MNT_DETACH) }) // skopeo leaves it
	dir := t.TempDir()
	from := fmt.Sprintf("containers-storage:[overlay@%s+%s]%s", c.Store.Root(), c.Store.RunRoot(), ref.Name())
	command(t, "skopeo", "copy", "-q", "--insecure-policy", from, "dir:"+dir)
	for _, l := range image.Layers {
		got, err := os.ReadFile(filepath.Join(dir, l.DiffID().Encoded()))
		if err != nil || !bytes.Equal(got, l.Tar()) {
			t.Errorf("skopeo gives a layer of %d bytes (%v), not as it came", len(got), err)
		}
	}
	// The other one finds the layers by the blobs that they came in.
	reg.Requests()
	command(t, "skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false", "docker://"+ref.Name(), strings.Replace(from, pulled.Names[0], "localhost/again:1", 1))
	for _, r := range reg.Requests() {
		if strings.HasPrefix(r, "GET ") && strings.Contains(r, "/blobs/") && !strings.Contains(r, pulled.ID) {
			t.Errorf("skopeo asked for a layer that is there: %s", r)
		}
	}
}
