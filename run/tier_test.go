package run

import "testing"

func TestShownDir(t *testing.T) {
	const mountinfo = `104 110 0:40 / /sys/fs/cgroup ro - tmpfs tmpfs ro
188 104 0:33 /docker/abc /sys/fs/cgroup/devices rw,nosuid - cgroup cgroup rw,devices
117 104 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	for own, want := range map[string]string{
		"/docker/abc":                "/sys/fs/cgroup/devices",
		"/docker/abc/system.slice/x": "/sys/fs/cgroup/devices/system.slice/x",
		"/docker/abcdef":             "/sys/fs/cgroup/devices/docker/abcdef",
		"/elsewhere":                 "/sys/fs/cgroup/devices/elsewhere",
	} {
		if got := shownDir(mountinfo, "/sys/fs/cgroup/devices", own); got != want {
			t.Errorf("shownDir(%s) = %s, want %s", own, got, want)
		}
	}
}
