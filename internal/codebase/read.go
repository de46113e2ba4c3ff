package codebase

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxRead bounds Tree.Read: files that a Scan analysed are far smaller.
const maxRead = 64 << 20

// Read returns a file's bytes as they are on the disk now. path is one of
// File.Path. It refuses what leaves the root, links, and everything that is not
// a regular file of at most 64 MiB. May be called from many goroutines.
func (t *Tree) Read(path string) ([]byte, error) {
	root, err := os.OpenRoot(t.Root)
	if err != nil {
		return nil, fmt.Errorf("cannot open the tree: %w", err)
	}
	defer root.Close()
	if !filepath.IsLocal(filepath.FromSlash(path)) {
		return nil, fmt.Errorf("%q leads out of %s: not read", path, t.Root)
	}
	w := &walker{base: root}
	defer w.close()
	raw, _, err := w.read(path, maxRead, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", path, err)
	}
	return raw, nil
}

// ReadText returns a file's text as UTF-8, without a byte order mark, decoded
// as the Scan decoded it: bytes that are no text become U+FFFD. Line ends stay
// as they are.
func (t *Tree) ReadText(path string) (string, error) {
	raw, err := t.Read(path)
	if err != nil {
		return "", err
	}
	text, _ := decode(raw)
	return string(text), nil
}

// Errors of walker.read that Scan turns into reasons.
var (
	errHuge       = errors.New("it is larger than the limit")
	errNotRegular = errors.New("it is not a regular file")
	errLink       = errors.New("it is a symbolic link, or lies behind one")
)

// walker opens files under a root. It goes from folder to folder by single
// names, so that no link on the way is followed, and stays in the folder that
// it is in: sorted paths cost little. Not for use by several goroutines.
type walker struct {
	base *os.Root
	// at is the folder that here is open on; "." is base itself.
	at   string
	here *os.Root
}

func (w *walker) close() {
	if w.here != nil && w.here != w.base {
		w.here.Close()
	}
	w.here = nil
}

// enter opens the folder that is called dir, relative to base.
func (w *walker) enter(dir string) error {
	if w.here != nil && w.at == dir {
		return nil
	}
	rest := dir
	if w.here != nil && w.here != w.base && strings.HasPrefix(dir, w.at+"/") {
		rest = dir[len(w.at)+1:]
	} else {
		w.close()
		w.here, w.at = w.base, "."
	}
	if rest == "." {
		return nil
	}
	for name := range strings.SplitSeq(rest, "/") {
		info, err := w.here.Lstat(name)
		if err != nil {
			return w.lost(err)
		}
		if !info.IsDir() {
			if info.Mode()&fs.ModeSymlink != 0 {
				return w.lost(errLink)
			}
			return w.lost(fs.ErrNotExist)
		}
		next, err := w.here.OpenRoot(name)
		if err != nil {
			return w.lost(err)
		}
		if w.here != w.base {
			w.here.Close()
		}
		w.here, w.at = next, path.Join(w.at, name)
	}
	return nil
}

func (w *walker) lost(err error) error {
	w.close()
	return err
}

// lstat looks at a file without following it.
func (w *walker) lstat(name string) (fs.FileInfo, error) {
	if err := w.enter(path.Dir(name)); err != nil {
		return nil, err
	}
	return w.here.Lstat(path.Base(name))
}

// read returns the whole of a regular file of at most limit bytes, in buf
// where that is large enough.
func (w *walker) read(name string, limit int64, buf []byte) ([]byte, fs.FileInfo, error) {
	info, err := w.lstat(name)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, info, errLink
	case !info.Mode().IsRegular():
		return nil, info, errNotRegular
	case info.Size() > limit:
		return nil, info, errHuge
	}
	f, err := w.here.OpenFile(path.Base(name), os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, info, err
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !now.Mode().IsRegular() {
		return nil, info, errNotRegular
	}
	buf = buf[:0]
	if need := int(info.Size()) + 1; cap(buf) < need {
		buf = make([]byte, 0, need)
	}
	// One byte more than the size shows the end of the file, or that it grew.
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return nil, info, errHuge
		}
		if err == io.EOF {
			return buf, info, nil
		}
		if err != nil {
			return nil, info, err
		}
	}
}
