package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"cooper/builder"
	"cooper/builder/remote"
	"cooper/dockerfile"
	"cooper/layers"
)

// maxDockerfile bounds what is read into memory as a Dockerfile, in bytes. It
// is BuildKit's limit.
const maxDockerfile = 16 << 20

// sources reads the Dockerfile, its ignore file and the build context of one
// build into options.
type sources struct {
	env     *Env
	builder *builder.Builder
	o       *builder.Options
	// file is the value of -f, ignoreFile that of --ignorefile.
	file, ignoreFile string
	trees            []*remote.Tree
}

// close removes what was unpacked or fetched for the build.
func (s *sources) close() error {
	var errs []error
	for _, t := range s.trees {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// checkContext finds mistakes in the PATH argument of build before anything is
// done.
func checkContext(arg, file string) error {
	switch {
	case arg == "-" && file == "-":
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	case arg == "-":
		return nil
	case arg == "":
		return errors.New("the build context is empty: give a directory, usually the current one (.)")
	}
	info, err := os.Stat(arg)
	switch {
	case err == nil && info.IsDir():
		return nil
	case remote.IsRemote(arg):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("unable to prepare context: path %q not found", arg)
	case err != nil:
		return fmt.Errorf("unable to prepare context: %w", err)
	}
	return withHint(fmt.Errorf("unable to prepare context: %q is not a directory", arg),
		"PATH is the directory with the files to build from. To name the Dockerfile: build -f %s %s", arg, filepath.Dir(arg))
}

// read reads everything that arg, the PATH argument, and the flags name.
func (s *sources) read(ctx context.Context, arg string) error {
	info, err := os.Stat(arg)
	isDir := err == nil && info.IsDir()
	switch {
	case arg == "-":
		err = s.stdin(ctx)
	case isDir:
		s.o.ContextDir = arg
		err = s.directory(ctx)
	default:
		err = s.remote(ctx, arg)
	}
	if err != nil || s.ignoreFile == "" {
		return err
	}
	src, err := os.ReadFile(s.ignoreFile)
	if err != nil {
		return fmt.Errorf("read the ignore file: %w", err)
	}
	return s.ignore(s.ignoreFile, src)
}

// stdin reads a Dockerfile or an archive with one from standard input.
func (s *sources) stdin(ctx context.Context) error {
	in := bufio.NewReaderSize(s.env.Stdin, remote.HeaderSize)
	head, err := in.Peek(remote.HeaderSize)
	if err != nil && err != io.EOF {
		return fmt.Errorf("failed to peek context header from STDIN: %w", err)
	}
	if remote.IsArchive(head) {
		t, err := s.builder.UnpackContext(ctx, in)
		if err != nil {
			return fmt.Errorf("unpack the build context from standard input: %w", err)
		}
		return s.tree(ctx, t, "")
	}
	if s.file != "" {
		return errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
	}
	t, err := s.builder.EmptyContext()
	if err != nil {
		return err
	}
	s.trees, s.o.Context = append(s.trees, t), t
	return s.readFrom(in)
}

// readFrom reads the Dockerfile from standard input.
func (s *sources) readFrom(in io.Reader) error {
	src, err := io.ReadAll(io.LimitReader(in, maxDockerfile+1))
	if err == nil && len(src) > maxDockerfile {
		err = fmt.Errorf("the Dockerfile exceeds maximum allowed size of %d bytes", maxDockerfile)
	}
	if err != nil {
		return fmt.Errorf("read the Dockerfile from standard input: %w", err)
	}
	s.o.Dockerfile, s.o.DockerfileName = src, "Dockerfile"
	return nil
}

// remote gets a build context from elsewhere. A URL that gives a single file is
// the Dockerfile.
func (s *sources) remote(ctx context.Context, arg string) error {
	t, err := s.builder.OpenContext(ctx, arg, *s.o)
	if err != nil {
		return fmt.Errorf("failed to load the build context: %w", err)
	}
	return s.tree(ctx, t, arg)
}

// tree takes t as the build context, and the Dockerfile from it unless -f is
// standard input, a URL or an absolute path.
func (s *sources) tree(ctx context.Context, t *remote.Tree, where string) error {
	s.trees, s.o.Context = append(s.trees, t), t
	switch {
	case s.file == "-":
		return s.readFrom(s.env.Stdin)
	case isURL(s.file):
		return s.dockerfileURL(ctx)
	case filepath.IsAbs(s.file):
		return s.local(s.file)
	case t.File != "":
		err := s.inside(t, t.File)
		s.o.DockerfileName = urlBase(where)
		return err
	case s.file != "":
		return s.inside(t, filepath.ToSlash(s.file))
	}
	var err error
	for _, name := range dockerfileNames {
		if err = s.inside(t, name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("failed to read dockerfile: open Dockerfile: no such file or directory")
}

// inside reads the Dockerfile name of t; links in it lead nowhere else.
func (s *sources) inside(t *remote.Tree, name string) error {
	view, err := layers.OpenView(t.Dir)
	if err != nil {
		return err
	}
	defer view.Close()
	src, err := view.ReadFile(strings.TrimPrefix(path.Join("/", name), "/"))
	if err != nil {
		return fmt.Errorf("failed to read dockerfile: %w", err)
	}
	s.o.Dockerfile, s.o.DockerfileName = src, path.Base(name)
	return nil
}

// dockerfileURL reads the Dockerfile that -f names by a URL.
func (s *sources) dockerfileURL(ctx context.Context) error {
	t, err := s.builder.OpenContext(ctx, s.file, *s.o)
	if err != nil {
		return fmt.Errorf("failed to read dockerfile: %w", err)
	}
	s.trees = append(s.trees, t)
	if t.File == "" {
		return fmt.Errorf("failed to read dockerfile: %s is not a Dockerfile", remote.RedactURL(s.file))
	}
	err = s.inside(t, t.File)
	s.o.DockerfileName = urlBase(s.file)
	return err
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// urlBase is what messages call a Dockerfile that came from a URL.
func urlBase(s string) string {
	u, err := url.Parse(s)
	if err != nil || path.Base(u.Path) == "/" || path.Base(u.Path) == "." {
		return "Dockerfile"
	}
	return path.Base(u.Path)
}

// directory reads the Dockerfile for a context that is a directory, and its
// ignore file.
func (s *sources) directory(ctx context.Context) error {
	if s.file == "-" {
		if err := s.readFrom(s.env.Stdin); err != nil {
			return err
		}
		return s.readIgnore("")
	}
	if isURL(s.file) {
		if err := s.dockerfileURL(ctx); err != nil {
			return err
		}
		return s.readIgnore("")
	}
	path, err := findDockerfile(s.o.ContextDir, s.file)
	if err != nil {
		return err
	}
	if err := s.local(path); err != nil {
		return err
	}
	return s.readIgnore(filepath.Dir(path))
}

// local reads a Dockerfile of this machine.
func (s *sources) local(path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("failed to read dockerfile: %w", err)
	}
	s.o.Dockerfile, s.o.DockerfileName = src, filepath.Base(path)
	return nil
}

// dockerfileNames are looked for when -f names none, best first.
var dockerfileNames = []string{"Dockerfile", "dockerfile", "Containerfile"}

// findDockerfile returns the path of the Dockerfile. As with docker, file is
// relative to the working directory, not to the context.
func findDockerfile(dir, file string) (string, error) {
	if file == "" {
		for _, name := range dockerfileNames {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("failed to read dockerfile: %w", err)
			}
		}
		return "", withHint(fmt.Errorf("failed to read dockerfile: no Dockerfile or Containerfile in %s", dir),
			"Name it: build -f FILE %s", dir)
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("failed to read dockerfile: %s: no such file", file)
		if inside := filepath.Join(dir, file); !filepath.IsAbs(file) && exists(inside) {
			err = withHint(err, "-f is relative to the current directory. Did you mean: build -f %s %s", inside, dir)
		}
		return "", err
	case err != nil:
		return "", fmt.Errorf("failed to read dockerfile: %w", err)
	case info.IsDir():
		return "", fmt.Errorf("failed to read dockerfile: %s is a directory", file)
	}
	return file, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// readIgnore reads the ignore file that counts. One named after the Dockerfile
// stands beside it, in dockerfileDir ("": there is none); the others are the
// context's. As with BuildKit, contexts from elsewhere have none.
func (s *sources) readIgnore(dockerfileDir string) error {
	for _, name := range dockerfile.IgnoreNames(s.o.DockerfileName) {
		dir := s.o.ContextDir
		if strings.HasPrefix(name, s.o.DockerfileName) {
			if dockerfileDir == "" {
				continue
			}
			dir = dockerfileDir
		}
		src, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the ignore file: %w", err)
		}
		return s.ignore(name, src)
	}
	return nil
}

// ignore takes src as the ignore file.
func (s *sources) ignore(name string, src []byte) error {
	ignore, err := dockerfile.ParseIgnore(src)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.o.Ignore, s.o.IgnoreName = ignore, cmp.Or(filepath.Base(name), name)
	return nil
}
