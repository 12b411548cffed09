package cli

import "testing"

func TestParseCopyArg(t *testing.T) {
	for in, want := range map[string]copyArg{
		"web:/etc":    {"web", "/etc"},
		"web:etc":     {"web", "etc"},
		"web:":        {"web", ""},
		"/a:b":        {"", "/a:b"},
		"./a:b":       {"", "./a:b"},
		"..:b":        {"", "..:b"},
		":b":          {"", ":b"},
		"file":        {"", "file"},
		"-":           {"", "-"},
		"web:/with:x": {"web", "/with:x"},
	} {
		if got := parseCopyArg(in); got != want {
			t.Errorf("parseCopyArg(%q) = %+v, want %+v", in, got, want)
		}
	}
}
