package cli_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// drive is the command
//
//	drive FILE COUNT PARALLEL TEXT
//
// which fetches the page at the address in FILE COUNT times, each time over a
// connection of its own, PARALLEL at once. Each answer must hold TEXT.
func drive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: drive file count parallel text")
	}
	url := "http://" + strings.TrimSpace(ts.ReadFile(args[0])) + "/"
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	parallel, err := strconv.Atoi(args[2])
	ts.Check(err)
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true},
		Timeout:   20 * time.Second,
	}
	var begun atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, parallel)
	for i := range parallel {
		wg.Go(func() {
			for int(begun.Add(1)) <= count && errs[i] == nil {
				errs[i] = fetch(client, url, args[3])
			}
		})
	}
	wg.Wait()
	ts.Check(errors.Join(errs...))
}

// fetch gets one page, which must hold text.
func fetch(client *http.Client, url, text string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(page), text) {
		return fmt.Errorf("%s: %s, %d bytes without %q", url, resp.Status, len(page), text)
	}
	return nil
}
