// Package run turns an image's config and a request into a running process:
// Config -> runtime-spec -> container.
//
// A Config says what a container should be, in the words of docker run. Spec
// makes an OCI runtime-spec of it, for the Tier of isolation that this process
// can give. A Runtime runs such a spec in a root file system of package layers
// and keeps nothing:
//
//	rt := run.NewRuntime(run.RuntimeOptions{})
//	defer rt.Close()
//	c := run.FromImage(img.Config)
//	c.Args = []string{"/bin/sh", "-c", "make"}
//	st, err := rt.Run(ctx, run.Task{Rootfs: sn.Rootfs(), View: sn.View(), Config: &c, Stdout: w})
//
// The containers are made by a runner: one small process for each Runtime,
// started with the first container from a sealed copy of its program in memory.
// It has a mount namespace of its own, so that no mount of a container is ever
// seen on the host, and it is driven over a socket: when this process dies, even
// by SIGKILL, the runner reads end-of-file, kills its containers, removes their
// cgroups and exits, and its mounts go with its namespace.
//
// Containers are those that outlive a command:
//
//	cs, err := run.OpenContainers(store)
//	c, err := cs.Create(ctx, run.ContainerOptions{Name: "web", ImageID: img.ID, Config: c})
//	err = c.Start(ctx)
//	st, err := c.Exec(ctx, run.ExecOptions{Args: []string{"true"}}, run.Streams{})
//	err = c.Stop(ctx, run.StopOptions{})
//
// Each has a monitor as long as it runs, which is the same program as the runner
// and has one container: it holds its streams, log and lock, checks its health,
// starts it again as its policy says, and serves a control socket, by which every
// other method of a running Container works. The state that it writes is believed
// as long as the lock is held. Containers with Foreground set end with the process
// that runs them and are otherwise the same.
//
// A container with a user namespace of its own (UserNS) has it from its monitor, which
// also makes its network namespace there. What it writes has the ids outside on disk;
// Owners in package layers turn them into those inside wherever files leave it. The
// layers below are mounted with other owners, or stand in a tree made for these ids.
//
// Inside the container the runner's last stage, a few hundred lines of C that run
// before any Go runtime, installs the seccomp filter, drops privileges and
// executes the user's program. The filter is compiled here, once per process.
//
// Program start: Init must be the first call of main, because the runner is,
// unless it was embedded with build tag embedrunner, this same program executed
// again.
package run
