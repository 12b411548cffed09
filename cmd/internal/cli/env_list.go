package cli

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// environment applies --env-file and --env to an image's environment. The files
// come first, in order, then the flags. NAME without a value takes that of this
// process's environment; where that has none, a flag removes NAME, as docker
// does, and a line of a file is without effect.
func environment(image, files, flags []string, lookupEnv func(string) (string, bool)) ([]string, error) {
	env := append([]string(nil), image...)
	for _, name := range files {
		list, err := readEnvFile(name)
		if err != nil {
			return nil, err
		}
		for _, entry := range list {
			if !strings.Contains(entry, "=") {
				value, found := lookupEnv(entry)
				if !found {
					continue
				}
				entry += "=" + value
			}
			env = setEnv(env, entry)
		}
	}
	for _, entry := range flags {
		name, _, found := strings.Cut(entry, "=")
		if name == "" {
			return nil, fmt.Errorf("invalid environment variable %q: want NAME=VALUE", entry)
		}
		if !found {
			value, found := lookupEnv(name)
			if !found {
				env = unsetEnv(env, name)
				continue
			}
			entry += "=" + value
		}
		env = setEnv(env, entry)
	}
	return env, nil
}

// setEnv puts entry, NAME=VALUE, in the place of an earlier one, or at the end.
func setEnv(env []string, entry string) []string {
	name, _, _ := strings.Cut(entry, "=")
	for i, old := range env {
		if n, _, _ := strings.Cut(old, "="); n == name {
			env[i] = entry
			return env
		}
	}
	return append(env, entry)
}

// unsetEnv removes the variable of that name.
func unsetEnv(env []string, name string) []string {
	kept := env[:0]
	for _, entry := range env {
		if n, _, _ := strings.Cut(entry, "="); n != name {
			kept = append(kept, entry)
		}
	}
	return kept
}

// readEnvFile reads a file of NAME=VALUE and NAME lines. Empty lines and those
// that begin with # don't count; values are taken as they stand, quotes
// included, as docker takes them.
func readEnvFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("env file: %w", err)
	}
	defer f.Close()
	var list []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, _, found := strings.Cut(line, "=")
		if !found {
			name = strings.TrimRight(line, " \t")
			line = name
		}
		if name == "" {
			return nil, fmt.Errorf("env file %s, line %d: no variable name", path, n)
		}
		if strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("env file %s, line %d: variable %q contains white space", path, n, name)
		}
		list = append(list, line)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("env file %s: %w", path, err)
	}
	return list, nil
}
