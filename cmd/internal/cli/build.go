package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/builder/output"
	"cooper/builder/remote"
	"cooper/cmd/internal/progress"
	"cooper/layers"
	"cooper/registry"
	"cooper/run"
)

// buildFlags are the flags of build as given.
type buildFlags struct {
	file          string
	ignoreFile    string
	tags          []string
	target        string
	buildArgs     []string
	buildContexts []string
	labels        []string
	noCache       bool
	pull          string
	network       string
	progress      string
	quiet         bool
	call          string
	check         bool
	platformFlags
	outputFlags
	testFlags
	timeFlags
	secretFlags
	stepFlags
	editFlags
	compatFlags
	refused      refused
	rightsFlags  rightsFlags
	buildahFlags buildahFlags
}

const buildExample = `
  @ .                                       Build the Dockerfile of this directory
  @ -t app:1.2 -f deploy/Dockerfile .       Name the image, and the Dockerfile
  @ --build-arg VERSION=3 --target test .   Set an ARG, build one stage
  @ --build-context base=oci-layout://./base .
  @ -t registry.example.com/app --push .    Send the image to its registry
  @ -t app --test 'app --version' --push .  Only if the test succeeds
  @ -o dist --target files .                Write the files of a stage to dist
  @ https://github.com/user/app.git#v1.2:dir  Build a directory of a git repository
  @ - < Dockerfile                          Build without files, or those of an archive`

// NewBuild makes the build command.
func NewBuild(e *Env) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:                   "build [OPTIONS] PATH | URL | -",
		Short:                 "Build an image from a Dockerfile",
		Long:                  "Build an image from a Dockerfile and the files in the directory PATH, in an\narchive or git repository at URL, or in an archive on standard input (-). A\nDockerfile alone on standard input, or at URL, is built without files.",
		Example:               buildExample,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := f.refused.check(cmd.Flags()); err != nil {
				return err
			}
			return buildArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.build(cmd.Context(), &f, args[0])
		},
	}
	f.declare(cmd.Flags())
	e.commonFlags(cmd)
	return cmd
}

// buildArgs requires the build context.
func buildArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	err := errors.New("requires 1 argument: the directory to build, usually . (the current one)")
	if len(args) > 1 {
		err = fmt.Errorf("requires 1 argument, got %d: %s", len(args), strings.Join(args, " "))
	}
	return &usageError{cmd: cmd, err: err, status: statusError}
}

func (f *buildFlags) declare(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(cmp.Or(flagAliases[name], name))
	})
	fs.StringVarP(&f.file, "file", "f", "", "Read the Dockerfile from `FILE`, a path or a URL; - is standard input (default PATH/Dockerfile)")
	fs.StringVar(&f.ignoreFile, "ignorefile", "", "Read patterns of files to leave out of the context from `FILE` (default PATH/.dockerignore)")
	fs.StringArrayVarP(&f.tags, "tag", "t", nil, "Give the image a `NAME[:TAG]` (repeatable)")
	fs.StringVar(&f.target, "target", "", "Build the `STAGE` and what it needs (default the last)")
	fs.StringArrayVar(&f.buildArgs, "build-arg", nil, "Set an ARG: `NAME[=VALUE]`, the value by default from the environment (repeatable)")
	fs.StringArrayVar(&f.buildContexts, "build-context", nil, "Add a context or replace an image: `NAME=VALUE`, a directory, docker-image://IMAGE, oci-layout://DIR, URL, target:STAGE (repeatable)")
	fs.StringArrayVar(&f.labels, "label", nil, "Add a label to the image: `NAME=VALUE` (repeatable)")
	fs.BoolVar(&f.noCache, "no-cache", false, "Run every step, whatever the cache holds; caches that they mount begin empty")
	pullFlag(fs, &f.pull, "Fetch base images: missing, always, never or newer (default missing, without a `POLICY` always)")
	f.platformFlags.declare(fs)
	fs.StringVar(&f.network, "network", "", "Network of RUN steps: `MODE` host or none (default host)")
	fs.StringVar(&f.progress, "progress", "auto", "Show progress: `TYPE` auto, plain, tty, quiet or rawjson")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print only the image ID")
	fs.BoolVar(&f.check, "check", false, "Check the Dockerfile and build nothing; the exit status is 1 if there are warnings")
	fs.StringVar(&f.call, "call", "build", "Instead of building answer `CALL`: check, outline or targets, with ,format=json as JSON")
	f.timeFlags.declare(fs)
	f.secretFlags.declare(fs)
	f.testFlags.declare(fs)
	f.outputFlags.declare(fs)
	f.stepFlags.declare(fs)
	f.editFlags.declare(fs)
	f.compatFlags.declare(fs)
	f.refused.declare(fs)
	f.rightsFlags.declare(fs)
	f.buildahFlags.declare(fs)
}

// request is what --call and --check ask for.
func (f *buildFlags) request() (call, error) {
	c, err := parseCall(f.call)
	if err == nil && f.check {
		if c.name != "" && c.name != "lint" {
			return c, fmt.Errorf("--check and --call=%s exclude each other", c.name)
		}
		c.name = "lint"
	}
	if err == nil && c.name != "" && f.iidfile != "" {
		err = errNoCallOutput
	}
	return c, err
}

// pullFlag declares --pull, which may stand alone.
func pullFlag(fs *pflag.FlagSet, value *string, usage string) {
	fs.StringVar(value, "pull", "", usage)
	fs.Lookup("pull").NoOptDefVal = string(builder.PullAlways)
}

// parsePull reads the value of --pull. Docker's true and false are understood.
func parsePull(s string) (builder.PullPolicy, error) {
	switch p := builder.PullPolicy(s); p {
	case "", "false":
		return builder.PullMissing, nil
	case "true":
		return builder.PullAlways, nil
	case builder.PullMissing, builder.PullAlways, builder.PullNever, builder.PullNewer:
		return p, nil
	}
	return "", fmt.Errorf("invalid pull policy %q: want missing, always, never or newer", s)
}

// options turns the flags into builder.Options; the Dockerfile, the ignore file
// and the context are still to be read.
func (f *buildFlags) options(lookupEnv func(string) (string, bool)) (builder.Options, error) {
	o := builder.Options{Tags: f.tags, Target: f.target, NoCache: f.noCache}
	err := checkTags(f.tags)
	if err != nil {
		return o, err
	}
	if o.Pull, err = parsePull(f.pull); err != nil {
		return o, err
	}
	if o.BuildArgs, err = buildArgMap(f.buildArgs, lookupEnv); err != nil {
		return o, err
	}
	if err = f.timeFlags.apply(&o, lookupEnv); err != nil {
		return o, err
	}
	if o.Labels, err = pairs("label", f.labels); err != nil {
		return o, err
	}
	if o.NamedContexts, err = namedContexts(f.buildContexts); err != nil {
		return o, err
	}
	switch f.network {
	case "", "default", "host", "none":
		o.Network = f.network
	default:
		return o, fmt.Errorf("invalid network %q: want host or none", f.network)
	}
	if err := f.platformFlags.apply(&o); err != nil {
		return o, err
	}
	if err := f.stepFlags.apply(&o); err != nil {
		return o, err
	}
	if err := f.testFlags.apply(&o); err != nil {
		return o, err
	}
	if err := f.editFlags.apply(&o, lookupEnv); err != nil {
		return o, err
	}
	if err := f.rightsFlags.apply(&o); err != nil {
		return o, err
	}
	if err := f.compatFlags.apply(&o, lookupEnv); err != nil {
		return o, err
	}
	return o, f.buildahFlags.apply(&o, lookupEnv)
}

// namedContexts reads --build-context values. What has no prefix is a directory,
// as with docker, rather than an image.
func namedContexts(values []string) (map[string]string, error) {
	contexts, err := pairs("build context", values)
	if err != nil {
		return nil, err
	}
	for name, value := range contexts {
		if value == "" {
			return nil, fmt.Errorf("invalid build context %q: want NAME=VALUE", name)
		}
		if image, ok := strings.CutPrefix(value, "container-image://"); ok { // buildah's spelling
			contexts[name] = "docker-image://" + image
			continue
		}
		if strings.Contains(value, "://") || strings.HasPrefix(value, "target:") || remote.IsRemote(value) {
			continue
		}
		if ref, err := registry.ParseReference(value); err == nil && ref.Transport() != registry.Docker {
			continue
		}
		info, err := os.Stat(value)
		if err == nil && !info.IsDir() {
			err = &os.PathError{Op: "open", Path: value, Err: syscall.ENOTDIR}
		}
		if err != nil {
			return nil, withHint(fmt.Errorf("failed to get build context %s: %w", name, err), "For an image write %s=docker-image://%s", name, value)
		}
	}
	return contexts, nil
}

// checkTags finds names that no image can have, before anything is built.
func checkTags(tags []string) error {
	for _, tag := range tags {
		if _, err := layers.NormalizeName(tag); err != nil {
			return fmt.Errorf("invalid tag %q: %w", tag, cmp.Or(errors.Unwrap(err), err))
		}
	}
	return nil
}

// buildArgMap reads --build-arg values. A name alone takes the value of the
// environment and, as with docker, is left out where that has none.
func buildArgMap(args []string, lookupEnv func(string) (string, bool)) (map[string]string, error) {
	m := make(map[string]string, len(args))
	for _, arg := range args {
		name, value, found := strings.Cut(arg, "=")
		if name == "" {
			return nil, fmt.Errorf("invalid build argument %q: want NAME=VALUE", arg)
		}
		if !found {
			if value, found = lookupEnv(name); !found {
				continue
			}
		}
		m[name] = value
	}
	return m, nil
}

// pairs reads NAME=VALUE flags of a kind; a missing value is empty.
func pairs(kind string, values []string) (map[string]string, error) {
	m := make(map[string]string, len(values))
	for _, v := range values {
		name, value, _ := strings.Cut(v, "=")
		if name == "" {
			return nil, fmt.Errorf("invalid %s %q: want NAME=VALUE", kind, v)
		}
		m[name] = value
	}
	return m, nil
}

// build is the build command.
func (e *Env) build(ctx context.Context, f *buildFlags, contextArg string) error {
	mode, err := progress.ParseMode(f.progress)
	if err != nil {
		return err
	}
	if f.quiet {
		mode = progress.Quiet
	}
	if err := checkContext(contextArg, f.file); err != nil {
		return err
	}
	request, err := f.request()
	if err != nil {
		return err
	}
	o, err := f.options(e.LookupEnv)
	if err != nil {
		return err
	}
	if err := f.outputFlags.apply(&o, terminal(e.Stdout)); err != nil {
		return err
	}
	if err := f.compress(o.Outputs); err != nil {
		return err
	}
	if o.Secrets, err = parseSecrets(f.secrets, e.LookupEnv); err != nil {
		return err
	}
	agents, err := parseSSH(f.ssh, e.LookupEnv)
	if err != nil {
		return err
	}
	oci, err := f.buildahFlags.runtime.runtime()
	if err != nil {
		return err
	}
	store, err := e.Store(ctx) // may start the process anew: nothing is read from standard input before
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	stopAgents, err := serveSSH(&o, agents)
	if err != nil {
		return err
	}
	defer stopAgents()
	runtime := run.NewRuntime(run.RuntimeOptions{OCI: oci})
	defer runtime.Close()
	client, err := f.buildahFlags.client(store)
	if err != nil {
		return err
	}
	display, err := f.buildahFlags.open(e.Stderr, o.Platforms, progress.Options{Mode: mode})
	if err != nil {
		return err
	}
	defer display.Close()
	b := &builder.Builder{Store: store, Registry: client, Runtime: runtime, Events: display.Event, Stdout: e.Stdout}
	src := &sources{env: e, builder: b, o: &o, file: f.file, ignoreFile: f.ignoreFile}
	defer src.close() // what stays is swept by the next build
	if err := src.read(ctx, contextArg); err != nil {
		return err
	}
	if request.name != "" {
		display.Close()
		b.Events = nil
		return request.do(ctx, e.Stdout, b, o)
	}
	result, err := b.Build(ctx, o)
	display.Close()
	if err != nil {
		return err
	}
	return e.built(result, f, o.Outputs, display.mode())
}

// built says what was built: on a terminal, whose display does not, and where
// asked for.
func (e *Env) built(r *builder.Result, f *buildFlags, outputs []output.Output, mode progress.Mode) error {
	if err := f.writeResult(r); err != nil {
		return err
	}
	switch {
	case mode == progress.Quiet && !toStdout(outputs):
		_, err := fmt.Fprintln(e.Stdout, "sha256:"+r.Image.ID)
		return err
	case mode == progress.TTY:
		if r.Image.Digest != "" {
			fmt.Fprintf(e.Stderr, "Image %s %s\n", shortID(r.Image.ID), strings.Join(r.Image.Names, " "))
		}
		for _, out := range outputs {
			if out.Dest != "" && out.Dest != output.Stdout {
				fmt.Fprintf(e.Stderr, "Wrote %s\n", out.Dest)
			}
		}
	}
	return nil
}
