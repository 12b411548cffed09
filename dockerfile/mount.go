package dockerfile

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// mounts sets the mounts of op from the --mount flags of c.
func (d *dispatcher) mounts(op *Run, c *instructions.RunCommand) error {
	agents := 0
	for i, in := range instructions.GetMounts(c) {
		m := Mount{Type: string(in.Type), ReadOnly: in.ReadOnly, Required: in.Required}
		var err error
		switch in.Type {
		case instructions.MountTypeSecret:
			err = d.secretMount(&m, in)
		case instructions.MountTypeSSH:
			err = d.sshMount(&m, in, agents)
			agents++
		default:
			err = d.fileMount(&m, in, d.cmd.sources[i])
		}
		if err != nil {
			return err
		}
		op.Mounts = append(op.Mounts, m)
	}
	const socket = "SSH_AUTH_SOCK="
	if agents > 0 && !slices.ContainsFunc(op.Env, func(kv string) bool { return strings.HasPrefix(kv, socket) }) {
		i := slices.IndexFunc(op.Mounts, func(m Mount) bool { return m.Type == MountSSH })
		op.Env = append(op.Env, socket+op.Mounts[i].Target)
	}
	return nil
}

// fileMount fills in a bind, cache or tmpfs mount.
func (d *dispatcher) fileMount(m *Mount, in *instructions.Mount, from source) error {
	m.Target = joinDir(d.config.Config.WorkingDir, path.Clean(in.Target))
	if m.Target == "/" {
		return fmt.Errorf("invalid mount target %q", m.Target)
	}
	if in.From != "" {
		if st := from.stage; st != nil && !st.planned {
			return fmt.Errorf("cannot mount from stage %q to %q, stage needs to be defined before current command", in.From, in.Target)
		}
	}
	switch in.Type {
	case instructions.MountTypeTmpfs:
		m.Size = in.SizeLimit
		return nil
	case instructions.MountTypeCache:
		m.ID = in.CacheID
		if m.ID == "" {
			m.ID = path.Clean(in.Target)
		}
		if ns := d.buildArgs["BUILDKIT_CACHE_MOUNT_NS"]; ns != "" {
			m.ID = ns + "/" + m.ID
		}
		m.Sharing = string(in.CacheSharing)
		if m.Sharing == "" {
			m.Sharing = string(instructions.MountSharingShared)
		}
		setOwner(m, in, 0o755)
		m.Owner = cacheOwner(in)
		if in.From == "" { // starts empty
			if part := path.Join("/", in.Source); part != "/" {
				m.Source = part
			}
			return nil
		}
	}
	m.Source = path.Join("/", in.Source)
	src := d.sourceOf(from)
	m.From = &src
	return nil
}

// cacheOwner is Mount.Owner.
func cacheOwner(in *instructions.Mount) string {
	if path.Join("/", in.Source) != "/" || in.Mode == nil && in.UID == nil && in.GID == nil {
		return ""
	}
	var m Mount
	setOwner(&m, in, 0o755)
	return fmt.Sprintf("%o %d:%d", m.Mode, m.UID, m.GID)
}

func (d *dispatcher) secretMount(m *Mount, in *instructions.Mount) error {
	m.ID, m.Target, m.Env = in.CacheID, in.Target, in.Env
	if in.Source != "" {
		m.ID = in.Source
	}
	if m.ID == "" {
		if m.Target == "" {
			return errors.New("one of source, target required")
		}
		m.ID = path.Base(m.Target)
	}
	if m.Target == "" && m.Env == nil {
		m.Target = "/run/secrets/" + path.Base(m.ID)
	}
	if m.Target != "" {
		m.Target = joinDir(d.config.Config.WorkingDir, path.Clean(m.Target))
	}
	if m.Env != nil && *m.Env == "" {
		m.Env = &m.ID // the variable is called like the secret
	}
	setOwner(m, in, 0o400)
	return nil
}

func (d *dispatcher) sshMount(m *Mount, in *instructions.Mount, number int) error {
	if in.Source != "" {
		return errors.New("ssh does not support source")
	}
	m.ID, m.Target = in.CacheID, in.Target
	if m.ID == "" {
		m.ID = "default"
	}
	if m.Target == "" {
		m.Target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", number)
	}
	m.Target = joinDir(d.config.Config.WorkingDir, path.Clean(m.Target))
	setOwner(m, in, 0o600)
	return nil
}

func setOwner(m *Mount, in *instructions.Mount, mode uint32) {
	m.Mode = mode
	if in.Mode != nil {
		m.Mode = uint32(*in.Mode)
	}
	if in.UID != nil {
		m.UID = uint32(*in.UID)
	}
	if in.GID != nil {
		m.GID = uint32(*in.GID)
	}
}

// sourceOf returns the Source for builder. Its stage has been planned before.
func (d *dispatcher) sourceOf(from source) Source {
	switch {
	case from.stage != nil:
		return Source{Stage: from.stage.id}
	case from.other != nil:
		return *from.other
	default:
		return Source{Context: true, Stage: -1}
	}
}
