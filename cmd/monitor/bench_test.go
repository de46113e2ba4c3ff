package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/job"
	"monitor/internal/needs"
)

// The figures that are promised of the whole program (issue 3, §6), measured on
// the binary that users get. scripts/bench.sh puts them into one table with
// those of the rooms. MONITOR_BENCH_LONG=1 takes the time for what is otherwise
// measured on a sample.

// shipped builds the program as `make build` does.
func shipped(b *testing.B) string {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "monitor")
	if runtime.GOOS == "windows" {
		bin += ".exe"
	}
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", bin, ".")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// with is a command line of the shipped program in the stage's home.
func (s *stage) with(bin string, args ...string) *exec.Cmd {
	c := exec.Command(bin, args...)
	c.Env = append(os.Environ(), "MONITOR_HOME="+s.home)
	c.Dir = filepath.Dir(s.home)
	return c
}

// timed runs a command to its end and returns its output and how long it took.
func timed(b *testing.B, c *exec.Cmd) (string, time.Duration) {
	b.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	begun := time.Now()
	if err := c.Run(); err != nil {
		b.Fatalf("%v: %v\n%s%s", c.Args, err, out.String(), errs.String())
	}
	return out.String(), time.Since(begun)
}

func median(ds []time.Duration) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[len(ds)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkVersion prints how long `monitor version` takes as a process, from
// before its start to after its end, beside `git version`. To reach: < 30 ms.
func BenchmarkVersion(b *testing.B) {
	bin := shipped(b)
	s := &stage{t: b, home: filepath.Join(b.TempDir(), "home")}
	git := needs.Tool(b, "apt-get install git", "git")
	var ours, peer []time.Duration
	for b.Loop() {
		for i := range 33 {
			_, d := timed(b, s.with(bin, "version"))
			_, g := timed(b, s.with(git, "version"))
			if i >= 3 { // the first ones read the file from the disk
				ours, peer = append(ours, d), append(peer, g)
			}
		}
	}
	b.ReportMetric(milliseconds(median(ours)), "version-ms")
	b.ReportMetric(milliseconds(slices.Min(ours)), "version-min-ms")
	b.ReportMetric(milliseconds(slices.Max(ours)), "version-max-ms")
	b.ReportMetric(milliseconds(median(peer)), "git-version-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFirstRequest prints the time from the start of `monitor analyze` as
// a process to the moment when the engine's log says that a slot works on the
// first request. The engine is the one in force (the wheel, unless the machine
// has a llama-server), the home is as `monitor setup` leaves it: engine probed,
// model there; no job, no answer and no token count was ever stored. The
// model's file is in the system's cache. To reach: < 2 s.
func BenchmarkFirstRequest(b *testing.B) {
	s := realStage(b)
	bin := shipped(b)
	for i, name := range smallFiles(b, 3) {
		copyFile(b, name, filepath.Join(s.repo, fmt.Sprintf("p%d", i), filepath.Base(name)))
	}
	timed(b, s.with(bin, "engine", "probe"))
	log := Folders{Data: filepath.Join(s.home, "data")}.engineLog("smollm2-135m")
	var planned, asked []time.Duration
	for b.Loop() {
		for range 5 {
			stored, _ := filepath.Glob(filepath.Join(s.home, "data", "*.db*"))
			for _, name := range append(stored, log) {
				if err := os.RemoveAll(name); err != nil {
					b.Fatal(err)
				}
			}
			p, a := firstRequest(b, s.with(bin, "analyze", s.repo, "--json"), log)
			planned, asked = append(planned, p), append(asked, a)
		}
	}
	b.ReportMetric(median(asked).Seconds(), "s-to-first-request")
	b.ReportMetric(slices.Min(asked).Seconds(), "s-to-first-request-min")
	b.ReportMetric(slices.Max(asked).Seconds(), "s-to-first-request-max")
	b.ReportMetric(median(planned).Seconds(), "s-to-unit-started")
	b.ReportMetric(0, "ns/op")
}

// firstRequest starts an analysis, waits for the first request in the engine's
// log and kills it. It returns when the first unit was started and when its
// request was seen.
func firstRequest(b *testing.B, c *exec.Cmd, log string) (started, asked time.Duration) {
	b.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	unit := make(chan time.Duration, 1)
	go func() {
		defer close(unit)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), `"unit_started"`) {
				unit <- time.Since(begun)
				return
			}
		}
	}()
	for {
		if engineRequests(log) > 0 {
			asked = time.Since(begun)
			return <-unit, asked
		}
		if time.Since(begun) > time.Minute {
			b.Fatal("no request came to the engine within a minute")
		}
		<-time.After(time.Millisecond)
	}
}

// engineRequests counts the requests that an engine's log tells of.
func engineRequests(log string) int {
	text, err := os.ReadFile(log)
	if err != nil {
		return 0 // not written yet
	}
	return bytes.Count(text, []byte("launch_slot_"))
}

// BenchmarkUnchangedTree prints how much faster the second analysis of an
// unchanged tree of 1,000 files is than the first, and how many requests the
// second sends. To reach: ≥ 100 ×, none.
//
// The first run's time is that of the real engine: for the whole tree with
// MONITOR_BENCH_LONG=1, else for a sample of 60 files, times the ratio of the
// units (files, packages, page). The second run's home then has the answers of
// a fake engine, for a fake model: how an answer was made is no part of reading
// it again. Its time is the median of five runs, process start and report
// included.
func BenchmarkUnchangedTree(b *testing.B) {
	const files, sample = 1000, 60
	long := os.Getenv("MONITOR_BENCH_LONG") == "1"
	first, again := realStage(b), newStage(b, 0, fakeengine.Script{})
	bin := shipped(b)
	names := smallFiles(b, files)
	if long {
		again = first
	}
	plant(b, again.repo, names)
	if !long {
		var some []string
		for i := range sample {
			some = append(some, names[i*files/sample])
		}
		plant(b, first.repo, some)
	}
	for b.Loop() {
		_, took := timed(b, first.with(bin, "analyze", first.repo))
		measured := first.newest()
		if measured.State != job.Done || measured.Units.Parked*10 > measured.Units.Total {
			b.Fatalf("the first run proves nothing: %s %+v", measured.State, measured.Units)
		}
		if !long {
			timed(b, again.with(bin, "analyze", again.repo))
		}
		filled, asked := again.newest(), again.requests()
		if asked < files {
			b.Fatalf("the count of requests shows %d for a first run of %d files: it could not show those of a second", asked, files)
		}
		var second []time.Duration
		for range 5 {
			_, d := timed(b, again.with(bin, "analyze", again.repo))
			second = append(second, d)
			if j := again.newest(); j.State != job.Done || j.Units.Cached+filled.Units.Parked < j.Units.Total || j.Units.Total != filled.Units.Total {
				b.Fatalf("second run: %s %+v after %+v", j.State, j.Units, filled.Units)
			}
		}
		whole := took.Seconds() * float64(filled.Units.Total) / float64(measured.Units.Total)
		b.Logf("first: %d units in %.1f s with the real engine (sample: %v), so %.0f s for the tree's %d units; second: %v",
			measured.Units.Total, took.Seconds(), !long, whole, filled.Units.Total, second)
		b.ReportMetric(whole/median(second).Seconds(), "times-faster")
		b.ReportMetric(whole, "first-s")
		b.ReportMetric(float64(measured.Units.Total), "first-units-measured")
		b.ReportMetric(float64(filled.Units.Total), "units")
		b.ReportMetric(median(second).Seconds(), "second-s")
		b.ReportMetric(float64(again.requests()-asked), "second-requests")
		b.ReportMetric(0, "ns/op")
	}
}

// requests counts what the stage's engine was asked so far.
func (s *stage) requests() int {
	s.t.Helper()
	if s.count == "" {
		return engineRequests(Folders{Data: filepath.Join(s.home, "data")}.engineLog("smollm2-135m"))
	}
	all, err := fakeengine.ReadCount(s.count)
	if err != nil {
		s.t.Fatal(err)
	}
	return fakeengine.Count(all, fakeengine.Asked)
}

// BenchmarkProgramUnits prints the units per second of a whole `analyze` of
// 2,000 files with an engine that answers at once: scan, prompts, HTTP, gate,
// commit, and the fake engine's own work. There is no figure to reach; the job
// room's BenchmarkDurableUnits measures the promise.
func BenchmarkProgramUnits(b *testing.B) {
	const files = 2000
	bin := shipped(b)
	for b.Loop() {
		s := newStage(b, files, fakeengine.Script{})
		_, took := timed(b, s.with(bin, "analyze", s.repo, "--workers", "8"))
		j := s.newest()
		if j.State != job.Done || j.Units.Done < files {
			b.Fatalf("%s %+v", j.State, j.Units)
		}
		b.ReportMetric(float64(j.Units.Done)/took.Seconds(), "program-units/s")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkAnalyzeAgainstBareLoop prints the output tokens per second of an
// analysis with the real engine, over those of a bare loop of HTTP requests
// that sends the very same bodies from as many goroutines as there are slots: those
// of the analysis before it, in the order in which they came to its engine, since
// which answers are asked for once more differs from one to the next. Both have an
// engine of their own, fresh, with the same command line, and take turns; that of the
// analysis is behind a proxy that writes the bodies down, which counts against it. The clock of the analysis runs from its first unit's start to its
// last unit's end, so that what lies between the stages counts against it; that
// of the loop while it has requests. A request whose prompt holds other
// answers (packages, page) cannot be sent before these are there: the loop
// waits at the same two borders. cards-ratio is the first stage alone, where
// prompts depend on nothing. To reach: ≥ 0.95.
func BenchmarkAnalyzeAgainstBareLoop(b *testing.B) {
	bin := shipped(b)
	l := newLoad(b, bin)
	pairs := 2
	if os.Getenv("MONITOR_BENCH_LONG") == "1" {
		pairs = 5
	}
	for b.Loop() {
		var ours, bare, ourCards, bareCards pace
		for i := range pairs {
			c, all, rounds := l.analyze(bin)
			bc, ball := l.bare(rounds)
			ourCards, ours, bareCards, bare = ourCards.plus(c), ours.plus(all), bareCards.plus(bc), bare.plus(ball)
			b.Logf("pair %d: analyze %v (cards %v), bare %v (cards %v)", i+1, all, c, ball, bc)
		}
		b.ReportMetric(ours.rate()/bare.rate(), "analyze/bare")
		b.ReportMetric(ourCards.rate()/bareCards.rate(), "cards-ratio")
		b.ReportMetric(ours.rate(), "analyze-tokens/s")
		b.ReportMetric(bare.rate(), "bare-tokens/s")
		b.ReportMetric(0, "ns/op")
	}
}

// pace is output tokens in a time.
type pace struct {
	tokens int
	took   time.Duration
}

func (p pace) plus(q pace) pace { return pace{p.tokens + q.tokens, p.took + q.took} }
func (p pace) rate() float64    { return float64(p.tokens) / p.took.Seconds() }
func (p pace) String() string {
	return fmt.Sprintf("%d tokens in %.1f s = %.1f/s", p.tokens, p.took.Seconds(), p.rate())
}

// load is a repository and the engine's command line as the program makes it.
type load struct {
	b       *testing.B
	repo    string
	command []string // the engine without its flags
	flags   []string // as the program gave them
	model   string
	window  int
	workers int
}

func newLoad(b *testing.B, bin string) *load {
	b.Helper()
	l := &load{b: b, repo: filepath.Join(b.TempDir(), "repo"), workers: 4}
	e, err := engine.Find(b.Context(), engine.Config{Dir: filepath.Join(needs.RealHome(b), "data", "engines")})
	if err != nil {
		b.Fatal(err)
	}
	l.command = e.Command
	plant(b, l.repo, smallFolders(b, 4, 4))
	// A first analysis, of one file, for the command line.
	s, flags, _ := l.home()
	one := filepath.Join(b.TempDir(), "one")
	plant(b, one, smallFiles(b, 1))
	timed(b, s.with(bin, "analyze", one))
	text, err := os.ReadFile(flags)
	if err != nil {
		b.Fatal(err)
	}
	l.flags = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	var spec struct {
		Model struct {
			Name   string
			Window int
		}
	}
	if err := json.Unmarshal(s.newest().Spec, &spec); err != nil {
		b.Fatal(err)
	}
	l.model, l.window = spec.Model.Name, spec.Model.Window
	return l
}

// home is a fresh home whose engine is the real one behind a script that writes
// its flags, one a line, into the returned file, and behind a proxy that writes the
// bodies of its requests into the folder beside it (recordingEngine).
func (l *load) home() (s *stage, flags, bodies string) {
	l.b.Helper()
	if runtime.GOOS == "windows" {
		needs.Missing(l.b, "a Unix shell", "run the benchmark on Linux or macOS")
	}
	s = realStage(l.b)
	flags, bodies = filepath.Join(s.home, "flags"), filepath.Join(s.home, "bodies")
	self, err := os.Executable()
	if err == nil {
		err = os.MkdirAll(bodies, 0o755)
	}
	if err != nil {
		l.b.Fatal(err)
	}
	script := "#!/bin/sh\ncase \"$*\" in *--port*) printf '%s\\n' \"$@\" >" + shellQuote(flags) + ";; esac\n" +
		"exec env " + playVariable + "=recorder " + bodiesVariable + "=" + shellQuote(bodies) + " " + shellQuote(self)
	for _, word := range l.command {
		script += " " + shellQuote(word)
	}
	name := filepath.Join(s.home, "engine")
	l.write(name, script+" \"$@\"\n", 0o755)
	l.write(filepath.Join(s.home, "config", "config.yaml"), fmt.Sprintf("engine:\n  path: %s\nanalyze:\n  workers: %d\n", name, l.workers), 0o644)
	return s, flags, bodies
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (l *load) write(name, text string, mode fs.FileMode) {
	l.b.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		l.b.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		l.b.Fatal(err)
	}
}

// analyze is one analysis in a fresh home: the pace of its cards and of it all, and
// what it asked, by stage.
func (l *load) analyze(bin string) (cards, all pace, rounds [3][][]byte) {
	l.b.Helper()
	s, _, bodies := l.home()
	timed(l.b, s.with(bin, "engine", "probe"))
	out, _ := timed(l.b, s.with(bin, "analyze", l.repo, "--json"))
	var begun time.Time
	for line := range strings.Lines(out) {
		var e eventJSON
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			l.b.Fatalf("%v: %s", err, line)
		}
		switch {
		case e.Type == string(job.UnitStarted) && begun.IsZero():
			begun = e.At
		case e.Type == string(job.UnitFinished) || e.Type == string(job.UnitGivenUp):
			all = pace{e.Tokens.Output, e.At.Sub(begun)}
			if e.Stage == 0 {
				cards = all
			}
		}
	}
	names, err := filepath.Glob(filepath.Join(bodies, "*"))
	if err != nil {
		l.b.Fatal(err)
	}
	for _, name := range names { // in their order
		body, err := os.ReadFile(name)
		if err != nil {
			l.b.Fatal(err)
		}
		stage := slices.IndexFunc([]string{"text above is the file ", "text above describes the files of the package ", "text above describes the packages of the codebase "},
			func(part string) bool { return bytes.Contains(body, []byte(part)) })
		if stage >= 0 { // the warm-up is of none
			rounds[stage] = append(rounds[stage], body)
		}
	}
	if len(rounds[0]) == 0 || len(rounds[1]) == 0 || len(rounds[2]) == 0 {
		l.b.Fatalf("the recorded requests are not those of the three stages: %d, %d, %d of %d", len(rounds[0]), len(rounds[1]), len(rounds[2]), len(names))
	}
	l.b.Logf("recorded %d, %d and %d requests", len(rounds[0]), len(rounds[1]), len(rounds[2]))
	return cards, all, rounds
}

// serve starts an engine with the program's flags, and a port and key of ours.
func (l *load) serve() (base, key string, stop func()) {
	l.b.Helper()
	dir := l.b.TempDir()
	key = "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	keyFile := filepath.Join(dir, "key")
	l.write(keyFile, key+"\n", 0o600)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.b.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	flags := slices.Clone(l.flags)
	for i, f := range flags[:len(flags)-1] {
		switch f {
		case "--port":
			flags[i+1] = port
		case "--api-key-file":
			flags[i+1] = keyFile
		}
	}
	c := exec.Command(l.command[0], append(slices.Clone(l.command[1:]), flags...)...)
	c.Env = append(engine.ChildEnv(os.Environ()), "LLAMA_API_KEY="+key)
	c.Dir = dir
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		l.b.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	l.b.Cleanup(stop)
	base = "http://127.0.0.1:" + port
	for begun := time.Now(); ; <-time.After(10 * time.Millisecond) {
		if res, err := http.Get(base + "/health"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return base, key, stop
			}
		}
		if time.Since(begun) > time.Minute {
			stop()
			l.b.Fatalf("the engine is not up after a minute:\n%s", log.String())
		}
	}
}

// bare sends the recorded requests to a fresh engine and only counts.
func (l *load) bare(rounds [3][][]byte) (cards, all pace) {
	l.b.Helper()
	base, key, stop := l.serve()
	defer stop()
	// No kept connections, as in the runner: the server closes one now and then in
	// the moment of its next use.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for i, bodies := range rounds {
		next := make(chan []byte)
		counts := make(chan int, len(bodies))
		begun := time.Now()
		var wg sync.WaitGroup
		for range l.workers {
			wg.Go(func() {
				for body := range next {
					n, err := outputTokens(client, base, key, body)
					if err != nil {
						l.b.Error(err)
					}
					counts <- n
				}
			})
		}
		for _, body := range bodies {
			next <- body
		}
		close(next)
		wg.Wait()
		p := pace{took: time.Since(begun)}
		close(counts)
		for n := range counts {
			p.tokens += n
		}
		if all = all.plus(p); i == 0 {
			cards = p
		}
	}
	if l.b.Failed() {
		l.b.FailNow()
	}
	return cards, all
}

// outputTokens sends one request and returns the tokens that the stream's last
// count tells of.
func outputTokens(client *http.Client, base, key string, body []byte) (int, error) {
	req, err := http.NewRequest(http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	last := ""
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"completion_tokens"`) {
			last = lines.Text()
		}
	}
	var count struct {
		Usage struct {
			Completion int `json:"completion_tokens"`
		}
	}
	if err := cmp.Or(lines.Err(), json.Unmarshal([]byte(strings.TrimPrefix(last, "data: ")), &count)); err != nil {
		return 0, fmt.Errorf("HTTP %d without a count of tokens: %w", res.StatusCode, err)
	}
	return count.Usage.Completion, nil
}

// smallFiles are n files of Go's own library of 300 to 2,048 bytes, spread over
// it, so that every machine with this Go analyses the same text.
func smallFiles(b *testing.B, n int) []string {
	b.Helper()
	all := librarySmall(b)
	if len(all) < n {
		b.Fatalf("Go's library has only %d small files", len(all))
	}
	var out []string
	for i := range n {
		out = append(out, all[i*len(all)/n])
	}
	return out
}

// smallFolders are the first n small files of each of the first folders that
// have as many.
func smallFolders(b *testing.B, folders, n int) []string {
	b.Helper()
	byFolder, out := map[string][]string{}, []string(nil)
	for _, name := range librarySmall(b) {
		dir := filepath.Dir(name)
		if byFolder[dir] = append(byFolder[dir], name); len(byFolder[dir]) == n {
			if out = append(out, byFolder[dir]...); len(out) == folders*n {
				return out
			}
		}
	}
	b.Fatalf("Go's library has too few folders with %d small files", n)
	return nil
}

func librarySmall(b *testing.B) []string {
	b.Helper()
	var out []string
	err := filepath.WalkDir(library(b), func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "vendor"):
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Size() >= 300 && info.Size() <= 2048 {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func library(b *testing.B) string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

// plant copies files of Go's library into a repository, folders kept.
func plant(b *testing.B, repo string, names []string) {
	b.Helper()
	root := library(b)
	for _, name := range names {
		rel, err := filepath.Rel(root, name)
		if err != nil {
			b.Fatal(err)
		}
		copyFile(b, name, filepath.Join(repo, rel))
	}
}

func copyFile(b *testing.B, from, to string) {
	b.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, text, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
}
