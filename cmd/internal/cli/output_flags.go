package cli

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/builder/output"
)

// outputFlags are the flags that say what becomes of the image.
type outputFlags struct {
	outputs      []string
	push, load   bool
	annotations  []string
	format       string
	iidfile      string
	rawIidfile   string
	metadataFile string
}

func (f *outputFlags) declare(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&f.outputs, "output", "o", nil, "Bring the image to `DEST`, a directory for its files or - for a tar of them, or type=TYPE[,KEY=VALUE]... with TYPE local, tar, oci, docker, image or registry, and dest=PATH, name=NAME, push, compression, annotation.NAME and others (repeatable; default the store)")
	fs.BoolVar(&f.push, "push", false, "Push the image to the registries of its names")
	fs.BoolVar(&f.load, "load", false, "Keep the image in the store, beside other outputs (the default without any)")
	fs.StringArrayVar(&f.annotations, "annotation", nil, "Add an annotation to the manifest: `NAME=VALUE`, or LEVEL[[PLATFORM]]:NAME=VALUE with LEVEL manifest, index, manifest-descriptor or index-descriptor (repeatable)")
	fs.StringVar(&f.format, "format", "", "Write the manifest in `FORMAT` oci or docker (default oci)")
	fs.StringVar(&f.iidfile, "iidfile", "", "Write the image ID to `FILE`")
	fs.StringVar(&f.rawIidfile, "iidfile-raw", "", "Write the image ID without sha256: to `FILE`")
	fs.StringVar(&f.metadataFile, "metadata-file", "", "Write digests and names of the image as JSON to `FILE`")
}

// apply puts the flags into o. terminal says that standard output is one, which
// no archive is written to.
func (f *outputFlags) apply(o *builder.Options, terminal bool) error {
	switch f.format {
	case "", "oci", "docker":
		o.Format = f.format
	default:
		return fmt.Errorf("invalid format %q: want oci or docker", f.format)
	}
	var err error
	if o.Annotations, err = parseAnnotations(f.annotations); err != nil {
		return err
	}
	for _, value := range f.outputs {
		out, err := parseOutput(value)
		if err != nil {
			return fmt.Errorf("invalid output %q: %w", value, err)
		}
		o.Outputs = append(o.Outputs, out)
	}
	o.Outputs = f.pushLoad(o.Outputs)
	if err := checkManifest(o); err != nil {
		return err
	}
	return checkOutputs(o, terminal)
}

// pushLoad adds what --push and --load mean, as buildx does: an image that goes
// to the store anyway is pushed too.
func (f *outputFlags) pushLoad(outputs []output.Output) []output.Output {
	if !f.push && !f.load {
		return outputs
	}
	for i := range outputs {
		if outputs[i].Type == output.Image {
			outputs[i].Push = outputs[i].Push || f.push
			return outputs
		}
	}
	return append(outputs, output.Output{Type: output.Image, Push: f.push})
}

// checkOutputs finds what would keep outputs from being written.
func checkOutputs(o *builder.Options, terminal bool) error {
	stdout := 0
	for _, out := range o.Outputs {
		if err := out.Check(); err != nil {
			return err
		}
		if out.Dest == output.Stdout {
			if stdout++; stdout > 1 {
				return errors.New("only one output can go to standard output")
			}
			if terminal {
				return withHint(fmt.Errorf("dest file is required for %s exporter. refusing to write to console", out.Type),
					"Name a file with dest=, or redirect standard output.")
			}
		}
		if out.Push && len(o.Tags) == 0 && len(out.Names) == 0 {
			return withHint(errors.New("tag is needed when pushing to registry"), "Name the image: -t REGISTRY/NAME[:TAG]")
		}
	}
	return nil
}

// toStdout reports whether an output goes to standard output.
func toStdout(outputs []output.Output) bool {
	for _, out := range outputs {
		if out.Dest == output.Stdout {
			return true
		}
	}
	return false
}

// parseOutput reads a value of --output. A path alone is a directory, - a tar on
// standard output.
func parseOutput(value string) (output.Output, error) {
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil && err != io.EOF {
		return output.Output{}, err
	}
	if len(fields) == 1 && fields[0] == value && !strings.HasPrefix(value, "type=") {
		if value == output.Stdout {
			return output.Output{Type: output.Tar, Dest: output.Stdout}, nil
		}
		return output.Output{Type: output.Local, Dest: value}, nil
	}
	p := &outputParser{tar: true}
	for _, field := range fields {
		key, arg, found := strings.Cut(field, "=")
		if !found {
			return p.out, fmt.Errorf("invalid value %s: want KEY=VALUE", field)
		}
		if err := p.set(strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(key), arg); err != nil {
			return p.out, err
		}
	}
	return p.finish()
}

// outputParser gathers the keys of an output.
type outputParser struct {
	out output.Output
	tar bool
}

// set takes a key; written is the key in its own case.
func (p *outputParser) set(key, written, value string) (err error) {
	switch key {
	case "type":
		p.out.Type = output.Type(value)
	case "dest":
		p.out.Dest = value
	case "name":
		p.out.Names = strings.Split(value, ",")
	case "push":
		p.out.Push, err = parseBool(key, value)
	case "tar":
		p.tar, err = parseBool(key, value)
	case "compression":
		p.out.Compression = value
	case "compression-level":
		var level int
		if level, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("invalid compression-level %q: want a number", value)
		}
		p.out.CompressionLevel = &level
	case "force-compression":
		p.out.ForceCompression, err = parseBool(key, value)
	case "oci-mediatypes":
		var oci bool
		oci, err = parseBool(key, value)
		p.out.Format = map[bool]string{true: "oci", false: "docker"}[oci]
	case "rewrite-timestamp":
		p.out.RewriteTimestamp, err = parseBool(key, value)
	case "push-by-digest":
		p.out.ByDigest, err = parseBool(key, value)
	case "platform-split":
		var split bool
		split, err = parseBool(key, value)
		p.out.PlatformSplit = &split
	case "unpack", "store", "name-canonical":
		// What docker's own store would do; the store needs none of it, and
		// finds every image by NAME@DIGEST.
		_, err = parseBool(key, value)
	case "registry.insecure", "oci-artifact":
		var on bool
		if on, err = parseBool(key, value); err == nil && on {
			return fmt.Errorf("%s=%s is not supported yet", key, value)
		}
	default:
		return p.annotation(key, written, value)
	}
	return err
}

func parseBool(key, value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("invalid value %q for %s: want true or false", value, key)
	}
	return b, nil
}

// annotation takes annotation.NAME, annotation-manifest.NAME and so on, each
// with or without [PLATFORM].
func (p *outputParser) annotation(key, written, value string) error {
	level, _, found := strings.Cut(written, ".")
	rest, isAnnotation := strings.CutPrefix(strings.ToLower(level), "annotation")
	if !found || !isAnnotation {
		return fmt.Errorf("unknown key %q: want type, dest, name, push, tar, compression, compression-level, force-compression, oci-mediatypes, rewrite-timestamp, platform-split, push-by-digest or annotation.NAME", key)
	}
	a, err := annotationLevel(strings.TrimPrefix(rest, "-"))
	if err != nil {
		return err
	}
	a.Name, a.Value = written[len(level)+1:], value
	p.out.Annotations = append(p.out.Annotations, a)
	return nil
}

// finish checks the keys together.
func (p *outputParser) finish() (output.Output, error) {
	out := p.out
	switch out.Type {
	case "":
		return out, errors.New("type is required for output")
	case "registry":
		out.Type, out.Push = output.Image, true
	case output.Docker, output.OCI, output.Tar:
		out.Dir = !p.tar && out.Type != output.Tar
		switch {
		case out.Dest != "" || out.Dir:
		case out.Type == output.Docker:
			out.Type = output.Image // docker's store is our store
		default:
			out.Dest = output.Stdout
		}
	}
	if out.ByDigest {
		for _, name := range out.Names {
			if _, tag, _ := splitName(name); tag != "" {
				return out, fmt.Errorf("can't push tagged ref %s by digest", name)
			}
		}
	}
	return out, checkCompression(out)
}

// checkCompression finds a compression that nothing can make.
func checkCompression(out output.Output) error {
	most := map[string]int{"": 9, "gzip": 9, "zstd": 22, "uncompressed": 0}
	limit, known := most[out.Compression]
	if !known {
		return fmt.Errorf("unsupported compression %q: want gzip, zstd or uncompressed", out.Compression)
	}
	if l := out.CompressionLevel; l != nil && (*l < 0 || *l > limit) {
		return fmt.Errorf("invalid compression-level %d: %s has 0 to %d", *l, or(out.Compression, "gzip"), limit)
	}
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// parseAnnotations reads --annotation values: [LEVEL[[PLATFORM]],...:]NAME=VALUE.
func parseAnnotations(values []string) (all []output.Annotation, err error) {
	for _, v := range values {
		key, value, found := strings.Cut(v, "=")
		if !found || key == "" {
			return nil, fmt.Errorf("invalid annotation %q, expected key=value", v)
		}
		levels, name, found := strings.Cut(key, ":")
		if !found {
			levels, name = "", key
		}
		for level := range strings.SplitSeq(levels, ",") {
			a, err := annotationLevel(level)
			if err != nil {
				return nil, fmt.Errorf("invalid annotation %q: %w", v, err)
			}
			a.Name, a.Value = name, value
			all = append(all, a)
		}
	}
	return all, nil
}

// annotationLevel reads a level, with or without [PLATFORM]; "" is the manifest.
func annotationLevel(value string) (a output.Annotation, err error) {
	level, only, found := strings.Cut(value, "[")
	if found {
		p, err := platforms.Parse(strings.TrimSuffix(only, "]"))
		if err != nil {
			return a, fmt.Errorf("platform %q: %w", strings.TrimSuffix(only, "]"), err)
		}
		a.Platform = &p
	}
	switch a.Level = output.Level(level); a.Level {
	case "", output.OnManifest, output.OnManifestDescriptor, output.OnIndex, output.OnIndexDescriptor:
		return a, nil
	}
	return a, fmt.Errorf("unknown annotation type %q: want manifest, index, manifest-descriptor or index-descriptor", level)
}

// metadata is what --metadata-file holds, by buildx's names.
type metadata struct {
	ConfigDigest string              `json:"containerimage.config.digest,omitempty"`
	Descriptor   *ocispec.Descriptor `json:"containerimage.descriptor,omitempty"`
	Digest       string              `json:"containerimage.digest,omitempty"`
	Name         string              `json:"image.name,omitempty"`
}

// writeResult writes the files that tell other programs what was built.
func (f *outputFlags) writeResult(r *builder.Result) error {
	id := "sha256:" + r.Image.ID
	for name, text := range map[string]string{f.iidfile: id, f.rawIidfile: r.Image.ID} {
		if name == "" {
			continue
		}
		if err := writeText(name, text); err != nil {
			return fmt.Errorf("write the image ID: %w", err)
		}
	}
	if f.metadataFile == "" {
		return nil
	}
	m := metadata{Name: strings.Join(r.Names, ",")}
	if r.Manifest.Digest != "" {
		m.Descriptor, m.Digest = &r.Manifest, r.Manifest.Digest.String()
		if !r.Index {
			m.ConfigDigest = id
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = writeText(f.metadataFile, string(text))
	}
	if err != nil {
		return fmt.Errorf("write the metadata: %w", err)
	}
	return nil
}

// writeText writes a file at once.
func writeText(path, text string) error {
	return output.WriteFile(path, nil, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}
