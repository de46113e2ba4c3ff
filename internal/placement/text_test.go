package placement

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A bar has exactly its width, and each part that is there has a letter while
// there is room for all.
func TestBar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<36)
		u := DeviceUse{Kept: n.Draw(t, "kept"), Foreign: n.Draw(t, "foreign"), Reserve: n.Draw(t, "reserve"), Overhead: n.Draw(t, "overhead"), Free: n.Draw(t, "free"),
			Terms: Terms{Weights: n.Draw(t, "weights"), KV: n.Draw(t, "kv"), Compute: n.Draw(t, "compute")}}
		u.Total = u.Kept + u.Foreign + u.Reserve + u.Overhead + u.Free + u.Terms.Total()
		width := rapid.IntRange(9, 120).Draw(t, "width")
		bar := u.Bar(width)
		if u.Total > 0 && len(bar) != width {
			t.Fatalf("%d characters, want %d: %s", len(bar), width, bar)
		}
		for _, p := range u.parts() {
			if strings.Contains(bar, string(p.letter)) != (p.bytes > 0) {
				t.Fatalf("%s is %d bytes of %d: %s", p.name, p.bytes, u.Total, bar)
			}
		}
	})
}

func TestTextOfALayout(t *testing.T) {
	pl := planner(t)
	l, err := pl.Plan(rtx4090(), builtIn(t, "balanced"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := l.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"weights", "25,757,220,864 B", " % of the ", "Given up", "-ctk q8_0", "--no-kv-unified", "Workers:", "[WWW"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, b.String())
		}
	}
}

// What is saved as JSON and read again differs in nothing; what differs is listed.
func TestDiff(t *testing.T) {
	pl := planner(t)
	a, err := pl.Plan(rtx4090(), builtIn(t, "balanced"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var saved Layout
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	if d := Diff(a, &saved); len(d) > 0 {
		t.Errorf("a saved plan differs from itself: %+v", d)
	}
	b, err := pl.Plan(rtx4090(), builtIn(t, "swarm"))
	if err != nil {
		t.Fatal(err)
	}
	there, back := Diff(a, b), Diff(b, a)
	if len(there) < 5 || len(there) != len(back) {
		t.Errorf("%d differences one way, %d the other: %+v", len(there), len(back), there)
	}
	saved.Servers[0].Slots++
	if d := Diff(a, &saved); !reflect.DeepEqual(d, []Change{{"primary", "workers", "8", "9"}}) {
		t.Errorf("one more worker is %+v", d)
	}
}

func TestFlagsOfASplitModel(t *testing.T) {
	pl := planner(t)
	m := rtx4090()
	m.Devices[0].Backend = "CUDA0"
	second := m.Devices[0]
	second.Index, second.Backend = 1, "CUDA1"
	m.Devices = append(m.Devices, second)
	l, err := pl.Plan(m, Profile{Name: "two", Crew: []Seat{{Role: "big", Models: []string{"codellama-70b"}, Quants: []string{"Q4_K_M"}, Slots: 1, Context: 4096}}})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(append(l.Servers[0].Env, l.Servers[0].Flags...), " ")
	want := "CUDA_DEVICE_ORDER=PCI_BUS_ID --fit off --model codellama-70b.Q4_K_M.gguf -c 4096 -np 1 --no-kv-unified -ngl 81 -fa auto -ctk f16 -ctv f16 -b 2048 -ub 512 --device CUDA0,CUDA1 --split-mode layer --tensor-split 41,40 --cache-ram 0"
	if got != want {
		t.Errorf("flags\n%s, want\n%s", got, want)
	}
}
