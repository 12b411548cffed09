package layers

import (
	"encoding/binary"
	"hash/crc64"

	tarsplit "github.com/vbatts/tar-split/tar/storage"
)

// crc64ISO adds p to a CRC-64 with the ISO polynomial, which tar-split records
// for every file. It gives what hash/crc64 does, several times faster.
//
// The polynomial is x^64 + x^4 + x^3 + x + 1, so x^64 = (x+1)(x^3+1) and
// multiplying by x^64, which is what a CRC does with each 8 bytes, takes a few
// shifts. Squaring spreads the exponents only: x^256 = (x^4+1)(x^12+1), so four
// words can go on side by side. As usual for reflected CRCs, bit 63 is x^0 and
// a multiplication by x^n is a shift to the right by n.
func crc64ISO(crc uint64, p []byte) uint64 {
	if len(p) >= 64 {
		crc = ^crc
		c0 := crc ^ binary.LittleEndian.Uint64(p)
		c1 := binary.LittleEndian.Uint64(p[8:])
		c2 := binary.LittleEndian.Uint64(p[16:])
		c3 := binary.LittleEndian.Uint64(p[24:])
		for p = p[32:]; len(p) >= 32; p = p[32:] {
			c0 = timesX256(c0) ^ binary.LittleEndian.Uint64(p)
			c1 = timesX256(c1) ^ binary.LittleEndian.Uint64(p[8:])
			c2 = timesX256(c2) ^ binary.LittleEndian.Uint64(p[16:])
			c3 = timesX256(c3) ^ binary.LittleEndian.Uint64(p[24:])
		}
		crc = ^timesX64(timesX64(timesX64(timesX64(c0)^c1)^c2) ^ c3)
	}
	return crc64.Update(crc, tarsplit.CRCTable, p)
}

// timesX64 returns c * x^64. What a shift pushes out is a multiple of x^64 in
// turn, and is put back in at the other end before.
func timesX64(c uint64) uint64 {
	c ^= c<<63 ^ c<<61 ^ c<<60
	c ^= c >> 1
	return c ^ c>>3
}

// timesX256 returns c * x^256.
func timesX256(c uint64) uint64 {
	over := c<<60 ^ c<<52 ^ c<<48
	c ^= c >> 4
	c ^= c >> 12
	over ^= over >> 1
	return c ^ over ^ over>>3
}
