// Package sshagent gives RUN steps the use of ssh keys, not the keys: it serves
// the agent protocol on a socket, for key files of the user or in front of the
// user's own agent. Whoever connects may list keys and sign with them; adding,
// removing and locking are refused, so that a step cannot change the user's
// agent.
package sshagent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// maxKey bounds a key file, in bytes; it is BuildKit's limit.
const maxKey = 100 << 10

// Server is an agent on a socket.
type Server struct {
	dir      string
	listener net.Listener
	keys     agent.Agent // nil: upstream is asked
	upstream string

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil after Close
}

// Serve starts an agent for paths: one socket of an agent, or any number of
// private keys. Close ends it.
func Serve(paths ...string) (_ *Server, err error) {
	s := &Server{conns: map[net.Conn]struct{}{}}
	if err := s.open(paths); err != nil {
		return nil, err
	}
	if s.dir, err = TempDir(); err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("unix", s.Socket()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	s.wg.Go(s.accept)
	return s, nil
}

// Socket is the path to connect to.
func (s *Server) Socket() string { return filepath.Join(s.dir, "agent.sock") }

// Close ends all connections and removes the socket.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
	return errors.Join(err, os.RemoveAll(s.dir))
}

// open finds out what paths are.
func (s *Server) open(paths []string) error {
	var keys []any
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSocket != 0 {
			if s.upstream != "" {
				return errors.New("only single socket allowed")
			}
			s.upstream = path
			continue
		}
		key, err := readKey(path)
		if err != nil {
			return fmt.Errorf("ssh key %s: %w", path, err)
		}
		keys = append(keys, key)
	}
	switch {
	case s.upstream != "" && len(keys) > 0:
		return errors.New("invalid combination of keys and sockets")
	case s.upstream != "":
		return nil
	case len(keys) == 0:
		return errors.New("neither socket nor key is given")
	}
	s.keys = agent.NewKeyring()
	for _, key := range keys {
		if err := s.keys.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			return err
		}
	}
	return nil
}

// readKey reads a private key.
func readKey(path string) (any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKey {
		return nil, fmt.Errorf("larger than %d bytes", maxKey)
	}
	key, err := ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, errors.New("it has a passphrase: add it to an agent with ssh-add, and give that with --ssh default")
	}
	return key, err
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.serve(c) })
	}
}

// track remembers a connection for Close; false when that was called.
func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) serve(c net.Conn) {
	defer s.end(c)
	if !s.track(c) {
		return
	}
	if s.keys != nil {
		_ = agent.ServeAgent(readOnly{s.keys}, c)
		return
	}
	up, err := net.Dial("unix", s.upstream)
	if err != nil {
		return
	}
	defer s.end(up)
	if s.track(up) {
		_ = agent.ServeAgent(readOnly{agent.NewClient(up)}, c)
	}
}

func (s *Server) end(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// readOnly is an agent that cannot be changed. It hides what agent.ExtendedAgent
// has beyond agent.Agent, but for signing with flags, which rsa-sha2 needs.
type readOnly struct{ agent.Agent }

var errReadOnly = errors.New("the agent of a build cannot be changed")

func (readOnly) Add(agent.AddedKey) error   { return errReadOnly }
func (readOnly) Remove(ssh.PublicKey) error { return errReadOnly }
func (readOnly) RemoveAll() error           { return errReadOnly }
func (readOnly) Lock([]byte) error          { return errReadOnly }
func (readOnly) Unlock([]byte) error        { return errReadOnly }

func (readOnly) Signers() ([]ssh.Signer, error) { return nil, errReadOnly }

// SignWithFlags signs data as flags say.
func (r readOnly) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if extended, ok := r.Agent.(agent.ExtendedAgent); ok {
		return extended.SignWithFlags(key, data, flags)
	}
	return r.Sign(key, data)
}

// Extension refuses all: an extension may change the agent.
func (readOnly) Extension(string, []byte) ([]byte, error) {
	return nil, agent.ErrExtensionUnsupported
}
