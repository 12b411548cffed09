// Package archtest holds the tests of the repository's shape: which package
// may import which, that packages and exported names are documented, and that
// functions stay short enough to read. It has no code of its own.
//
// The rules are those of the design: dockerfile and layers import nothing of
// ours; registry and run import layers only; builder imports these four; the
// commands import all. A third-party module is used in one room, so that
// replacing it means changing one room.
package archtest
