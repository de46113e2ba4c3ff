package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/catalog"
	"monitor/internal/rows"
)

func load(t testing.TB, user string) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Load([]byte(user), "mine.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The rows that the project promises.
func TestBuiltInRows(t *testing.T) {
	c := load(t, "")
	for _, name := range []string{"deepseek-coder-33b", "codellama-70b", "mistral-7b", "phi-3-mini-4k", "phi-3-mini-128k",
		"qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "qwen2.5-coder-3b", "qwen2.5-coder-7b", "qwen2.5-coder-14b", "qwen2.5-coder-32b",
		"qwen3-coder-30b-a3b", "smollm2-135m", "gemma-3-270m",
		// and some of the names that people know them by
		"DeepSeek-Coder-33B-instruct", "CodeLlama-70B-Instruct", "Mistral-7B-Instruct", "phi-3-mini", "qwen2.5-coder:7b", "Qwen3-Coder"} {
		if _, err := c.Model(name); err != nil {
			t.Error(err)
		}
	}
	used := map[string]string{}
	for _, m := range c.Models() {
		for _, n := range append([]string{m.Name}, m.Aliases...) {
			n = strings.ToLower(n)
			if other := used[n]; other != "" {
				t.Errorf("%s is a name of both %s and %s", n, other, m.Name)
			}
			used[n] = m.Name
		}
		for _, q := range m.Quants {
			if bits := float64(q.Bytes()) * 8 / float64(m.Parameters); bits < 2 || bits > 17 {
				t.Errorf("%s %s has %.1f bits per weight", m.Name, q.Name, bits)
			}
		}
		if m.Trial {
			if better, err := c.Model(m.Instead); err != nil || better.Trial {
				t.Errorf("%s names %s for real answers: %v", m.Name, m.Instead, err)
			}
		}
	}
}

func TestNameNotFound(t *testing.T) {
	c := load(t, "")
	for typed, want := range map[string]string{"smolm2": "smollm2-135m", "qwen-coder-7b": "qwen2.5-coder-7b", "QWEN3": "qwen3-coder-30b-a3b", "mistrall-7b": "mistral-7b"} {
		_, err := c.Model(typed)
		var missing *catalog.NotFoundError
		if !errors.As(err, &missing) || len(missing.Near) == 0 || missing.Near[0] != want {
			t.Errorf("%s: %v, want %s first", typed, err, want)
		}
	}
	_, err := c.Model("completely-different-thing")
	if err == nil || strings.Contains(err.Error(), "did you mean") {
		t.Errorf("got %v", err)
	}
}

const gib = int64(1) << 30

func TestDefault(t *testing.T) {
	c := load(t, "")
	for _, tc := range []struct {
		m    catalog.Machine
		want string
		say  string
		fits bool
	}{
		{catalog.Machine{RAMBytes: 24 * gib, Cores: 2}, "smollm2-135m", "trying things out", true},
		{catalog.Machine{RAMBytes: 64 * gib, VRAMBytes: 24564 << 20, Cores: 16}, "qwen3-coder-30b-a3b", "graphics card", true},
		{catalog.Machine{RAMBytes: 64 * gib, VRAMBytes: 8188 << 20, Cores: 16}, "qwen2.5-coder-7b", "Hugging Face", true},
		{catalog.Machine{RAMBytes: 64 * gib, VRAMBytes: 48 * gib, Cores: 16}, "qwen2.5-coder-32b", "", true},
		{catalog.Machine{RAMBytes: 64 * gib, Cores: 16}, "qwen2.5-coder-1.5b", "16 cores", true},
		{catalog.Machine{RAMBytes: 24 * gib, VRAMBytes: gib / 2, Cores: 2}, "smollm2-135m", "no graphics card", true},
		{catalog.Machine{RAMBytes: gib, Cores: 1}, "smollm2-135m", "nothing in the catalogue fits", false},
		{catalog.Machine{}, "smollm2-135m", "", false},
	} {
		ch := c.Default(tc.m)
		if ch.Model.Name != tc.want || ch.Fits != tc.fits || !strings.Contains(ch.Reason, tc.say) {
			t.Errorf("%+v: %s, fits %v, %s; want %s, %v, %q", tc.m, ch.Model.Name, ch.Fits, ch.Reason, tc.want, tc.fits, tc.say)
		}
	}
}

// Whatever the machine: what is chosen fits, may be chosen, and with a larger
// card nothing smaller is chosen.
func TestDefaultHolds(t *testing.T) {
	c := load(t, "")
	rapid.Check(t, func(t *rapid.T) {
		m := catalog.Machine{
			RAMBytes:  rapid.Int64Range(0, 1<<41).Draw(t, "ram"),
			VRAMBytes: rapid.Int64Range(0, 1<<38).Draw(t, "vram"),
			Cores:     rapid.IntRange(-1, 512).Draw(t, "cores"),
		}
		ch := c.Default(m)
		if !ch.Model.Default || ch.Reason == "" {
			t.Fatalf("%+v: %+v", m, ch)
		}
		if ch.Fits != (ch.Need <= ch.Budget) {
			t.Fatalf("%+v: fits %v with need %d and budget %d", m, ch.Fits, ch.Need, ch.Budget)
		}
		if !ch.Fits || m.VRAMBytes < 2*gib {
			return
		}
		more := m
		more.VRAMBytes += rapid.Int64Range(0, 1<<37).Draw(t, "more")
		if c.Default(more).Model.Parameters < ch.Model.Parameters {
			t.Fatalf("a larger card gets a smaller model: %+v, %+v", m, more)
		}
	})
}

func TestUserRows(t *testing.T) {
	c := load(t, row(oneFile))
	m, err := c.Model("test-model")
	if err != nil || m.Title != "test-model" || m.Revision != "main" {
		t.Fatalf("%+v, %v", m, err)
	}
	replaced := strings.Replace(row(oneFile), "name: test-model", "name: mistral-7b", 1)
	c = load(t, replaced)
	m, err = c.Model("mistral-7b")
	if err != nil || m.Licence != "MIT" {
		t.Errorf("%+v, %v", m, err)
	}
	if n := len(slices.DeleteFunc(c.Models(), func(m catalog.Model) bool { return m.Name != "mistral-7b" })); n != 1 {
		t.Errorf("%d rows with the name", n)
	}
	if len(load(t, "\n # nothing\n").Models()) != len(load(t, "").Models()) {
		t.Error("a file of comments changed the catalogue")
	}
}

func TestMistakesAreNamedByFileLineAndField(t *testing.T) {
	good := row(oneFile)
	change := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("%q is not in the good file", old)
		}
		return s
	}
	for name, tc := range map[string]struct{ src, want string }{
		"unknown field":        {change("context:", "contxt:"), `mine.yaml:5: unknown field "contxt"`},
		"not a number":         {change("context: 8192", "context: big"), "mine.yaml:5: context: a whole number belongs here"},
		"negative":             {change("context: 8192", "context: -1"), "mine.yaml:5: models[0].context: -1"},
		"missing":              {change("    licence: MIT\n", ""), "mine.yaml:3: models[0].licence: is missing"},
		"bad name":             {change("test-model", "../x"), "mine.yaml:3: models[0].name"},
		"bad chat":             {change("chatml", "chatter"), `mine.yaml:6: models[0].chat: "chatter" is none of`},
		"bad skill":            {change("[code]", "[code, magic]"), `mine.yaml:10: models[0].skills[1]: "magic"`},
		"bad edit":             {change("whole", "udiff"), "mine.yaml:11: models[0].edit.format"},
		"bad repo":             {change(repoPath, "a/b/c"), "mine.yaml:12: models[0].repo"},
		"file leads out":       {change("model-q4_k_m.gguf", "../../m.gguf"), "mine.yaml:16: models[0].quants[0].files[0].name"},
		"file is no gguf":      {change("model-q4_k_m.gguf", "m.exe"), "does not end in .gguf"},
		"bad sha256":           {change("sha256: unknown", "sha256: abc"), "mine.yaml:16: models[0].quants[0].files[0].sha256"},
		"bad bytes":            {change("bytes: 100000", "bytes: 0"), "files[0].bytes: 0 is not a size"},
		"no source":            {change("    repo: "+repoPath+"\n", ""), "comes from nowhere"},
		"trial without better": {change("    repo:", "    trial: true\n    repo:"), "models[0].instead: is missing"},
		"better is unknown":    {change("    repo:", "    instead: nobody\n    repo:"), `test-model.instead: the catalogue has no model "nobody"`},
		"twice the same name":  {good + strings.TrimPrefix(good, "version: 1\nmodels:\n"), `models[1].name: "test-model" was given already at models[0]`},
		"key twice":            {change("    chat:", "    context: 5\n    chat:"), "mine.yaml:6"},
		"version":              {change("version: 1", "version: 7"), "mine.yaml:1: version: is 7"},
		"no version":           {change("version: 1\n", ""), "version: is 0"},
		"not yaml":             {"models: [", "mine.yaml:1"},
		"not a map":            {"- a\n- b\n", "mine.yaml"},
		"library panics":       {"version: 1\nmodels: !!x ", "mine.yaml: this is not YAML"},
		"nonsense":             {"\x00\x01", "mine.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := catalog.Load([]byte(tc.src), "mine.yaml")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			var at *rows.Mistake
			if err != nil && !errors.As(err, &at) {
				t.Errorf("%T is no *rows.Mistake", err)
			}
		})
	}
	// All mistakes are told at once.
	_, err := catalog.Load([]byte(strings.Replace(change("chatml", "x"), "8192", "0", 1)), "mine.yaml")
	if n := strings.Count(fmt.Sprint(err), "mine.yaml:"); n != 2 {
		t.Errorf("%d mistakes told: %v", n, err)
	}
}
