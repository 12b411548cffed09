package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cooper/layers"
)

// TestPruneSpares: nobody's prune takes a container between CreateToStart and Start.
func TestPruneSpares(t *testing.T) {
	cs, img := liveStore(t)
	c, err := cs.CreateToStart(t.Context(), toSleep(img))
	if err != nil {
		t.Fatal(err)
	}
	other, err := cs.Find(c.ID())
	if err != nil {
		t.Fatal(err)
	}
	pruned := make(chan error, 1)
	go func() { pruned <- other.Remove(t.Context(), RemoveOptions{}) }()
	select {
	case err := <-pruned:
		t.Fatalf("Remove before the start = %v, want it to wait", err)
	case <-time.After(50 * time.Millisecond):
	}
	start(t, c)
	if err := <-pruned; !errors.Is(err, ErrRunning) {
		t.Errorf("Remove = %v, want ErrRunning", err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}

	// One that will not be started can be removed, by its maker at once.
	if c, err = cs.CreateToStart(t.Context(), toSleep(img)); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if c, err = cs.CreateToStart(t.Context(), toSleep(img)); err != nil {
		t.Fatal(err)
	}
	c.Release()
	if other, err = cs.Find(c.ID()); err == nil {
		err = other.Remove(t.Context(), RemoveOptions{})
	}
	if err != nil {
		t.Error(err)
	}
}

func toSleep(img layers.Image) ContainerOptions {
	return ContainerOptions{Image: "base", ImageID: img.ID, NetworkMode: "host", Config: sh("exec sleep 100")}
}

// TestEditTogether: of many edits at once, by one Container and by several, none is
// lost.
func TestEditTogether(t *testing.T) {
	cs, img := liveStore(t)
	c := live(t, cs, img, "exec sleep 100", ContainerOptions{Labels: map[string]string{}})
	const n = 100
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			who := c
			if i%2 == 0 {
				var err error
				if who, err = cs.Find(c.ID()); err != nil {
					t.Error(err)
					return
				}
			}
			var err error
			switch {
			case i == n/2:
				err = who.Start(t.Context())
			case i%10 == 1:
				err = who.Rename(t.Context(), fmt.Sprintf("name%d", i))
			case i%10 == 2:
				err = who.Update(t.Context(), nil, &RestartPolicy{Name: "on-failure", MaxRetries: i})
			default:
				err = who.Edit(func(o *ContainerOptions) error {
					labels := map[string]string{fmt.Sprint(i): who.Name()}
					for name, value := range o.Labels {
						labels[name] = value
					}
					o.Labels = labels
					return nil
				})
			}
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()
	again, err := cs.Find(c.ID())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(again.Options().Labels), n-2*n/10-1; got != want {
		t.Errorf("%d labels after as many edits, want %d", got, want)
	}
	if names, err := cs.namesOf(c.ID()); err != nil || len(names) != 1 || names[0] != again.Name() {
		t.Errorf("its names are %q, %v, want only %q", names, err, again.Name())
	}
	if err := again.Remove(t.Context(), RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

// TestUpdateWhileStarting: a limit that is changed while the container is being
// started is that of the container in the end.
func TestUpdateWhileStarting(t *testing.T) {
	cs, img := liveStore(t)
	if tier, err := DetectTier(); err != nil || tier.Cgroup == 0 {
		t.Skip("no cgroups for limits here")
	}
	for i := range 10 {
		c := live(t, cs, img, "exec sleep 100", ContainerOptions{})
		started := make(chan error, 1)
		go func() { started <- c.Start(t.Context()) }()
		time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		limit := int64(100 + i)
		err := c.Update(t.Context(), func(conf *Config) error { conf.PidsLimit = limit; return nil }, nil)
		if err := errors.Join(err, <-started); err != nil {
			t.Fatal(err)
		}
		if got := pidsMax(t, stateOf(t, c)); got != fmt.Sprint(limit) {
			t.Errorf("pids.max = %s after update during the start, want %d", got, limit)
		}
		if err := c.Remove(t.Context(), RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

func pidsMax(t *testing.T, st State) string {
	t.Helper()
	for _, dir := range st.Cgroups {
		if b, err := os.ReadFile(filepath.Join(dir, "pids.max")); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	t.Fatalf("no pids.max in %q", st.Cgroups)
	return ""
}
