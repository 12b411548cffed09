package dockerfile

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/opencontainers/go-digest"
	mode "github.com/tonistiigi/dchapes-mode"
)

func (d *dispatcher) copy(c *instructions.CopyCommand) error {
	var from source
	if len(d.cmd.sources) > 0 {
		from = d.cmd.sources[0]
	}
	if st := from.stage; st != nil && !st.planned {
		return fmt.Errorf("cannot copy from stage %q, it needs to be defined before current stage %q", c.From, d.stage.label)
	}
	op := &Copy{
		From:    d.sourceOf(from),
		Chown:   c.Chown,
		Chmod:   c.Chmod,
		Link:    c.Link,
		Parents: c.Parents,
		Exclude: c.ExcludePatterns,
	}
	for _, src := range c.SourcePaths {
		if _, isGit, _ := parseGitRef(src); isGit {
			return errors.New("source can't be a git ref for COPY")
		}
		if isURL(src) {
			return errors.New("source can't be a URL for COPY")
		}
		d.addSource(op, src)
	}
	return d.finishCopy(op, c.SourcesAndDest)
}

func (d *dispatcher) add(c *instructions.AddCommand) error {
	op := &Copy{
		Add:     true,
		From:    Source{Context: true, Stage: -1},
		Chown:   c.Chown,
		Chmod:   c.Chmod,
		Link:    c.Link,
		Exclude: c.ExcludePatterns,
		Unpack:  c.Unpack,
	}
	if err := checkChecksum(c); err != nil {
		return err
	}
	for _, src := range c.SourcePaths {
		ref, isGit, err := parseGitRef(src)
		switch {
		case err != nil:
			return err
		case isGit:
			if err := ref.applyFlags(c); err != nil {
				return err
			}
			op.Remote = append(op.Remote, Remote{URL: src, Git: ref})
		case isURL(src):
			r, err := remoteFile(src, c.Checksum)
			if err != nil {
				return err
			}
			op.Remote = append(op.Remote, r)
		default:
			d.addSource(op, src)
		}
	}
	return d.finishCopy(op, c.SourcesAndDest)
}

func checkChecksum(c *instructions.AddCommand) error {
	if c.Checksum == "" {
		return nil
	}
	if len(c.SourcePaths) != 1 {
		return errors.New("checksum can't be specified for multiple sources")
	}
	if _, isGit, _ := parseGitRef(c.SourcePaths[0]); !isGit && !isURL(c.SourcePaths[0]) {
		return errors.New("checksum requires HTTP(S) or Git sources")
	}
	return nil
}

func isURL(src string) bool {
	return strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")
}

// remoteFile returns the source for a URL that is no git repository.
func remoteFile(src, checksum string) (Remote, error) {
	r := Remote{URL: src, Name: "__unnamed__", Checksum: checksum}
	if u, err := url.Parse(src); err == nil {
		if base := path.Base(u.Path); base != "." && base != "/" {
			r.Name = safeName(base)
		}
	}
	if checksum != "" {
		if _, err := digest.Parse(checksum); err != nil {
			return r, err
		}
	}
	return r, nil
}

// safeName is name if a file can be called so, else what BuildKit calls it.
func safeName(name string) string {
	name = strings.TrimSpace(name)
	if name == "" || name == "." || name == ".." || strings.ContainsFunc(name, unicode.IsControl) {
		return "download"
	}
	return name
}

// addSource adds a local source to op.
func (d *dispatcher) addSource(op *Copy, src string) {
	if op.From.Context {
		d.lintIgnored(op, src)
	}
	op.Spelled = append(op.Spelled, src)
	if !op.Parents {
		op.Sources = append(op.Sources, path.Join("/", src))
		return
	}
	base, rest, ok := strings.Cut(src, "/./")
	if !ok {
		base, rest = "/", src
	}
	base, rest = path.Join("/", base), path.Join("/", rest)
	op.Sources = append(op.Sources, strings.TrimSuffix(base, "/")+"/."+rest)
}

// lintIgnored warns about sources that the ignore file takes away. It says
// nothing when that brings back some files, as it can't know about them.
func (d *dispatcher) lintIgnored(op *Copy, src string) {
	ignore := d.o.Ignore
	if ignore == nil || ignore.reincludes() {
		return
	}
	name := "Copy"
	if op.Add {
		name = "Add"
	}
	src = path.Clean(src)
	ignored := ignore.Match(src)
	if src == "." || src == "/" {
		ignored = ignore.everything()
	}
	if ignored {
		d.lint.Run(&linter.RuleCopyIgnoredFile, d.cmd.Location(), linter.RuleCopyIgnoredFile.Format(name, src))
	}
}

// finishCopy completes op with what COPY and ADD share.
func (d *dispatcher) finishCopy(op *Copy, params instructions.SourcesAndDest) error {
	op.Dest = joinFile(d.config.Config.WorkingDir, params.DestPath)
	if op.Link && namesOwner(op.Chown) {
		return fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", op.Chown)
	}
	if err := checkMode(op.Chmod); err != nil {
		return err
	}
	name := "COPY"
	if op.Add {
		name = "ADD"
	}
	words := []string{name}
	if op.Parents {
		words = append(words, "--parents")
	}
	if op.Chown != "" {
		words = append(words, "--chown="+op.Chown)
	}
	if op.Chmod != "" {
		words = append(words, "--chmod="+op.Chmod)
	}
	words = append(words, params.SourcePaths...)
	for _, content := range params.SourceContents {
		words = append(words, "<<"+content.Path)
		op.Files = append(op.Files, InlineFile{Name: content.Path, Data: []byte(content.Data), Mode: 0o644})
	}
	words = append(words, params.DestPath, "# buildkit")
	return d.step(op, strings.Join(words, " "), d.text(d.source(), d.lex, d.stage.env), true)
}

// namesOwner reports whether chown has a name that only the image's
// /etc/passwd or /etc/group could explain.
func namesOwner(chown string) bool {
	user, group, hasGroup := strings.Cut(chown, ":")
	isName := func(s string) bool {
		_, err := strconv.ParseInt(s, 10, 32)
		return err != nil && s != "root"
	}
	return chown != "" && (isName(user) || hasGroup && group != "" && isName(group))
}

func checkMode(s string) error {
	if s == "" {
		return nil
	}
	notOctal := fmt.Errorf("invalid chmod parameter: '%v'. it should be octal string and between 0 and 07777", s)
	if n, err := strconv.ParseUint(s, 8, 32); err == nil {
		if n > 0o7777 {
			return notOctal
		}
		return nil
	}
	if _, err := mode.Parse(s); err != nil {
		var number *strconv.NumError
		if errors.As(err, &number) {
			return notOctal
		}
		return err
	}
	return nil
}
