package sshagent

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// newKey writes a private key and returns its path.
func newKey(t *testing.T, passphrase string) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test key")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "test key", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id_ed25519")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// use lists the keys of an agent, signs with the first and tries to remove all.
func use(t *testing.T, socket string) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client := agent.NewClient(c)
	keys, err := client.List()
	if err != nil || len(keys) != 1 {
		t.Fatalf("List: %d keys, %v", len(keys), err)
	}
	signature, err := client.Sign(keys[0], []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys[0].Verify([]byte("data"), signature); err != nil {
		t.Error(err)
	}
	if err := client.RemoveAll(); err == nil {
		t.Error("a step may remove keys")
	}
	if keys, err := client.List(); err != nil || len(keys) != 1 {
		t.Errorf("then %d keys, %v", len(keys), err)
	}
}

func TestServe(t *testing.T) {
	keys, err := Serve(newKey(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	front, err := Serve(keys.Socket())
	if err != nil {
		t.Fatal(err)
	}
	use(t, keys.Socket())
	use(t, front.Socket())
	// Close ends what is still open.
	c, err := net.Dial("unix", front.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := front.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(front.Socket())); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

func TestServeMistakes(t *testing.T) {
	s, err := Serve(newKey(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, paths := range map[string][]string{
		"no such file":           {"/none"},
		"no key found":           {junk},
		"it has a passphrase":    {newKey(t, "secret")},
		"only single socket":     {s.Socket(), s.Socket()},
		"invalid combination":    {s.Socket(), newKey(t, "")},
		"neither socket nor key": {},
	} {
		if _, err := Serve(paths...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Serve(%q): %v, want %q", paths, err, want)
		}
	}
}
