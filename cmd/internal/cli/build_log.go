package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cooper/builder"
	"cooper/cmd/internal/progress"
)

// buildLog shows what a build does: on standard error, in a file, or in a file
// for each platform.
type buildLog struct {
	files    []*os.File
	displays []*progress.Display
	// platforms are those of the displays, "" where all is shown.
	platforms []string
}

// open opens what --logfile and --logsplit ask for. The caller closes it.
func (f *buildahFlags) open(stderr *os.File, wanted []ocispec.Platform, o progress.Options) (*buildLog, error) {
	l := &buildLog{}
	if f.logFile == "" {
		l.add("", stderr, o)
		return l, nil
	}
	if !f.logSplit || len(wanted) == 0 {
		return l, l.create("", f.logFile, o)
	}
	for _, p := range wanted {
		name := platforms.FormatAll(p)
		if err := l.create(name, f.logFile+"_"+strings.ReplaceAll(name, "/", "_"), o); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// create adds a display that writes to a new file.
func (l *buildLog) create(platform, name string, o progress.Options) error {
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	l.files = append(l.files, file)
	l.add(platform, file, o)
	return nil
}

func (l *buildLog) add(platform string, file *os.File, o progress.Options) {
	l.displays = append(l.displays, progress.New(file, o))
	l.platforms = append(l.platforms, platform)
}

// Event shows e where it belongs: a step of one platform in its log, all else
// in all of them.
func (l *buildLog) Event(e builder.Event) {
	own := platformOf(e.Name, l.platforms)
	for i, d := range l.displays {
		if own == "" || own == l.platforms[i] {
			d.Event(e)
		}
	}
}

// platformOf returns which of the platforms a step's name begins with:
// "[linux/arm64 build 1/2] RUN make", "[linux/amd64->arm64 2/2] RUN make".
func platformOf(name string, platforms []string) string {
	for _, p := range platforms {
		rest, ok := strings.CutPrefix(name, "["+p)
		if p != "" && ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "->")) {
			return p
		}
	}
	return ""
}

// mode is how the build is shown.
func (l *buildLog) mode() progress.Mode { return l.displays[0].Mode() }

// Close ends the displays. Further calls do nothing.
func (l *buildLog) Close() {
	for _, d := range l.displays {
		d.Close()
	}
	for _, f := range l.files {
		f.Close() // what the display could not write is missed, as on a terminal
	}
	l.files = nil
}
