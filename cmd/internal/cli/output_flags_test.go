package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/builder"
	"cooper/builder/output"
)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
)

func TestParseOutput(t *testing.T) {
	nine := 9
	for _, c := range []struct {
		value string
		want  output.Output
		fail  string
	}{
		{value: "dist", want: output.Output{Type: output.Local, Dest: "dist"}},
		{value: "-", want: output.Output{Type: output.Tar, Dest: "-"}},
		{value: "type=local,dest=dist", want: output.Output{Type: output.Local, Dest: "dist"}},
		{value: "type=tar", want: output.Output{Type: output.Tar, Dest: "-"}},
		{value: "type=oci", want: output.Output{Type: output.OCI, Dest: "-"}},
		{value: "type=oci,tar=false,dest=d", want: output.Output{Type: output.OCI, Dest: "d", Dir: true}},
		{value: "type=docker", want: output.Output{Type: output.Image}},
		{value: "type=docker,dest=-", want: output.Output{Type: output.Docker, Dest: "-"}},
		{value: `type=image,"name=a:1,b:2",push=true`, want: output.Output{Type: output.Image, Names: []string{"a:1", "b:2"}, Push: true}},
		{value: "type=registry,oci-mediatypes=false,unpack=true", want: output.Output{Type: output.Image, Push: true, Format: "docker"}},
		{value: "TYPE=oci,Dest=x,compression=zstd,compression-level=9,force-compression=1", want: output.Output{Type: output.OCI, Dest: "x", Compression: "zstd", CompressionLevel: &nine, ForceCompression: true}},
		{value: "type=image,annotation.org.Name=V,annotation-manifest[linux/arm64].no=x,annotation-manifest.b=c=d", want: output.Output{Type: output.Image, Annotations: []output.Annotation{
			{Name: "org.Name", Value: "V"}, {Level: output.OnManifest, Platform: &arm64, Name: "no", Value: "x"}, {Level: output.OnManifest, Name: "b", Value: "c=d"},
		}}},
		{value: "type=oci,annotation-index.a=b,annotation-index-descriptor.c=d", want: output.Output{Type: output.OCI, Dest: "-", Annotations: []output.Annotation{
			{Level: output.OnIndex, Name: "a", Value: "b"}, {Level: output.OnIndexDescriptor, Name: "c", Value: "d"},
		}}},
		{value: "type=local,dest=d,platform-split=false", want: output.Output{Type: output.Local, Dest: "d", PlatformSplit: new(bool)}},
		{value: "type=registry,name=host/app,push-by-digest=true,name-canonical=true,rewrite-timestamp=true", want: output.Output{
			Type: output.Image, Names: []string{"host/app"}, Push: true, ByDigest: true, RewriteTimestamp: true,
		}},
		{value: "type=registry,name=host:5000/app:1,push-by-digest=true", fail: "can't push tagged ref host:5000/app:1 by digest"},
		{value: "dest=x,tar=true", fail: "type is required for output"},
		{value: "type=image,push", fail: "invalid value push: want KEY=VALUE"},
		{value: "type=image,push=maybe", fail: `invalid value "maybe" for push`},
		{value: "type=image,annotation-level.a=b", fail: `unknown annotation type "level"`},
		{value: "type=oci,compression=lha", fail: `unsupported compression "lha"`},
		{value: "type=oci,compression-level=12", fail: "gzip has 0 to 9"},
		{value: "type=oci,registry.insecure=true", fail: "not supported yet"},
		{value: "type=oci,nmae=x", fail: `unknown key "nmae"`},
	} {
		got, err := parseOutput(c.value)
		if !failsWith(err, c.fail) {
			t.Errorf("parseOutput(%q): %v, want %q", c.value, err, c.fail)
		}
		if diff := cmp.Diff(c.want, got); c.fail == "" && diff != "" {
			t.Errorf("parseOutput(%q) (-want +got):\n%s", c.value, diff)
		}
	}
}

func TestPushLoad(t *testing.T) {
	local := output.Output{Type: output.Local, Dest: "d"}
	for _, c := range []struct {
		push, load bool
		outputs    []output.Output
		want       []output.Output
	}{
		{},
		{push: true, want: []output.Output{{Type: output.Image, Push: true}}},
		{load: true, outputs: []output.Output{local}, want: []output.Output{local, {Type: output.Image}}},
		{push: true, load: true, want: []output.Output{{Type: output.Image, Push: true}}},
		{push: true, outputs: []output.Output{{Type: output.Image, Names: []string{"x"}}}, want: []output.Output{{Type: output.Image, Names: []string{"x"}, Push: true}}},
	} {
		f := outputFlags{push: c.push, load: c.load}
		if diff := cmp.Diff(c.want, f.pushLoad(c.outputs)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c, diff)
		}
	}
}

func TestParseAnnotations(t *testing.T) {
	got, err := parseAnnotations([]string{"a=b=c", "manifest:d=e", "manifest[linux/amd64]:f=g", "index,manifest[linux/arm64]:h=i"})
	if err != nil {
		t.Fatal(err)
	}
	want := []output.Annotation{
		{Name: "a", Value: "b=c"}, {Level: output.OnManifest, Name: "d", Value: "e"}, {Level: output.OnManifest, Platform: &amd64, Name: "f", Value: "g"},
		{Level: output.OnIndex, Name: "h", Value: "i"}, {Level: output.OnManifest, Platform: &arm64, Name: "h", Value: "i"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for value, want := range map[string]string{
		"a": "expected key=value", "manifest[1/2/3/4]:a=b": `platform "1/2/3/4"`,
		"indx:a=b": `unknown annotation type "indx"`,
	} {
		if _, err := parseAnnotations([]string{value}); !failsWith(err, want) {
			t.Errorf("%q: %v, want %q", value, err, want)
		}
	}
}

func TestParseSecret(t *testing.T) {
	for _, c := range []struct {
		value string
		id    string
		want  builder.Secret
		fail  string
	}{
		{value: "id=a,src=f", id: "a", want: builder.Secret{File: "f"}},
		{value: "id=a,source=f,type=file", id: "a", want: builder.Secret{File: "f"}},
		{value: "id=a,env=E", id: "a", want: builder.Secret{Env: "E"}},
		{value: "type=env,id=a,src=E", id: "a", want: builder.Secret{Env: "E"}},
		{value: `"src=a,b",id=c`, id: "c", want: builder.Secret{File: "a,b"}},
		{value: "id=a", id: "a"},
		{value: "id=a,src=f,env=E", fail: "exclude each other"},
		{value: "src=f", fail: "secret missing ID"},
		{value: "id=a,type=vault", fail: `unsupported secret type "vault"`},
		{value: "mine", fail: "invalid field 'mine' must be a key=value pair"},
	} {
		id, got, err := parseSecret(c.value)
		if !failsWith(err, c.fail) || c.fail == "" && (id != c.id || got != c.want) {
			t.Errorf("parseSecret(%q) = %q, %+v, %v; want %q, %+v, %q", c.value, id, got, err, c.id, c.want, c.fail)
		}
	}
}

func TestParseSSH(t *testing.T) {
	agent := func(name string) (string, bool) { return "/agent", name == "SSH_AUTH_SOCK" }
	got, err := parseSSH([]string{"default", "other=key1,key2"}, agent)
	if err != nil {
		t.Fatal(err)
	}
	want := []sshID{{"default", []string{"/agent"}}, {"other", []string{"key1", "key2"}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sshID{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := parseSSH([]string{"default", "default=x"}, agent); !failsWith(err, "invalid duplicate ID default") {
		t.Errorf("twice: %v", err)
	}
}

func TestAskedName(t *testing.T) {
	names := []string{"localhost/app:1", "docker.io/library/db:latest"}
	for asked, want := range map[string]string{
		"app:1": names[0], "localhost/app:1": names[0], "db": names[1], "library/db": names[1], "app": "", "0123456789ab": "", "pp:1": "",
	} {
		if got := askedName(names, asked); got != want {
			t.Errorf("askedName(%q) = %q, want %q", asked, got, want)
		}
	}
}
