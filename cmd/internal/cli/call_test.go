package cli

import (
	"strings"
	"testing"
)

func TestParseCall(t *testing.T) {
	for value, want := range map[string]call{
		"":                           {},
		"build":                      {},
		"check":                      {name: "lint"},
		"lint,format=json":           {name: "lint", json: true},
		"format=json,outline":        {name: "outline", json: true},
		"targets,format=text":        {name: "targets"},
		"check,ignorestatus=true":    {name: "lint", ignoreStatus: true},
		"subrequests.describe":       {name: "subrequests.describe"},
		`"check","format=json"`:      {name: "lint", json: true},
		"check,ignorestatus=0":       {name: "lint"},
		"outline,format=json,format": {name: "fails"},
		"check,targets":              {name: "fails"},
		"check,format=yaml":          {name: "fails"},
		"chekc":                      {name: "fails"},
		`"check`:                     {name: "fails"},
		"check,ignorestatus=maybe":   {name: "fails"},
	} {
		got, err := parseCall(value)
		if want.name == "fails" {
			if err == nil {
				t.Errorf("parseCall(%q) = %v, want an error", value, got)
			}
		} else if got != want || err != nil {
			t.Errorf("parseCall(%q) = %v, %v, want %v", value, got, err, want)
		}
	}
}

func TestURLBase(t *testing.T) {
	for in, want := range map[string]string{
		"https://x/a/app.Dockerfile?x=1": "app.Dockerfile", "https://x": "Dockerfile", "https://x/": "Dockerfile", "http://[": "Dockerfile",
	} {
		if got := urlBase(in); got != want || strings.Contains(got, "/") {
			t.Errorf("urlBase(%q) = %q, want %q", in, got, want)
		}
	}
}
