// Package difftest compares images that the build command makes with those
// that BuildKit makes of the same Dockerfile. It has tests only.
//
// Each directory below testdata/dockerfiles that holds one of the files
// want.json and expect-error is a case, named after the one behaviour it shows:
//
//	Dockerfile    what is built, with a comment where the result surprises
//	context/      the build context; without it the context is empty
//	setup         a shell script, run in a copy of the context, for what git
//	              does not keep: modes, hard links, special files
//	args          arguments of build, one a line
//	want.json     the image: configuration, history and file tree
//	expect-error  instead: lines that the error message contains. One that
//	              begins with "ours: " is expected of us only
//	root-only     why an ordinary user can't build it, if so
//	todo          why we can't build it yet, if so
//	record-me     for a new case, until its want.json is recorded
//
// FROM busybox-base finds the base that scripts/bases makes. The tree in
// want.json lists what differs from it. A file is told by its mode, owner and
// content, as text when short and else by digest; times are left out.
//
// The tests need no other builder: want.json is recorded beforehand.
//
//	go test ./cmd/internal/difftest -record DIR [-run TestDockerfiles/NAME]
//
// builds the cases by the buildkitd and buildctl in DIR and writes every
// want.json that does not say that it was written by hand. Where a difference
// is meant, want.json is so and the Dockerfile says why. As go install refuses
// to, they are built in a copy of the module go.mod names:
//
//	go build -tags "netgo osusergo" -o DIR ./cmd/buildkitd ./cmd/buildctl
package difftest
