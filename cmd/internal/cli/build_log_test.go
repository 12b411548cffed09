package cli

import "testing"

func TestPlatformOf(t *testing.T) {
	platforms := []string{"linux/arm", "linux/arm/v7", "linux/amd64"}
	for name, want := range map[string]string{
		"[linux/arm build 1/2] COPY a /":     "linux/arm",
		"[linux/arm/v7 1/2] COPY a /":        "linux/arm/v7",
		"[linux/amd64->arm64 1/2] RUN make":  "linux/amd64",
		"[linux/amd64-like 1/2] COPY a /":    "",
		"[internal] load metadata for x":     "",
		"[build 1/2] COPY linux/amd64 /here": "",
		"exporting to image":                 "",
	} {
		if got := platformOf(name, platforms); got != want {
			t.Errorf("platformOf(%q) = %q, want %q", name, got, want)
		}
	}
	if got := platformOf("[ 1/2] x", []string{""}); got != "" {
		t.Errorf("platformOf without platforms = %q", got)
	}
}
