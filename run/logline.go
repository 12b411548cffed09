package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// LogLine is one record of a container's log. Its slices are valid until the next
// is read.
type LogLine struct {
	// Stamp is when it was written, in the form of time.RFC3339Nano.
	Stamp []byte
	// Stderr says that it was written to standard error.
	Stderr bool
	// Text ends with a newline unless the record is part of a longer line
	// that goes on in the next record of this stream.
	Text []byte
}

// Time returns the parsed Stamp; it is zero if that can't be read.
func (l *LogLine) Time() time.Time {
	t, err := time.Parse(time.RFC3339Nano, string(l.Stamp))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Partial reports whether the line goes on in another record.
func (l *LogLine) Partial() bool { return !bytes.HasSuffix(l.Text, []byte("\n")) }

// parseLogLine reads a record, which ends with its newline, in the format of
// driver: "json-file", or k8s-file:
//
//	{"log":"text\n","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}
//	2006-01-02T15:04:05.999999999Z stdout F text
//
// The k8s form says P instead of F when the line goes on.
func parseLogLine(record []byte, driver string) (LogLine, error) {
	if driver == "json-file" {
		return parseJSONLine(record)
	}
	stamp, rest, ok := bytes.Cut(record, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || len(rest) < 2 || rest[1] != ' ' && rest[1] != '\n' {
		return LogLine{}, errLogLine(record)
	}
	l := LogLine{Stamp: stamp, Stderr: string(stream) == "stderr"}
	if !l.Stderr && string(stream) != "stdout" {
		return LogLine{}, errLogLine(record)
	}
	tag := rest[0]
	if rest = rest[1:]; rest[0] == ' ' {
		rest = rest[1:]
	}
	switch {
	case tag == 'F':
		l.Text = rest
	case tag == 'P' && len(rest) > 0:
		l.Text = rest[:len(rest)-1]
	default:
		return LogLine{}, errLogLine(record)
	}
	return l, nil
}

func parseJSONLine(record []byte) (LogLine, error) {
	var j struct {
		Log    string
		Stream string
		Time   json.RawMessage
	}
	if err := json.Unmarshal(record, &j); err != nil || j.Stream != "stdout" && j.Stream != "stderr" {
		return LogLine{}, errLogLine(record)
	}
	return LogLine{Stamp: bytes.Trim(j.Time, `"`), Stderr: j.Stream == "stderr", Text: []byte(j.Log)}, nil
}

func errLogLine(record []byte) error {
	return fmt.Errorf("a record of the log can't be read: %.60q", record)
}
