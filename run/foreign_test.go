package run

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/platforms"
)

// Handlers as the kernel shows those that Debian's qemu-user-static registers.
const (
	qemuARM64 = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n" +
		"magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
	qemuS390x = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: F\noffset 0\n" +
		"magic 7f454c4602020100000000000000000000020016\nmask ffffffffffffff00fffffffffffffffffffeffff\n"
	byName = "enabled\ninterpreter /usr/bin/wine\nflags: F\nextension .exe\n"
)

func TestCheckPlatform(t *testing.T) {
	without := func(text, flag string) string { return strings.ReplaceAll(text, flag, "") }
	foreign := "linux/arm64"
	if runtime.GOARCH == "arm64" {
		t.Skip("the handlers are for another machine")
	}
	for _, c := range []struct {
		name, platform string
		files          map[string]string // nil = not mounted
		want           string            // "" = it can
	}{
		{"the host's", platforms.DefaultString(), nil, ""},
		{"a variant of the host's", "linux/" + runtime.GOARCH + "/v3", nil, ""},
		{"unheard of", "linux/z80", nil, ""},
		{"not mounted", foreign, nil, "is not mounted. As root, mount -t binfmt_misc"},
		{"disabled", foreign, map[string]string{"status": "disabled\n", "qemu": qemuARM64}, "are disabled. As root, echo 1 >"},
		{"none", foreign, map[string]string{"status": "enabled\n"}, "has no handler for them: install"},
		{"others", foreign, map[string]string{"status": "enabled\n", "wine": byName, "qemu-s390x": qemuS390x}, "has no handler for them: install"},
		{"there", foreign, map[string]string{"status": "enabled\n", "qemu-aarch64": qemuARM64}, ""},
		{"big endian", "linux/s390x", map[string]string{"status": "enabled\n", "qemu-aarch64": qemuARM64, "qemu-s390x": qemuS390x}, ""},
		{"switched off", foreign, map[string]string{"status": "enabled\n", "q": strings.Replace(qemuARM64, "enabled", "disabled", 1)}, "their handler q is disabled. As root, echo 1 >"},
		{"not for containers", foreign, map[string]string{"status": "enabled\n", "q": without(qemuARM64, "F\n") + "\n"}, "their handler q (/usr/libexec/qemu-binfmt/aarch64-binfmt-P) lacks the flag F"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "binfmt_misc")
			if c.files != nil {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := checkPlatform(dir, platforms.MustParse(c.platform))
			switch {
			case err == nil && c.want == "":
			case err == nil || c.want == "" || !strings.Contains(err.Error(), c.want):
				t.Errorf("checkPlatform = %v, want %q", err, c.want)
			case !strings.HasPrefix(err.Error(), "programs for "+c.platform+" do not run on this machine (linux/"+runtime.GOARCH):
				t.Errorf("checkPlatform = %v", err)
			}
		})
	}
}

func FuzzParseHandler(f *testing.F) {
	f.Add(qemuARM64)
	f.Add(byName)
	header, _ := elfHeader("arm64")
	f.Fuzz(func(t *testing.T, text string) {
		if h, ok := parseHandler(text); ok {
			h.matches(header)
		}
	})
}
