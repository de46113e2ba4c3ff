package claude

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func schemaText(t testing.TB, in string) string {
	t.Helper()
	out, err := schemaNode(json.RawMessage(in), 0)
	if err != nil {
		t.Fatalf("%s: %v", in, err)
	}
	return string(out)
}

func TestSchemas(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"object"}`: `{"type":"object","properties":{},"additionalProperties":false}`,
		`{"oneOf":[true],"anyOf":[{"minimum":1}],"type":"object"}`:                                                        `{"anyOf":[{"description":"(at least 1)"}],"type":"object","properties":{},"additionalProperties":false}`,
		`{"type":"object","additionalProperties":true,"properties":{"z":{"type":"string"},"a":{"type":"integer"}}}`:       `{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"integer"}},"additionalProperties":false}`,
		`{"type":"string","minLength":1,"maxLength":80,"description":"A name."}`:                                          `{"type":"string","description":"A name. (at least 1 characters, at most 80 characters)"}`,
		`{"type":"array","items":{"type":"string","pattern":"^a"},"minItems":1,"maxItems":3,"uniqueItems":true}`:          `{"type":"array","items":{"type":"string","description":"(matching \"^a\")"},"minItems":1,"description":"(at most 3 items, no item twice)"}`,
		`{"type":"array","items":{"type":"string"},"minItems":2}`:                                                         `{"type":"array","items":{"type":"string"},"description":"(at least 2 items)"}`,
		`{"type":"integer","minimum":1,"maximum":5,"default":3,"examples":[1]}`:                                           `{"type":"integer","description":"(at least 1, at most 5)"}`,
		`{"oneOf":[{"type":"object","properties":{"a":{"type":"null"}}},{"type":"string","format":"email"}]}`:             `{"anyOf":[{"type":"object","properties":{"a":{"type":"null"}},"additionalProperties":false},{"type":"string","format":"email"}]}`,
		`{"$ref":"#/$defs/x","description":"gone"}`:                                                                       `{"$ref":"#/$defs/x"}`,
		`{"$defs":{"x":{"properties":{"q":{"type":["string","null"],"format":"ipv9"}}}},"$schema":"https://json-schema"}`: `{"$defs":{"x":{"properties":{"q":{"type":["string","null"],"description":"(format \"ipv9\")"}},"additionalProperties":false}}}`,
		`{"enum":["a","b"],"const":1}`: `{"enum":["a","b"],"const":1}`,
		`true`:                         `true`,
	} {
		if got := schemaText(t, in); got != want {
			t.Errorf("%s became\n%s, not\n%s", in, got, want)
		}
	}
	for _, in := range []string{`{"type":`, `[]`, `3`, ``, `{"a":1,"a":2}`, strings.Repeat(`{"items":`, 100) + `1` + strings.Repeat(`}`, 100)} {
		if out, err := outputSchema(json.RawMessage(in)); err == nil {
			t.Errorf("%.40s was taken: %v", in, out)
		}
	}
}

// Whatever goes in: what comes out is JSON, has none of the refused keywords where a
// schema stands, is closed, and does not change when it goes in again.
func FuzzSchema(f *testing.F) {
	f.Add(`{"type":"object","properties":{"maxLength":{"type":"string","maxLength":3},"x":{"type":"array","items":{"type":"object"}}}}`)
	f.Add(`{"oneOf":[{"minimum":1}],"anyOf":[true],"allOf":"x"}`)
	f.Fuzz(func(t *testing.T, in string) {
		out, err := schemaNode(json.RawMessage(in), 0)
		if err != nil {
			return
		}
		if !json.Valid(bytes.TrimSpace(out)) && json.Valid([]byte(in)) {
			t.Fatalf("%s became %s", in, out)
		}
		var v any
		if json.Unmarshal(out, &v) != nil {
			return
		}
		if s := refusedIn(v); s != "" {
			t.Errorf("%s became %s: %s", in, out, s)
		}
		again, err := schemaNode(out, 0)
		if err != nil || string(again) != string(out) {
			t.Errorf("%s became %s and then %s: %v", in, out, again, err)
		}
	})
}

// refusedIn walks a schema by its meaning and says what their grammar would refuse.
func refusedIn(v any) string {
	m, ok := v.(map[string]any)
	if !ok || m["$ref"] != nil {
		return ""
	}
	for _, k := range []string{"minLength", "maxLength", "maxItems", "minimum", "maximum", "pattern", "multipleOf", "oneOf", "uniqueItems"} {
		if _, ok := m[k]; ok {
			return k + " is there"
		}
	}
	if (m["type"] == "object" || m["properties"] != nil) && m["additionalProperties"] != false {
		return "an object is open"
	}
	for _, k := range []string{"properties", "$defs"} {
		if ps, ok := m[k].(map[string]any); ok {
			for _, p := range ps {
				if s := refusedIn(p); s != "" {
					return s
				}
			}
		}
	}
	for _, k := range []string{"anyOf", "allOf"} {
		if xs, ok := m[k].([]any); ok {
			for _, x := range xs {
				if s := refusedIn(x); s != "" {
					return s
				}
			}
		}
	}
	return refusedIn(m["items"])
}

func TestRefusedInSees(t *testing.T) {
	for _, s := range []string{`{"maxLength":1}`, `{"items":{"pattern":"x"}}`, `{"type":"object"}`, `{"properties":{"a":{"anyOf":[{"minimum":1}]}},"additionalProperties":false}`} {
		var v any
		if json.Unmarshal([]byte(s), &v); refusedIn(v) == "" {
			t.Errorf("%s is not refused", s)
		}
	}
}
