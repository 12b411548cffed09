package quadlet

import (
	"fmt"
	"slices"
	"strings"
)

// key is one key of a section and the arguments that it becomes. A nil args is
// dealt with by the section's own function.
type key struct {
	name string
	args func(m *maker, values []entry) ([]string, error)
}

// arguments turns the own section into arguments, in the order of keys, and
// refuses keys that are in none of them.
func (m *maker) arguments(keys []key) ([]string, error) {
	own := m.own()
	if err := m.checkKeys(own, keys); err != nil {
		return nil, err
	}
	var args []string
	for _, k := range keys {
		values := own.values(k.name)
		if k.args == nil || len(values) == 0 {
			continue
		}
		more, err := k.args(m, values)
		if err != nil {
			return nil, err
		}
		args = append(args, more...)
	}
	return args, nil
}

// everywhere are the keys that each kind of file has.
var everywhere = []string{"GlobalArgs", "PodmanArgs", "ServiceName"}

// checkKeys finds the first key that is not known.
func (m *maker) checkKeys(own *section, keys []key) error {
	for _, e := range own.entries {
		known := func(k key) bool { return k.name == e.key }
		if !slices.ContainsFunc(keys, known) && !slices.Contains(everywhere, e.key) {
			return e.errorf("unknown key %s in [%s]%s", e.key, own.name, suggestion(e.key, keys))
		}
	}
	return nil
}

// suggestion names the key that was meant, when it differs in case only.
func suggestion(name string, keys []key) string {
	for _, k := range keys {
		if strings.EqualFold(k.name, name) {
			return ": did you mean " + k.name + "?"
		}
	}
	return ""
}

// text gives the last value to a flag.
func text(flag string) func(*maker, []entry) ([]string, error) {
	return func(_ *maker, values []entry) ([]string, error) {
		return []string{flag, values[len(values)-1].value}, nil
	}
}

// each gives every value to a flag of its own.
func each(flag string) func(*maker, []entry) ([]string, error) {
	return func(_ *maker, values []entry) ([]string, error) {
		var args []string
		for _, e := range values {
			args = append(args, flag, e.value)
		}
		return args, nil
	}
}

// words gives every word of every value to a flag of its own.
func words(flag string) func(*maker, []entry) ([]string, error) {
	return func(_ *maker, values []entry) ([]string, error) {
		var args []string
		list, err := allWords(values)
		for _, word := range list {
			args = append(args, flag, word)
		}
		return args, err
	}
}

// allWords are the words of all values.
func allWords(values []entry) ([]string, error) {
	var all []string
	for _, e := range values {
		list, err := SplitWords(e.value)
		if err != nil {
			return nil, e.errorf("%s=: %w", e.key, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// option gives the last value, with what comes before it, to a flag:
// --security-opt seccomp=FILE.
func option(flag, before string) func(*maker, []entry) ([]string, error) {
	return func(_ *maker, values []entry) ([]string, error) {
		return []string{flag, before + values[len(values)-1].value}, nil
	}
}

// joined gives the last value to a flag that may stand alone: --pull=never.
func joined(flag string) func(*maker, []entry) ([]string, error) {
	return func(_ *maker, values []entry) ([]string, error) {
		return []string{flag + "=" + values[len(values)-1].value}, nil
	}
}

// boolean adds arguments if the last value is true.
func boolean(args ...string) func(*maker, []entry) ([]string, error) {
	return func(_ *maker, values []entry) ([]string, error) {
		on, err := parseBool(values[len(values)-1])
		if !on {
			return nil, err
		}
		return args, err
	}
}

// choice gives a boolean to a flag as it is: --tls-verify=false.
func choice(flag string) func(*maker, []entry) ([]string, error) {
	return func(_ *maker, values []entry) ([]string, error) {
		on, err := parseBool(values[len(values)-1])
		return []string{fmt.Sprintf("%s=%t", flag, on)}, err
	}
}

// refused is a key of podman's that cooper has nothing for.
func refused(why string) func(*maker, []entry) ([]string, error) {
	return func(_ *maker, values []entry) ([]string, error) {
		return nil, values[0].errorf("%s= is not supported: %s", values[0].key, why)
	}
}

// ignored is a key of podman's without which the same thing runs.
func ignored(why string) func(*maker, []entry) ([]string, error) {
	return func(m *maker, values []entry) ([]string, error) {
		e := values[0]
		m.warnings = append(m.warnings, e.errorf("%s= is left out: %s", e.key, why).Error())
		return nil, nil
	}
}

// command is a cooper command with what GlobalArgs has for all of them right
// after the verb, which may be two words.
func (m *maker) command(verb string, args ...string) ([]string, error) {
	global, err := allWords(m.own().values("GlobalArgs"))
	return slices.Concat([]string{Literal(m.o.Command)}, strings.Fields(verb), global, args), err
}

// commandLine is the command that a service is about: the flags, what PodmanArgs
// adds to them, the operands.
func (m *maker) commandLine(verb string, flags []string, operands ...string) ([]string, error) {
	further, err := allWords(m.own().values("PodmanArgs"))
	if err != nil {
		return nil, err
	}
	return m.command(verb, slices.Concat(flags, further, operands)...)
}

// fallback adds an entry unless the file has one of that key.
func (m *maker) fallback(s *section, key, value string) {
	if _, ok := s.last(key); !ok {
		s.add(key, value)
	}
}
