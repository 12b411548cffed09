package registry

import (
	"bytes"
	"slices"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
	"cooper/registry/registrytest"
)

// storedIndex returns a client with an index of two images in its store, named
// localhost/app:1, and the platforms.
func storedIndex(t *testing.T) (*Client, layers.Index, []ocispec.Platform) {
	t.Helper()
	reg := registrytest.New(t)
	both := []ocispec.Platform{{OS: "linux", Architecture: "s390x"}, {OS: "linux", Architecture: "riscv64"}}
	s390x, riscv := hello(), hello()
	s390x.Config.Platform, riscv.Config.Platform = both[0], both[1]
	riscv.Layers = append(riscv.Layers, registrytest.Layer{"only": "riscv"})
	reg.PutIndex("app:1", s390x, riscv)
	c := newClient(t)
	x := layers.Index{Annotations: map[string]string{"made": "here"}}
	for _, p := range both {
		image, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/app:1"), PullOptions{Platform: p})
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.Store.Descriptor(image.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Store.CreateIndex(t.Context(), layers.IndexOptions{Manifests: []ocispec.Descriptor{d}, Names: []string{"localhost/part:" + p.Architecture}}); err != nil {
			t.Fatal(err)
		}
		part, err := c.Store.Index("part:" + p.Architecture)
		if err != nil {
			t.Fatal(err)
		}
		x.Images = append(x.Images, part.Images...)
	}
	x.Images[1].Annotations = map[string]string{"entry": "second"}
	return c, x, both
}

// checkIndex compares an index as it has come to the store of c with x. The
// digests differ: what was sent is compressed.
func checkIndex(t *testing.T, c *Client, name string, x layers.Index) {
	t.Helper()
	got, err := c.Store.Index(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(x.Annotations, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if len(got.Images) != len(x.Images) {
		t.Fatalf("%d images, want %d", len(got.Images), len(x.Images))
	}
	for i, image := range got.Images {
		want := x.Images[i]
		if image.ID() != want.ID() || !cmp.Equal(image.Platform, want.Platform) || !cmp.Equal(image.Annotations, want.Annotations) {
			t.Errorf("image %d: %s %v %v, want %s %v %v", i, image.ID(), image.Platform, image.Annotations, want.ID(), want.Platform, want.Annotations)
		}
	}
}

// TestIndexArchive: what WriteArchive writes of an index, Load reads.
func TestIndexArchive(t *testing.T) {
	c, x, both := storedIndex(t)
	for _, o := range []ArchiveOptions{{}, {Docker: true, Compression: Uncompressed}} {
		var archive bytes.Buffer
		descs, err := c.WriteArchive(t.Context(), &archive, []ArchiveImage{{Index: &x, Names: []string{"localhost/app:1"}, Annotations: map[string]string{"outer": "yes"}}}, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(descs) != 1 || descs[0].MediaType != ocispec.MediaTypeImageIndex {
			t.Errorf("WriteArchive = %+v", descs)
		}
		other := newClient(t)
		images, err := other.Load(t.Context(), bytes.NewReader(archive.Bytes()), ocispec.Platform{})
		if err != nil || len(images) != 1 || !slices.Equal(images[0].Names, []string{"localhost/app:1"}) {
			t.Fatalf("Load = %+v, %v", images, err)
		}
		if images[0].Digest != descs[0].Digest {
			t.Errorf("Load gives the index %s, want %s", images[0].Digest, descs[0].Digest)
		}
		checkIndex(t, other, "app:1", x)
		one := newClient(t)
		images, err = one.Load(t.Context(), bytes.NewReader(archive.Bytes()), both[1])
		if err != nil || len(images) != 1 || images[0].ID != x.Images[1].ID() {
			t.Errorf("Load for %s = %+v, %v, want the image %s", platforms.Format(both[1]), images, err, x.Images[1].ID())
		}
	}
}

// TestPushIndex: an index goes to a registry with its images, by tag or by digest.
func TestPushIndex(t *testing.T) {
	c, x, both := storedIndex(t)
	reg := registrytest.New(t)
	for _, o := range []PushOptions{{}, {Compression: Uncompressed}, {ByDigest: true}, {Format: FormatDocker}} {
		desc, err := c.PushIndex(t.Context(), x, mustParse(t, reg.Host()+"/x:1"), o)
		if err != nil {
			t.Fatalf("PushIndex %+v: %v", o, err)
		}
		name := reg.Host() + "/x@" + desc.Digest.String()
		got, err := newClient(t).Platforms(t.Context(), mustParse(t, name))
		if diff := cmp.Diff(both, got); err != nil || diff != "" {
			t.Errorf("Platforms of %+v: %v (-want +got):\n%s", o, err, diff)
		}
		for i, p := range both {
			image, err := newClient(t).Pull(t.Context(), mustParse(t, name), PullOptions{Platform: p})
			if err != nil || o.Format == FormatAsStored && image.ID != x.Images[i].ID() {
				t.Errorf("Pull of %s = %s, %v, want %s", platforms.Format(p), image.ID, err, x.Images[i].ID())
			}
		}
	}
	if _, err := c.PushIndex(t.Context(), x, mustParse(t, "docker-archive:"+t.TempDir()+"/a.tar"), PushOptions{}); err == nil {
		t.Error("an index was pushed to a docker archive")
	}
}

// TestPushByDigest: no tag is made.
func TestPushByDigest(t *testing.T) {
	c, image, _ := stored(t)
	reg := registrytest.New(t)
	desc, err := c.Push(t.Context(), image.ID, mustParse(t, reg.Host()+"/x:1"), PushOptions{ByDigest: true})
	if err != nil || desc.Digest.Algorithm() != digest.SHA256 {
		t.Fatalf("Push = %+v, %v", desc, err)
	}
	if _, err := c.Digest(t.Context(), mustParse(t, reg.Host()+"/x:1")); err == nil {
		t.Error("the tag is there")
	}
	if _, err := c.Pull(t.Context(), mustParse(t, reg.Host()+"/x@"+desc.Digest.String()), PullOptions{}); err != nil {
		t.Error(err)
	}
}

// TestPullUnnamed: another image may keep the name.
func TestPullUnnamed(t *testing.T) {
	reg := registrytest.New(t)
	reg.Put("app:1", hello())
	c := newClient(t)
	ref := mustParse(t, reg.Host()+"/app:1")
	image, err := c.Pull(t.Context(), ref, PullOptions{Unnamed: true})
	if err != nil || len(image.Names) > 0 {
		t.Errorf("Pull = %+v, %v, want an image without a name", image, err)
	}
	raw, err := c.Manifest(t.Context(), ref)
	if err != nil || digest.FromBytes(raw) != image.Digest {
		t.Errorf("Manifest = %s, %v, want that of %s", raw, err, image.Digest)
	}
}
