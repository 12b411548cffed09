// Package output brings what a build has made to where it was asked for: into
// the store, to registries, into archives and image layouts, or as files into a
// directory or a tar.
//
// An Exporter works on an Image, which need not have a record in the store: a
// build whose only output is an archive leaves no image behind. Files get their
// names when they are complete, so that a failure or an interruption leaves
// nothing half-written, and replace what was there at once.
package output
