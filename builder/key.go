package builder

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"

	"github.com/opencontainers/go-digest"

	"cooper/dockerfile"
	"cooper/layers"
)

// keyVersion is part of every key: raise it when a step comes to mean
// something else, so that old records are not found any more.
const keyVersion = "cooper/1"

// keyHash builds a key from parts. Each part is written with its length, so
// that no two lists of parts give the same bytes.
type keyHash struct{ h hash.Hash }

func newKey(kind string) keyHash {
	k := keyHash{sha256.New()}
	k.text(keyVersion)
	k.text(kind)
	return k
}

func (k keyHash) text(s string) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(s)))
	k.h.Write(n[:])
	k.h.Write([]byte(s))
}

func (k keyHash) number(v uint64) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], v)
	k.h.Write(n[:])
}

func (k keyHash) sum() digest.Digest {
	return digest.NewDigest(digest.SHA256, k.h)
}

// stepKey names what op does on top of parent, inputs aside.
func stepKey(parent digest.Digest, op dockerfile.Op) (digest.Digest, error) {
	data, err := json.Marshal(op)
	if err != nil {
		return "", fmt.Errorf("digest of %T: %w", op, err)
	}
	k := newKey(fmt.Sprintf("%T", op))
	k.text(string(parent))
	k.text(string(data))
	return k.sum(), nil
}

// withInputs adds the digest of what a step reads to its stepKey.
func withInputs(step, inputs digest.Digest) layers.Key {
	k := newKey("inputs")
	k.text(string(step))
	k.text(string(inputs))
	return layers.Key(k.sum())
}
