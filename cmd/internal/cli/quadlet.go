package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cooper/cmd/internal/quadlet"
)

const quadletExample = `
  @ --dryrun                       Show the services of the system's files
  @ --dryrun --user                Show the services of this user's files
  QUADLET_UNIT_DIRS=. @ --dryrun   Show those of the files in this directory
  ln -s /usr/bin/cooper /usr/lib/systemd/system-generators/cooper-generator`

// quadletFlags are the flags of quadlet.
type quadletFlags struct {
	user, dryRun, noKmsg bool
}

// newQuadlet makes the quadlet command.
func newQuadlet(e *Env) *cobra.Command {
	var f quadletFlags
	cmd := &cobra.Command{
		Use:   "quadlet [OPTIONS] NORMAL-DIR [EARLY-DIR LATE-DIR]",
		Short: "Turn quadlet files into systemd services",
		Long: `Turn quadlet files (.container, .volume, .network, .build, .image) into systemd
services in NORMAL-DIR, as a systemd generator does. The files are those of
podman-systemd.unit(5), from

  /run/containers/systemd, /etc/containers/systemd, /usr/share/containers/systemd
  and with --user $XDG_RUNTIME_DIR/containers/systemd, ~/.config/containers/systemd,
  /etc/containers/systemd/users/UID, /etc/containers/systemd/users

or from $QUADLET_UNIT_DIRS. Linked as cooper-generator below
/usr/lib/systemd/system-generators and /usr/lib/systemd/user-generators it
makes services of them at each boot, login and daemon-reload. podman's generator
reads the same files: have one of the two only.`,
		Example:               quadletExample,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 || len(args) == 3 || f.dryRun && len(args) == 0 {
				return nil
			}
			return &usageError{cmd: cmd, err: errors.New("requires the directory for the services, or three as systemd gives them, or --dryrun")}
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return e.quadlet(f, args)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.BoolVar(&f.user, "user", f.user, "Make services for this user's systemd")
	fs.BoolVar(&f.dryRun, "dryrun", false, "Print the services and write nothing")
	fs.BoolVar(&f.noKmsg, "no-kmsg-log", false, "Don't send errors to the kernel's log as well")
	fs.BoolP("help", "h", false, "Show this help")
	fs.Lookup("help").Hidden = true
	return cmd
}

// NewGenerator makes the quadlet command as systemd runs it, under another name
// than ours. Whether services of the system or of a user are asked for shows in
// the environment since systemd 254, before that in the directory of generators.
func NewGenerator(e *Env) *cobra.Command {
	cmd := newQuadlet(e)
	scope, _ := e.LookupEnv("SYSTEMD_SCOPE")
	if scope == "user" || strings.Contains(os.Args[0], "user-generator") {
		if err := cmd.Flags().Set("user", "true"); err != nil {
			panic(err) // the flag was declared above
		}
	}
	return cmd
}

// ForProgram is the constructor for a program of this name: systemd runs cooper
// as a generator by a link to it.
func ForProgram(name string) Constructor {
	switch filepath.Base(name) {
	case "cooper-generator", "cooper-user-generator":
		return NewGenerator
	}
	return NewCooper
}

// quadlet is the quadlet command. Files with errors keep the others from
// nothing.
func (e *Env) quadlet(f quadletFlags, dirs []string) error {
	if f.user {
		if err := e.enter(); err != nil {
			return err
		}
	}
	command, err := os.Executable()
	if err != nil {
		return err
	}
	files := readQuadlets(e.quadletDirs(f.user))
	units, err := quadlet.Translate(files.sources, quadlet.Options{
		Command: command, User: f.user,
		Exists: func(path string) bool { _, err := os.Stat(path); return err == nil },
	})
	errs := files.errs
	if err != nil {
		errs = append(errs, parts(err)...)
	}
	for _, u := range units {
		for _, w := range u.Warnings {
			e.logQuadlet(f, 4, w)
		}
		var err error
		if f.dryRun {
			_, err = fmt.Fprintf(e.Stdout, "---%s---\n%s\n", u.Name, u.Text)
		} else {
			err = writeUnit(dirs[0], u)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, err := range errs {
		e.logQuadlet(f, 3, err.Error())
	}
	if len(errs) > 0 {
		return &exitStatus{status: statusError}
	}
	return nil
}

// logQuadlet says something of a priority as syslog numbers them. When systemd
// runs generators, the kernel's log may be all that there is.
func (e *Env) logQuadlet(f quadletFlags, priority int, message string) {
	fmt.Fprintln(e.Stderr, "quadlet:", message)
	if f.noKmsg || f.dryRun {
		return
	}
	log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return // said already
	}
	defer log.Close()
	fmt.Fprintf(log, "<%d>cooper-generator[%d]: %s\n", priority, os.Getpid(), message)
}

// writeUnit writes a unit and its links into dir.
func writeUnit(dir string, u quadlet.Unit) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, u.Name), u.Text, 0o644); err != nil {
		return err
	}
	for _, l := range u.Links {
		name := filepath.Join(dir, l.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(l.Target, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// quadletDirs are the directories of quadlet files, the first counts most.
func (e *Env) quadletDirs(user bool) []string {
	if dirs, _ := e.LookupEnv("QUADLET_UNIT_DIRS"); dirs != "" {
		return filepath.SplitList(dirs)
	}
	if !user {
		return []string{"/run/containers/systemd", "/etc/containers/systemd", "/usr/share/containers/systemd"}
	}
	var dirs []string
	if runtime, _ := e.LookupEnv("XDG_RUNTIME_DIR"); runtime != "" {
		dirs = append(dirs, filepath.Join(runtime, "containers", "systemd"))
	}
	config, _ := e.LookupEnv("XDG_CONFIG_HOME")
	if home, _ := e.LookupEnv("HOME"); config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	if config != "" {
		dirs = append(dirs, filepath.Join(config, "containers", "systemd"))
	}
	return append(dirs, filepath.Join(usersDir, quadletUser()), usersDir)
}

// usersDir has what the administrator gives to all users, and in directories
// named after their ids to single ones.
const usersDir = "/etc/containers/systemd/users"

// quadletUser is the user's id outside of the user namespace.
func quadletUser() string {
	if uid := os.Getenv("_CONTAINERS_ROOTLESS_UID"); uid != "" {
		return uid
	}
	return fmt.Sprint(os.Getuid())
}

// quadletFiles are the files found.
type quadletFiles struct {
	sources []quadlet.Source
	errs    []error
	// dirs are all directories that were looked into, in order.
	dirs []string
	seen map[string]bool // by their real paths: links may go in circles
}

// readQuadlets reads all quadlet files in and below dirs.
func readQuadlets(dirs []string) *quadletFiles {
	files := &quadletFiles{seen: map[string]bool{}}
	for _, dir := range dirs {
		files.walk(dir)
	}
	for i := range files.sources {
		files.addDropIns(&files.sources[i])
	}
	return files
}

// walk reads the files of one directory, then of those below it. One that is
// missing has none.
func (q *quadletFiles) walk(dir string) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		var real string
		if real, err = filepath.EvalSymlinks(abs); err == nil && q.seen[real] {
			return
		}
		q.seen[real] = true
	}
	var entries []os.DirEntry
	if err == nil {
		entries, err = os.ReadDir(abs)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			q.errs = append(q.errs, err)
		}
		return
	}
	q.dirs = append(q.dirs, abs)
	for _, entry := range entries {
		name := filepath.Join(abs, entry.Name())
		switch st, err := os.Stat(name); {
		case err != nil:
			q.errs = append(q.errs, err)
		case st.IsDir():
			if !strings.HasSuffix(name, ".d") && !someoneElses(name) {
				defer q.walk(name)
			}
		case quadlet.IsSource(entry.Name()):
			q.read(name)
		case quadlet.Foreign(entry.Name()):
			q.errs = append(q.errs, fmt.Errorf("%s: cooper has nothing like %s files", name, filepath.Ext(name)))
		}
	}
}

// someoneElses reports whether a directory is for users, or for another user.
// It is then looked into only when it is asked for by its own name.
func someoneElses(dir string) bool {
	if dir == usersDir {
		return true
	}
	return filepath.Dir(dir) == usersDir && strings.Trim(filepath.Base(dir), "0123456789") == ""
}

func (q *quadletFiles) read(name string) {
	text, err := readQuadletFile(name)
	if err != nil {
		q.errs = append(q.errs, err)
		return
	}
	q.sources = append(q.sources, quadlet.Source{Path: name, Text: text})
}

// addDropIns finds the drop-ins of a source in all directories.
func (q *quadletFiles) addDropIns(s *quadlet.Source) {
	found := map[string]string{} // file names to paths
	for _, kind := range quadlet.DropInDirs(filepath.Base(s.Path)) {
		for i := len(q.dirs) - 1; i >= 0; i-- {
			names, err := filepath.Glob(filepath.Join(globQuote(q.dirs[i]), globQuote(kind), "*.conf"))
			if err != nil {
				q.errs = append(q.errs, err)
			}
			for _, name := range names {
				found[filepath.Base(name)] = name
			}
		}
	}
	for _, base := range slices.Sorted(maps.Keys(found)) {
		text, err := readQuadletFile(found[base])
		if err != nil {
			q.errs = append(q.errs, err)
			continue
		}
		s.DropIns = append(s.DropIns, quadlet.DropIn{Path: found[base], Text: text})
	}
}

// maxQuadlet is more than any quadlet file needs, in bytes.
const maxQuadlet = 1 << 20

// readQuadletFile reads a file of reasonable size.
func readQuadletFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxQuadlet+1))
	if err == nil && len(text) > maxQuadlet {
		err = fmt.Errorf("%s: larger than a quadlet file can be", name)
	}
	return text, err
}

// globQuote makes a name match itself only.
func globQuote(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}
