package difftest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// testCase is one directory of cases.
type testCase struct {
	name string
	dir  string
	args []string // of build
	// fails are the lines of expect-error.
	fails []string
	// rootOnly says why an ordinary user can't build it.
	rootOnly string
	// todo says why it can't pass yet; it must not.
	todo string
}

// cases lists the cases in dir.
func cases(dir string) ([]testCase, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []testCase
	for _, e := range list {
		c := testCase{name: e.Name(), dir: filepath.Join(dir, e.Name())}
		if !c.has("want.json") && !c.has("expect-error") && !c.has("record-me") {
			continue // an example
		}
		c.args = c.lines("args")
		c.fails = c.lines("expect-error")
		c.rootOnly = strings.Join(c.lines("root-only"), " ")
		c.todo = strings.Join(c.lines("todo"), " ")
		all = append(all, c)
	}
	return all, nil
}

func (c *testCase) has(name string) bool {
	_, err := os.Stat(filepath.Join(c.dir, name))
	return err == nil
}

// lines reads a file of the case that need not be there.
func (c *testCase) lines(name string) []string {
	text, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// want reads want.json.
func (c *testCase) want() (image, error) {
	var img image
	text, err := os.ReadFile(filepath.Join(c.dir, "want.json"))
	if err == nil {
		err = json.Unmarshal(text, &img)
	}
	return img, err
}

// record writes want.json.
func (c *testCase) record(img image) error {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(img); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "want.json"), []byte(text.String()), 0o644)
}

// stage makes below dir what a builder is given: the Dockerfile and its ignore
// file in dir/df, the context in dir/context.
func (c *testCase) stage(dir string) error {
	from := filepath.Join(c.dir, "context")
	to := filepath.Join(dir, "context")
	if err := os.MkdirAll(filepath.Join(dir, "df"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"Dockerfile", "Dockerfile.dockerignore"} {
		text, err := os.ReadFile(filepath.Join(c.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "df", name), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	if c.has("context") {
		if err := copyTree(to, from); err != nil {
			return err
		}
	}
	if !c.has("setup") {
		return nil
	}
	cmd := exec.Command("sh", "-eu", filepath.Join(c.dir, "setup"))
	cmd.Dir = to
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("setup: %w\n%s", err, out)
	}
	return nil
}

// copyTree copies the files below from to the directory to, with the modes
// that git keeps of them.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			if err := os.Mkdir(target, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			return os.Chmod(target, 0o755)
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		return copyFile(target, name)
	})
}

func copyFile(target, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if err := os.WriteFile(target, text, mode); err != nil {
		return err
	}
	return os.Chmod(target, mode)
}
