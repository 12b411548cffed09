package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/tools/txtar"

	"cooper/cmd/internal/quadlet"
)

// TestQuadletCommands: every command that package quadlet's golden files want is
// one that we have, with these flags.
func TestQuadletCommands(t *testing.T) {
	files, err := filepath.Glob("../quadlet/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	checked := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if filepath.Ext(f.Name) != ".service" {
				continue
			}
			for line := range strings.SplitSeq(string(f.Data), "\n") {
				key, value, _ := strings.Cut(line, "=")
				if !strings.HasPrefix(key, "Exec") || !strings.Contains(value, "/usr/bin/cooper ") {
					continue
				}
				checked++
				words, err := quadlet.SplitWords(strings.TrimPrefix(value, "-"))
				if err != nil {
					t.Fatal(err)
				}
				if err := parses(words[1:]); err != nil {
					t.Errorf("%s: %s: %v\n%s", file, f.Name, err, line)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("%d commands were checked, want many", checked)
	}
}

// parses reads a command line of cooper's without running it.
func parses(args []string) error {
	cooper := NewCooper(&Env{LookupEnv: os.LookupEnv})
	cmd, rest, err := cooper.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if cmd.Args == nil {
		cmd.Args = cobra.ArbitraryArgs
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
