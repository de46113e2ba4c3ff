package secret_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"monitor/internal/secret"
)

const takerVariable = "MONITOR_TEST_TAKER"

// TestMain makes this test binary a program that takes a key out of its environment
// and shows what is left of it.
func TestMain(m *testing.M) {
	how := os.Getenv(takerVariable)
	if how == "" {
		os.Exit(m.Run())
	}
	unset := secret.Unsetenv
	if how == "control" { // as anybody would do it
		unset = os.Unsetenv
	}
	err := unset("THE_KEY")
	left, readErr := os.ReadFile("/proc/self/environ")
	if err != nil || readErr != nil || os.Getenv("THE_KEY") != "" {
		fmt.Println("failed:", err, readErr)
		os.Exit(1)
	}
	os.Stdout.Write(left)
	os.Exit(0)
}

func TestAVariableIsTakenOutOfWhatTheKernelShows(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"ours", "control"} {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), takerVariable+"="+how, "THE_KEY="+canary, "THE_KEY_AFTER=kept")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", how, err, out)
		}
		if got, want := bytes.Contains(out, []byte(canary)), how == "control"; got != want {
			t.Errorf("%s: the key is shown: %v", how, got)
		}
		if !strings.Contains(string(out), "\x00THE_KEY_AFTER=kept\x00") {
			t.Errorf("%s: another variable is gone: %q", how, out)
		}
	}
}
