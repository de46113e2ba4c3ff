package main

import (
	"context"
	"slices"
	"testing"
)

// What models list says of a model is what the memory model says of its header, on
// the card that is there.
func TestModelsListIsExact(t *testing.T) {
	for _, c := range []struct {
		mib  int64
		fits []string
		not  []string
	}{
		{24564, []string{"qwen2.5-coder-14b", "mistral-7b"}, []string{"codellama-70b", "qwen2.5-coder-32b"}},
		{8188, []string{"qwen2.5-coder-7b", "qwen2.5-coder-3b"}, []string{"mistral-7b", "qwen2.5-coder-14b"}},
		{0, []string{"qwen2.5-coder-1.5b"}, []string{"codellama-70b"}},
	} {
		p, _ := programOn(t, c.mib)
		rows, _, err := modelCommands{p}.models(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if want := slices.Contains(c.fits, r.Name); (want || slices.Contains(c.not, r.Name)) && r.Fits != want {
				t.Errorf("%d MiB: %s needs %d bytes and fits: %v", c.mib, r.Name, r.NeedBytes, r.Fits)
			}
			if r.Name == "qwen2.5-coder-7b" && c.mib > 0 {
				// 4,168 MiB of weights on the card, 32,768 tokens of 56 KiB, and less than a GiB for the rest.
				if n := r.NeedBytes >> 20; n < 4168+1792 || n > 4168+1792+1024 {
					t.Errorf("qwen2.5-coder-7b needs %d MiB", n)
				}
			}
		}
	}
}
