package claudemock_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"monitor/internal/claudemock"
)

// lastText is the text of the last block of an answer.
func lastText(t testing.TB, r reply) string {
	t.Helper()
	var m struct{ Content []struct{ Text string } }
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || r.status != 200 || len(m.Content) == 0 {
		t.Fatal(err, r.status, r.body)
	}
	return m.Content[len(m.Content)-1].Text
}

func TestARealEngineAnswers(t *testing.T) {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Messages []struct{ Role, Content string }
			Format   struct {
				Schema struct{ Schema json.RawMessage } `json:"json_schema"`
			} `json:"response_format"`
		}
		if r.URL.Path != "/v1/chat/completions" || json.NewDecoder(r.Body).Decode(&q) != nil {
			w.WriteHeader(400)
			return
		}
		text := q.Messages[len(q.Messages)-1].Content + " was asked"
		switch {
		case strings.Contains(text, "good"):
			text = `{"a": "from the engine"}`
		case strings.Contains(text, "fail"):
			w.WriteHeader(503)
			return
		}
		_ = json.NewEncoder(w).Encode(obj{"choices": arr(obj{"message": obj{"content": text}})})
	}))
	defer engine.Close()
	dir := t.TempDir()
	w := open(t, claudemock.Config{Answer: claudemock.Record(dir, claudemock.Forward(engine.URL, nil))})
	ask := func(text string, schema bool) obj {
		o := with(hello(opus55), "messages", content(said(text)))
		if schema {
			o = with(o, "output_config", format(object(obj{"a": obj{"type": "string"}})))
		}
		return o
	}
	if got := lastText(t, w.ask("POST", "/v1/messages", ask("Some thing", false))); got != "Some thing was asked" {
		t.Error(got)
	}
	if got := lastText(t, w.ask("POST", "/v1/messages", ask("good", true))); got != `{"a": "from the engine"}` {
		t.Error(got)
	}
	// The real API never answers against the schema, so the mock does not either.
	bad := lastText(t, w.ask("POST", "/v1/messages", ask("bad", true)))
	if !strings.HasPrefix(bad, `{"a":"`) {
		t.Error(bad)
	}
	r := w.ask("POST", "/v1/messages", ask("fail", false))
	if _, m := r.problem(t); r.status != 500 || !strings.Contains(m, "503") {
		t.Error(r.body)
	}
	if n := len(w.mock.Bill().Calls); n != 3 {
		t.Errorf("%d calls were billed", n)
	}

	// What was recorded is answered without the engine.
	engine.Close()
	again := open(t, claudemock.Config{Answer: claudemock.Recorded(dir)})
	if got := lastText(t, again.ask("POST", "/v1/messages", ask("Some thing", false))); got != "Some thing was asked" {
		t.Error(got)
	}
	if r := again.ask("POST", "/v1/messages", ask("Another thing", false)); r.status != 500 {
		t.Error(r.body)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 3 {
		t.Error(err, files)
	}
}

// schemaGen draws schemas that the API takes.
func schemaGen(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		kinds := []string{"string", "enum", "pattern", "format", "integer", "boolean", "null", "const", "nullable"}
		if depth > 0 {
			kinds = append(kinds, "object", "array", "object", "array", "anyOf", "ref")
		}
		sub := func(name string) map[string]any { return schemaGen(depth-1).Draw(t, name) }
		switch rapid.SampledFrom(kinds).Draw(t, "kind") {
		case "enum":
			return obj{"enum": arr("red", 3, nil)}
		case "pattern":
			return obj{"type": "string", "pattern": rapid.SampledFrom([]string{`^[a-z]{3,5}-\d+$`, `^(yes|no)$`, `x+y*z?`, `^\w+\.go:[1-9][0-9]*$`}).Draw(t, "pattern")}
		case "format":
			return obj{"type": "string", "format": rapid.SampledFrom([]string{"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}).Draw(t, "format")}
		case "integer", "boolean", "null":
			return obj{"type": rapid.SampledFrom([]string{"integer", "boolean", "null", "number"}).Draw(t, "type")}
		case "const":
			return obj{"const": "always"}
		case "nullable":
			return obj{"type": arr("null", "string")}
		case "object":
			props, required := obj{}, []any{}
			for i := range rapid.IntRange(0, 3).Draw(t, "properties") {
				name := rapid.SampledFrom([]string{"quote", "line", "why", "items"}).Draw(t, "name") + fmt.Sprint(i)
				props[name] = sub(name)
				required = append(required, name)
			}
			return obj{"type": "object", "properties": props, "required": required, "additionalProperties": false}
		case "array":
			return obj{"type": "array", "items": sub("item"), "minItems": rapid.IntRange(0, 1).Draw(t, "least")}
		case "anyOf":
			return obj{"anyOf": arr(obj{"type": "null"}, sub("one"))}
		case "ref":
			return obj{"$ref": "#/$defs/thing"}
		}
		return obj{"type": "string"}
	})
}

// What is generated holds to the schema, as an independent validator sees it.
func TestGeneratedAnswersHoldToTheirSchema(t *testing.T) {
	w := open(t, claudemock.Config{})
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		root := obj{"type": "object", "additionalProperties": false, "required": arr("top"), "properties": obj{"top": schemaGen(3).Draw(rt, "schema")}, "$defs": obj{"thing": schemaGen(0).Draw(rt, "thing")}}
		r := w.direct("POST", "/v1/messages", with(hello(haiku45), "max_tokens", 60_000, "output_config", format(root)))
		if r.status == 400 && strings.Contains(r.body, "union types") {
			return
		}
		taken++
		text := lastText(t, r)
		raw, _ := json.Marshal(root)
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
		if err != nil {
			rt.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource("schema.json", doc); err != nil {
			rt.Fatal(err)
		}
		s, err := c.Compile("schema.json")
		if err != nil {
			rt.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			rt.Fatal(err, text)
		}
		if err := s.Validate(v); err != nil {
			rt.Fatalf("%s\nagainst %s\n%v", text, raw, err)
		}
	})
	if taken < 50 {
		t.Errorf("only %d schemas were tried", taken)
	}
}

// A text that does not hold to the schema is seen, whatever is wrong with it:
// the control of the test above, and of the judgement of an engine's answers.
func TestAnswersAgainstTheSchemaAreReplaced(t *testing.T) {
	schema := object(obj{"n": obj{"type": "integer"}, "s": obj{"enum": arr("a", "b")}, "l": obj{"type": "array", "minItems": 1, "items": obj{"type": "string", "pattern": "^x"}}, "u": obj{"anyOf": arr(obj{"type": "null"}, obj{"type": "boolean"})}})
	good := `{"n":1,"s":"a","l":["x1"],"u":null}`
	for text, kept := range map[string]bool{
		good: true, `{"n":1,"s":"a","l":["x1"],"u":true}`: true,
		`{"n":1.5,"s":"a","l":["x1"],"u":null}`: false, `{"n":1,"s":"c","l":["x1"],"u":null}`: false, `{"n":1,"s":"a","l":[],"u":null}`: false,
		`{"n":1,"s":"a","l":["y"],"u":null}`: false, `{"n":1,"s":"a","l":["x1"],"u":1}`: false, `{"n":1,"s":"a","l":["x1"]}`: false,
		`{"n":1,"s":"a","l":["x1"],"u":null,"more":1}`: false, `{"n":1`: false, `[]`: false, ``: false,
	} {
		w := open(t, claudemock.Config{Answer: func(context.Context, claudemock.Prompt) (claudemock.Reply, error) {
			return claudemock.Reply{Text: text}, nil
		}})
		if got := lastText(t, w.direct("POST", "/v1/messages", with(hello(haiku45), "output_config", format(schema)))); (got == text) != kept {
			t.Errorf("%s was answered with %s", text, got)
		}
	}
}
