// Package builder executes a plan: it turns a parsed Dockerfile and a build
// context into an image in the store.
//
// Every reachable stage runs in its own goroutine and waits only for the
// stages it names. A step first computes its key from content (the parent's
// key, the Op, the digests of what it reads); a record under that key gives
// the layer without running anything. On a miss the step works in a Snapshot
// on its parent and commits it; the digest is made in the background while the
// next step already stands on it.
//
// What happens is reported as Events and nothing else: the package does not
// print.
package builder
