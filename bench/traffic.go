package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"
)

// What a client asks the server for, by the first byte that it sends.
const (
	askByte   = 'b' // one byte back
	askStream = 's' // zeros until the client has enough
)

// serve answers clients; it is this program's part in a container. It ends with a
// signal only.
func serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	zeros := make([]byte, 256<<10)
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			var ask [1]byte
			if _, err := io.ReadFull(conn, ask[:]); err != nil {
				return
			}
			if ask[0] == askByte {
				conn.Write(ask[:])
				return
			}
			for err := error(nil); err == nil; {
				_, err = conn.Write(zeros)
			}
		}()
	}
}

// request connects and asks.
func request(ask byte) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte{ask}); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// requestByte connects for one byte.
func requestByte() error {
	conn, err := request(askByte)
	if err != nil {
		return err
	}
	defer conn.Close()
	var answer [1]byte
	_, err = io.ReadFull(conn, answer[:])
	return err
}

// untilServed waits until the server answers.
func untilServed(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		err := requestByte()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

// streamed measures one long stream, in MiB a second.
func (s size) streamed(context.Context) (float64, error) {
	conn, err := request(askStream)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	buffer := make([]byte, 256<<10)
	begin := time.Now()
	var got int64
	for got < s.streamBytes {
		n, err := conn.Read(buffer)
		if err != nil {
			return 0, err
		}
		got += int64(n)
	}
	return float64(got) / (1 << 20) / time.Since(begin).Seconds(), nil
}

// clients is how many connect at the same time.
const clients = 8

// connected measures short connections, in connections a second.
func (s size) connected(ctx context.Context) (float64, error) {
	todo := make(chan struct{})
	errs := make(chan error, clients)
	begin := time.Now()
	for range clients {
		go func() {
			var err error
			for range todo {
				if err == nil {
					err = requestByte()
				}
			}
			errs <- err
		}()
	}
	for i := 0; i < s.connections && ctx.Err() == nil; i++ {
		todo <- struct{}{}
	}
	close(todo)
	var err error
	for range clients {
		err = errors.Join(err, <-errs)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	return float64(s.connections) / time.Since(begin).Seconds(), err
}

// bare measures with the server outside of any container, as host networking does.
func bare(ctx context.Context, program string, measure func(context.Context) (float64, error)) (result float64, err error) {
	cmd := exec.CommandContext(ctx, program, "-serve", address)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if err := untilServed(ctx); err != nil {
		return 0, err
	}
	return measure(ctx)
}
