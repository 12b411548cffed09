// Command bench measures whole commands, ours and those of other tools, in
// one interleaved run and prints one table in Markdown. It is started by
// bench/run, which installs the others from Debian and makes the base image.
//
// Every store and every context lies on a tmpfs, so that the speed of the
// disk is no part of the comparison. A cold build is one whose steps the tool
// has never seen, its base image being there; what makes it cold again is not
// timed. Each figure is the median of several runs after a warm-up; the runs
// of the tools take turns, so that a busy moment of the machine meets all.
//
// Containers are run on the default network of each tool, in a network namespace
// that bench/run makes for all of them. Their memory is what the processes on the
// host use for them (proportional set size): monitors, proxies, the growth of a
// daemon. The server behind published ports is this program itself.
package main
