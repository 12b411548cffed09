package run

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cooper/layers"
)

const envChurn = "COOPER_TEST_CHURN"

// TestChurn makes, renames and removes containers without end; it is the process
// that TestKilledCommands kills.
func TestChurn(t *testing.T) {
	dir := os.Getenv(envChurn)
	if dir == "" {
		t.Skip("only for TestKilledCommands")
	}
	cs := openContainers(t, dir)
	img, err := cs.store.Image("base")
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "begun"), nil, 0o600)
	for {
		c, err := cs.Create(t.Context(), ContainerOptions{Name: "churn", Image: "base", ImageID: img.ID})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Rename(t.Context(), "churned"); err != nil {
			t.Fatal(err)
		}
		if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func openContainers(t *testing.T, dir string) *Containers {
	t.Helper()
	store, err := layers.Open(t.Context(), layers.Options{Root: dir + "/root", RunRoot: dir + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	cs, err := OpenContainers(store)
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// TestKilledCommands kills a process that makes and removes containers at any
// moment. What it leaves is either a container or nothing, and it stands in nobody's
// way.
func TestKilledCommands(t *testing.T) {
	kills := 100
	if testing.Short() {
		kills = 10
	}
	cs, img := keptStore(t)
	dir := filepath.Dir(cs.store.Root())
	begun := filepath.Join(dir, "begun")
	for range kills {
		os.Remove(begun)
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestChurn$")
		cmd.Env = append(os.Environ(), envChurn+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if _, err := os.Lstat(begun); err == nil {
				break
			}
		}
		time.Sleep(time.Duration(rand.IntN(15_000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		checkLeft(t, cs)
	}
	create(t, cs, img, ContainerOptions{Name: "churn"})
	create(t, cs, img, ContainerOptions{Name: "churned"})
	if left, err := os.ReadDir(filepath.Join(cs.dir, "names")); err != nil || len(left) != 2 {
		t.Errorf("names of two containers: %v, %v", left, err)
	}
}

// checkLeft removes the container that is there, if any, and looks for what is left
// of others.
func checkLeft(t *testing.T, cs *Containers) {
	t.Helper()
	list, err := cs.List()
	if err != nil || len(list) > 1 {
		t.Fatalf("List() = %v, %v, want one or none", list, err)
	}
	for _, c := range list {
		if err := c.Remove(t.Context(), RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := cs.ids(); err != nil || len(ids) != 0 {
		t.Errorf("directories without a container: %v, %v", ids, err)
	}
	if stored, err := cs.store.Containers().Containers(); err != nil || len(stored) != 0 {
		t.Errorf("layers without a container: %v, %v", stored, err)
	}
}
