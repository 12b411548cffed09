package launch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// busTime bounds a call of systemd.
const busTime = 2 * time.Second

// leaveService puts the network process into a systemd scope of its own when this
// process is a service's: systemd would end the process with the service, and it is
// there for other containers too. Where there is no user's systemd to ask, nothing
// happens; a network process that was ended is started again by those who need it.
func leaveService(pid int) {
	if os.Getenv("INVOCATION_ID") == "" {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), busTime)
	defer stop()
	// StartTransientUnit(name, mode, properties, auxiliary units)
	_ = exec.CommandContext(ctx, "busctl", "--user", "--quiet", "call",
		"org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
		"StartTransientUnit", "ssa(sv)a(sa(sv))", fmt.Sprintf("cooper-network-%d.scope", pid), "fail",
		"2", "PIDs", "au", "1", fmt.Sprint(pid), "Description", "s", "Network of cooper's containers", "0").Run()
}
