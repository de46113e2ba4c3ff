package gguf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
)

// maxParts is more files than any model has: at 50 GB each, 50 TB.
const maxParts = 1 << 10

// Source is one open part.
type Source interface {
	io.ReaderAt
	io.Closer
	// Size is that of the file in bytes, -1 where it is not known.
	Size() int64
}

var partForm = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})\.gguf$`)

// SplitName takes the name of a part (a path or an address will do) apart:
// x-00002-of-00003.gguf is part 1 (from 0) of 3, with the stem x. ok is false for
// any other name.
func SplitName(name string) (stem string, part, parts int, ok bool) {
	m := partForm.FindStringSubmatch(name)
	if m == nil {
		return "", 0, 0, false
	}
	no, _ := strconv.Atoi(m[2])
	of, _ := strconv.Atoi(m[3])
	if no < 1 || no > of {
		return "", 0, 0, false
	}
	return m[1], no - 1, of, true
}

// PartName is the name of part (from 0) of parts, as llama.cpp's gguf-split
// writes it.
func PartName(stem string, part, parts int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", stem, part+1, parts)
}

// split reads which part of how many the file is.
func (c *cursor) split(f *File) error {
	const no, count = "split.no", "split.count"
	if f.Meta.Kind(count) == "" {
		return nil
	}
	c.what = field{what: "field", name: count}
	n, ok := f.Meta.Uint(count)
	if !ok || n > maxParts {
		return c.fail("it is no number of parts from 1 to %d; the file is damaged", maxParts)
	}
	if n <= 1 {
		return nil
	}
	c.what = field{what: "field", name: no}
	i, ok := f.Meta.Uint(no)
	if !ok || i >= n {
		return c.fail("it does not say which of the %d parts this file is (0 to %d); the file is damaged", n, n-1)
	}
	f.Parts, f.Part = int(n), int(i)
	return nil
}

// ReadFile reads the headers of a model on disk: of a divided one, all parts,
// whichever of them path names. Its errors name the file and what is wrong with
// it.
func ReadFile(path string) (*File, error) {
	return ReadParts(context.Background(), path, openFile)
}

func openFile(_ context.Context, name string) (Source, error) {
	// Asked before it is opened: opening a pipe would wait for its other end.
	st, err := os.Stat(name)
	if err == nil && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(name)
	}
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return onDisk{f, st.Size()}, nil
}

type onDisk struct {
	*os.File
	size int64
}

func (d onDisk) Size() int64 { return d.size }

// ReadParts reads the headers of a model from wherever open finds its files: the
// one that is named and, where that says that it is a part, the others, one after
// the other. Each is closed before the next is opened.
func ReadParts(ctx context.Context, name string, open func(ctx context.Context, name string) (Source, error)) (*File, error) {
	one := func(name string) (*File, error) {
		src, err := open(ctx, name)
		if err != nil {
			return nil, err
		}
		defer src.Close()
		f, err := Read(src, src.Size())
		var e *Error
		if errors.As(err, &e) {
			return nil, fmt.Errorf("%s is not a usable GGUF file: %w", name, err)
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		f.parts[0].name = name
		return f, nil
	}
	named, err := one(name)
	if err != nil || named.Parts == 1 {
		return named, err
	}
	stem, part, parts, ok := SplitName(name)
	if !ok || part != named.Part || parts != named.Parts {
		return nil, fmt.Errorf("%s says that it is part %d of %d, and its name does not; give it back the name …%s, beside the others", name, named.Part+1, named.Parts, PartName("", named.Part, named.Parts))
	}
	files := make([]*File, parts)
	for i := range parts {
		if i == part {
			files[i] = named
			continue
		}
		if files[i], err = one(PartName(stem, i, parts)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is part %d of %d, and part %d is missing; get it again: %w", name, part+1, parts, i+1, err)
		} else if err != nil {
			return nil, err
		}
	}
	return join(files)
}

// join makes one file of all parts, in order, and refuses those that do not
// belong together. Only the first has the model's metadata.
func join(files []*File) (*File, error) {
	whole := *files[0]
	whole.Part, whole.Tensors, whole.parts = 0, nil, nil
	whole.Size, whole.HeaderBytes, whole.ReadBytes = 0, 0, 0
	seen := map[string]int{}
	architecture, _ := whole.Meta.String("general.architecture")
	total, told := whole.Meta.Uint("split.tensors.count")
	for i, f := range files {
		name := f.parts[0].name
		if f.Parts != len(files) || f.Part != i {
			return nil, fmt.Errorf("%s is part %d of %d by its name, and part %d of %d by its header; it belongs to another model or was renamed", name, i+1, len(files), f.Part+1, f.Parts)
		}
		other, says := f.Meta.String("general.architecture")
		n, counts := f.Meta.Uint("split.tensors.count")
		if f.BigEndian != whole.BigEndian || says && other != architecture || counts != told || n != total {
			return nil, fmt.Errorf("%s belongs to another model than %s: byte order, architecture or number of tensors differ; get all parts from one place", name, files[0].parts[0].name)
		}
		for _, t := range f.Tensors {
			if p, twice := seen[t.Name]; twice {
				return nil, fmt.Errorf("tensor %s is in part %d and in part %d; the parts belong to different models, get all from one place", quote(t.Name), p+1, i+1)
			}
			seen[t.Name] = i
		}
		whole.Tensors = append(whole.Tensors, f.Tensors...)
		whole.parts = append(whole.parts, f.parts...)
		whole.HeaderBytes += f.HeaderBytes
		whole.ReadBytes += f.ReadBytes
		var ok bool
		if whole.Size, ok = add(whole.Size, f.Size); !ok {
			return nil, fmt.Errorf("with %s the model has more bytes than fit; the file is damaged or made to mislead", name)
		}
	}
	if told && total != uint64(len(whole.Tensors)) {
		return nil, fmt.Errorf("the parts of %s hold %d tensors, and its header says that there are %d; get all parts again", files[0].parts[0].name, len(whole.Tensors), total)
	}
	return &whole, nil
}
