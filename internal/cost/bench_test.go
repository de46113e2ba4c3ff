package cost

import "testing"

// The call of the reference's example, whose model has two lengths.
func BenchmarkCost(b *testing.B) {
	bk, at := book(b), day("2026-11-25")
	c := Call{Model: "claude-haiku-5-5", At: at, Tokens: Tokens{Fresh: 4_000, Write5m: 8_000, Read: 48_000, Output: 6_000}}
	b.Run("with its working", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bk.Cost(c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("amount", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bk.Amount(c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("worst", func(b *testing.B) {
		b.ReportAllocs()
		w := AtMost{Model: c.Model, At: at, Prompt: 150_000, Output: 6_000}
		for b.Loop() {
			if _, err := bk.Worst(w); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("the file", func(b *testing.B) {
		for b.Loop() {
			if _, err := Embedded(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A ledger of 100,000 rows.
func BenchmarkSum(b *testing.B) {
	all := make([]Entry, 100_000)
	for i := range all {
		all[i] = Entry{Job: "j", Model: []string{"m", "n"}[i%2], Lane: "claude", At: day("2026-11-25"), Money: Money(i), State: Settled}
	}
	b.Run("by day", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := Sum(all, ByDay, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compare", func(b *testing.B) {
		bk := book(b)
		for b.Loop() {
			Compare(all, bk, []string{"claude-opus-5-5", "claude-haiku-5-5"}, day("2026-11-25"))
		}
	})
}
