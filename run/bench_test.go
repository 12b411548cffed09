package run

import (
	"context"
	"testing"
)

func BenchmarkRunTrue(b *testing.B) {
	r := runtimeFor(b)
	root := overlay(b, image(b))
	c := Config{Args: []string{"/bin/true"}, BareEnv: true}
	if _, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		st, err := r.Run(context.Background(), Task{Rootfs: root, Config: &c})
		if err != nil || st.ExitCode != 0 {
			b.Fatal(st, err)
		}
	}
}
