package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cooper/run"
)

func TestParseVolume(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	bind := func(source, dest string, options ...string) run.ContainerMount {
		return run.ContainerMount{Type: "bind", Source: source, Destination: dest, Options: options, MakeSource: true}
	}
	with := func(m run.ContainerMount, change func(*run.ContainerMount)) run.ContainerMount {
		change(&m)
		return m
	}
	for _, c := range []struct {
		in   string
		want run.ContainerMount
		fail string
	}{
		{"/src:/dst", bind("/src", "/dst"), ""},
		{"/src:/dst:ro", bind("/src", "/dst", "ro"), ""},
		{"/src:/dst:ro,z,rslave", bind("/src", "/dst", "ro", "rslave"), ""},
		{"/src:/dst:bind,Z", bind("/src", "/dst", "bind"), ""},
		{"/src:/dst:U,O", with(bind("/src", "/dst"), func(m *run.ContainerMount) { m.Chown, m.Overlay = true, true }), ""},
		{"./src:/dst", bind(filepath.Join(cwd, "src"), "/dst"), ""},
		{"..:/dst", bind(filepath.Dir(cwd), "/dst"), ""},
		{"/vol", run.ContainerMount{Type: "volume", Destination: "/vol"}, ""},
		{"name:/dst", run.ContainerMount{Type: "volume", Name: "name", Destination: "/dst"}, ""},
		{"name:/dst:ro,nocopy", run.ContainerMount{Type: "volume", Name: "name", Destination: "/dst", Options: []string{"ro"}, NoCopy: true}, ""},
		{"-x:/dst", run.ContainerMount{}, `"-x" includes invalid characters for a local volume name`},
		{"~/src:/dst", run.ContainerMount{}, "for a directory write ./~/src"},
		{"name:/dst:rshared", run.ContainerMount{}, "not for volumes"},
		{"/src:/dst:nocopy", run.ContainerMount{}, "is for volumes"},
		{"/src:dst", run.ContainerMount{}, `"dst" is not an absolute path`},
		{"dst", run.ContainerMount{}, `"dst" is not an absolute path`},
		{"/src:/", run.ContainerMount{}, "can't be /"},
		{"/src:/dst:what", run.ContainerMount{}, `unknown option "what"`},
		{"/src:/dst:idmap", run.ContainerMount{}, "not possible here"},
		{"/src::ro", run.ContainerMount{}, "no part empty"},
		{"", run.ContainerMount{}, "no part empty"},
		{"/a:/b:ro:x", run.ContainerMount{}, "want [SOURCE:]DESTINATION"},
	} {
		got, err := parseVolume(c.in)
		checkMount(t, "parseVolume", c.in, got, err, c.want, c.fail)
	}
}

func TestParseMount(t *testing.T) {
	bind := func(options ...string) run.ContainerMount {
		return run.ContainerMount{Type: "bind", Source: "/s", Destination: "/t", Options: options}
	}
	for _, c := range []struct {
		in   string
		want run.ContainerMount
		fail string
	}{
		{"type=bind,source=/s,target=/t,readonly", bind("ro"), ""},
		{"type=bind,src=/s,dst=/t,ro=false,bind-propagation=rslave", bind("rslave"), ""},
		{"type=bind,src=/s,dst=/t,ro,rw", bind(), ""},
		{"type=BIND,src=/s,dst=/t,bind-nonrecursive,consistency=cached,relabel=shared", bind("bind"), ""},
		{"type=bind,src=/s,dst=/t,bind-recursive=disabled", bind("bind"), ""},
		{"type=bind,src=/s,dst=/t,ro,bind-recursive=writable", bind("ro", "norro"), ""},
		{"type=bind,src=/s,dst=/t,ro,bind-recursive=readonly", bind("ro", "rro"), ""},
		{"type=bind,src=/s,dst=/t,bind-create-src=true", run.ContainerMount{Type: "bind", Source: "/s", Destination: "/t", MakeSource: true}, ""},
		{"type=bind,src=/s,dst=/t,U=true", run.ContainerMount{Type: "bind", Source: "/s", Destination: "/t", Chown: true}, ""},
		{`type=bind,"source=/with,comma",target=/t`, run.ContainerMount{Type: "bind", Source: "/with,comma", Destination: "/t"}, ""},
		{"type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1770", run.ContainerMount{Type: "tmpfs", Destination: "/t", Options: []string{"size=1048576", "mode=1770"}}, ""},
		{"target=/t", run.ContainerMount{Type: "volume", Destination: "/t"}, ""},
		{
			"type=volume,source=name,target=/t,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-subpath=a/b",
			run.ContainerMount{
				Type: "volume", Name: "name", Destination: "/t", NoCopy: true, Labels: map[string]string{"a": "b"}, Driver: "local",
				DriverOptions: map[string]string{"type": "tmpfs", "device": "tmpfs"}, Subpath: "a/b",
			}, "",
		},
		{"type=image,source=app,target=/t,image-subpath=usr", run.ContainerMount{Type: "image", Source: "app", Destination: "/t", Subpath: "usr", Options: []string{"ro"}}, ""},
		{"type=bind,target=/t", run.ContainerMount{}, "needs source="},
		{"type=image,target=/t", run.ContainerMount{}, "needs source="},
		{"type=tmpfs,source=/s,target=/t", run.ContainerMount{}, "a tmpfs has no source"},
		{"type=volume,source=/s,target=/t", run.ContainerMount{}, "includes invalid characters"},
		{"type=volume,volume-driver=nfs,target=/t", run.ContainerMount{}, `volume driver "nfs" is not there`},
		{"type=glob,source=x,target=/t", run.ContainerMount{}, `type "glob" is not supported`},
		{"type=bind,source=/s", run.ContainerMount{}, "target is required"},
		{"type=bind,source=/s,target=t", run.ContainerMount{}, "not an absolute path"},
		{"type=bind,source=/s,target=/t,color=red", run.ContainerMount{}, `unknown key "color"`},
		{"type=bind,source,target=/t", run.ContainerMount{}, `invalid field "source": must be a key=value pair`},
		{"type=bind,source=/s,target=/t,readonly=maybe", run.ContainerMount{}, "invalid value for readonly: maybe"},
		{"type=bind,source=/s,target=/t,bind-propagation=up", run.ContainerMount{}, `invalid propagation "up"`},
		{"type=bind,source=/s,target=/t,bind-recursive=never", run.ContainerMount{}, `invalid value "never"`},
		{"type=bind,source=/s,target=/t,tmpfs-size=1m", run.ContainerMount{}, "cannot mix 'tmpfs-*' options with mount type 'bind'"},
		{"type=tmpfs,target=/t,volume-nocopy", run.ContainerMount{}, "cannot mix 'volume-*' options with mount type 'tmpfs'"},
		{"type=tmpfs,target=/t,U", run.ContainerMount{}, "cannot change the owner with mount type 'tmpfs'"},
		{"type=tmpfs,target=/t,tmpfs-mode=rwx", run.ContainerMount{}, "octal"},
		{"type=tmpfs,target=/t,tmpfs-size=big", run.ContainerMount{}, `invalid size "big"`},
		{"type=volume,target=/t,volume-subpath=../x", run.ContainerMount{}, "must be a relative path that stays inside"},
		{"type=volume,target=/t,volume-label=x", run.ContainerMount{}, `"x" is not KEY=VALUE`},
		{`type=bind,"source`, run.ContainerMount{}, "invalid mount"},
	} {
		got, err := parseMount(c.in)
		checkMount(t, "parseMount", c.in, got, err, c.want, c.fail)
	}
}

func TestParseTmpfs(t *testing.T) {
	got, err := parseTmpfs("/t:size=1m,exec")
	want := run.ContainerMount{Type: "tmpfs", Destination: "/t", Options: []string{"size=1m", "exec"}}
	checkMount(t, "parseTmpfs", "/t:size=1m,exec", got, err, want, "")
	_, err = parseTmpfs("t")
	checkMount(t, "parseTmpfs", "t", run.ContainerMount{}, err, run.ContainerMount{}, "not an absolute path")
}

func checkMount(t *testing.T, name, in string, got run.ContainerMount, err error, want run.ContainerMount, fail string) {
	t.Helper()
	if !failsWith(err, fail) {
		t.Errorf("%s(%q) fails with %v, want %q", name, in, err, fail)
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err == nil && diff != "" {
		t.Errorf("%s(%q) (-want +got):\n%s", name, in, diff)
	}
}
