package claudemock_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/claudemock"
)

// bill is a sum in dollars, computed by hand: tokens of each kind by their rate
// in dollars per million.
func bill(parts ...string) *big.Rat {
	sum := new(big.Rat)
	for _, p := range parts {
		var tokens int64
		var rate string
		if _, err := fmt.Sscanf(p, "%d at %s", &tokens, &rate); err != nil {
			panic(err)
		}
		r, _ := new(big.Rat).SetString(rate)
		sum.Add(sum, r.Mul(r, big.NewRat(tokens, 1_000_000)))
	}
	return sum
}

// What calls cost, each line worked out by hand from the price list. Opus 5.5,
// Sonnet 5.5 and Haiku 5.5 think; so that output is known, the script has them
// think 8 tokens (20 bytes) and say 10 (26 bytes).
func TestCallsAreBilledAsByHand(t *testing.T) {
	say := claudemock.Reply{Thinking: filler(20), Text: filler(26)}
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	late := day("2026-11-26")
	big100k := with(hello(haiku55), "messages", content(said(filler((100_000-4)*35/13))))
	over100k := with(hello(haiku55), "messages", content(said(filler((100_001-4)*35/13))))
	for name, c := range map[string]struct {
		at   time.Time
		asks []obj
		want *big.Rat
	}{
		// 11 bytes of hello are 5 tokens, and 4 for the message.
		"opus 5.5":             {late, []obj{hello(opus55)}, bill("9 at 4", "18 at 20")},
		"opus 5.5 fast":        {late, []obj{with(hello(opus55), "speed", "fast")}, bill("9 at 8", "18 at 40")},
		"opus 5.5 in the US":   {late, []obj{with(hello(opus55), "inference_geo", "us")}, bill("9 at 4.4", "18 at 22")},
		"opus 5.5, 5 minutes":  {late, []obj{shared("5m", "a"), shared("5m", "b")}, bill("34 at 4", "1300 at 5", "1300 at 0.20", "36 at 20")},
		"opus 5.5, an hour":    {late, []obj{shared("1h", "a"), shared("1h", "b")}, bill("34 at 4", "1300 at 8", "1300 at 0.20", "36 at 20")},
		"sonnet 5.5, cache":    {late, []obj{with(shared("5m", "a"), "model", sonnet55), with(shared("5m", "b"), "model", sonnet55)}, bill("34 at 2", "1300 at 2.50", "1300 at 0.10", "36 at 10")},
		"sonnet 5.5, before":   {day("2026-10-06"), []obj{with(shared("1h", "a"), "model", sonnet55), with(shared("1h", "b"), "model", sonnet55)}, bill("34 at 2", "1300 at 4", "1300 at 0.20", "36 at 10")},
		"haiku 5.5":            {late, []obj{hello(haiku55)}, bill("9 at 0.10", "18 at 0.50")},
		"haiku 5.5 at 100,000": {late, []obj{big100k}, bill("100000 at 0.10", "18 at 0.50")},
		"haiku 5.5 over":       {late, []obj{over100k}, bill("100001 at 0.50", "18 at 2.50")},
		"fable 5.2":            {late, []obj{hello("claude-fable-5-2")}, bill("9 at 8", "18 at 40")},
		"fable 5.1":            {late, []obj{hello(fable51)}, bill("9 at 10", "18 at 50")},
		"opus 5":               {late, []obj{hello(opus5)}, bill("9 at 5", "18 at 25")},
		// 4.5 does not think unless asked, and has the older tokenizer: 4 and 4, 8.
		"sonnet 4.5": {late, []obj{hello(sonnet45)}, bill("8 at 3", "8 at 15")},
		"haiku 4.5":  {late, []obj{hello(haiku45)}, bill("8 at 1", "8 at 5")},
		"together":   {late, []obj{hello(haiku45), hello(opus55), hello(sonnet45)}, bill("8 at 1", "8 at 5", "9 at 4", "18 at 20", "8 at 3", "8 at 15")},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, claudemock.Config{Now: func() time.Time { return c.at }, Script: []claudemock.Step{{Reply: &say}}})
			for _, ask := range c.asks {
				if r := w.ask("POST", "/v1/messages", ask); r.status != 200 {
					t.Fatal(r.body)
				}
			}
			b := w.mock.Bill()
			if b.Total().Cmp(c.want) != 0 {
				t.Errorf("billed %s, by hand %s: %+v", b.USD, c.want.FloatString(12), b.Calls)
			}
			if said, _ := new(big.Rat).SetString(b.USD); said.Cmp(b.Total()) != 0 {
				t.Errorf("the bill says %s, its calls sum to %s", b.USD, b.Total().FloatString(12))
			}
		})
	}
}

func TestTheBillGoesOnAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bill")
	total := new(big.Rat)
	for i := range 3 {
		mock, err := claudemock.New(claudemock.Config{Bill: path})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, mock: mock}
		before := mock.Bill()
		if len(before.Calls) != i*2 || before.Total().Cmp(total) != 0 {
			t.Fatalf("start %d: %+v", i, before)
		}
		for range 2 {
			w.direct("POST", "/v1/messages", hello(opus55))
		}
		total = mock.Bill().Total()
		if err := mock.Close(); err != nil {
			t.Fatal(err)
		}
		if r := w.direct("POST", "/v1/messages", hello(opus55)); r.status != 500 {
			t.Errorf("a closed mock answers %d", r.status)
		}
		// What a kill tore off is no part of the bill.
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(`{"id":"msg_torn","sta`); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := claudemock.ReadBill(path)
	if err != nil || len(b.Calls) != 6 || b.Total().Cmp(total) != 0 {
		t.Errorf("%v %+v", err, b)
	}
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := claudemock.New(claudemock.Config{Bill: path}); err == nil || !strings.Contains(err.Error(), "is no call") {
		t.Errorf("some other file was taken for a bill: %v", err)
	}
}

// TestMain lets the test binary be a mock in a process of its own, to be killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("CLAUDEMOCK_BILL"); path != "" {
		mock, err := claudemock.New(claudemock.Config{Bill: path, Latency: claudemock.Latency{PerToken: 20 * time.Microsecond}})
		if err != nil {
			panic(err)
		}
		web := httptest.NewServer(mock)
		fmt.Println(web.URL)
		select {}
	}
	os.Exit(m.Run())
}

// A mock that is killed at any moment has on its bill, with the final usage,
// every call of which a client saw the end; and every call of which a client saw
// the beginning in some state.
func TestTheBillSurvivesKills(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bill")
	var mu sync.Mutex
	ended, begun := map[string]int64{}, map[string]bool{} // by message id: output tokens
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CLAUDEMOCK_BILL="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		url, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		enough := make(chan struct{}, 1000)
		for range 4 {
			wg.Go(func() {
				for readStream(strings.TrimSpace(url), func(id string, output int64, end bool) {
					mu.Lock()
					defer mu.Unlock()
					if begun[id] = true; end {
						ended[id] = output
						select {
						case enough <- struct{}{}:
						default:
						}
					}
				}) {
				}
			})
		}
		for range 10 + 7*round { // another moment each time
			<-enough
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		wg.Wait()
	}
	b, err := claudemock.ReadBill(path)
	if err != nil {
		t.Fatal(err)
	}
	states := map[claudemock.State]int{}
	billed := map[string]claudemock.Call{}
	for _, c := range b.Calls {
		billed[c.ID] = c
		states[c.State]++
	}
	for id := range begun {
		if c, ok := billed[id]; !ok || c.Money().Sign() <= 0 {
			t.Errorf("a client saw the beginning of %s, and the bill has %+v", id, c)
		}
	}
	for id, output := range ended {
		if c := billed[id]; c.State != claudemock.Answered || c.Usage.Output != output {
			t.Errorf("a client saw %s end with %d tokens, and the bill has %+v", id, output, c)
		}
	}
	t.Logf("%d calls begun, %d ended, on the bill: %v", len(begun), len(ended), states)
	if states[claudemock.Interrupted] == 0 {
		t.Error("no kill hit a call under way: the test shows nothing")
	}
}

// readStream asks for one answer and tells of its first event and of its final
// usage. It is false when the mock is gone.
func readStream(url string, tell func(id string, output int64, end bool)) bool {
	req, err := http.NewRequest("POST", url+"/v1/messages", strings.NewReader(`{"model":"claude-opus-5-5","max_tokens":2000,"stream":true,"messages":[{"role":"user","content":"Hello"}]}`))
	if err != nil {
		return false
	}
	req.Header.Set("x-api-key", "key")
	req.Header.Set("anthropic-version", "2023-06-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	id := ""
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct {
			Type    string
			Message struct{ ID string }
			Usage   usage
		}
		if json.Unmarshal([]byte(data), &e) != nil {
			return false
		}
		switch e.Type {
		case "message_start":
			id = e.Message.ID
			tell(id, 0, false)
		case "message_delta":
			tell(id, e.Usage.Output, true)
		}
	}
	return lines.Err() == nil
}
