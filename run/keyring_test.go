package run

import (
	"strings"
	"testing"
)

// TestKeyring: a container has a session keyring of its own.
func TestKeyring(t *testing.T) {
	r, img := runtimeFor(t), image(t)
	c := sh("grep -o '_ses[^:]*' /proc/keys | sort -u")
	c.Privileged = true // /proc/keys is masked else
	seen := map[string]bool{}
	for range 2 {
		out, st, err := output(t, r, overlay(t, img), c)
		if err != nil || st.ExitCode != 0 {
			t.Skipf("no keyrings to be seen here: %+v, %v: %s", st, err, out)
		}
		own := ""
		for name := range strings.FieldsSeq(out) {
			if strings.HasPrefix(name, "_ses.") {
				own += name
			}
		}
		if own == "" || seen[own] {
			t.Errorf("the keyring is %q, and that of another container %v; all that are seen:\n%s", own, seen, out)
		}
		seen[own] = true
	}
}
