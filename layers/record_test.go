package layers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	digest "github.com/opencontainers/go-digest"
)

func ignoreUsed() cmp.Option { return cmpopts.IgnoreFields(Record{}, "Used") }

func TestRecordRoundTrip(t *testing.T) {
	needRoot(t)
	s := testStore(t, "vfs")
	layer := baseLayer(t, s)
	for _, c := range []struct {
		name string
		r    Record
	}{
		{"layer", Record{Layer: layer.ID, DiffID: layer.DiffID, Step: "RUN make", Created: testTime.UTC(), Size: 7,
			Inputs: []Input{{Kind: "file", Name: "a\nb", Digest: digest.FromString("x")}, {Kind: "arg", Name: "V", Value: "1"}}}},
		{"value", Record{Value: []byte("\x00\xff"), Created: testTime.UTC()}},
		{"long value", Record{Value: bytes.Repeat([]byte("v"), 3*recordRead), Created: testTime.UTC()}},
		{"empty", Record{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.Key = digest.FromString(c.name)
			if _, ok := s.Lookup(c.r.Key); ok {
				t.Error("Lookup hit before PutRecord")
			}
			must(t, s.PutRecord(c.r))
			got, ok := s.Lookup(c.r.Key)
			inputs, err := s.Inputs(c.r.Key)
			must(t, err)
			got.Inputs = inputs
			if diff := cmp.Diff(c.r, got, ignoreUsed()); !ok || diff != "" {
				t.Errorf("Lookup = %v (-put +got):\n%s", ok, diff)
			}
			all, err := s.Records()
			if len(all) != 1 || all[0].Key != c.r.Key {
				t.Errorf("Records = %v, %v", all, err)
			}
			must(t, s.DeleteRecord(c.r.Key))
			must(t, s.DeleteRecord(c.r.Key))
			if _, err := s.Inputs(c.r.Key); !errors.Is(err, ErrNotFound) {
				t.Errorf("Inputs after DeleteRecord: %v", err)
			}
		})
	}
}

func TestRecordWithoutLayerIsMiss(t *testing.T) {
	s := testStore(t, "vfs")
	k := digest.FromString("k")
	must(t, s.PutRecord(Record{Key: k, Layer: "0000000000000000000000000000000000000000000000000000000000000000"}))
	if r, ok := s.Lookup(k); ok {
		t.Errorf("Lookup = %v, want a miss", r)
	}
	if err := s.PutRecord(Record{Key: "../escape"}); err == nil {
		t.Error("PutRecord took a key that is no digest")
	}
}

// TestDamagedRecordIsMiss cuts and changes a record at every byte.
func TestDamagedRecordIsMiss(t *testing.T) {
	s := testStore(t, "vfs")
	k := digest.FromString("k")
	must(t, s.PutRecord(Record{Key: k, Value: []byte("value"), Step: "RUN true", Inputs: []Input{{Kind: "arg"}}}))
	name, err := s.recordPath(k)
	must(t, err)
	good, err := os.ReadFile(name)
	must(t, err)
	for i := range good {
		must(t, os.WriteFile(name, good[:i], 0o600))
		if r, ok := s.Lookup(k); ok {
			t.Errorf("cut to %d bytes: Lookup = %v", i, r)
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0x11
		must(t, os.WriteFile(name, bad, 0o600))
		_, ok := s.Lookup(k)
		_, err := s.Inputs(k)
		if ok && err == nil {
			t.Errorf("byte %d changed: still a record", i)
		}
	}
	if _, err := s.Records(); err != nil {
		t.Errorf("Records: %v", err)
	}
}

func TestRecordUsed(t *testing.T) {
	s := testStore(t, "vfs")
	var keys []Key
	for i := range 3 {
		k := digest.FromString(fmt.Sprint(i))
		keys = append(keys, k)
		must(t, s.PutRecord(Record{Key: k}))
		name, err := s.recordPath(k)
		must(t, err)
		must(t, os.Chtimes(name, time.Time{}, time.Now().Add(time.Duration(i-10)*time.Hour)))
	}
	if _, ok := s.Lookup(keys[0]); !ok {
		t.Error("miss")
	}
	dir, err := s.Dir("cache")
	must(t, err)
	old := filepath.Join(dir, newRecordPrefix+"1")
	must(t, os.WriteFile(old, nil, 0o600))
	must(t, os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)))
	all, err := s.Records()
	must(t, err)
	var got []Key
	for _, r := range all {
		got = append(got, r.Key)
	}
	if diff := cmp.Diff([]Key{keys[0], keys[2], keys[1]}, got); diff != "" {
		t.Errorf("Records, most recently used first (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("an abandoned file was left")
	}
}

// TestRecordConcurrently writes and reads one key from many goroutines.
func TestRecordConcurrently(t *testing.T) {
	s := testStore(t, "vfs")
	k := digest.FromString("k")
	must(t, s.PutRecord(Record{Key: k, Value: []byte("0")}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				if i%2 == 0 {
					if err := s.PutRecord(Record{Key: k, Value: bytes.Repeat([]byte{byte(i)}, 1+i*2000)}); err != nil {
						t.Error(err)
					}
				} else if _, ok := s.Lookup(k); !ok {
					t.Error("miss while others write")
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkLookup(b *testing.B) {
	s := testStore(b, "vfs")
	k := digest.FromString("k")
	must(b, s.PutRecord(Record{Key: k, Value: []byte("value"), Inputs: make([]Input, 20000)}))
	for b.Loop() {
		if _, ok := s.Lookup(k); !ok {
			b.Fatal("miss")
		}
	}
}
