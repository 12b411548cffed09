package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cooper/builder"
	"cooper/dockerfile"
)

// contextDir checks the PATH argument of build.
func contextDir(arg string) (string, error) {
	switch {
	case arg == "-":
		return "", errors.New("a build context on standard input is not supported yet: give a directory, with -f - to read the Dockerfile from standard input")
	case isRemote(arg):
		return "", fmt.Errorf("a build context from a URL is not supported yet: clone or download %s and give its directory", redactURL(arg))
	case arg == "":
		return "", errors.New("the build context is empty: give a directory, usually .")
	}
	info, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("unable to prepare context: path %q not found", arg)
	case err != nil:
		return "", fmt.Errorf("unable to prepare context: %w", err)
	case !info.IsDir():
		return "", withHint(fmt.Errorf("unable to prepare context: %q is not a directory", arg),
			"PATH is the directory with the files to build from. To name the Dockerfile: build -f %s %s", arg, filepath.Dir(arg))
	}
	return arg, nil
}

// isRemote reports whether a build context is a URL, in the spellings that
// docker knows.
func isRemote(arg string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(arg, prefix) {
			return true
		}
	}
	return false
}

// redactURL leaves out a URL's user and password.
func redactURL(s string) string {
	scheme, rest, found := strings.Cut(s, "://")
	host, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); found && i >= 0 {
		return scheme + "://" + host[i+1:] + "/" + path
	}
	return s
}

// readSources reads the Dockerfile that -f names, or the context's own, and its
// ignore file into o.
func (e *Env) readSources(o *builder.Options, file string) error {
	if file == "-" {
		src, err := io.ReadAll(e.Stdin)
		if err != nil {
			return fmt.Errorf("read the Dockerfile from standard input: %w", err)
		}
		o.Dockerfile, o.DockerfileName = src, "Dockerfile"
		return readIgnore(o, "")
	}
	path, err := findDockerfile(o.ContextDir, file)
	if err != nil {
		return err
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("failed to read dockerfile: %w", err)
	}
	o.Dockerfile, o.DockerfileName = src, filepath.Base(path)
	return readIgnore(o, filepath.Dir(path))
}

// findDockerfile returns the path of the Dockerfile. As with docker, file is
// relative to the working directory, not to the context.
func findDockerfile(dir, file string) (string, error) {
	if file == "" {
		for _, name := range []string{"Dockerfile", "Containerfile"} {
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

// readIgnore reads the ignore file that counts into o. One named after the
// Dockerfile stands beside it, in dockerfileDir ("": there is none); the others
// are the context's.
func readIgnore(o *builder.Options, dockerfileDir string) error {
	for _, name := range dockerfile.IgnoreNames(o.DockerfileName) {
		dir := o.ContextDir
		if strings.HasPrefix(name, o.DockerfileName) {
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
		if o.Ignore, err = dockerfile.ParseIgnore(src); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		o.IgnoreName = name
		return nil
	}
	return nil
}
