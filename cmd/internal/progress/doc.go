// Package progress shows a build, or a pull, while it runs. It knows nothing
// but the builder's events, so whatever sends events is displayed:
//
//	d := progress.New(os.Stderr, progress.Options{Mode: progress.Auto})
//	b := builder.Builder{Events: d.Event, ...}
//	result, err := b.Build(ctx, options)
//	d.Close()
//
// There are three displays. Plain appends lines in BuildKit's plain form and
// suits logs. TTY keeps one line for each running step, with the end of its
// output below it, at the bottom of a terminal; what is done scrolls away
// above. Quiet shows nothing.
//
// What comes out of a build is written by strangers: on a terminal, control
// characters and escape sequences in it are dropped, so that output can move
// neither the cursor nor the display.
package progress
