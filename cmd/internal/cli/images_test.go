package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/layers"
)

var (
	testNow    = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	testDigest = digest.FromString("manifest")
)

// testImages are one image with two names and one without any.
func testImages() []layers.Image {
	app := layers.Image{
		ID:    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		Names: []string{"localhost/app:latest", "registry.example.com:5000/team/app:1.2"}, Digest: testDigest,
		Created: testNow.Add(-3 * 24 * time.Hour), Size: 187_300_000,
	}
	app.Config.Config.Labels = map[string]string{"a": "b"}
	return []layers.Image{app, {
		ID:      "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
		Created: testNow.Add(-70 * time.Second), Size: 1234,
	}}
}

func TestImagesTable(t *testing.T) {
	columns := []column{{"Repository", "REPOSITORY"}, {"Tag", "TAG"}, {"ID", "IMAGE ID"}, {"CreatedSince", "CREATED"}, {"Size", "SIZE"}}
	for _, c := range []struct {
		name, format string
		filters      []string
		want         string
	}{
		{"table", "", nil, `
REPOSITORY                           TAG       IMAGE ID       CREATED              SIZE
localhost/app                        latest    0123456789ab   3 days ago           187MB
registry.example.com:5000/team/app   1.2       0123456789ab   3 days ago           187MB
<none>                               <none>    fedcba987654   About a minute ago   1.23kB
`},
		{"no images", "", []string{"reference=nothing"}, `
REPOSITORY   TAG       IMAGE ID   CREATED   SIZE
`},
		{"template", `{{.Repository}}\t{{.Size}}`, nil, "\nlocalhost/app\t187MB\nregistry.example.com:5000/team/app\t187MB\n<none>\t1.23kB\n"},
		{"table template", `table {{.ID}}\t{{.Digest}}`, []string{"dangling=true"}, `
IMAGE ID       DIGEST
fedcba987654   <none>
`},
		{"json", `{{json .Tag}}`, []string{"reference=team/*"}, "\n\"1.2\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			filters, err := parseImageFilters(c.filters)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			out.WriteByte('\n')
			rows := imageRows(testImages(), filters, false, testNow)
			if err := printRows(&out, c.format, columns, rows); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
		})
	}
}

func TestImageFilters(t *testing.T) {
	for _, c := range []struct {
		filters []string
		want    []string // names
	}{
		{nil, []string{"localhost/app:latest", "registry.example.com:5000/team/app:1.2", ""}},
		{[]string{"reference=app"}, []string{"localhost/app:latest", "registry.example.com:5000/team/app:1.2"}},
		{[]string{"reference=app:latest"}, []string{"localhost/app:latest"}},
		{[]string{"reference=ap"}, nil},
		{[]string{"reference=localhost/*", "reference=*:1.2"}, []string{"localhost/app:latest", "registry.example.com:5000/team/app:1.2"}},
		{[]string{"dangling=true"}, []string{""}},
		{[]string{"dangling=false", "reference=*:1.2"}, []string{"registry.example.com:5000/team/app:1.2"}},
		{[]string{"label=a", "reference=app:latest"}, []string{"localhost/app:latest"}},
		{[]string{"label=a=c"}, nil},
	} {
		filters, err := parseImageFilters(c.filters)
		if err != nil {
			t.Errorf("parseImageFilters(%q): %v", c.filters, err)
			continue
		}
		var got []string
		for _, row := range imageRows(testImages(), filters, false, testNow) {
			name := row["Repository"] + ":" + row["Tag"]
			if row["Repository"] == none {
				name = ""
			}
			got = append(got, name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("filters %q (-want +got):\n%s", c.filters, diff)
		}
	}
	for _, bad := range []string{"reference", "dangling=maybe", "size=1"} {
		if _, err := parseImageFilters([]string{bad}); err == nil {
			t.Errorf("parseImageFilters(%q) succeeds", bad)
		}
	}
}

func TestSplitName(t *testing.T) {
	for name, want := range map[string][3]string{
		"localhost/app:latest":      {"localhost/app", "latest", ""},
		"localhost:5000/app":        {"localhost:5000/app", "", ""},
		"localhost:5000/app@sha1:x": {"localhost:5000/app", "", "sha1:x"},
		"a:1@sha256:y":              {"a", "1", "sha256:y"},
		"":                          {},
	} {
		repository, tag, digest := splitName(name)
		if got := [3]string{repository, tag, digest}; got != want {
			t.Errorf("splitName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestInspect(t *testing.T) {
	image := testImages()[0]
	image.Config = dockerspec.DockerOCIImage{}
	image.Config.Architecture, image.Config.OS = "amd64", "linux"
	image.Config.Config.Cmd = []string{"nginx", "-g", "daemon off;"}
	image.Config.Config.Env = []string{"A=<1>"}
	image.Config.RootFS.DiffIDs = []digest.Digest{"sha256:aa"}
	image.Config.History = []ocispec.History{{Comment: "buildkit.dockerfile.v0"}}
	tree, err := toTree(describeImage(image, "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{
		"{{.Id}}":                       "sha256:" + image.ID,
		"{{.Config.Cmd}}":               "[nginx -g daemon off;]",
		"{{json .Config.Env}}":          `["A=<1>"]`,
		"{{index .RepoTags 1}}":         "registry.example.com:5000/team/app:1.2",
		"{{index .RepoDigests 0}}":      "localhost/app@" + testDigest.String(),
		"{{.Architecture}}/{{.Os}}":     "amd64/linux",
		"{{.Size}}":                     "187300000",
		"{{join .RootFS.Layers \",\"}}": "sha256:aa",
		"{{.Comment}}":                  "buildkit.dockerfile.v0",
		"{{.Created}}":                  "2026-05-01T12:00:00Z",
		"{{.GraphDriver.Name}}":         "overlay",
	} {
		tmpl, err := parseTemplate(format)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := tmpl.Execute(&out, tree); err != nil {
			t.Errorf("%s: %v", format, err)
		} else if out.String() != want {
			t.Errorf("%s = %q, want %q", format, out.String(), want)
		}
	}
}

func TestHistoryRows(t *testing.T) {
	image := testImages()[0]
	created := testNow.Add(-time.Hour)
	image.Config.History = []ocispec.History{
		{Created: &created, CreatedBy: "ADD rootfs.tar /"},
		{Created: &created, CreatedBy: "ENV A=1", EmptyLayer: true, Comment: "c"},
		{CreatedBy: "RUN /bin/sh -c set -e;\n   do something that takes long to say"},
	}
	got := historyRows(image, []layers.Layer{{Size: 100}, {Size: 2000}}, false, testNow)
	var out bytes.Buffer
	out.WriteByte('\n')
	err := printTable(&out, []column{{"ID", "IMAGE"}, {"CreatedSince", "CREATED"}, {"CreatedBy", "CREATED BY"}, {"Size", "SIZE"}, {"Comment", "COMMENT"}}, got)
	want := `
IMAGE          CREATED             CREATED BY                                      SIZE      COMMENT
0123456789ab   N/A                 RUN /bin/sh -c set -e; do something that tak…   2kB       
<missing>      About an hour ago   ENV A=1                                         0B        c
<missing>      About an hour ago   ADD rootfs.tar /                                100B      
`
	if diff := cmp.Diff(want, out.String()); diff != "" || err != nil {
		t.Errorf("history: %v (-want +got):\n%s", err, diff)
	}
}
