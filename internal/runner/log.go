package runner

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

const (
	tailLines = 2000    // kept in memory for people, and for what they tell
	tailBytes = 1 << 20 // of all these lines together
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
	sum  int         // bytes of tail
	told reservation // what the lines say of memory
	all  int64       // bytes since the start of the program
	dots int         // of a load, so far; -1 none
}

func openLog(path string) (*engineLog, error) {
	l := &engineLog{path: path, most: logMost, dots: -1}
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
	l.all += int64(len(p))
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
	l.load(l.part)
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
	l.load(line)
	l.tail = append(l.tail, string(line))
	l.sum += len(line)
	for len(l.tail) > tailLines || l.sum > tailBytes {
		l.sum -= len(l.tail[0])
		l.tail[0] = ""
		l.tail = l.tail[1:]
	}
}

// load reads how far a load is from a line of dots, one for each percent, as
// llama.cpp's own account of it is.
func (l *engineLog) load(line []byte) {
	if len(line) > 0 && len(line) <= 100 && len(bytes.Trim(line, ".")) == 0 {
		l.dots = max(l.dots, len(line))
	}
}

// loaded is how far the load is, 0 to 1; -1 where the log does not tell.
func (l *engineLog) loaded() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dots < 0 {
		return -1
	}
	return float64(l.dots) / 100
}

// wrote is how much the engines have written so far, in bytes.
func (l *engineLog) wrote() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// note puts a line of ours among the engine's.
func (l *engineLog) note(format string, a ...any) {
	_, _ = fmt.Fprintf(l, format+"\n", a...)
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
	l.tail, l.sum, l.part, l.told, l.dots = nil, 0, nil, reservation{}, -1
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
