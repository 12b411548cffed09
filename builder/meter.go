package builder

import (
	"cmp"
	"time"
)

// meter is an io.Writer that reports how much has passed, now and then.
type meter struct {
	v     *vertex
	id    string
	n     int64
	total int64
	last  time.Time
}

func (m *meter) Write(p []byte) (int, error) {
	m.add(int64(len(p)))
	return len(p), nil
}

// add counts n more bytes.
func (m *meter) add(n int64) {
	m.n += n
	if now := time.Now(); m.v != nil && now.Sub(m.last) > 100*time.Millisecond {
		m.last = now
		m.v.progress(m.id, m.n, cmp.Or(m.total, m.n))
	}
}
