package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// ErrNobody is in the chain of Dial's error when no process serves.
var ErrNobody = errors.New("nobody serves")

// maxPath is how long the path of a socket may be, in bytes: sun_path of sockaddr_un
// less its final zero, 108 on Linux and Windows, 104 on the BSDs and macOS.
func maxPath(system string) int {
	if system == "linux" || system == "windows" {
		return 107
	}
	return 103
}

// SocketPath is where the socket for a data folder is: in the folder itself, so that
// everybody who finds the data finds it; where that path is too long, in the
// folder runtimeDir (XDG_RUNTIME_DIR; "" is none) under a name made of the data
// folder's. The error says what to do where both are too long.
func SocketPath(data, runtimeDir string) (string, error) {
	return socketPath(data, runtimeDir, runtime.GOOS)
}

func socketPath(data, runtimeDir, system string) (string, error) {
	most := maxPath(system)
	path := filepath.Join(data, "serve.sock")
	if len(path) <= most {
		return path, nil
	}
	sum := sha256.Sum256([]byte(data))
	short := filepath.Join(runtimeDir, "monitor", hex.EncodeToString(sum[:6])+".sock")
	if filepath.IsAbs(runtimeDir) && len(short) <= most {
		return short, nil
	}
	return "", fmt.Errorf("the socket of `monitor serve` would be %s, %d bytes long, and this system allows %d; set MONITOR_HOME to a shorter path, or XDG_RUNTIME_DIR to a short one", path, len(path), most)
}

// abandoned says of a failed dial that no process has the socket: it is not there, or
// nobody listens on it. A queue that is full (EAGAIN), a limit of ours or a lack of
// rights says nothing of the kind.
func abandoned(err error) bool {
	const wsaRefused = syscall.Errno(10061) // WSAECONNREFUSED, which Go's own constant is not
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) ||
		runtime.GOOS == "windows" && errors.Is(err, wsaRefused)
}

// bind makes the socket. One that a dead process left is replaced; one that answers
// is an error that names who has it.
func bind(ctx context.Context, path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the socket cannot be made: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of the socket: %w", err)
	}
	if m := info.Mode().Perm(); runtime.GOOS != "windows" && m&0o022 != 0 {
		return nil, fmt.Errorf("others may write to %s (mode %04o), so they could put a socket of theirs in the place of ours; type: chmod 700 %s", dir, m, dir)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 && runtime.GOOS != "windows" {
			return nil, fmt.Errorf("%s is in the way: it is no socket; move it away", path)
		}
		c, err := Dial(ctx, path)
		if err == nil {
			h, err := c.Health(ctx)
			if err != nil {
				return nil, fmt.Errorf("another process has the socket %s and does not answer (%w); stop it first", path, err)
			}
			return nil, fmt.Errorf("a monitor serves already, process %d since %s; stop it (kill %d) or use it (monitor ps)", h.PID, h.Since.Local().Format(time.DateTime), h.PID)
		}
		if !errors.Is(err, ErrNobody) {
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("the socket that a dead process left cannot be removed: %w", err)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("the socket %s cannot be made: %w", path, err)
	}
	// Nobody else can be in the folder's way: it is ours alone to write to.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("the socket %s cannot be made private: %w", path, err), l.Close())
	}
	return l, nil
}
