package dockerfile

import (
	"fmt"
	"unicode/utf8"
)

// checkOp makes sure that the strings of op are valid UTF-8. Else two
// different ops could have the same JSON, where wrong bytes are all replaced by
// one and the same character. Instructions are known to be valid, but a
// pattern in a variable (${v#p}) can cut a character in two.
func checkOp(op Op, name string) error {
	var texts [][]string
	switch op := op.(type) {
	case *Run:
		texts = [][]string{op.Args, op.Env, {op.User, op.Dir, op.Network, op.Hostname}}
		for _, m := range op.Mounts {
			texts = append(texts, []string{m.Source, m.Target, m.ID})
		}
	case *Copy:
		texts = [][]string{op.Sources, op.Exclude, {op.Dest, op.Chown, op.Chmod}}
		for _, r := range op.Remote {
			texts = append(texts, []string{r.URL, r.Name, r.Checksum})
		}
	case *Workdir:
		texts = [][]string{{op.Path, op.User}}
	}
	for _, list := range texts {
		for _, s := range list {
			if !utf8.ValidString(s) {
				return fmt.Errorf("invalid UTF-8 in %s", name)
			}
		}
	}
	return nil
}
