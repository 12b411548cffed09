package builder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHostileMounts: whatever a Dockerfile and its stages say, mounts show what
// is in the context, the stage or the cache, and nothing of the host.
func TestHostileMounts(t *testing.T) {
	bn := newBench(t)
	host := filepath.Join(t.TempDir(), "host")
	if err := os.WriteFile(host, []byte("the host's"), 0o644); err != nil {
		t.Fatal(err)
	}
	bn.write("file", "the context's")
	links := map[string]string{"absolute": host, "up": "../../../../../../../../.." + host, "loop": "loop"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(bn.context, name)); err != nil {
			t.Fatal(err)
		}
	}
	const stage = "FROM localhost/base AS evil\nRUN ln -s / /root && ln -s ../../../../../.. /up && ln -s /etc /etc2 && mkdir /real\nFROM localhost/base\n"
	for _, c := range []struct{ name, step, want string }{
		{"link in the context", "RUN --mount=source=absolute,target=/m cat /m", "not found"},
		{"link up from the context", "RUN --mount=source=up,target=/m cat /m", "not found"},
		{"link to itself", "RUN --mount=source=loop,target=/m cat /m", "too many levels"},
		{"up from the context", "RUN --mount=source=../../../file,target=/m grep -q context /m", ""},
		{"root of a stage", "RUN --mount=from=evil,source=/root,target=/m test -d /m/real", ""},
		{"up from a stage", "RUN --mount=from=evil,source=/up/up,target=/m test -d /m/real", ""},
		{"file through a link of a stage", "RUN --mount=from=evil,source=/etc2" + host + ",target=/m cat /m", "not found"},
		{"cache named like a path", "RUN --mount=type=cache,id=../../../../../" + t.Name() + ",target=/m touch /m/x && ls /m", ""},
		{"part of a cache that is a link", "RUN --mount=type=cache,id=parts,target=/c ln -s / /c/root; ln -s ../../../../../.. /c/up; ln -s " + host + " /c/host; mkdir -p /c/etc/mine; true\n" +
			"RUN --mount=type=cache,id=parts,source=root,target=/m test -d /m/etc/mine\n" +
			"RUN --mount=type=cache,id=parts,source=up/etc,target=/m test -d /m/mine\n" +
			"RUN --mount=type=cache,id=parts,source=../../etc,target=/m test -d /m/mine", ""},
		{"part of a cache that is a file of the host", "RUN --mount=type=cache,id=parts,source=host,target=/m cat /m", "no such file"},
		{"target through a link", "RUN mkdir /in && ln -s /in /l && ln -s ../../../../.. /o\nRUN --mount=source=file,target=/l/f cat /in/f && ls /in/f\nRUN --mount=source=file,target=/o/f cat /f", ""},
		{"endless accounts", "RUN truncate -s 17M /etc/passwd /etc/group\nUSER nobody\nRUN true", "file too large"},
		{"endless accounts for COPY", "RUN truncate -s 17M /etc/group\nCOPY --chown=0:staff file /", "file too large"},
		{"accounts that never come", "RUN rm /etc/passwd && mkfifo /etc/passwd\nCOPY --chown=nobody file /", "not a regular file"},
		{"secret through a link", "RUN ln -s / /l\nRUN --mount=type=secret,id=s,target=/l/in/s cat /in/s", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := bn.build(stage+c.step+"\n", func(o *Options) { o.Secrets = map[string]Secret{"s": {File: host}} })
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%s: %v", c.step, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%s: error %v, want %q", c.step, err, c.want)
			}
		})
	}
	if left, _ := filepath.Glob("/" + t.Name() + "*"); len(left) > 0 {
		t.Errorf("a cache was made at %v", left)
	}
}

// TestCachePartRace mounts a part of a shared cache while another stage makes it
// a link to where the host has a directory, and back.
func TestCachePartRace(t *testing.T) {
	bn := newBench(t)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "secret"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(host, 0o777); err != nil {
		t.Fatal(err)
	}
	// The link is always there and always leads somewhere in the cache.
	var text strings.Builder
	text.WriteString("FROM localhost/base AS one\n" +
		"RUN --mount=type=cache,id=part,target=/c mkdir -p /c/real /c" + host + " && ln -s real /c/d\n" +
		"FROM one AS two\n" +
		"RUN --mount=type=cache,id=part,target=/c for i in $(seq 300); do ln -s " + host + " /c/n; mv -T /c/n /c/d; ln -s real /c/n; mv -T /c/n /c/d; done\n")
	copies := ""
	for i := range 10 {
		name := fmt.Sprint("p", i)
		fmt.Fprintf(&text, "FROM one AS %s\nRUN --mount=type=cache,id=part,source=d,target=/m touch /m/%[1]s && ls /m > /seen\n", name)
		copies += "COPY --from=" + name + " /seen /" + name + "\n"
	}
	bn.mustBuild(text.String() + "FROM scratch\nCOPY --from=two /etc/passwd /\n" + copies)
	left, err := os.ReadDir(host)
	if err != nil || len(left) != 1 {
		t.Errorf("the host's directory has %v, %v", left, err)
	}
}

// TestNoCacheBeginsCachesAnew: as with BuildKit, once for each build.
func TestNoCacheBeginsCachesAnew(t *testing.T) {
	bn := newBench(t)
	const step = "RUN --mount=type=cache,id=anew,target=/c echo x >> /c/x; cat /c/x > /seen\n"
	fresh := func(o *Options) { o.NoCache = true }
	for i, c := range []struct {
		text   string
		change []func(*Options)
		want   string
	}{
		{step, nil, "x\nx\n"},
		{"ENV A=1\n" + step, nil, "x\nx\nx\nx\n"},
		{step, []func(*Options){fresh}, "x\nx\n"},
		{"ENV A=2\n" + step, nil, "x\nx\nx\nx\n"},
	} {
		r := bn.mustBuild("FROM localhost/base\n"+c.text+strings.ReplaceAll(step, "/seen", "/seen2"), c.change...)
		if got := bn.read(r, "seen2"); got != c.want {
			t.Errorf("build %d: the cache has %q, want %q", i, got, c.want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(bn.b.Store.Root(), "cooper", "mounts", "*", ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestMountsRace mounts a shared cache while another stage turns directories in
// it into links to the host and back.
func TestMountsRace(t *testing.T) {
	bn := newBench(t)
	const text = "FROM localhost/base AS one\n" +
		"RUN --mount=type=cache,id=race,target=/c for i in $(seq 300); do rm -rf /c/d; ln -s / /c/d; rm /c/d; mkdir /c/d; done\n" +
		"FROM localhost/base AS two\n" +
		"RUN --mount=type=cache,id=race,target=/c --mount=type=tmpfs,target=/c/d touch /c/d/x\n" +
		"RUN --mount=type=cache,id=race,target=/c --mount=type=bind,source=f,target=/c/d/etc/h7-race true\n" +
		"FROM scratch\nCOPY --from=one /bin/sh /one\nCOPY --from=two /bin/sh /two\n"
	bn.write("f", "content")
	for range 3 {
		// Steps may fail when what they mount on is being changed.
		_, _ = bn.build(text, func(o *Options) { o.NoCache = true })
	}
	if _, err := os.Lstat("/etc/h7-race"); err == nil {
		t.Error("a mount point was made on the host")
		os.Remove("/etc/h7-race")
	}
}

// TestSecretsLeaveNoTrace looks for a secret's value in all that a build keeps.
func TestSecretsLeaveNoTrace(t *testing.T) {
	bn := newBench(t)
	secret := filepath.Join(t.TempDir(), "secret")
	const value = "correct-horse-battery-staple"
	if err := os.WriteFile(secret, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COOPER_TEST_SECRET", value)
	r := bn.mustBuild("FROM localhost/base\n"+
		"RUN --mount=type=secret,id=file,required --mount=type=secret,id=env,env=TOKEN,required test $(cat /run/secrets/file) = $TOKEN && echo used\n"+
		"RUN --mount=type=secret,id=file,target=/deep/er/s cat /deep/er/s | wc -c > /size\n",
		func(o *Options) {
			o.Secrets = map[string]Secret{"file": {File: secret}, "env": {Env: "COOPER_TEST_SECRET"}}
		})
	if got := bn.read(r, "deep/er/s"); !strings.HasPrefix(got, "error") {
		t.Errorf("the image has the secret's mount point: %q", got)
	}
	for _, e := range bn.events {
		if strings.Contains(string(e.Data)+e.Name+e.Message, value) {
			t.Errorf("an event shows the secret: %+v", e)
		}
	}
	root := bn.b.Store.Root()
	err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // unreadable is as good as absent: others have gone since
		}
		if data, err := os.ReadFile(name); err == nil && strings.Contains(string(data), value) {
			t.Errorf("%s holds the secret", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
