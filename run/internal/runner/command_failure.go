package runner

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"cooper/run/internal/stage"
)

// reason is the last line of a runtime's log or standard error, which may be JSON.
func reason(f *os.File) string {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ""
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return lastMessage(string(text))
}

// lastMessage is the last error among log lines, else the last line.
func lastMessage(text string) string {
	last, lastError := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		var entry struct{ Level, Msg string }
		last = line
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg != "" {
			last = entry.Msg
			if entry.Level == "error" || entry.Level == "fatal" {
				lastError = entry.Msg
			}
		}
	}
	if lastError != "" {
		return lastError
	}
	return last
}

// failure makes a runtime's error about the program one with docker's exit status.
// Runtimes have no others than words for it.
func failure(err error, program string) error {
	var e *callError
	if !errors.As(err, &e) {
		return err
	}
	if code := failureCode(e.text, program); code != 0 {
		return &stage.Failure{Code: code, Text: err.Error()}
	}
	return err
}

// failureCode is 127 for a program that is not there, 126 for one that may not be
// executed, and 0 when something else is said.
func failureCode(text, program string) int {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("executable file not found", "executable file `"+program+"` not found"):
		return 127
	case !has(program, "open executable", "executable path"):
		return 0
	case has("no such file or directory", "No such file or directory", "not a directory", "Not a directory"):
		return 127
	case has("permission denied", "Permission denied", "Operation not permitted", "operation not permitted",
		"is a directory", "Is a directory", "exec format error", "Exec format error"):
		return 126
	}
	return 0
}
