package llm_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"monitor/internal/llm"
)

// The stream is xllamacpp's 2026.10.11549, recorded with n=3 and max_tokens=4; the
// model's path was shortened.
func TestSeveralAnswersAreToldApart(t *testing.T) {
	raw, err := os.ReadFile("testdata/three-answers.txt")
	if err != nil {
		t.Fatal(err)
	}
	var body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(raw)
	}))
	t.Cleanup(s.Close)
	m, err := llm.NewOpenAI(llm.OpenAIConfig{BaseURL: s.URL}).ChatMany(context.Background(), llm.Request{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	texts, ended := make([]string, 3), []int{}
	for {
		p, err := m.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		texts[p.Index] += p.Text
		if p.Ended {
			ended = append(ended, p.Index)
			if p.Stop != llm.StopLength || p.Usage.PromptTokens != 34 || p.Usage.OutputTokens != 4 || p.Usage.FirstToken <= 0 {
				t.Errorf("answer %d ended with %+v", p.Index, p)
			}
		}
	}
	if got := strings.Join(texts, "|"); got != "The colour in question|The colour is blue|A colour is a" {
		t.Errorf("the answers are %q", got)
	}
	if len(ended) != 3 || ended[0] != 1 || ended[1] != 2 || ended[2] != 0 {
		t.Errorf("they ended in the order %v", ended)
	}
	if !strings.Contains(body, `"n":3`) {
		t.Errorf("the request was %s", body)
	}
}

// A stream that closes without its end mark is whole only when every answer is.
func TestOneOfSeveralAnswersIsCutOff(t *testing.T) {
	o := server(t, 200, "text/event-stream", `data: {"choices":[{"index":1,"delta":{"content":"a"}}]}`+"\n\n"+`data: {"choices":[{"index":1,"finish_reason":"stop","delta":{}}]}`+"\n\n")
	for n, want := range map[int]llm.Kind{1: "", 2: llm.Cut} {
		m, err := o.ChatMany(context.Background(), llm.Request{}, n)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = m.Recv()
		}
		if llm.KindOf(err) != want {
			t.Errorf("of %d answers: %v, want the kind %q", n, err, want)
		}
		m.Stop()
	}
}
