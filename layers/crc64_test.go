package layers

import (
	"hash/crc64"
	"math/rand"
	"testing"

	tarsplit "github.com/vbatts/tar-split/tar/storage"
)

func TestCRC64(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	p := make([]byte, 5000)
	r.Read(p)
	for n := range 300 {
		from := r.Intn(64)
		crc := r.Uint64()
		part := p[from : from+n*r.Intn(16)]
		if got, want := crc64ISO(crc, part), crc64.Update(crc, tarsplit.CRCTable, part); got != want {
			t.Errorf("crc64ISO(%x, %d bytes) = %x, want %x", crc, len(part), got, want)
		}
	}
}

func BenchmarkCRC64(b *testing.B) {
	p := make([]byte, 64<<10)
	rand.New(rand.NewSource(1)).Read(p)
	for name, fn := range map[string]func(uint64, []byte) uint64{
		"ours": crc64ISO,
		"std":  func(c uint64, p []byte) uint64 { return crc64.Update(c, tarsplit.CRCTable, p) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				fn(0, p)
			}
		})
	}
}
