package wire

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = NewConn(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestMessages: large bodies and more files than one control message holds arrive
// whole and in order.
func TestMessages(t *testing.T) {
	a, b := pair(t)
	for _, tt := range []struct{ size, files int }{{0, 0}, {1 << 20, 0}, {10, 1}, {300_000, maxFiles}, {10, 2*maxFiles + 1}} {
		var files []*os.File
		for i := range tt.files {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(w, i)
			w.Close()
			files = append(files, r)
		}
		body := string(bytes.Repeat([]byte("x"), tt.size))
		sent := make(chan error, 1)
		go func() { sent <- a.Send(KindLog, Log{Message: body}, files...) }()
		m, err := b.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		var got Log
		if err := m.Decode(&got); err != nil || m.Kind != KindLog || len(m.Files) != tt.files {
			t.Fatalf("message %d with %d files, %v, want %d files", m.Kind, len(m.Files), err, tt.files)
		}
		if diff := cmp.Diff(Log{Message: body}, got); diff != "" {
			t.Errorf("body differs for %d bytes", tt.size)
		}
		for i, f := range m.Files {
			if n, _ := io.ReadAll(f); string(n) != fmt.Sprint(i) {
				t.Fatalf("file %d holds %q", i, n)
			}
			files[i].Close()
		}
		m.Close()
	}
}

func TestEnd(t *testing.T) {
	a, b := pair(t)
	a.Close()
	if _, err := b.Recv(); err != io.EOF {
		t.Errorf("Recv after the other end closed = %v, want EOF", err)
	}
	a, b = pair(t)
	a.uc.Write([]byte{0, 0, 0, 1, 0, 0})
	a.Close()
	if _, err := b.Recv(); err != io.ErrUnexpectedEOF {
		t.Errorf("Recv of half a header = %v, want ErrUnexpectedEOF", err)
	}
	a, b = pair(t)
	a.uc.Write([]byte{0, 0, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0})
	if _, err := b.Recv(); err == nil {
		t.Error("Recv of an absurd size = nil, want an error")
	}
}
