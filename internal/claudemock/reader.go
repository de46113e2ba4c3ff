package claudemock

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// fields is a JSON object of a request.
type fields map[string]json.RawMessage

// reader takes a request apart and keeps the first thing that is wrong with it.
// After that its methods return zeros, so that a caller need look only once.
type reader struct {
	wrong *refusal
}

func (r *reader) fail(path, format string, args ...any) {
	if r.wrong == nil {
		r.wrong = invalid("%s: %s", path, fmt.Sprintf(format, args...))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// null says whether a value is absent or null, which optional fields may be.
func null(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// object reads an object that may have only these fields; none given allows all.
func (r *reader) object(raw json.RawMessage, path string, allowed ...string) fields {
	if r.wrong != nil {
		return nil
	}
	var f fields
	if err := json.Unmarshal(raw, &f); err != nil || f == nil {
		r.fail(path, "Input should be a valid dictionary")
		return nil
	}
	if len(allowed) > 0 {
		for _, k := range sortedKeys(f) {
			if !slices.Contains(allowed, k) {
				r.fail(join(path, k), "Extra inputs are not permitted")
				return nil
			}
		}
	}
	return f
}

func (r *reader) need(f fields, path string, keys ...string) {
	for _, k := range keys {
		if _, ok := f[k]; !ok {
			r.fail(join(path, k), "Field required")
		}
	}
}

func (r *reader) list(raw json.RawMessage, path string) []json.RawMessage {
	if r.wrong != nil {
		return nil
	}
	var l []json.RawMessage
	if err := json.Unmarshal(raw, &l); err != nil || l == nil {
		r.fail(path, "Input should be a valid list")
	}
	return l
}

func (r *reader) text(f fields, path, key string) string {
	raw := f[key]
	if r.wrong != nil || len(raw) == 0 {
		return ""
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		r.fail(join(path, key), "Input should be a valid string")
		return ""
	}
	return *s
}

// choice reads a string that is one of some; absent or null is "".
func (r *reader) choice(f fields, path, key string, of ...string) string {
	if null(f[key]) {
		return ""
	}
	s := r.text(f, path, key)
	if r.wrong == nil && !slices.Contains(of, s) {
		r.fail(join(path, key), "Input should be '%s'", strings.Join(of, "', '"))
	}
	return s
}

// whole reads a whole number of at least low.
func (r *reader) whole(f fields, path, key string, low int64) int64 {
	raw := f[key]
	if r.wrong != nil || len(raw) == 0 {
		return 0
	}
	var n float64
	if err := json.Unmarshal(raw, &n); err != nil || null(raw) || n != math.Trunc(n) || math.Abs(n) > 1<<53 {
		r.fail(join(path, key), "Input should be a valid integer")
		return 0
	}
	if int64(n) < low {
		r.fail(join(path, key), "Input should be greater than or equal to %d", low)
	}
	return int64(n)
}

func (r *reader) flag(f fields, path, key string) bool {
	if null(f[key]) {
		return false
	}
	var b bool
	if err := json.Unmarshal(f[key], &b); err != nil {
		r.fail(join(path, key), "Input should be a valid boolean")
	}
	return b
}

// canonical is a block as the model reads it: without its cache_control, fields
// in order of their names, nulls left out, texts written one way whatever their
// escapes were. What is free-form within (a tool's schema, its input) keeps its
// order of keys, since the real prefix is byte for byte.
func canonical(f fields) []byte {
	out := make(fields, len(f))
	for k, v := range f {
		switch {
		case k == "cache_control" || null(v):
			continue
		case v[0] == '"':
			var s string
			if json.Unmarshal(v, &s) == nil {
				v = plain(s)
			}
		case k == "content":
			var nested []fields
			if json.Unmarshal(v, &nested) == nil && nested != nil {
				parts := make([][]byte, len(nested))
				for i, n := range nested {
					parts[i] = canonical(n)
				}
				v = append(append([]byte("["), bytes.Join(parts, []byte(","))...), ']')
			}
		}
		out[k] = v
	}
	return plain(out)
}

// plain is JSON without the escapes that are for HTML.
func plain(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return nil // what came as JSON can be written as such
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
