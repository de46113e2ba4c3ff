package fakeengine_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"monitor/internal/fakeengine"
)

func TestMain(m *testing.M) {
	fakeengine.RunIfAsked()
	os.Exit(m.Run())
}

func post(t rapid.TB, e *fakeengine.Engine, prompt string, schema any, stream bool) (int, string) {
	t.Helper()
	q := map[string]any{"model": "fake", "stream": stream, "messages": []any{map[string]any{"role": "user", "content": prompt}}}
	if schema != nil {
		q["response_format"] = map[string]any{"type": "json_schema", "json_schema": map[string]any{"schema": schema}}
	}
	b, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	res, err := e.Client().Post(e.URL+"/v1/chat/completions", "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(raw)
}

func text(t rapid.TB, raw string) string {
	t.Helper()
	var a struct {
		Choices []struct {
			Message struct{ Content string }
		}
	}
	if err := json.Unmarshal([]byte(raw), &a); err != nil || len(a.Choices) != 1 {
		t.Fatalf("%s: %v", raw, err)
	}
	return a.Choices[0].Message.Content
}

// schema draws a schema of the kind that answers are described with.
func schema(t *rapid.T, depth int) map[string]any {
	kinds := []string{"string", "integer", "boolean", "enum", "quote"}
	if depth > 0 {
		kinds = append(kinds, "object", "array", "object")
	}
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "integer":
		low := rapid.IntRange(-5, 5).Draw(t, "low")
		return map[string]any{"type": "integer", "minimum": low, "maximum": low + rapid.IntRange(0, 9).Draw(t, "span")}
	case "boolean":
		return map[string]any{"type": "boolean"}
	case "enum":
		return map[string]any{"enum": []any{"low", "high", 3, nil}}
	case "array":
		least := rapid.IntRange(0, 2).Draw(t, "least")
		return map[string]any{"type": "array", "items": schema(t, depth-1), "minItems": least, "maxItems": least + rapid.IntRange(0, 2).Draw(t, "more")}
	case "object":
		props := map[string]any{}
		var names []any
		for i := range rapid.IntRange(0, 3).Draw(t, "properties") {
			n := fmt.Sprintf("p%d", i)
			props[n] = schema(t, depth-1)
			names = append(names, n)
		}
		s := map[string]any{"type": "object", "properties": props, "additionalProperties": false}
		if len(names) > 0 {
			s["required"] = names
		}
		return s
	}
	least := rapid.IntRange(0, 20).Draw(t, "least")
	return map[string]any{"type": "string", "minLength": least, "maxLength": least + rapid.IntRange(12, 60).Draw(t, "more")}
}

// The answer holds to the schema, by the judgement of a validator that is not
// ours, and is the same for the same prompt.
func TestAnswersHoldToTheirSchema(t *testing.T) {
	e := fakeengine.New(t, fakeengine.Script{Window: 1 << 20})
	rapid.Check(t, func(t *rapid.T) {
		s := map[string]any{"type": "object", "properties": map[string]any{"it": schema(t, 3)}, "required": []any{"it"}}
		prompt := rapid.StringMatching(`[a-z \n]{0,60}`).Draw(t, "prompt")
		_, raw := post(t, e, prompt, s, false)
		answer := text(t, raw)
		b, _ := json.Marshal(s)
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("s.json", doc); err != nil {
			t.Fatal(err)
		}
		compiled, err := c.Compile("s.json")
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(answer))
		if err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		if err := compiled.Validate(v); err != nil {
			t.Fatalf("%s does not hold to %s: %v", answer, b, err)
		}
		if _, again := post(t, e, prompt, s, false); text(t, again) != answer {
			t.Fatalf("the same prompt was answered differently")
		}
	})
}

func TestQuotesComeFromBetweenTheFences(t *testing.T) {
	e := fakeengine.New(t, fakeengine.Script{})
	s := json.RawMessage(`{"type":"object","properties":{"risks":{"type":"array","minItems":2,"items":{"type":"object","properties":{"quote":{"type":"string","maxLength":90}}}}}}`)
	inside := []string{"func main() {", `fmt.Println("hello")`}
	_, raw := post(t, e, "Describe what follows, friend.\n=====ab=====\n"+strings.Join(inside, "\n")+"\n}\n=====ab=====\nAnd be quick about it.", s, false)
	var a struct{ Risks []struct{ Quote string } }
	if err := json.Unmarshal([]byte(text(t, raw)), &a); err != nil || len(a.Risks) != 2 {
		t.Fatalf("%s: %v", raw, err)
	}
	for _, r := range a.Risks {
		if r.Quote != inside[0] && r.Quote != inside[1] {
			t.Errorf("%q is no line of the fenced text", r.Quote)
		}
	}
}

func TestAFixedAnswerAndTheStreamSayTheSame(t *testing.T) {
	e := fakeengine.New(t, fakeengine.Script{Answers: []fakeengine.Answer{{Match: "colour", Text: "It is blue, mostly."}}})
	_, whole := post(t, e, "What colour?", nil, false)
	if got := text(t, whole); got != "It is blue, mostly." {
		t.Errorf("%q", got)
	}
	_, stream := post(t, e, "What colour?", nil, true)
	var joined strings.Builder
	for line := range strings.Lines(stream) {
		var c struct {
			Choices []struct {
				Delta struct{ Content *string }
			}
		}
		if json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &c) == nil && len(c.Choices) > 0 && c.Choices[0].Delta.Content != nil {
			joined.WriteString(*c.Choices[0].Delta.Content)
		}
	}
	if joined.String() != "It is blue, mostly." || !strings.HasSuffix(stream, "data: [DONE]\n\n") {
		t.Errorf("%q from\n%s", joined.String(), stream)
	}
}

func TestFaultsHappenWhenTheyShouldAndTheCountTells(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	e := fakeengine.New(t, fakeengine.Script{CountFile: count, Marker: `unit (\w+)`, Faults: []fakeengine.Fault{
		{Do: fakeengine.DoStatus, At: []int{2}, Status: 500, Message: "boom"},
		{Do: fakeengine.DoStatus, Match: "poison", Times: 1, Status: 503},
		{Do: fakeengine.DoCut, From: 6},
	}})
	for i, want := range []int{200, 500, 200, 503, 200, 0} {
		if status, raw := post(t, e, map[bool]string{true: "poison", false: "unit u7"}[i == 3 || i == 4], nil, true); status != want {
			t.Errorf("request %d: %d %s, want %d", i+1, status, raw, want)
		}
	}
	all, err := fakeengine.ReadCount(count)
	if err != nil || fakeengine.Count(all, fakeengine.Asked) != 6 || fakeengine.Count(all, fakeengine.Answered) != 3 || fakeengine.Count(all, fakeengine.Failed) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
	for _, r := range all {
		if r.Event == fakeengine.Asked && r.N == 1 && (r.Marker != "u7" || r.Prompt == "" || r.Active != 1) {
			t.Errorf("%+v", r)
		}
	}
	// A second engine on the same file goes on counting.
	next := fakeengine.New(t, fakeengine.Script{CountFile: count})
	post(t, next, "x", nil, false)
	if all, _ = fakeengine.ReadCount(count); all[len(all)-1].N != 7 || all[len(all)-1].Start != 2 {
		t.Errorf("%+v", all[len(all)-1])
	}
}

func TestNoMoreAtOnceThanSlots(t *testing.T) {
	e := fakeengine.New(t, fakeengine.Script{Slots: 3, DelayMS: 20})
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() { post(t, e, fmt.Sprint(i), nil, true) })
	}
	wg.Wait()
	if e.Peak() != 3 || e.Requests() != 9 {
		t.Errorf("%d at once, %d in all", e.Peak(), e.Requests())
	}
}

// As a process it refuses what llama-server refuses.
func TestTheProcess(t *testing.T) {
	dir := t.TempDir()
	path := fakeengine.WriteLauncher(t, dir, fakeengine.Script{})
	for argv, want := range map[string]string{
		"--version":        "version: ",
		"--help":           "--no-ui",
		"--bogus":          "invalid argument: --bogus",
		"--model":          "expected value",
		"--model /missing": "failed to open GGUF",
	} {
		out, _ := exec.Command(path, strings.Fields(argv)...).CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("%s: %s", argv, out)
		}
	}
}

func TestLoadingTakesItsTime(t *testing.T) {
	e := fakeengine.New(t, fakeengine.Script{LoadMS: 100})
	seen503 := false
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		res, err := http.Get(e.URL + "/health")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == 200 {
			break
		}
		seen503 = seen503 || res.StatusCode == 503
	}
	if !seen503 {
		t.Error("it was ready at once")
	}
}
