// Package cli holds the commands: what build, run and cooper share. Each is
// made by a constructor (NewBuild, NewRun, NewCooper, ...) that declares its
// flags; running it turns them into options, calls one library function and
// prints what comes back. Main runs one as a process:
//
//	func main() {
//		run.Init()
//		layers.Init()
//		cli.Main(cli.NewBuild)
//	}
//
// Flag names, output columns and exit statuses are docker's: 0, the
// container's own for run, 125 for run's own failures and for mistakes on the
// command line, 126 and 127 for a program that cannot be executed or is not
// there, 128 and the signal's number after an interruption, 1 for all else.
//
// A process starts in milliseconds only if nothing here happens before it is
// needed: no regular expression, template or table is made at package level,
// and the store is opened once the flags are known to be right.
package cli
