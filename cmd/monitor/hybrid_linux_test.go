package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"monitor/internal/claudemock"
	"monitor/internal/cost"
	"monitor/internal/fakeengine"
	"monitor/internal/job"
	"monitor/internal/needs"
	"monitor/internal/store"
)

const canaryKey = "sk-ant-canary-6f1c9b2e"

// hybrid is a stage with a stand-in for Claude, and a key to it.
type hybrid struct {
	*stage
	mock *claudemock.Server
	web  *httptest.Server
}

func newHybrid(t testing.TB, files int, s fakeengine.Script, cfg claudemock.Config) *hybrid {
	t.Helper()
	return beside(t, newStage(t, files, s), cfg)
}

// beside gives a stage a stand-in for Claude.
func beside(t testing.TB, s *stage, cfg claudemock.Config) *hybrid {
	t.Helper()
	h := &hybrid{stage: s}
	cfg.Keys = []string{canaryKey}
	var err error
	if h.mock, err = claudemock.New(cfg); err != nil {
		t.Fatal(err)
	}
	h.web = httptest.NewServer(h.mock)
	t.Cleanup(func() {
		h.web.CloseClientConnections()
		h.web.Close()
		_ = h.mock.Close()
	})
	h.config("claude:\n  base_url: " + h.web.URL + "\n")
	login := h.command("claude", "login")
	login.Stdin = strings.NewReader(canaryKey + "\n")
	if out, err := login.CombinedOutput(); err != nil || !strings.Contains(string(out), "The key works") {
		t.Fatalf("login: %v\n%s", err, out)
	}
	return h
}

// config adds to the config file.
func (h *hybrid) config(text string) {
	h.t.Helper()
	name := filepath.Join(h.home, "config", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		h.t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// spentBy is what `monitor cost --json` says of a job.
func (h *hybrid) spentBy(id string) (total cost.Totals, doubt []doubtJSON) {
	h.t.Helper()
	var s struct {
		Total cost.Totals `json:"total"`
		Doubt []doubtJSON `json:"in_doubt"`
	}
	if err := json.Unmarshal([]byte(h.must("cost", "--json", "--by", "lane", "--job", id)), &s); err != nil {
		h.t.Fatal(err)
	}
	return s.Total, s.Doubt
}

// billed is the stand-in's own bill.
func (h *hybrid) billed() cost.Money { return pico(h.mock.Bill().Total()) }

// Both lanes work at once; killed twice and resumed, the job ends, nothing was paid for
// and forgotten, and what the ledger says is what the bill says.
func TestHybridIsKilledAndResumed(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 60, fakeengine.Script{DelayMS: 400}, claudemock.Config{Latency: claudemock.Latency{FirstEvent: 150 * time.Millisecond, PerToken: 3 * time.Millisecond}})
	first := h.begin("analyze", "--policy", "hybrid", "--budget", "0.50", "--workers", "2", h.repo)
	until(t, "both lanes have answered", func() bool {
		asked, _ := fakeengine.ReadCount(h.count)
		return h.newest().Units.Done > 8 && len(asked) > 3 && len(h.mock.Bill().Calls) > 3
	})
	_ = first.Process.Kill()
	_ = first.Wait()
	id := h.newest().ID
	second := h.begin("jobs", "resume", id)
	before := h.newest().Units.Done
	until(t, "the job goes on", func() bool { return h.newest().Units.Done > before+6 })
	_ = second.Process.Kill()
	_ = second.Wait()
	out := h.must("jobs", "resume", id)

	j := h.newest()
	if j.State != job.Done || j.Units.Done+j.Units.Parked != j.Units.Total {
		t.Fatalf("the job is %s, %+v\n%s", j.State, j.Units, out)
	}
	total, doubt := h.spentBy(id)
	bill := h.billed()
	settled := total.Money - total.InDoubt
	switch {
	case settled > bill:
		t.Errorf("the ledger has %s and the bill %s: something was written down that was not charged", settled, bill)
	case total.Money < bill:
		t.Errorf("the ledger has %s at worst and the bill %s: something was charged and forgotten", total.Money, bill)
	case len(doubt) == 0 && settled != bill:
		t.Errorf("nothing is in doubt, and the ledger has %s, the bill %s", settled, bill)
	}
	for _, want := range []string{"Rates", "written to it", "A result", "Instead", "all claude-haiku-5-5", "all claude-opus-5-5", "all GPU"} {
		if !strings.Contains(out, want) {
			t.Errorf("the cost block lacks %q:\n%s", want, out)
		}
	}
	for _, k := range doubt {
		if p := h.must("explain", id+"/"+k.Unit); !strings.Contains(p, "in doubt") {
			t.Errorf("a call for %s is in doubt, and its decisions do not say so:\n%s", k.Unit, p)
		}
	}
	if peak := h.mock.Bill().Peak; peak < 2 || peak > 3 {
		t.Errorf("%d Claude workers were at work at once", peak)
	}
	// No unit that has its answer was asked again after it had it.
	seen := map[string]bool{}
	p := h.open()
	defer p.Close()
	calls, err := p.store.Calls(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		if seen[c.Unit] {
			t.Errorf("%s was asked again after its answer was stored", c.Unit)
		}
		seen[c.Unit] = seen[c.Unit] || c.Failed == ""
	}
}

// leaks are the files below a folder that hold a text.
func leaks(t testing.TB, dir, text string) (names []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if bytes.Contains(b, []byte(text)) {
			names = append(names, p)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

// The key is in its file and nowhere else: no log, database, report, error, output, or
// child's environment has it. That the search finds it in its file is the control.
func TestTheKeyIsNowhere(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 12, fakeengine.Script{DelayMS: 300}, claudemock.Config{
		Script: []claudemock.Step{{Calls: []int{2}, Fault: claudemock.ServerError}, {Calls: []int{4}, Fault: claudemock.CutStream, After: 3}, {Calls: []int{5}, Fault: claudemock.Unauthorized}},
	})
	keyFile := filepath.Join(h.home, "config", "claude.key")
	if got := leaks(t, h.home, canaryKey); len(got) != 1 || got[0] != keyFile {
		t.Fatalf("control: the key is in %q", got)
	}
	// From the environment, with the file gone.
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	c := h.command("analyze", "--policy", "hybrid", "--workers", "2", h.repo)
	c.Env = append(c.Env, keyVariable+"="+canaryKey, "MONITOR_DEBUG=1")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	environments := 0
	until(t, "an engine runs and Claude was asked", func() bool {
		asked, _ := fakeengine.ReadCount(h.count)
		for _, r := range asked {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.PID))
			if err != nil || len(b) == 0 {
				continue
			}
			environments++
			if bytes.Contains(b, []byte(canaryKey)) {
				t.Fatal("the engine has the key in its environment")
			}
			if !bytes.Contains(b, []byte("PATH=")) {
				t.Fatal("control: no variable at all was found there")
			}
		}
		return environments > 0 && len(h.mock.Bill().Calls) > 2
	})
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", c.Process.Pid)); err != nil || !bytes.Contains(b, []byte("MONITOR_DEBUG=1")) || bytes.Contains(b, []byte(canaryKey)) {
		t.Errorf("monitor's own environment, as the kernel shows it (%v), has the key, or nothing at all", err)
	}
	_ = c.Wait()
	for _, more := range [][]string{{"claude", "status"}, {"jobs", "show", h.newest().ID}, {"cost", "--job", h.newest().ID}, {"config", "show"}, {"doctor"}} {
		c := h.command(more...)
		c.Env = append(c.Env, keyVariable+"="+canaryKey)
		b, _ := c.CombinedOutput()
		out.Write(b)
	}
	if strings.Contains(out.String(), canaryKey) {
		t.Errorf("the key was printed:\n%s", out.String())
	}
	if got := leaks(t, h.home, canaryKey); len(got) > 0 {
		t.Errorf("the key is in %q", got)
	}
}

// What is private never reaches the stand-in, through cards, summaries, repairs,
// escalations and second opinions. Without the label it does: the control.
func TestPrivateNeverReachesClaude(t *testing.T) {
	t.Parallel()
	const secretText, secretName = "canaryInTheText9a", "CanaryInTheName9a"
	for _, private := range []bool{true, false} {
		h := newHybrid(t, 8, fakeengine.Script{Answers: []fakeengine.Answer{{Match: secretText, Text: `{"purpose": "no"}`}}}, claudemock.Config{Watch: []string{secretText, secretName}})
		dir := filepath.Join(h.repo, "p0", "hidden")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hidden.go"), fmt.Appendf(nil, "package hidden\n\n// %s is ours.\nfunc %s() string { return %q }\n", secretName, secretName, secretText), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"analyze", "--policy", "hybrid", "--workers", "1", "--confirm", "20", h.repo}
		if private {
			args = append(args, "--private", "p0/hidden")
		}
		out := h.must(args...)
		seen := h.mock.Bill().Seen
		if got := seen[secretText] + seen[secretName]; (got > 0) == private {
			t.Errorf("private: %v; Claude saw it in %d requests\n%s", private, got, out)
		}
		if len(h.mock.Bill().Calls) == 0 {
			t.Error("control: Claude was not asked at all")
		}
		if private { // it was given to the local model, which failed, and went no further
			p := h.must("explain", h.newest().ID+"/file:p0/hidden/hidden.go")
			if strings.Contains(p, secretText) || !strings.Contains(p, "private") || !strings.Contains(p, "park") {
				t.Errorf("%s", p)
			}
		}
	}
}

// local-only asks nobody, although there is a key: also where there is no network to
// ask anybody over. claude-only fails there: the control.
func TestLocalOnlySendsNothing(t *testing.T) {
	t.Parallel()
	needs.Tool(t, "apt-get install bubblewrap", "bwrap")
	h := newHybrid(t, 6, fakeengine.Script{}, claudemock.Config{})
	before := h.mock.Bill().Requests
	isolated := func(args ...string) ([]byte, error) {
		inner := h.command(args...)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it waits for an answer
		defer cancel()
		c := exec.CommandContext(ctx, "bwrap", append([]string{"--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc", "--unshare-net", "--die-with-parent", "--"}, inner.Args...)...)
		c.Env, c.Dir = inner.Env, inner.Dir
		return c.CombinedOutput()
	}
	if out, err := isolated("analyze", "--policy", "local-only", h.repo); err != nil { // it takes a second
		t.Errorf("without a network: %v\n%s", err, out)
	}
	if out, err := isolated("analyze", "--policy", "claude-only", h.repo); err == nil && h.newest().Units.Parked == 0 {
		t.Errorf("control: Claude answered without a network\n%s", out)
	}
	h.must("analyze", "--policy", "local-only", h.repo)
	if after := h.mock.Bill().Requests; fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("somebody was asked: %v, before %v", after, before)
	}
}

// A plan that its budget does not hold is refused where nobody can be asked, made smaller
// where that is wanted, and never overrun.
func TestBudgets(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 40, fakeengine.Script{}, claudemock.Config{})
	out, err := h.command("analyze", "--policy", "claude-only", "--lane", "claude-opus-5-5", "--budget", "0.05", h.repo).CombinedOutput()
	if exitCode(err) != exitUsage || !strings.Contains(string(out), "does not fit") || !strings.Contains(string(out), "--shrink") {
		t.Errorf("a plan that does not fit: %v\n%s", err, out)
	}
	if n := len(h.mock.Bill().Calls); n != 0 {
		t.Errorf("%d calls were made for a plan that was refused", n)
	}
	h.must("analyze", "--policy", "claude-only", "--lane", "claude-opus-5-5", "--budget", "0.20", "--shrink", h.repo)
	if j := h.newest(); j.Units.Total >= 40 || j.Units.Done == 0 {
		t.Errorf("made smaller: %+v", j.Units)
	}
	if bill := h.billed(); bill > 20*cost.Dollar/100 {
		t.Errorf("the budget was $0.20 and the bill is %s", bill)
	}
	// A day's budget that is used up sends the rest to the local model.
	spent := h.billed()
	h.config("cost:\n  day: \"" + (spent + cost.Dollar/5).Decimal() + "\"\n")
	out2 := h.must("analyze", "--policy", "best", "--shrink", "--max-units", "30", h.repo)
	if bill := h.billed(); bill > spent+cost.Dollar/5 {
		t.Errorf("the day's budget was overrun: %s\n%s", bill, out2)
	}
}

// Work that can wait goes in batches at half the price, and a job that was killed while it
// waited finds its batch again and pays once.
func TestBatchesSurviveAKill(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 12, fakeengine.Script{}, claudemock.Config{Batch: claudemock.BatchTimes{Length: 6 * time.Second}})
	first := h.begin("analyze", "--policy", "claude-only", "--deadline", "tomorrow", "--confirm", "0", h.repo)
	until(t, "a batch is on its way", func() bool { return h.mock.Bill().Requests["POST /v1/messages/batches"] > 0 })
	<-time.After(time.Second) // its name is written down a moment after it was sent
	_ = first.Process.Kill()
	_ = first.Wait()
	id := h.newest().ID
	out := h.must("jobs", "resume", id)
	j := h.newest()
	if j.State != job.Done || j.Units.Parked != 0 {
		t.Errorf("the job is %s, %+v\n%s", j.State, j.Units, out)
	}
	names := map[string]int{}
	for _, c := range h.mock.Bill().Calls {
		if c.CustomID == "" {
			t.Errorf("a call was not in a batch: %+v", c)
		}
		names[c.CustomID]++
	}
	for n, times := range names {
		if times > 1 {
			t.Errorf("%s was answered, and paid for, %d times", n, times)
		}
	}
	total, doubt := h.spentBy(id)
	if bill := h.billed(); total.Money != bill || len(doubt) != 0 || bill == 0 {
		t.Errorf("the ledger has %s, the bill %s, %d in doubt", total.Money, bill, len(doubt))
	}
	p := h.open()
	defer p.Close()
	all, err := store.BooksOf(p.store).Batches(t.Context(), id)
	if err != nil || len(all) == 0 {
		t.Fatalf("%v (%v)", all, err)
	}
	for _, b := range all {
		if b.State != store.BatchEnded {
			t.Errorf("%+v", b)
		}
	}
}

// A cancelled job ends its batches, and what was charged until then is in the ledger.
func TestACancelledJobEndsItsBatches(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 6, fakeengine.Script{}, claudemock.Config{Batch: claudemock.BatchTimes{Length: time.Hour}})
	first := h.begin("analyze", "--policy", "claude-only", "--deadline", "tomorrow", h.repo)
	until(t, "a batch is on its way", func() bool { return h.mock.Bill().Requests["POST /v1/messages/batches"] > 0 })
	<-time.After(time.Second)
	id := h.newest().ID
	_ = first.Process.Kill()
	_ = first.Wait()
	out := h.must("jobs", "cancel", id)
	if !strings.Contains(out, "cancelled the batch") {
		t.Errorf("%s", out)
	}
	total, doubt := h.spentBy(id)
	if bill := h.billed(); total.Money != bill || len(doubt) != 0 {
		t.Errorf("the ledger has %s, the bill %s, %d in doubt", total.Money, bill, len(doubt))
	}
}

// A key that is refused, or a cap that is reached, ends a job that needs Claude, with its
// units waiting; where there is a local model it does the rest. When Claude answers again
// the job goes on.
func TestALaneThatStopsLosesNothing(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]claudemock.Fault{"key": claudemock.Unauthorized, "spend": claudemock.SpendLimit} {
		h := newHybrid(t, 10, fakeengine.Script{}, claudemock.Config{Latency: claudemock.Latency{FirstEvent: 20 * time.Millisecond}})
		from := []claudemock.Step{{Fault: fault, Calls: many(4, 200)}}
		if err := h.mock.SetScript(from); err != nil {
			t.Fatal(err)
		}
		out, err := h.command("analyze", "--policy", "claude-only", "--confirm", "0", h.repo).CombinedOutput()
		j := h.newest()
		if exitCode(err) != exitFailed || j.State != job.Failed || j.Units.Parked != 0 || !strings.Contains(string(out), "monitor jobs resume") || !strings.Contains(string(out), name) {
			t.Errorf("%s: %s %+v (%v)\n%s", name, j.State, j.Units, err, out)
		}
		local := h.must("analyze", "--policy", "hybrid", "--confirm", "0", h.repo)
		if l := h.newest(); l.State != job.Done || l.Units.Parked != 0 {
			t.Errorf("%s: with a local model: %s %+v\n%s", name, l.State, l.Units, local)
		}
		if err := h.mock.SetScript(nil); err != nil {
			t.Fatal(err)
		}
		h.must("jobs", "resume", j.ID)
		p := h.open()
		again, err := p.jobs.Get(t.Context(), j.ID)
		p.Close()
		if err != nil || again.State != job.Done || again.Units.Parked != 0 {
			t.Errorf("%s: resumed: %s %+v (%v)", name, again.State, again.Units, err)
		}
	}
}

func many(from, to int) (out []int) {
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

// serve has the lanes for all its jobs.
func TestServeAsksClaudeToo(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 16, fakeengine.Script{DelayMS: 200}, claudemock.Config{Latency: claudemock.Latency{FirstEvent: 100 * time.Millisecond}})
	h.serve("--workers", "1")
	out := h.must("analyze", "--policy", "hybrid", "--budget", "0.20", h.repo)
	if !strings.Contains(out, "Estimate:") || !strings.Contains(out, "claude-haiku-5-5") || len(h.mock.Bill().Calls) == 0 {
		t.Errorf("%s", out)
	}
	if st := h.must("ps"); !strings.Contains(st, "claude     0 of 3 workers at work") || !strings.Contains(st, "claude-haiku-5-5:") {
		t.Errorf("ps does not show the lane:\n%s", st)
	}
	id := h.newest().ID
	if list := h.must("explain", id); !strings.Contains(list, id+"/file:") || !strings.Contains(list, "accept") {
		t.Errorf("explain does not list the job's units:\n%s", list)
	}
	if told := h.must("explain", "--model", "claude-haiku-5-5"); !strings.Contains(told, "tries first") || strings.Contains(told, "0001-01-01") {
		t.Errorf("explain --model tells nothing of Claude's:\n%s", told)
	}
	if total, _ := h.spentBy(id); total.Money != h.billed() {
		t.Errorf("the ledger has %s, the bill %s", total.Money, h.billed())
	}
	if out, err := h.command("analyze", "--policy", "hybrid", "--budget", "0.0001", "--lane", "claude-opus-5-5", h.repo).CombinedOutput(); exitCode(err) != exitUsage || !strings.Contains(string(out), "does not fit") {
		t.Errorf("%v\n%s", err, out)
	}
}

// serve goes by the key and the rules that there are when a job begins: one that was taken
// away is not used any more, and a new one needs no restart.
func TestServeGoesByTheKeyThatIsThere(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 4, fakeengine.Script{}, claudemock.Config{})
	h.serve("--workers", "1")
	asked := func(model string) (n int) {
		for _, c := range h.mock.Bill().Calls {
			if c.Model == model {
				n++
			}
		}
		return n
	}
	ask := []string{"analyze", "--policy", "claude-only", "--confirm", "0", "--lane", "claude-haiku-5-5", h.repo}
	h.must(ask...)
	first := asked("claude-haiku-5-5")
	if first == 0 {
		t.Fatal("control: Claude was not asked")
	}
	h.must("claude", "logout")
	again := append(slices.Clone(ask[:len(ask)-3]), "--lane", "claude-sonnet-5", h.repo)
	if out, err := h.command(again...).CombinedOutput(); exitCode(err) != exitMissing || !strings.Contains(string(out), "monitor claude login") {
		t.Errorf("without the key: %v\n%s", err, out)
	}
	login := h.command("claude", "login")
	login.Stdin = strings.NewReader(canaryKey + "\n")
	if out, err := login.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(h.home, "config", "routes.yaml"), []byte("version: 1\nrules:\n  - {name: the best for cards, kind: card, model: claude-opus-5-5}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must("analyze", "--policy", "claude-only", "--confirm", "0", h.repo)
	if n := asked("claude-opus-5-5"); n < 4 {
		t.Errorf("the new rule sent %d cards to Opus", n)
	}
}

// While Claude answers nobody its units wait, and none is given up for it; with a local
// model that does them they do not wait.
func TestAnOutageIsNoReasonToPark(t *testing.T) {
	t.Parallel()
	for policy, many := range map[string][]int{"claude-only": many(1, 7), "hybrid": many(1, 400)} {
		h := newHybrid(t, 8, fakeengine.Script{}, claudemock.Config{Script: []claudemock.Step{{Fault: claudemock.Overloaded, Calls: many}}})
		out := h.must("analyze", "--policy", policy, "--confirm", "0", h.repo)
		if j := h.newest(); j.State != job.Done || j.Units.Parked != 0 {
			t.Errorf("%s: %s %+v\n%s", policy, j.State, j.Units, out)
		}
		if n := h.mock.Bill().Requests["POST /v1/messages"]; n < 6 {
			t.Errorf("control: Claude was asked %d times", n)
		}
	}
}

// A call that is in doubt is not made again by another of Claude's models, and is told of; the
// next analysis says that it may be paid a second time.
func TestADoubtfulCallIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 1, fakeengine.Script{}, claudemock.Config{Script: []claudemock.Step{{Fault: claudemock.CutStream, Calls: []int{1}}}})
	analyze := []string{"analyze", "--policy", "claude-only", "--confirm", "0", h.repo}
	out, _ := h.command(analyze...).CombinedOutput()
	asked := 0
	for _, c := range h.mock.Bill().Calls {
		if c.Model == "claude-opus-5-5" {
			asked++
		}
	}
	total, doubt := h.spentBy(h.newest().ID)
	if len(doubt) != 1 || !strings.Contains(string(out), "is in doubt: it was cut off") {
		t.Fatalf("control: %d calls are in doubt\n%s", len(doubt), out)
	}
	if j := h.newest(); j.Units.Parked == 0 || total.Money < h.billed() {
		t.Errorf("%+v, the ledger has %s and the bill %s", j.Units, total.Money, h.billed())
	}
	if p := h.must("explain", h.newest().ID+"/"+doubt[0].Unit); strings.Contains(p, "escalate") {
		t.Errorf("it was asked again:\n%s", p)
	}
	if again := h.must(analyze...); !strings.Contains(again, "may be paid a second time") {
		t.Errorf("the next analysis does not say it:\n%s", again)
	}
}

// What a dead process had on its way does not keep others waiting for a budget.
func TestTheDeadHoldNoBudget(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 8, fakeengine.Script{}, claudemock.Config{Latency: claudemock.Latency{FirstEvent: time.Minute}})
	first := h.begin("analyze", "--policy", "claude-only", "--confirm", "0", "--budget", "0.50", h.repo)
	until(t, "calls are on their way", func() bool { return h.mock.Bill().Requests["POST /v1/messages"] >= 1 })
	_ = first.Process.Kill()
	_ = first.Wait()
	p := h.open()
	defer p.Close()
	open, err := store.BooksOf(p.store).Intents(t.Context(), "", store.IntentOpen)
	if err != nil || len(open) == 0 {
		t.Fatalf("control: nothing was left on its way (%v)", err)
	}
	if out, err := h.command("analyze", "--policy", "claude-only", "--budget", "0.000001", h.repo).CombinedOutput(); exitCode(err) != exitUsage {
		t.Fatalf("%v\n%s", err, out)
	}
	left, err := store.BooksOf(p.store).Intents(t.Context(), "", store.IntentOpen)
	doubt, err2 := store.BooksOf(p.store).Intents(t.Context(), "", store.IntentDoubt)
	if err != nil || err2 != nil || len(left) != 0 || len(doubt) != len(open) {
		t.Errorf("%d are still on their way and %d in doubt, want 0 and %d (%v, %v)", len(left), len(doubt), len(open), err, err2)
	}
}

// What lanes have to say reaches who asked for the job, not the log of serve alone.
func TestServeTellsWhoFollows(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 4, fakeengine.Script{}, claudemock.Config{Script: []claudemock.Step{{Fault: claudemock.CutStream, Calls: []int{1}}}})
	h.serve("--workers", "1")
	out, _ := h.command("analyze", "--policy", "claude-only", "--confirm", "0", h.repo).CombinedOutput()
	if _, doubt := h.spentBy(h.newest().ID); len(doubt) != 1 {
		t.Fatalf("control: %d calls are in doubt\n%s", len(doubt), out)
	}
	if !strings.Contains(string(out), "monitor: a call of job "+h.newest().ID+" is in doubt") {
		t.Errorf("nobody was told:\n%s", out)
	}
}
