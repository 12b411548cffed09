package dockerfile

import (
	"maps"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// defaultPath is PATH for images that have none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// emptyConfig is the config of FROM scratch.
func emptyConfig(platform ocispec.Platform) dockerspec.DockerOCIImage {
	var img dockerspec.DockerOCIImage
	img.Platform = platform
	img.OSFeatures = slices.Clone(platform.OSFeatures)
	img.Config.WorkingDir = "/"
	if platform.OS != "windows" {
		img.Config.Env = []string{"PATH=" + defaultPath}
	}
	return img
}

// baseConfig is the config that a stage starts with on top of img: without what
// belongs to img alone.
func baseConfig(img dockerspec.DockerOCIImage) dockerspec.DockerOCIImage {
	img = cloneConfig(img)
	img.Created = nil
	img.RootFS = ocispec.RootFS{}
	img.History = nil
	img.Config.OnBuild = nil
	return img
}

// cloneConfig copies everything that instructions change in place.
func cloneConfig(img dockerspec.DockerOCIImage) dockerspec.DockerOCIImage {
	c := &img.Config
	c.Env = slices.Clone(c.Env)
	c.Cmd = slices.Clone(c.Cmd)
	c.Entrypoint = slices.Clone(c.Entrypoint)
	c.OnBuild = slices.Clone(c.OnBuild)
	c.Shell = slices.Clone(c.Shell)
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	c.Volumes = maps.Clone(c.Volumes)
	c.Labels = maps.Clone(c.Labels)
	if c.Healthcheck != nil {
		health := *c.Healthcheck
		health.Test = slices.Clone(health.Test)
		c.Healthcheck = &health
	}
	return img
}

// hasLayers reports whether there is anything in the image's file system.
// History tells it for images from before there were diff ids.
func hasLayers(img *dockerspec.DockerOCIImage) bool {
	return len(img.RootFS.DiffIDs) > 0 ||
		slices.ContainsFunc(img.History, func(h ocispec.History) bool { return !h.EmptyLayer })
}

// setConfigEnv replaces a variable where it is, or appends it.
func setConfigEnv(list []string, key, value string) []string {
	for i, kv := range list {
		if k, _, _ := strings.Cut(kv, "="); k == key {
			list[i] = key + "=" + value
			return list
		}
	}
	return append(list, key+"="+value)
}

// shellOf returns what SHELL says or the default.
func shellOf(img *dockerspec.DockerOCIImage) []string {
	switch {
	case len(img.Config.Shell) > 0:
		return slices.Clone(img.Config.Shell)
	case img.OS == "windows":
		return []string{"cmd", "/S", "/C"}
	default:
		return []string{"/bin/sh", "-c"}
	}
}

// withShell is the command line of the shell form.
func withShell(img *dockerspec.DockerOCIImage, args []string) []string {
	return append(shellOf(img), strings.Join(args, " "))
}
