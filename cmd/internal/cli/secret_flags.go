package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"cooper/builder"
	"cooper/builder/sshagent"
)

// secretFlags are the flags that lend secrets to RUN steps.
type secretFlags struct {
	secrets []string
	ssh     []string
}

func (f *secretFlags) declare(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.secrets, "secret", nil, "Lend a secret to RUN --mount=type=secret: `id=ID[,src=FILE|env=NAME]` (repeatable)")
	fs.StringArrayVar(&f.ssh, "ssh", nil, "Lend an ssh agent or keys to RUN --mount=type=ssh: `default|ID[=SOCKET|KEY[,KEY]]` (repeatable)")
}

// parseSecrets reads --secret values as buildx does.
func parseSecrets(values []string, lookupEnv func(string) (string, bool)) (map[string]builder.Secret, error) {
	m := make(map[string]builder.Secret, len(values))
	for _, value := range values {
		id, s, err := parseSecret(value)
		if err != nil {
			return nil, fmt.Errorf("invalid secret %q: %w", value, err)
		}
		if s.File == "" && s.Env == "" {
			// As with docker the ID names the variable or the file.
			if _, found := lookupEnv(id); found {
				s.Env = id
			} else {
				s.File = id
			}
		}
		if s.Env != "" {
			if _, found := lookupEnv(s.Env); !found {
				return nil, fmt.Errorf("secret %s: environment variable %s is not set", id, s.Env)
			}
		} else if err := checkSecretFile(id, s.File); err != nil {
			return nil, err
		}
		m[id] = s
	}
	return m, nil
}

func parseSecret(value string) (id string, s builder.Secret, err error) {
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return "", s, err
	}
	kind := ""
	for _, field := range fields {
		key, arg, found := strings.Cut(field, "=")
		if !found {
			return "", s, fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		}
		switch strings.ToLower(key) {
		case "type":
			if kind = arg; kind != "file" && kind != "env" {
				return "", s, fmt.Errorf("unsupported secret type %q", arg)
			}
		case "id":
			id = arg
		case "source", "src":
			s.File = arg
		case "env":
			s.Env = arg
		default:
			return "", s, fmt.Errorf("unexpected key '%s' in '%s'", key, field)
		}
	}
	switch {
	case id == "":
		return "", s, errors.New("secret missing ID: want id=ID")
	case s.File != "" && s.Env != "":
		return "", s, errors.New("src and env exclude each other")
	case kind == "env" && s.Env == "":
		s.Env, s.File = s.File, ""
	}
	return id, s, nil
}

// checkSecretFile finds a missing file before anything is built.
func checkSecretFile(id, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("secret %s: %w", id, err)
	}
	if info.IsDir() {
		return fmt.Errorf("secret %s: %s is a directory", id, path)
	}
	return nil
}

// sshID is an --ssh value.
type sshID struct {
	id    string
	paths []string
}

// parseSSH reads --ssh values as buildx does: an ID alone is the user's agent.
func parseSSH(values []string, lookupEnv func(string) (string, bool)) ([]sshID, error) {
	var list []sshID
	seen := map[string]bool{}
	for _, value := range values {
		id, paths, found := strings.Cut(value, "=")
		s := sshID{id: or(id, "default")}
		if seen[s.id] {
			return nil, fmt.Errorf("invalid duplicate ID %s in --ssh", s.id)
		}
		seen[s.id] = true
		if found && paths != "" {
			s.paths = strings.Split(paths, ",")
		} else if socket, _ := lookupEnv("SSH_AUTH_SOCK"); socket != "" {
			s.paths = []string{socket}
		} else {
			return nil, withHint(fmt.Errorf("--ssh %s: invalid empty ssh agent socket, make sure SSH_AUTH_SOCK is set", value),
				"Start one with: eval $(ssh-agent); ssh-add. Or give keys: --ssh %s=KEY", s.id)
		}
		list = append(list, s)
	}
	return list, nil
}

// serveSSH starts an agent for each --ssh and puts their sockets into o. stop
// ends them.
func serveSSH(o *builder.Options, list []sshID) (stop func(), err error) {
	log.SetOutput(io.Discard) // where the agent protocol's package says what was refused
	var servers []*sshagent.Server
	stop = func() {
		for _, s := range servers {
			_ = s.Close()
		}
	}
	for _, l := range list {
		s, err := sshagent.Serve(l.paths...)
		if err != nil {
			stop()
			return nil, fmt.Errorf("--ssh %s: %w", l.id, err)
		}
		servers = append(servers, s)
		if o.SSH == nil {
			o.SSH = map[string]string{}
		}
		o.SSH[l.id] = s.Socket()
	}
	return stop, nil
}
