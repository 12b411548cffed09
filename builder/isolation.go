package builder

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cooper/run"
)

// sayTier warns, once in a build, of the isolation that its processes have to do
// without. Limits that nobody can set are refused when they are asked for.
func (s *session) sayTier() {
	s.tierSaid.Do(func() {
		tier, err := run.DetectTier()
		how := "containers here do without "
		if err == nil && s.o.Chroot {
			how = "steps run by chroot, without "
			tier, err = tier.InChroot()
		}
		if err != nil || !tier.Mounts && !s.o.Chroot {
			return // and so does the step
		}
		missing := slices.DeleteFunc(tier.Missing(), func(m string) bool { return m == run.MissingLimits })
		if len(missing) > 0 {
			s.report.send(Event{Kind: Warning, Message: how + strings.Join(missing, "; ")})
		}
	})
}

// explain adds to the error of a step that no container can be made for what else
// can be done.
func (s *session) explain(err error) error {
	if !errors.Is(err, run.ErrNoContainers) {
		return err
	}
	tier, _ := run.DetectTier()
	if _, impossible := tier.InChroot(); impossible != nil {
		return err
	}
	return fmt.Errorf("%w, or build with --isolation chroot", err)
}
