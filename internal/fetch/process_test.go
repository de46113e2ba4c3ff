package fetch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The test binary is also the other process: with these set it fetches one
// file and says how it went.
const (
	childURL  = "FETCH_TEST_URL"
	childDest = "FETCH_TEST_DEST"
	childSum  = "FETCH_TEST_SUM"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		err := quick().File(context.Background(), Request{URL: url, Dest: os.Getenv(childDest), SHA256: os.Getenv(childSum)})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t *testing.T, url, dest, sum string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childURL+"="+url, childDest+"="+dest, childSum+"="+sum)
	return cmd
}

func TestTwoProcessesOneFile(t *testing.T) {
	body := content(20, 2_000_000)
	hang := make(chan struct{})
	f := &faulty{body: body, etag: `"a"`, faults: []fault{{hang: hang}}}
	url := serve(t, f)
	dest := filepath.Join(t.TempDir(), "f")
	first := child(t, url, dest, sumOf(body))
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return len(f.log()) == 1 })
	told := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		done <- quick().File(t.Context(), Request{URL: url, Dest: dest, SHA256: sumOf(body), Progress: func(p Progress) {
			if p.Waiting != "" {
				told <- p.Waiting
			}
		}})
	}()
	want := fmt.Sprintf("process %d is fetching it; waiting", first.Process.Pid)
	if got := <-told; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	close(hang)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, body)
	// The first was cut once by us and resumed; the second asked for nothing.
	if n := len(f.log()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestKilledInTheMiddleGoesOn(t *testing.T) {
	body := content(21, 2_000_000)
	hang := make(chan struct{})
	defer close(hang)
	f := &faulty{body: body, etag: `"a"`, faults: []fault{{hang: hang}}}
	url := serve(t, f)
	dest := filepath.Join(t.TempDir(), "f")
	cmd := child(t, url, dest, sumOf(body))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		st, err := os.Stat(dest + ".part")
		return err == nil && st.Size() == 1_000_000
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	mustBeAbsent(t, dest)
	if err := quick().File(t.Context(), Request{URL: url, Dest: dest, SHA256: sumOf(body)}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, body)
	if got := f.log(); len(got) != 2 || got[1].rng != "bytes=1000000-" {
		t.Errorf("requests %+v, want the second from byte 1000000", got)
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-deadline:
			t.Fatal("waited for 20 s in vain")
		case <-time.After(2 * time.Millisecond):
		}
	}
}
