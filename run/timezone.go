package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// zoneinfo is where the host keeps its time zones.
const zoneinfo = "/usr/share/zoneinfo"

// zoneFile returns what a container's /etc/localtime is to hold.
func zoneFile(zone string) ([]byte, error) {
	if zone == "local" {
		b, err := os.ReadFile("/etc/localtime")
		if errors.Is(err, fs.ErrNotExist) {
			b, err = os.ReadFile(filepath.Join(zoneinfo, "UTC"))
		}
		if err != nil {
			return nil, fmt.Errorf("time zone of the host: %w", err)
		}
		return b, nil
	}
	if !filepath.IsLocal(zone) {
		return nil, fmt.Errorf("time zone %q: want a name such as Europe/Berlin, or local", zone)
	}
	b, err := os.ReadFile(filepath.Join(zoneinfo, zone))
	if err != nil {
		return nil, fmt.Errorf("time zone %q: is it below %s on this host? %w", zone, zoneinfo, err)
	}
	return b, nil
}
