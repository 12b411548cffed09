package layers

import (
	"errors"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Key names a build step by the content of everything it depends on.
type Key = digest.Digest

// Input is one thing a step read, so that a miss can be explained.
type Input struct {
	// Kind is "parent", "op", "file", "arg" or whatever the builder
	// compares by.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Digest is of the input's content; Value may show a short one as it is.
	Digest digest.Digest `json:"digest,omitempty"`
	Value  string        `json:"value,omitempty"`
}

// Record is the remembered result of a step.
type Record struct {
	Key Key `json:"-"`
	// Layer and DiffID are the step's result; empty when only Value counts.
	Layer  string        `json:"layer,omitempty"`
	DiffID digest.Digest `json:"diffID,omitempty"`
	// Step is the text that the user knows the step by.
	Step   string  `json:"step,omitempty"`
	Inputs []Input `json:"inputs,omitempty"`
	// Created is when the step was executed. Used is when the record last
	// served, to the minute; PutRecord ignores it.
	Created time.Time `json:"created"`
	Used    time.Time `json:"-"`
	// Size is what the layer takes, in uncompressed bytes.
	Size int64 `json:"size,omitempty"`
	// Value is a remembered result that is no layer.
	Value []byte `json:"value,omitempty"`
}

// Lookup returns the record for k. A record whose layer is gone is no hit, nor
// is a damaged one.
func (s *Store) Lookup(k Key) (Record, bool) { return Record{}, false }

// PutRecord remembers r, in place of an earlier record with its key.
func (s *Store) PutRecord(r Record) error { return errors.ErrUnsupported }

// Records returns all records, the most recently used first.
func (s *Store) Records() ([]Record, error) { return nil, errors.ErrUnsupported }

// DeleteRecord forgets the record for k. It is no error if there is none.
func (s *Store) DeleteRecord(k Key) error { return errors.ErrUnsupported }
