package cli

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"cooper/builder"
)

// epochArg is the build argument that makes builds reproducible.
const epochArg = "SOURCE_DATE_EPOCH"

// timeFlags are the flags that say when a build pretends to happen.
type timeFlags struct {
	sourceDateEpoch, timestamp string
	rewriteTimestamp           bool
}

func (f *timeFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.sourceDateEpoch, "source-date-epoch", "", "Date the image at `SECONDS` since 1970, like --build-arg SOURCE_DATE_EPOCH (default that of the environment)")
	fs.StringVar(&f.timestamp, "timestamp", "", "Date the image at `SECONDS` since 1970 and let no file of its new layers be newer")
	fs.BoolVar(&f.rewriteTimestamp, "rewrite-timestamp", false, "Let no file of the new layers be newer than SOURCE_DATE_EPOCH")
}

// apply puts the flags into o, which has the build arguments already. As with
// buildx, the environment's epoch counts when nothing else says one.
func (f *timeFlags) apply(o *builder.Options, lookupEnv func(string) (string, bool)) error {
	o.RewriteTimestamp = f.rewriteTimestamp || f.timestamp != ""
	if f.timestamp != "" {
		if f.sourceDateEpoch != "" {
			return errors.New("--timestamp and --source-date-epoch exclude each other")
		}
		seconds, err := strconv.ParseInt(f.timestamp, 10, 64)
		if err != nil {
			return fmt.Errorf("invalid timestamp %q: want seconds since 1970", f.timestamp)
		}
		at := time.Unix(seconds, 0)
		o.Timestamp = &at
		return nil
	}
	if f.sourceDateEpoch != "" {
		if _, err := strconv.ParseInt(f.sourceDateEpoch, 10, 64); err != nil {
			return fmt.Errorf("invalid source date epoch %q: want seconds since 1970", f.sourceDateEpoch)
		}
		o.BuildArgs[epochArg] = f.sourceDateEpoch
		return nil
	}
	if _, ok := o.BuildArgs[epochArg]; !ok {
		if value, ok := lookupEnv(epochArg); ok && value != "" {
			o.BuildArgs[epochArg] = value
		}
	}
	return nil
}
