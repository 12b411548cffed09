package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"cooper/run/internal/life"
)

// nameTries is how many generated names are tried before a number is added.
const nameTries = 5

// IsName reports whether docker takes s as the name of a container, a volume or a
// network: letters, digits and any of _.-, at least two, the first a letter or
// digit.
func IsName(s string) bool {
	const first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return len(s) > 1 && len(s) <= 255 && strings.Contains(first, s[:1]) && strings.Trim(s[1:], first+"_.-") == ""
}

// validName checks a container's name.
func validName(name string) error {
	if !IsName(name) {
		return fmt.Errorf("invalid container name %q: letters, digits and any of _.- are allowed, at least two, the first a letter or digit", name)
	}
	return nil
}

// lockNames opens the directory of names, locked until it is closed.
func (cs *Containers) lockNames() (*os.File, error) {
	dir := filepath.Join(cs.dir, "names")
	f, err := lockDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		f, err = lockDir(dir)
	}
	return f, err
}

func (cs *Containers) nameLink(name string) string { return filepath.Join(cs.dir, "names", name) }

// claim gives a container its name, or one that it makes up, and returns it.
func (cs *Containers) claim(name, id string) (string, error) {
	dir, err := cs.lockNames()
	if err != nil {
		return "", fmt.Errorf("name container: %w", err)
	}
	defer dir.Close()
	if name != "" {
		return name, cs.claimLocked(name, id)
	}
	for try := 0; ; try++ {
		name := randomName()
		if try >= nameTries {
			name += strconv.Itoa(try)
		}
		err := cs.claimLocked(name, id)
		if !errors.Is(err, ErrNameInUse) {
			return name, err
		}
	}
}

// claimLocked makes the link from a name, replacing one that leads nowhere.
func (cs *Containers) claimLocked(name, id string) error {
	if err := validName(name); err != nil {
		return err
	}
	link := cs.nameLink(name)
	err := os.Symlink(id, link)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	owner, err := cs.owner(name)
	if err != nil {
		return err
	}
	if owner != "" {
		return fmt.Errorf("%w: the container name %q is already used by container %s: remove or rename that one, or choose another name", ErrNameInUse, name, owner[:12])
	}
	if err := os.Remove(link); err != nil {
		return err
	}
	return os.Symlink(id, link)
}

// owner returns the ID of the container that a name belongs to: one that exists
// under this name or is being made. It is "" for a link that was left behind.
func (cs *Containers) owner(name string) (string, error) {
	id, err := os.Readlink(cs.nameLink(name))
	if err != nil {
		return "", err
	}
	c := cs.container(id)
	err = c.reload()
	if err == nil && c.opts().Name == name {
		return id, nil
	}
	if err == nil {
		return "", nil
	}
	if !errors.Is(err, ErrNoContainer) {
		return "", err
	}
	locked, err := c.locked()
	if errors.Is(err, ErrNoContainer) || errors.Is(err, fs.ErrNotExist) || err == nil && !locked {
		return "", cs.sweep(id)
	}
	return id, err
}

// named finds a container by its name.
func (cs *Containers) named(name string) (*Container, error) {
	id, err := os.Readlink(cs.nameLink(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !validID(id) {
		return nil, fmt.Errorf("%w: %s", ErrNoContainer, name)
	}
	if err != nil {
		return nil, fmt.Errorf("find container %s: %w", name, err)
	}
	c, err := cs.open(id)
	if err == nil && c.opts().Name != name {
		return nil, fmt.Errorf("%w: %s", ErrNoContainer, name)
	}
	if errors.Is(err, ErrNoContainer) {
		return nil, fmt.Errorf("%w: %s", ErrNoContainer, name)
	}
	return c, err
}

// namesOf lists the names whose links lead to an ID.
func (cs *Containers) namesOf(id string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(cs.dir, "names"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if to, err := os.Readlink(cs.nameLink(e.Name())); err == nil && to == id {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// release takes the link from a name away, if it is the container's.
func (cs *Containers) release(name, id string) error {
	if name == "" {
		return nil
	}
	link := cs.nameLink(name)
	if to, err := os.Readlink(link); err != nil || to != id {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Rename gives the container another name, also on the networks that it is on. The
// error wraps ErrNameInUse if another has it.
func (c *Container) Rename(ctx context.Context, name string) error {
	dir, err := c.cs.lockNames()
	if err != nil {
		return fmt.Errorf("rename container: %w", err)
	}
	defer dir.Close()
	old := c.opts().Name
	if name == old {
		return fmt.Errorf("rename container: %s is its name already", name)
	}
	if err := c.cs.claimLocked(name, c.id); err != nil {
		return fmt.Errorf("rename container: %w", err)
	}
	err = c.Edit(func(o *ContainerOptions) error {
		old, o.Name = o.Name, name
		return nil
	})
	if err != nil {
		return errors.Join(err, c.cs.release(name, c.id))
	}
	c.event("rename", map[string]string{"oldName": "/" + old})
	if err := c.cs.release(old, c.id); err != nil {
		return fmt.Errorf("rename container: %w", err)
	}
	if err := c.tell(ctx, life.KindRename, name); err != nil && !errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("rename container: its monitor still says %s: %w", old, err)
	}
	return nil
}

// randomName makes up a name for a container: two words.
func randomName() string {
	adjectives, nouns := strings.Fields(nameAdjectives), strings.Fields(nameNouns)
	return adjectives[rand.IntN(len(adjectives))] + "_" + nouns[rand.IntN(len(nouns))]
}

const nameAdjectives = `
agile airy amber ample apt azure balmy blithe bold brave breezy bright brisk
calm candid cheery clear clever cosy crisp curious dapper daring deft dewy
eager early easy elegant even fabled fair famed fleet fluent fond frank free
fresh frosty gentle gilded glad gleaming golden grand happy hardy hearty honest
humble jaunty jolly jovial keen kind lively loyal lucid lucky mellow merry
mighty mild minty misty modest neat nimble noble open patient placid plucky
polite proud quick quiet rapid ready robust rosy rustic serene sharp shiny
silent silver sleek smart snug solid sound spry stately steady still stout
sturdy subtle sunny supple swift tidy tranquil trim trusty upbeat vivid warm
wise witty young zesty`

const nameNouns = `
acorn alder anvil arbour aspen badger barley barrel basin bay beacon beech
beetle birch bison bramble breeze bridge brook bucket cask cedar chestnut clover
cobble comet coral cove crane creek crest cricket dale dawn delta dew dolphin
dune eagle elm ember falcon fern ferry field finch fir fjord flint forge fox
garden glade glen grove gull harbour hare hawk hazel heath heron hill hoop ibis
iris island ivy juniper kestrel lagoon lake lantern larch lark lynx maple marten
meadow mill moon moor moss oak oasis orchard osprey otter owl pebble pine plover
pond poplar quarry quill rain raven reef ridge river robin rowan sail sapling
sparrow spring spruce squirrel star starling stave stork stream summit swallow
swan teal thistle thrush tide trail trout tulip valley walnut wave willow wren
yew`
