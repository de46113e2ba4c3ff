package claudemock

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// What a schema for constrained decoding may hold. Source: the list by which the
// official SDK rewrites schemas, and the documented limits of structured outputs.
var (
	schemaKeys    = []string{"$ref", "$defs", "definitions", "$schema", "$id", "type", "anyOf", "oneOf", "allOf", "description", "title", "default", "examples", "enum", "const", "properties", "additionalProperties", "required", "items", "minItems", "format", "pattern"}
	stringFormats = []string{"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
	jsonTypes     = []string{"object", "array", "string", "integer", "number", "boolean", "null"}
)

// The most optional properties and unions that all schemas of a request may have.
const (
	maxOptional = 24
	maxUnions   = 16
)

// schemaCheck walks schemas and keeps the first thing that is wrong.
type schemaCheck struct {
	root             any
	wrong            string
	optional, unions int
}

// checkSchemas holds schemas to what constrained decoding takes.
func checkSchemas(raws []json.RawMessage, paths []string) *refusal {
	c := &schemaCheck{}
	for i, raw := range raws {
		if json.Unmarshal(raw, &c.root) != nil {
			return invalid("%s: Input should be a valid dictionary", paths[i])
		}
		if _, ok := c.root.(map[string]any); !ok {
			return invalid("%s: Input should be a valid dictionary", paths[i])
		}
		c.walk(c.root, nil)
		if c.wrong != "" {
			return invalid("%s: %s", paths[i], c.wrong)
		}
	}
	if c.optional > maxOptional {
		return invalid("Schemas contains too many optional parameters (%d), which would make grammar compilation inefficient. Reduce the number of optional parameters (limit: %d).", c.optional, maxOptional)
	}
	if c.unions > maxUnions {
		return invalid("Schemas contains too many parameters with union types (%d), which would make grammar compilation inefficient. Reduce the number of `anyOf` and type arrays (limit: %d).", c.unions, maxUnions)
	}
	return nil
}

func (c *schemaCheck) fail(format string, args ...any) {
	if c.wrong == "" {
		c.wrong = fmt.Sprintf(format, args...)
	}
}

// walk checks one schema; refs are the references that led to it.
func (c *schemaCheck) walk(v any, refs []string) {
	s, ok := v.(map[string]any)
	if c.wrong != "" {
		return
	}
	if !ok {
		c.fail("a schema must be an object; true and false are not supported")
		return
	}
	kinds := typesOf(s)
	name := "schema"
	if len(kinds) == 1 {
		name = "'" + kinds[0] + "' type"
	}
	for _, k := range sortedKeys(s) {
		if !slices.Contains(schemaKeys, k) {
			c.fail("For %s, property '%s' is not supported", name, k)
		}
	}
	for _, k := range kinds {
		if !slices.Contains(jsonTypes, k) {
			c.fail("'%s' is no type", k)
		}
	}
	c.bounds(s, name)
	if ref, ok := s["$ref"].(string); ok {
		c.ref(ref, refs)
		return
	}
	for _, k := range []string{"anyOf", "oneOf", "allOf"} {
		list, has := s[k].([]any)
		if _, there := s[k]; there && (!has || len(list) == 0) {
			c.fail("'%s' must be a list that is not empty", k)
		}
		if has && k != "allOf" {
			c.unions++
		}
		for _, sub := range list {
			if m, ok := sub.(map[string]any); ok && k == "allOf" && m["$ref"] != nil {
				c.fail("`allOf` with `$ref` is not supported")
			}
			c.walk(sub, refs)
		}
	}
	if len(kinds) > 1 {
		c.unions++
	}
	if len(kinds) == 0 && s["anyOf"] == nil && s["oneOf"] == nil && s["allOf"] == nil && s["enum"] == nil && s["const"] == nil {
		c.fail("a schema must say its type")
	}
	if slices.Contains(kinds, "object") {
		c.object(s, refs)
	}
	if items, has := s["items"]; has {
		c.walk(items, refs)
	} else if slices.Contains(kinds, "array") {
		c.fail("For 'array' type, 'items' is required")
	}
}

// bounds checks the keywords whose values are limited.
func (c *schemaCheck) bounds(s map[string]any, name string) {
	if n, has := s["minItems"]; has && n != 0.0 && n != 1.0 {
		c.fail("For %s, 'minItems' values other than 0 or 1 are not supported", name)
	}
	if f, has := s["format"]; has {
		if text, ok := f.(string); !ok || !slices.Contains(stringFormats, text) {
			c.fail("For %s, the format '%v' is not supported", name, f)
		}
	}
	if p, has := s["pattern"]; has {
		text, ok := p.(string)
		if _, err := regexp.Compile(text); !ok || err != nil || len(text) > 1000 {
			c.fail("For %s, the pattern '%v' is not supported", name, p)
		}
	}
	if e, has := s["enum"]; has {
		list, ok := e.([]any)
		if !ok || len(list) == 0 {
			c.fail("'enum' must be a list that is not empty")
		}
		for _, v := range list {
			switch v.(type) {
			case map[string]any, []any:
				c.fail("'enum' may hold strings, numbers, booleans and null only")
			}
		}
	}
}

func (c *schemaCheck) ref(ref string, refs []string) {
	if slices.Contains(refs, ref) {
		c.fail("Circular reference detected: %s. Recursive schemas are not supported", ref)
		return
	}
	target, ok := resolve(c.root, ref)
	if !ok {
		c.fail("the reference %s leads nowhere; external references are not supported", ref)
		return
	}
	if len(refs) > 64 {
		c.fail("references are nested too deeply")
		return
	}
	c.walk(target, append(slices.Clone(refs), ref))
}

func (c *schemaCheck) object(s map[string]any, refs []string) {
	if more, has := s["additionalProperties"]; !has || more != false {
		c.fail("For 'object' type, 'additionalProperties' must be explicitly set to false")
	}
	props, ok := s["properties"].(map[string]any)
	if _, has := s["properties"]; has && !ok {
		c.fail("'properties' must be an object")
	}
	required := map[string]bool{}
	if list, has := s["required"]; has {
		names, ok := list.([]any)
		if !ok {
			c.fail("'required' must be a list of names")
		}
		for _, n := range names {
			text, ok := n.(string)
			if _, known := props[text]; !ok || !known {
				c.fail("'required' names %v, which is none of the properties", n)
			}
			required[text] = true
		}
	}
	c.optional += max(0, len(props)-len(required))
	for _, k := range slices.Sorted(maps.Keys(props)) {
		c.walk(props[k], refs)
	}
}

// typesOf is what "type" says: none, one or several.
func typesOf(s map[string]any) []string {
	switch t := s["type"].(type) {
	case string:
		return []string{t}
	case []any:
		var all []string
		for _, v := range t {
			all = append(all, fmt.Sprint(v))
		}
		return all
	}
	return nil
}

// resolve follows a reference within a document.
func resolve(root any, ref string) (any, bool) {
	rest, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil, false
	}
	for _, part := range strings.Split(rest, "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		m, ok := root.(map[string]any)
		if !ok {
			return nil, false
		}
		if root, ok = m[part]; !ok {
			return nil, false
		}
	}
	return root, true
}

// conforms says whether a value holds to a schema that checkSchemas took.
func conforms(root, schema, v any) bool {
	s, ok := schema.(map[string]any)
	if !ok {
		return false
	}
	if ref, ok := s["$ref"].(string); ok {
		target, found := resolve(root, ref)
		return found && conforms(root, target, v)
	}
	if kinds := typesOf(s); len(kinds) > 0 && !slices.ContainsFunc(kinds, func(k string) bool { return isType(k, v) }) {
		return false
	}
	if want, has := s["const"]; has && !reflect.DeepEqual(want, v) {
		return false
	}
	if list, has := s["enum"].([]any); has && !slices.ContainsFunc(list, func(e any) bool { return reflect.DeepEqual(e, v) }) {
		return false
	}
	for _, k := range []string{"anyOf", "oneOf", "allOf"} {
		list, has := s[k].([]any)
		if !has {
			continue
		}
		n := 0
		for _, sub := range list {
			if conforms(root, sub, v) {
				n++
			}
		}
		if k == "anyOf" && n == 0 || k == "oneOf" && n != 1 || k == "allOf" && n != len(list) {
			return false
		}
	}
	switch v := v.(type) {
	case string:
		if p, has := s["pattern"].(string); has {
			re, err := regexp.Compile(p)
			return err == nil && re.MatchString(v)
		}
	case []any:
		if n, has := s["minItems"].(float64); has && float64(len(v)) < n {
			return false
		}
		if items, has := s["items"]; has {
			return !slices.ContainsFunc(v, func(e any) bool { return !conforms(root, items, e) })
		}
	case map[string]any:
		props, _ := s["properties"].(map[string]any)
		required, _ := s["required"].([]any)
		for _, name := range required {
			if _, has := v[fmt.Sprint(name)]; !has {
				return false
			}
		}
		for k, e := range v {
			sub, known := props[k]
			if !known && s["additionalProperties"] == false || known && !conforms(root, sub, e) {
				return false
			}
		}
	}
	return true
}

func isType(kind string, v any) bool {
	switch v := v.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string" && utf8.ValidString(v)
	case float64:
		return kind == "number" || kind == "integer" && v == math.Trunc(v)
	case []any:
		return kind == "array"
	case map[string]any:
		return kind == "object"
	}
	return false
}
