package layers

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
)

var arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}

// indexImage makes an image without layers for a platform, and describes it.
func indexImage(t *testing.T, s *Store, p ocispec.Platform, names ...string) IndexImage {
	t.Helper()
	img, err := s.CreateImage(context.Background(), ImageOptions{
		Names: names, Config: dockerspec.DockerOCIImage{Image: ocispec.Image{Platform: p}},
	})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := s.Documents(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	return IndexImage{Documents: docs, Platform: &p}
}

func createIndex(t *testing.T, s *Store, x Index, names ...string) (Image, error) {
	t.Helper()
	o := x.Options()
	o.Names = names
	return s.CreateIndex(t.Context(), o)
}

func TestIndex(t *testing.T) {
	s := testStore(t, "")

	amd64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	x := Index{Annotations: map[string]string{"a": "b"}, Images: []IndexImage{indexImage(t, s, amd64), indexImage(t, s, arm64)}}
	x.Images[1].Annotations = map[string]string{"c": "d"}
	img, err := createIndex(t, s, x, "app")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := createIndex(t, s, x, "other"); err != nil || again.ID != img.ID {
		t.Errorf("the same index again is %s, %v, want %s", again.ID, err, img.ID)
	}
	if img.ID != img.Digest.Encoded() || !img.IsIndex() || len(img.Manifests) != 2 {
		t.Errorf("CreateIndex = %+v", img)
	}
	got, err := s.Index("app")
	if diff := cmp.Diff(x, got); err != nil || diff != "" {
		t.Errorf("Index: %v (-want +got):\n%s", err, diff)
	}
	for platform, want := range map[string]string{
		"linux/amd64": x.Images[0].ID(), "linux/arm64": x.Images[1].ID(), "linux/arm64/v8": x.Images[1].ID(), "linux/s390x": "",
	} {
		if one, err := s.ImageFor("app", platforms.MustParse(platform)); one.ID != want || (want == "") != errors.Is(err, ErrNotFound) {
			t.Errorf("ImageFor(%s) = %s, %v, want %q", platform, one.ID, err, want)
		}
	}
	all, err := s.Images()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Listed == i.IsIndex() {
			t.Errorf("image %s: listed %v, index %v", i.ID, i.Listed, i.IsIndex())
		}
	}
}

// TestIndexAsPodman checks the documents by which podman finds the images.
func TestIndexAsPodman(t *testing.T) {
	s := testStore(t, "")
	x := Index{Images: []IndexImage{indexImage(t, s, arm64)}, DockerFormat: true}
	img, err := createIndex(t, s, x)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.Containers().ImageBigData(img.ID, storage.ImageDigestBigDataKey)
	if err != nil {
		t.Fatal(err)
	}
	var doc ocispec.Index
	if err := json.Unmarshal(raw, &doc); err != nil || doc.MediaType != dockerListType {
		t.Errorf("the index is %s, %v", raw, err)
	}
	var where map[digest.Digest]string
	raw, err = s.Containers().ImageBigData(img.ID, "instances.json")
	if err == nil {
		err = json.Unmarshal(raw, &where)
	}
	want := map[digest.Digest]string{
		doc.Manifests[0].Digest: "containers-storage:[" + s.DriverName() + "@" + s.Root() + "+" + s.RunRoot() + "]@" + x.Images[0].ID(),
	}
	if diff := cmp.Diff(want, where); err != nil || diff != "" {
		t.Errorf("instances: %v (-want +got):\n%s", err, diff)
	}
}

func TestEditIndex(t *testing.T) {
	s := testStore(t, "")

	one, two := indexImage(t, s, arm64), indexImage(t, s, ocispec.Platform{OS: "linux", Architecture: "s390x"})
	img, err := createIndex(t, s, Index{Images: []IndexImage{one}}, "app")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := s.EditIndex("app", func(o *IndexOptions) error {
		o.Manifests = append([]ocispec.Descriptor{two.Descriptor()}, o.Manifests...)
		return nil
	})
	if err != nil || changed.ID != img.ID || len(changed.Manifests) != 2 || !slices.Equal(changed.Names, img.Names) {
		t.Errorf("EditIndex = %+v, %v", changed, err)
	}
	// What the ID stands for has changed: the first one is another now.
	fresh, err := createIndex(t, s, Index{Images: []IndexImage{one}}, "fresh")
	if err != nil || fresh.ID == img.ID || len(fresh.Manifests) != 1 {
		t.Errorf("CreateIndex = %+v, %v", fresh, err)
	}
	one.Manifest = []byte("{}")
	if _, err := createIndex(t, s, Index{Images: []IndexImage{one}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an index of what is not there: %v, want ErrNotFound", err)
	}
}

func TestRemoveIndex(t *testing.T) {
	s := testStore(t, "")

	shared, named, own := indexImage(t, s, arm64), indexImage(t, s, ocispec.Platform{OS: "linux", Architecture: "amd64"}, "named"), indexImage(t, s, ocispec.Platform{OS: "linux", Architecture: "s390x"})
	if _, err := createIndex(t, s, Index{Images: []IndexImage{shared}}, "other"); err != nil {
		t.Fatal(err)
	}
	img, err := createIndex(t, s, Index{Images: []IndexImage{shared, named, own}}, "app")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.RemoveImage(own.ID(), false); !errors.Is(err, ErrInUse) {
		t.Errorf("removing an image of an index: %v, want ErrInUse", err)
	}
	_, deleted, err := s.RemoveImage("app", false)
	if diff := cmp.Diff([]string{img.ID, own.ID()}, deleted); err != nil || diff != "" {
		t.Errorf("RemoveImage: %v (-want +got):\n%s", err, diff)
	}
	if untagged, deleted, err := s.RemoveImage("named", false); err != nil || len(untagged) != 1 || len(deleted) != 1 {
		t.Errorf("RemoveImage(named) = %v, %v, %v", untagged, deleted, err)
	}
	if _, err := s.ImageFor("other", arm64); err != nil {
		t.Errorf("the image that another index lists: %v", err)
	}
}

// TestListedTwice: two indexes may list the same image by different manifests.
func TestListedTwice(t *testing.T) {
	s := testStore(t, "")
	var made []Image
	for _, note := range []string{"one", "two"} {
		o := ImageOptions{Config: dockerspec.DockerOCIImage{Image: ocispec.Image{Platform: arm64}}, Annotations: map[string]string{"note": note}}
		if _, err := s.CreateImage(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		docs, err := s.Describe(o)
		if err != nil {
			t.Fatal(err)
		}
		img, err := createIndex(t, s, Index{Images: []IndexImage{{Documents: docs, Platform: &arm64}}}, note)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, img)
	}
	if made[0].ID == made[1].ID {
		t.Fatal("the indexes are the same")
	}
	all, err := s.Images()
	if err != nil || len(all) != 3 {
		t.Fatalf("Images = %+v, %v", all, err)
	}
	for _, img := range all {
		if img.Listed == img.IsIndex() {
			t.Errorf("image %s: listed %v, index %v", img.ID, img.Listed, img.IsIndex())
		}
	}
	if _, deleted, err := s.RemoveImage("one", false); err != nil || len(deleted) != 1 {
		t.Errorf("RemoveImage = %v, %v, want the index alone", deleted, err)
	}
	x, err := s.Index("two")
	if err != nil || x.Images[0].Documents.Annotations["note"] != "two" {
		t.Errorf("Index = %+v, %v", x, err)
	}
}

// TestAddToIndex: adding makes the index, and replaces what is for a platform.
func TestAddToIndex(t *testing.T) {
	s := testStore(t, "")
	s390x := ocispec.Platform{OS: "linux", Architecture: "s390x"}
	old, other, fresh := indexImage(t, s, arm64), indexImage(t, s, s390x), IndexImage{}
	img, err := s.CreateImage(t.Context(), ImageOptions{Config: dockerspec.DockerOCIImage{Image: ocispec.Image{Platform: arm64, Author: "new"}}})
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Documents, err = s.Documents(img.ID); err != nil {
		t.Fatal(err)
	}
	fresh.Platform = &arm64
	for _, add := range []IndexImage{old, other, fresh} {
		if _, err := s.AddToIndex(t.Context(), "list", add.Descriptor()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.IndexOptions("list")
	want := []ocispec.Descriptor{fresh.Descriptor(), other.Descriptor()}
	if diff := cmp.Diff(want, got.Manifests); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := s.Tag(img.ID, "image"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddToIndex(t.Context(), "image", old.Descriptor()); err == nil {
		t.Error("an image was added to an image")
	}
}
