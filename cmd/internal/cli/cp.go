package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cooper/run"
	"cooper/run/tarcopy"
)

const cpExample = `
  @ web:/etc/nginx/nginx.conf .
  @ ./site/. web:/usr/share/nginx/html
  @ web:/var/log - | tar tv`

// newCp makes the cp command.
func newCp(e *Env) *cobra.Command {
	var c copying
	cmd := &cobra.Command{
		Use:   "cp [OPTIONS] [CONTAINER:]SOURCE [CONTAINER:]DESTINATION",
		Short: "Copy files out of, into and between containers",
		Long: `Copy a file or directory out of a container, into one or from one to another,
whether they run or not.

Into a directory it is copied under its own name, else under that of the
destination. A SOURCE that ends with /. means a directory's content. - means a
tar: on standard output of what the source is, on standard input to be unpacked
into the directory that the destination is.`,
		Example:               cpExample,
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.from, c.to = parseCopyArg(args[0]), parseCopyArg(args[1])
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return e.cp(ctx, &c)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&c.options.Archive, "archive", "a", false, "Keep users and groups; else root's in a container, yours outside")
	fs.BoolVarP(&c.options.FollowLink, "follow-link", "L", false, "Copy what SOURCE leads to if it is a symbolic link")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "Don't say what was copied")
	e.commonFlags(cmd)
	return cmd
}

// copying is what cp is to do.
type copying struct {
	from, to copyArg
	options  tarcopy.Options
	quiet    bool
	bytes    int64 // copied so far
}

// copyArg is an argument of cp: a path, in a container or on this machine.
type copyArg struct {
	container string // name or id, "" for this machine
	path      string
}

// parseCopyArg tells CONTAINER:PATH from a path. A path with a colon is written
// with ./ in front.
func parseCopyArg(s string) copyArg {
	name, p, found := strings.Cut(s, ":")
	if !found || filepath.IsAbs(s) || strings.HasPrefix(name, ".") || name == "" {
		return copyArg{path: s}
	}
	return copyArg{container: name, path: p}
}

// stream reports whether the argument is a tar on standard input or output.
func (a copyArg) stream() bool { return a.container == "" && a.path == "-" }

// String is the argument as it was given.
func (a copyArg) String() string {
	if a.container == "" {
		return a.path
	}
	return a.container + ":" + a.path
}

// cp is the cp command.
func (e *Env) cp(ctx context.Context, c *copying) (err error) {
	switch {
	case c.from.container == "" && c.to.container == "":
		return errors.New("must specify at least one container source")
	case c.from.path == "" || c.to.path == "":
		return errors.New("source and destination must not be empty")
	case c.to.stream() && terminal(e.Stdout):
		return errors.New("the tar would go to a terminal: write it to a file or a pipe")
	}
	c.options.OnProgress = func(n int64) { c.bytes += n }
	roots := make(copyRoots)
	defer func() { err = errors.Join(err, roots.close()) }()
	from, err := e.openPlace(ctx, roots, c.from)
	if err != nil {
		return err
	}
	to, err := e.openPlace(ctx, roots, c.to)
	if err != nil {
		return err
	}
	switch {
	case c.from.stream():
		counted := readCounter{e.Stdin, &c.bytes}
		err = tarcopy.ReadTar(ctx, counted, to, c.options)
	case c.to.stream():
		return missingFile(c.from, tarcopy.WriteTar(ctx, from, e.Stdout, c.options))
	default:
		err = tarcopy.Copy(ctx, from, to, c.options)
	}
	if err != nil {
		return fmt.Errorf("copy to %s: %w", c.to, missingFile(c.from, err))
	}
	if !c.quiet {
		fmt.Fprintf(e.Stderr, "Successfully copied %s to %s\n", humanSize(c.bytes), c.to)
	}
	return nil
}

// missingFile says of a file that isn't there where it was looked for.
func missingFile(from copyArg, err error) error {
	var p *fs.PathError
	if from.container != "" && errors.Is(err, fs.ErrNotExist) && errors.As(err, &p) && p.Op == "stat" {
		return fmt.Errorf("could not find the file %s in container %s", from.path, from.container)
	}
	return err
}

// copyRoots are the open root directories by container; "" is this machine's.
type copyRoots map[string]copyRoot

type copyRoot struct {
	file  *os.File
	close func() error
}

func (r copyRoots) close() error {
	var errs []error
	for _, root := range r {
		errs = append(errs, root.close())
	}
	return errors.Join(errs...)
}

// openPlace opens the root that an argument's path is in.
func (e *Env) openPlace(ctx context.Context, roots copyRoots, a copyArg) (tarcopy.Place, error) {
	cs, err := e.containers(ctx) // also for this machine's files: as the same user
	if err != nil || a.stream() {
		return tarcopy.Place{}, err
	}
	p := tarcopy.Place{Path: a.path}
	id := ""
	var c *run.Container
	if a.container == "" {
		if p.Path, err = absolute(a.path); err != nil {
			return p, err
		}
	} else {
		if c, err = cs.Find(a.container); err != nil {
			return p, err
		}
		id = c.ID()
	}
	if strings.HasSuffix("/"+p.Path, "/..") {
		p.Path = path.Clean("/" + p.Path)
	}
	if _, open := roots[id]; !open {
		if roots[id], err = openCopyRoot(ctx, c); err != nil {
			delete(roots, id)
			return p, err
		}
	}
	p.Root = roots[id].file
	if c != nil {
		p.Inside, p.Outside = c.Owners()
	}
	return p, nil
}

// openCopyRoot opens the root directory of a container, or of this machine.
func openCopyRoot(ctx context.Context, c *run.Container) (copyRoot, error) {
	if c == nil {
		f, err := os.Open("/")
		if err != nil {
			return copyRoot{}, err
		}
		return copyRoot{f, f.Close}, nil
	}
	root, err := c.OpenRoot(ctx)
	if err != nil {
		return copyRoot{}, err
	}
	return copyRoot{root.File, root.Close}, nil
}

// absolute makes a path absolute and leaves its end, which says something.
func absolute(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	dir, err := os.Getwd()
	return dir + "/" + name, err
}

// readCounter counts what is read.
type readCounter struct {
	r io.Reader
	n *int64
}

func (c readCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}
