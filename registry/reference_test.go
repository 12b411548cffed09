package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	sha   = "sha256:" + hex64
)

func TestParseReference(t *testing.T) {
	type want struct {
		transport                    Transport
		name, path, digest, registry string
		short                        bool
		text                         string
	}
	for _, tt := range []struct {
		in   string
		want want
	}{
		{"alpine", want{Docker, "docker.io/library/alpine:latest", "", "", "docker.io", true, "alpine:latest"}},
		{"alpine:3.20", want{Docker, "docker.io/library/alpine:3.20", "", "", "docker.io", true, "alpine:3.20"}},
		{"team/app", want{Docker, "docker.io/team/app:latest", "", "", "docker.io", true, "team/app:latest"}},
		{"docker.io/alpine", want{Docker, "docker.io/library/alpine:latest", "", "", "docker.io", false, "docker.io/library/alpine:latest"}},
		{"localhost/app", want{Docker, "localhost/app:latest", "", "", "localhost", false, "localhost/app:latest"}},
		{"localhost:5000/x@" + sha, want{Docker, "localhost:5000/x@" + sha, "", sha, "localhost:5000", false, "localhost:5000/x@" + sha}},
		{"alpine:3@" + sha, want{Docker, "docker.io/library/alpine@" + sha, "", sha, "docker.io", true, "alpine@" + sha}},
		{"docker://dir", want{Docker, "docker.io/library/dir:latest", "", "", "docker.io", true, "docker://dir:latest"}},
		{"docker://quay.io/a/b", want{Docker, "quay.io/a/b:latest", "", "", "quay.io", false, "quay.io/a/b:latest"}},
		{"docker-image://alpine", want{Docker, "docker.io/library/alpine:latest", "", "", "docker.io", true, "alpine:latest"}},
		{"oci-layout://dir", want{OCI, "", "dir", "", "", false, "oci-layout://dir"}},
		{"oci-layout:///abs/dir:v1", want{OCI, "", "/abs/dir", "", "", false, "oci:/abs/dir:v1"}},
		{"oci-layout://../dir@" + sha, want{OCI, "", "../dir", sha, "", false, "oci-layout://../dir@" + sha}},
		{"oci-layout://me@home/dir:v1@" + sha, want{OCI, "", "me@home/dir", sha, "", false, "oci-layout://me@home/dir@" + sha}},
		{"oci:dir", want{OCI, "", "dir", "", "", false, "oci:dir"}},
		{"oci:./dir:example.com/app:1", want{OCI, "", "./dir", "", "", false, "oci:./dir:example.com/app:1"}},
		{"oci-archive:a.tar:v1", want{OCIArchive, "", "a.tar", "", "", false, "oci-archive:a.tar:v1"}},
		{"docker-archive:/a.tar", want{DockerArchive, "", "/a.tar", "", "", false, "docker-archive:/a.tar"}},
		{"docker-archive:a.tar:app", want{DockerArchive, "docker.io/library/app:latest", "a.tar", "", "", false, "docker-archive:a.tar:docker.io/library/app:latest"}},
		{"dir:some/dir", want{Dir, "", "some/dir", "", "", false, "dir:some/dir"}},
		{"containers-storage:" + hex64, want{ContainersStorage, hex64, "", "", "", false, "containers-storage:" + hex64}},
	} {
		ref, err := ParseReference(tt.in)
		if err != nil {
			t.Errorf("ParseReference(%q): %v", tt.in, err)
			continue
		}
		got := want{ref.Transport(), ref.Name(), ref.Path(), ref.Digest().String(), ref.Registry(), ref.Short(), ref.String()}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(want{})); diff != "" {
			t.Errorf("ParseReference(%q) (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestParseReferenceErrors(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "it is empty"},
		{"scratch", "the empty base"},
		{"Alpine", `try "alpine"`},
		{"quay.io/Team/App:V1", `try "quay.io/team/app:V1"`},
		{hex64, "containers-storage:ID"},
		{"https://quay.io/x", "without http:// or https://"},
		{"https://me:hunter2@quay.io/x", "without http:// or https://"},
		{"ftp://x/y", `unknown transport "ftp"`},
		{"alpine:", "want [REGISTRY/]NAME"},
		{"alpine@sha256:123", "want [REGISTRY/]NAME"},
		{"a b", "want [REGISTRY/]NAME"},
		{"docker://", "it is empty"},
		{"oci-layout://", "the path is missing"},
		{"oci-layout://:v1", "the path is missing"},
		{"oci-layout://dir@sha256:12", "invalid checksum digest length"},
		{"docker-archive:a.tar:", "it is empty"},
		{"docker-archive:a.tar:x@" + sha, "tags, not digests"},
		{"containers-storage:", "name is missing"},
		{"containers-storage:[overlay@/x]y", "--root"},
	} {
		ref, err := ParseReference(tt.in)
		if err == nil {
			t.Errorf("ParseReference(%q) = %v, want an error", tt.in, ref)
		} else if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseReference(%q): %v; want it to say %q", tt.in, err, tt.want)
		}
	}
}

func TestShortName(t *testing.T) {
	for in, want := range map[string]string{
		"app":                        "app:latest",
		"docker.io/library/app:1":    "app:1",
		"docker.io/team/app":         "team/app:latest",
		"quay.io/app":                "",
		"oci:app":                    "",
		"app@" + sha:                 "app@" + sha,
		"docker.io/localhost/app":    "",
		"docker.io/library/team/app": "library/team/app:latest",
	} {
		got, ok := mustParse(t, in).ShortName()
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s: ShortName() = %q, %v, want %q", in, got, ok, want)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"alpine", "a/b:c", "localhost:5000/x@" + sha, "docker://x", "oci-layout://d:t@" + sha,
		"oci:d:t", "docker-archive:f:r", "dir:d", "containers-storage:x", "oci-archive:f", "A/b", "docker.io/library/a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			if ref != (Reference{}) {
				t.Errorf("ParseReference(%q) = %#v with error %v", s, ref, err)
			}
			return
		}
		again, err := ParseReference(ref.String())
		if err != nil {
			t.Fatalf("ParseReference(%q).String() = %q: %v", s, ref, err)
		}
		if again != ref {
			t.Errorf("ParseReference(%q) = %#v, its String() %q reads back as %#v", s, ref, ref, again)
		}
	})
}
