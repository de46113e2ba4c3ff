package runner

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

const (
	tailLines = 200     // kept in memory for error messages
	tailWidth = 2 << 10 // bytes of a line kept there
	logMost   = 8 << 20 // bytes after which the file is put aside as FILE.1
)

// engineLog takes an engine's output: all of it into a file that is put aside
// when it is full (so at most twice logMost lie on the disk), the last lines into
// memory. A file that cannot be written does not stop the engine; the tail goes
// on.
type engineLog struct {
	mu   sync.Mutex
	path string
	most int64
	file *os.File
	size int64
	part []byte
	tail []string
	told reservation // what the lines say of memory
}

func openLog(path string) (*engineLog, error) {
	l := &engineLog{path: path, most: logMost}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the engine's log: %w", err)
	}
	// 0600: a verbose engine may write prompts into its log.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the engine's log: %w", err)
	}
	if info, err := f.Stat(); err == nil {
		l.size = info.Size()
	}
	l.file = f
	return l, nil
}

// Write implements io.Writer; it never fails, since a failure would end the
// copying of the engine's output and fill its pipe.
func (l *engineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok {
			break
		}
		l.keep(line)
		l.part = rest
	}
	if len(l.part) > tailWidth {
		l.keep(l.part)
		l.part = nil
	}
	l.part = bytes.Clone(l.part)
	if l.file != nil {
		if l.size > 0 && l.size+int64(len(p)) > l.most {
			l.rotate()
		}
		n, _ := l.file.Write(p)
		l.size += int64(n)
	}
	return len(p), nil
}

func (l *engineLog) keep(line []byte) {
	line = bytes.TrimRight(line, "\r")
	if len(line) > tailWidth {
		line = line[:tailWidth]
	}
	l.told.read(string(line))
	l.tail = append(l.tail, string(line))
	if len(l.tail) > tailLines {
		l.tail = append(l.tail[:0:0], l.tail[len(l.tail)-tailLines:]...)
	}
}

func (l *engineLog) rotate() {
	l.file.Close()
	_ = os.Rename(l.path, l.path+".1") // where it fails, the next open goes on in the same file
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	l.file, l.size = f, 0
	if err != nil {
		l.file = nil
	}
}

// lines returns the last lines, oldest first.
func (l *engineLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := append([]string(nil), l.tail...)
	if len(l.part) > 0 {
		out = append(out, string(l.part))
	}
	return out
}

// reserved is what the engine has said of its memory since its start.
func (l *engineLog) reserved() Reserved {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told.told()
}

// forget empties the tail before a new start, so that its errors and its figures
// are its own.
func (l *engineLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail, l.part, l.told = nil, nil, reservation{}
}

func (l *engineLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
