package fakeengine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// seed is a number fixed by the prompt, and by a path within the answer.
func seed(parts ...string) uint64 {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return binary.BigEndian.Uint64(sum[:])
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// quotable returns the lines that an answer may quote: those between fence
// lines, else all; of a length that a person would quote.
func quotable(prompt string) []string {
	fences := 0
	for line := range strings.Lines(prompt) {
		if strings.HasPrefix(line, "=====") {
			fences++
		}
	}
	var lines []string
	inside := fences < 2
	for line := range strings.Lines(prompt) {
		line = strings.TrimRight(line, "\r\n")
		if fences >= 2 && strings.HasPrefix(line, "=====") {
			inside = !inside
			continue
		}
		if t := strings.TrimSpace(line); inside && len(t) >= 8 && len(t) <= 120 && utf8.ValidString(t) {
			lines = append(lines, t)
		}
	}
	return lines
}

// instance makes a value that holds to a JSON schema. It knows the part of the
// language that answers are described with: type, properties, items, enum, const,
// anyOf, oneOf, allOf of one, $ref within the document, and the bounds of lengths,
// counts and numbers. Every property is filled in, wanted or not.
type instance struct {
	prompt string
	quotes []string
	root   map[string]any
}

func answerSchema(schema json.RawMessage, prompt string) (string, error) {
	var root map[string]any
	if err := json.Unmarshal(schema, &root); err != nil {
		return "", fmt.Errorf("the schema is not a JSON object: %w", err)
	}
	in := &instance{prompt: prompt, quotes: quotable(prompt), root: root}
	v, err := in.value(root, "", 0)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(v)
	return string(b), err
}

func (in *instance) value(s map[string]any, path string, depth int) (any, error) {
	if depth > 32 {
		return nil, fmt.Errorf("the schema nests too deeply at %q", path)
	}
	if ref, ok := s["$ref"].(string); ok {
		target, err := in.resolve(ref)
		if err != nil {
			return nil, err
		}
		return in.value(target, path, depth+1)
	}
	if c, ok := s["const"]; ok {
		return c, nil
	}
	if e, ok := s["enum"].([]any); ok && len(e) > 0 {
		return e[seed(in.prompt, path)%uint64(len(e))], nil
	}
	for _, word := range []string{"anyOf", "oneOf", "allOf"} {
		if l, ok := s[word].([]any); ok && len(l) > 0 {
			if first, ok := l[0].(map[string]any); ok {
				return in.value(first, path, depth+1)
			}
		}
	}
	kind, _ := s["type"].(string)
	if l, ok := s["type"].([]any); ok && len(l) > 0 {
		kind, _ = l[0].(string)
	}
	switch kind {
	case "array":
		return in.array(s, path, depth)
	case "string":
		return in.text(s, path), nil
	case "integer", "number":
		return in.number(s, path), nil
	case "boolean":
		return seed(in.prompt, path)%2 == 0, nil
	case "null":
		return nil, nil
	case "object", "":
		return in.object(s, path, depth)
	}
	return nil, fmt.Errorf("the schema has the unknown type %q at %q", kind, path)
}

func (in *instance) resolve(ref string) (map[string]any, error) {
	var at any = in.root
	for _, step := range strings.Split(strings.TrimPrefix(ref, "#"), "/") {
		if step == "" {
			continue
		}
		m, _ := at.(map[string]any)
		at = m[step]
	}
	m, ok := at.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the schema refers to %q, which is not there", ref)
	}
	return m, nil
}

func (in *instance) object(s map[string]any, path string, depth int) (any, error) {
	props, _ := s["properties"].(map[string]any)
	names := make([]string, 0, len(props))
	for n := range props {
		names = append(names, n)
	}
	sort.Strings(names)
	out := make(map[string]any, len(names))
	for _, n := range names {
		sub, _ := props[n].(map[string]any)
		v, err := in.value(sub, path+"/"+n, depth+1)
		if err != nil {
			return nil, err
		}
		out[n] = v
	}
	return out, nil
}

func (in *instance) array(s map[string]any, path string, depth int) (any, error) {
	items, _ := s["items"].(map[string]any)
	n := max(1, limit(s, "minItems", 1))
	n = min(n, limit(s, "maxItems", n))
	out := make([]any, 0, n)
	for i := range n {
		v, err := in.value(items, fmt.Sprintf("%s/%d", path, i), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (in *instance) number(s map[string]any, path string) any {
	low := limit(s, "minimum", 1)
	high := max(low, limit(s, "maximum", low+9))
	return low + int(seed(in.prompt, path)%uint64(high-low+1))
}

// text is a line of the prompt for a quote, else a few words that differ from
// prompt to prompt.
func (in *instance) text(s map[string]any, path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	text := fmt.Sprintf("%s number %d", name, seed(in.prompt, path)%10000)
	if name == "quote" && len(in.quotes) > 0 {
		text = in.quotes[seed(in.prompt, path)%uint64(len(in.quotes))]
	}
	if most := limit(s, "maxLength", 0); most > 0 {
		r := []rune(text)
		text = strings.TrimSpace(string(r[:min(len(r), most)]))
	}
	for least := limit(s, "minLength", 0); utf8.RuneCountInString(text) < least; {
		text += " and so on"
	}
	return text
}

func limit(s map[string]any, name string, otherwise int) int {
	if f, ok := s[name].(float64); ok {
		return int(f)
	}
	return otherwise
}

// pieces cuts a text into what this engine calls tokens: up to four letters or
// digits with the blank before them, or any other single character. Joined they
// give the text back.
func pieces(text string) []string {
	var out []string
	var b strings.Builder
	n := 0
	flush := func() {
		if b.Len() > 0 {
			out = append(out, b.String())
			b.Reset()
		}
		n = 0
	}
	for _, r := range text {
		word := unicode.IsLetter(r) || unicode.IsDigit(r)
		switch {
		case r == ' ':
			flush()
			b.WriteRune(r)
		case word && n < 4:
			b.WriteRune(r)
			n++
		case word:
			flush()
			b.WriteRune(r)
			n = 1
		default:
			flush()
			b.WriteRune(r)
			flush()
		}
	}
	flush()
	return out
}

// numbers are the tokens of pieces, as /tokenize tells them: fixed by the text, and
// the same for different pieces now and then.
func numbers(pieces []string) []int32 {
	out := make([]int32, len(pieces))
	for i, p := range pieces {
		h := uint32(2166136261) // FNV-1a
		for j := range len(p) {
			h = (h ^ uint32(p[j])) * 16777619
		}
		out[i] = int32(h % 50000)
	}
	return out
}
