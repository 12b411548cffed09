// Package quadlet turns quadlet files into systemd services: web.container into
// web.service, which runs cooper run, and likewise data.volume, front.network,
// app.build and base.image. The files, their keys and the services' names are
// those of podman-systemd.unit(5), so that files written for podman serve here.
//
// Bytes in, units out: the caller reads the files and their drop-ins, and
// writes what Translate returns. Nothing here looks at the file system, but for
// Options.Exists, so that every rule is a golden file in testdata.
//
// # Syntax
//
// The syntax is systemd's (systemd.syntax(7)): sections, KEY=VALUE lines,
// comments, lines continued after a backslash. An empty value forgets those
// before it. Lists of words are split and unquoted as systemd does, and quoted
// again in the service. Specifiers (%h) and variables (${NAME}) are systemd's
// to expand: they pass untouched.
//
// Sections other than the file's own are handed to systemd as they are; the own
// one stays readable in the service as [X-Container] and so on, which systemd
// ignores. A key that is not known is an error that names file and line, and so
// is one that cooper has nothing for; one that would change nothing about what
// runs is left out with a warning.
//
// # Services
//
// A container's service is of type notify: cooper run -d ends when the
// container runs, having told systemd that the container's monitor is the main
// process. The monitor lives in the service's cgroup and the container in a
// cgroup below it; it ends with the container's exit status, and a monitor that
// is killed takes its container along. The services of other files run one
// command and stay active (oneshot, RemainAfterExit).
//
// A file that refers to another one (Network=front.network) gets a dependency
// on that one's service, and the name of what that makes.
package quadlet
