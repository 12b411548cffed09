package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"cooper/builder"
)

// testFlags are the flags of build about testing the image.
type testFlags struct {
	tests   []string
	health  bool
	timeout time.Duration
}

func (f *testFlags) declare(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.tests, "test", nil, "Run `COMMAND` by the shell of the finished image; only if it succeeds the image gets its names, is written or pushed (repeatable)")
	fs.BoolVar(&f.health, "test-health", false, "Start the finished image and wait until its HEALTHCHECK succeeds; the same depends on it")
	fs.DurationVar(&f.timeout, "test-timeout", 0, "End a test that takes longer than `DURATION` (default never)")
}

// apply checks the flags and puts them into o.
func (f *testFlags) apply(o *builder.Options) error {
	for _, command := range f.tests {
		if strings.TrimSpace(command) == "" {
			return errors.New("invalid --test: want a command line for the image's shell")
		}
	}
	switch {
	case f.timeout < 0:
		return fmt.Errorf("invalid --test-timeout %s: want a positive duration", f.timeout)
	case f.timeout > 0 && len(f.tests) == 0 && !f.health:
		return errors.New("--test-timeout needs --test or --test-health")
	}
	o.Tests, o.TestHealth, o.TestTimeout = f.tests, f.health, f.timeout
	return nil
}
