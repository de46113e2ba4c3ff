package claude

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// member is one member of a JSON object: the order of properties is the order in which
// a model writes them, so it is kept.
type member struct {
	name  string
	value json.RawMessage
}

// maxSchemaDepth is far above any schema of ours.
const maxSchemaDepth = 64

// outputSchema makes of a JSON schema one that Anthropic's structured outputs take:
// their grammar knows types, enums, references, anyOf and allOf, some formats, and
// minItems of 0 or 1; every object is closed. Bounds that it does not know (lengths,
// counts, ranges, patterns) become a sentence in the description, for the model to
// hold to; the caller's gate is what checks them. Source: their structured outputs page
// and the SDK's own list; a pattern is on both, but only a simple one is taken, so it
// is a sentence, too.
func outputSchema(raw json.RawMessage) (map[string]any, error) {
	out, err := schemaNode(raw, 0)
	if err != nil {
		return nil, err
	}
	ms, ok, err := members(out)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("a schema must be an object")
	}
	m := map[string]any{}
	for _, x := range ms {
		m[x.name] = x.value
	}
	return m, nil
}

// members takes an object apart; ok is false for what is no object.
func members(raw json.RawMessage) (ms []member, ok bool, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	t, err := d.Token()
	if err != nil {
		return nil, false, err
	}
	if t != json.Delim('{') {
		return nil, false, nil
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return nil, false, err
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, false, err
		}
		name, _ := k.(string)
		if slices.ContainsFunc(ms, func(m member) bool { return m.name == name }) {
			return nil, false, fmt.Errorf("%q is there twice", name)
		}
		ms = append(ms, member{name, v})
	}
	_, err = d.Token()
	return ms, true, err
}

// object puts one together.
func object(ms []member) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range ms {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(m.name)
		b.Write(name)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

func schemaNode(raw json.RawMessage, depth int) (json.RawMessage, error) {
	if depth > maxSchemaDepth {
		return nil, fmt.Errorf("a schema must not be deeper than %d", maxSchemaDepth)
	}
	in, ok, err := members(raw)
	if err != nil || !ok {
		return raw, err // true and false are schemas, too
	}
	if i := slices.IndexFunc(in, func(m member) bool { return m.name == "$ref" }); i >= 0 {
		return object(in[i : i+1]), nil // nothing may stand beside it
	}
	var out []member
	var bounds []string
	closed, props, description := false, false, -1
	for _, m := range in {
		switch m.name {
		case "type":
			closed = closed || strings.Contains(string(m.value), `"object"`)
		case "title", "enum", "const", "required":
		case "description":
			description = len(out)
		case "properties", "$defs", "definitions":
			props = props || m.name == "properties"
			closed = closed || props
			if m.value, err = schemaMap(m.value, depth); err != nil {
				return nil, err
			}
		case "items":
			if m.value, err = schemaNode(m.value, depth+1); err != nil {
				return nil, err
			}
		case "anyOf", "oneOf", "allOf":
			if m.name == "oneOf" {
				if slices.ContainsFunc(in, func(o member) bool { return o.name == "anyOf" }) {
					continue // one of both has to go, and the gate checks both
				}
				m.name = "anyOf"
			}
			if m.value, err = schemaList(m.value, depth); err != nil {
				return nil, err
			}
		case "minItems":
			if s := string(m.value); s != "0" && s != "1" {
				bounds = append(bounds, bound(m))
				continue
			}
		case "format":
			if !slices.Contains(formats(), strings.Trim(string(m.value), `"`)) {
				bounds = append(bounds, "format "+string(m.value))
				continue
			}
		default:
			if s := bound(m); s != "" {
				bounds = append(bounds, s)
			}
			continue
		}
		out = append(out, m)
	}
	if len(bounds) > 0 {
		said := "(" + strings.Join(bounds, ", ") + ")"
		if description < 0 {
			description = len(out)
			out = append(out, member{"description", nil})
		}
		var old string
		if json.Unmarshal(out[description].value, &old) == nil && old != "" {
			said = old + " " + said
		}
		out[description].value, _ = json.Marshal(said)
	}
	if closed {
		if !props {
			out = append(out, member{"properties", json.RawMessage("{}")})
		}
		out = append(out, member{"additionalProperties", json.RawMessage("false")})
	}
	return object(out), nil
}

func schemaMap(raw json.RawMessage, depth int) (json.RawMessage, error) {
	ms, ok, err := members(raw)
	if err != nil || !ok {
		return raw, err
	}
	for i := range ms {
		if ms[i].value, err = schemaNode(ms[i].value, depth+1); err != nil {
			return nil, err
		}
	}
	return object(ms), nil
}

func schemaList(raw json.RawMessage, depth int) (json.RawMessage, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return raw, err
	}
	for i := range all {
		var err error
		if all[i], err = schemaNode(all[i], depth+1); err != nil {
			return nil, err
		}
	}
	return json.Marshal(all)
}

// bound says in words what a keyword demands that their grammar does not know; "" for
// one that demands nothing of the answer.
func bound(m member) string {
	v := string(m.value)
	switch m.name {
	case "minLength":
		return "at least " + v + " characters"
	case "maxLength":
		return "at most " + v + " characters"
	case "minItems":
		return "at least " + v + " items"
	case "maxItems":
		return "at most " + v + " items"
	case "minimum":
		return "at least " + v
	case "maximum":
		return "at most " + v
	case "exclusiveMinimum":
		return "more than " + v
	case "exclusiveMaximum":
		return "less than " + v
	case "multipleOf":
		return "a multiple of " + v
	case "pattern":
		return "matching " + v
	case "uniqueItems":
		if v == "true" {
			return "no item twice"
		}
	}
	return ""
}

// formats are those that their grammar knows.
func formats() []string {
	return []string{"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
}
