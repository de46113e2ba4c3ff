package claudemock

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp/syntax"
	"slices"
	"strings"
)

// generator makes a value that holds to a schema, the same one for the same
// prompt. Strings called "quote" or "evidence" are lines of the prompt's fenced text, so that
// answers pass a gate that looks for them there.
type generator struct {
	root   any
	quotes []string
	seed   uint64
}

// generate answers a schema that checkSchemas took; text is the whole prompt, from what is
// quoted from.
func generate(raw json.RawMessage, text, from string) (string, error) {
	var root any
	if err := json.Unmarshal(raw, &root); err != nil {
		return "", fmt.Errorf("the schema is no JSON: %w", err)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // a hash takes everything
	g := &generator{root: root, quotes: quotable(from), seed: h.Sum64()}
	v := g.value(root, "", 0)
	if !conforms(root, root, v) {
		return "", fmt.Errorf("the mock could not make an answer that holds to the schema %.200s; script the answer, or make the schema simpler", raw)
	}
	return string(plain(v)), nil
}

// quotable are the lines between the first fence (a line that begins with =====, ``` or
// ~~~) and its end, or all lines when nothing is fenced; of a length to quote. What is
// fenced further down is about the text: a finding, or what was wrong with an answer.
func quotable(text string) []string {
	var fenced, all []string
	fence := ""
	for line := range strings.Lines(text) {
		t := strings.TrimSpace(line)
		mark := ""
		for _, m := range []string{"=====", "```", "~~~"} {
			if strings.HasPrefix(t, m) {
				mark = m
			}
		}
		switch {
		case mark != "" && fence == "":
			fence = mark
			continue
		case mark != "" && mark == fence:
			fence = ""
			if len(fenced) > 0 {
				return fenced
			}
			continue
		}
		if len(t) < 8 || len(t) > 120 {
			continue
		}
		all = append(all, t)
		if fence != "" {
			fenced = append(fenced, t)
		}
	}
	if len(fenced) > 0 {
		return fenced
	}
	return all
}

func (g *generator) pick(n int) int {
	g.seed = g.seed*6364136223846793005 + 1442695040888963407
	return int((g.seed >> 33) % uint64(n))
}

func (g *generator) value(schema any, name string, depth int) any {
	s, ok := schema.(map[string]any)
	if !ok || depth > 64 {
		return nil
	}
	if ref, ok := s["$ref"].(string); ok {
		target, _ := resolve(g.root, ref)
		return g.value(target, name, depth+1)
	}
	if c, has := s["const"]; has {
		return c
	}
	if list, ok := s["enum"].([]any); ok && len(list) > 0 {
		return list[g.pick(len(list))]
	}
	for _, k := range []string{"anyOf", "oneOf"} {
		list, _ := s[k].([]any)
		// The first that is not null, since an answer says something.
		slices.SortStableFunc(list, func(a, b any) int { return rank(a) - rank(b) })
		for _, sub := range list {
			if v := g.value(sub, name, depth+1); conforms(g.root, s, v) {
				return v
			}
		}
	}
	if list, ok := s["allOf"].([]any); ok && s["type"] == nil {
		merged := map[string]any{}
		for _, sub := range list {
			v := g.value(sub, name, depth+1)
			m, isObject := v.(map[string]any)
			if !isObject {
				return v
			}
			for k, e := range m {
				merged[k] = e
			}
		}
		return merged
	}
	kinds := typesOf(s)
	if len(kinds) > 1 {
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == "null" })
	}
	if len(kinds) == 0 {
		return nil
	}
	switch kinds[0] {
	case "object":
		out := map[string]any{}
		props, _ := s["properties"].(map[string]any)
		for _, k := range sortedKeys(props) {
			out[k] = g.value(props[k], k, depth+1)
		}
		return out
	case "array":
		out := []any{}
		for range 1 + g.pick(2) {
			out = append(out, g.value(s["items"], name, depth+1))
		}
		return out
	case "string":
		return g.text(s, name)
	case "integer", "number":
		return float64(1 + g.pick(5))
	case "boolean":
		return g.pick(2) == 0
	}
	return nil
}

func rank(schema any) int {
	if m, ok := schema.(map[string]any); ok && m["type"] == "null" {
		return 1
	}
	return 0
}

// sample of each format that a schema may ask for.
func formatted(format string) string {
	switch format {
	case "date-time":
		return "2026-11-26T09:30:00Z"
	case "time":
		return "09:30:00Z"
	case "date":
		return "2026-11-26"
	case "duration":
		return "PT1H"
	case "email":
		return "someone@example.com"
	case "hostname":
		return "example.com"
	case "uri":
		return "https://example.com/a"
	case "ipv4":
		return "192.0.2.1"
	case "ipv6":
		return "2001:db8::1"
	case "uuid":
		return "123e4567-e89b-12d3-a456-426614174000"
	}
	return ""
}

var sentences = []string{
	"Reads the input once and keeps no copy.",
	"Returns an error that names the file.",
	"Holds the lock while it writes.",
	"Calls the next stage for each unit.",
	"Counts what was skipped and says why.",
}

func (g *generator) text(s map[string]any, name string) string {
	if p, ok := s["pattern"].(string); ok {
		if re, err := syntax.Parse(p, syntax.Perl); err == nil {
			var b strings.Builder
			g.match(&b, re.Simplify())
			return b.String()
		}
	}
	if f, ok := s["format"].(string); ok {
		return formatted(f)
	}
	if (name == "quote" || name == "evidence") && len(g.quotes) > 0 {
		return g.quotes[g.pick(len(g.quotes))]
	}
	return sentences[g.pick(len(sentences))]
}

// match writes a text that a pattern matches. Of assertions it knows none but
// those that hold at the ends.
func (g *generator) match(b *strings.Builder, re *syntax.Regexp) {
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) >= 2 {
			b.WriteRune(re.Rune[0] + rune(g.pick(int(min(re.Rune[1]-re.Rune[0]+1, 26)))))
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('a')
	case syntax.OpCapture, syntax.OpPlus:
		g.match(b, re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			g.match(b, sub)
		}
	case syntax.OpAlternate:
		g.match(b, re.Sub[g.pick(len(re.Sub))])
	case syntax.OpRepeat:
		for range re.Min {
			g.match(b, re.Sub[0])
		}
	}
}
