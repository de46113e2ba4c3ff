package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"monitor/internal/cost"
	"monitor/internal/glob"
	"monitor/internal/router"
	"monitor/internal/rows"
)

// Settings are what the config file may say; every field may be left out.
// config.schema.json beside this file describes the same for editors.
type Settings struct {
	Engine   EngineSettings   `yaml:"engine"`
	GPU      GPUSettings      `yaml:"gpu"`
	Model    string           `yaml:"model"`
	Analyze  AnalyzeSettings  `yaml:"analyze"`
	Serve    ServeSettings    `yaml:"serve"`
	Claude   ClaudeSettings   `yaml:"claude"`
	Route    RouteSettings    `yaml:"route"`
	Cost     CostSettings     `yaml:"cost"`
	Store    StoreSettings    `yaml:"store"`
	Download DownloadSettings `yaml:"download"`
	// Private are globs of what never leaves this machine, in every codebase.
	Private []string `yaml:"private"`
}

// ClaudeSettings say how Claude is reached and which of its models may be asked. The
// key stands in no config file: monitor claude login.
type ClaudeSettings struct {
	// BaseURL is Anthropic's where it is empty. It is taken from here and never from the
	// environment.
	BaseURL string `yaml:"base_url"`
	// Workers at once; 0 is 3.
	Workers int `yaml:"workers"`
	// Models that may be asked, the cheapest first.
	Models []string `yaml:"models"`
	// KeyFile is a private file with the key, in place of the keyring and our own file.
	KeyFile string `yaml:"key_file"`
}

// RouteSettings say who gets which work.
type RouteSettings struct {
	Policy string `yaml:"policy"`
	// Hour is what an hour of waiting is worth, in dollars.
	Hour string `yaml:"hour"`
}

// CostSettings are what local work costs, and budgets. Amounts are dollars.
type CostSettings struct {
	// Tariff of a kilowatt hour.
	Tariff string `yaml:"tariff"`
	// Card is its price, Years how long it lasts, Use at work in that time, as in 0.3.
	Card  string  `yaml:"card"`
	Years float64 `yaml:"years"`
	Use   float64 `yaml:"use"`
	// Job, Day and Month are budgets of a job, and of all jobs in a day or a month.
	Job   string `yaml:"job"`
	Day   string `yaml:"day"`
	Month string `yaml:"month"`
}

// EngineSettings say where the engine comes from and how it is started.
type EngineSettings struct {
	Path      string `yaml:"path"`
	URL       string `yaml:"url"`
	KeyFile   string `yaml:"key_file"`
	Python    string `yaml:"python"`
	Threads   int    `yaml:"threads"`
	GPULayers *int   `yaml:"gpu_layers"`
	// FirstToken and NextToken are deadlines of a request; 0 is the runner's.
	FirstToken time.Duration `yaml:"first_token"`
	NextToken  time.Duration `yaml:"next_token"`
	// Wedge is how long an engine at work may show no progress; 0 is the runner's.
	Wedge time.Duration `yaml:"wedge"`
}

// GPUSettings say where NVIDIA's driver is, where it is not found by itself.
type GPUSettings struct {
	Library string `yaml:"library"`
	SMI     string `yaml:"nvidia_smi"`
}

// AnalyzeSettings are defaults for the flags of analyze.
type AnalyzeSettings struct {
	Workers int   `yaml:"workers"`
	Window  int   `yaml:"window"`
	MaxFile int64 `yaml:"max_file_bytes"`
}

// ServeSettings say which crew `monitor serve` keeps when its flags do not.
type ServeSettings struct {
	Profile string   `yaml:"profile"`
	Models  []string `yaml:"models"`
	// KeepAlive is how long a model stays without a question; 0 is until others need
	// the memory. Preload are loaded at the start.
	KeepAlive time.Duration `yaml:"keep_alive"`
	Preload   []string      `yaml:"preload"`
}

// StoreSettings say where jobs are kept.
type StoreSettings struct {
	URL string `yaml:"url"`
}

// DownloadSettings say where models and engines come from.
type DownloadSettings struct {
	HFEndpoint  string `yaml:"hf_endpoint"`
	HFTokenFile string `yaml:"hf_token_file"`
	ReleaseAPI  string `yaml:"release_api"`
	ReleaseURL  string `yaml:"release_url"`
}

//go:embed config.schema.json
var settingsSchema []byte

// loadSettings reads the config file; a file that is not there is an empty one.
func loadSettings(name string) (Settings, error) {
	var s Settings
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, usage("the config file cannot be read: %w", err)
	}
	return parseSettings(b, name)
}

// maxConfigBytes bounds the config file; one with every field is far below it.
const maxConfigBytes = 1 << 20

func parseSettings(b []byte, name string) (s Settings, err error) {
	f := rows.New(b, name)
	if _, err := f.Decode(&s, maxConfigBytes); err != nil {
		return s, usage("%w\n`monitor config schema` prints what may stand there", err)
	}
	for _, c := range []struct {
		path, what string
		bad        bool
	}{
		{"engine.threads", "must be 0 (automatic) to 1024", s.Engine.Threads < 0 || s.Engine.Threads > 1024},
		{"engine.gpu_layers", "must be -1 (all) or more", s.Engine.GPULayers != nil && *s.Engine.GPULayers < -1},
		{"engine.first_token", "must be a time such as 90s or 10m", s.Engine.FirstToken < 0},
		{"engine.next_token", "must be a time such as 30s or 2m", s.Engine.NextToken < 0},
		{"engine.wedge", "must be a time such as 8s", s.Engine.Wedge < 0},
		{"serve.keep_alive", "must be a time such as 10m", s.Serve.KeepAlive < 0},
		{"engine.url", "must be an http or https address", s.Engine.URL != "" && !isHTTP(s.Engine.URL)},
		{"engine.url", "cannot stand beside engine.path: one of them is the engine", s.Engine.URL != "" && s.Engine.Path != ""},
		{"analyze.workers", "must be 0 (automatic) to 256", s.Analyze.Workers < 0 || s.Analyze.Workers > 256},
		{"analyze.window", "must be 0 (automatic) or 1024 tokens or more", s.Analyze.Window != 0 && s.Analyze.Window < 1024},
		{"serve.profile", "cannot stand beside serve.models: a profile has its models", s.Serve.Profile != "" && len(s.Serve.Models) > 0},
		{"analyze.max_file_bytes", "must be 0 (1 MiB) or more", s.Analyze.MaxFile < 0},
		{"store.url", "must begin with postgres:// or postgresql://", s.Store.URL != "" && !strings.HasPrefix(s.Store.URL, "postgres://") && !strings.HasPrefix(s.Store.URL, "postgresql://")},
		{"claude.base_url", "must be an https address, or http on this machine", s.Claude.BaseURL != "" && !isHTTP(s.Claude.BaseURL)},
		{"claude.workers", "must be 0 (3) to 64", s.Claude.Workers < 0 || s.Claude.Workers > 64},
		{"route.policy", "must be " + policyNames(), s.Route.Policy != "" && !slices.Contains(router.Policies(), router.Policy(s.Route.Policy))},
		{"cost.years", "must be 0 (3 years) or more", !(s.Cost.Years >= 0 && s.Cost.Years < 100)},
		{"cost.use", "must be a share from 0 (30 %) to 1", !(s.Cost.Use >= 0 && s.Cost.Use <= 1)},
		{"download.hf_endpoint", "must be an http or https address", s.Download.HFEndpoint != "" && !isHTTP(s.Download.HFEndpoint)},
		{"download.release_url", "must be an http or https address", s.Download.ReleaseURL != "" && !isHTTP(s.Download.ReleaseURL)},
		{"download.release_api", "must be an http or https address", s.Download.ReleaseAPI != "" && !isHTTP(s.Download.ReleaseAPI)},
	} {
		if c.bad {
			f.Add(c.path, c.what)
		}
	}
	for path, amount := range map[string]string{
		"cost.tariff": s.Cost.Tariff, "cost.card": s.Cost.Card, "cost.job": s.Cost.Job, "cost.day": s.Cost.Day, "cost.month": s.Cost.Month, "route.hour": s.Route.Hour,
	} {
		if m, err := cost.ParseMoney(amount); amount != "" && (err != nil || m < 0) {
			f.Add(path, "must be dollars, written as \"0.50\"")
		}
	}
	if err := glob.Check(s.Private); err != nil {
		f.Add("private", err.Error())
	}
	if err := f.Err(); err != nil {
		return s, usage("%w", err)
	}
	return s, nil
}

// hour is what an hour of waiting is worth. Who says that it is nothing has it as good as
// free: zero is what the router takes for nothing said.
func (s Settings) hour() cost.Money {
	if s.Route.Hour == "" {
		return router.DefaultHour
	}
	return max(1, money(s.Route.Hour))
}

func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// readSecret reads a token from a file that only its owner may read.
func readSecret(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the home folder for %s: %w", name, err)
		}
		name = filepath.Join(home, rest)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", usage("the secret file cannot be read: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
