package cost

import (
	"errors"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"monitor/internal/rows"
)

// FuzzParseMoney holds the reader of amounts against a grammar and big rationals: what
// is an amount is read as just that, what is none is an error.
func FuzzParseMoney(f *testing.F) {
	for _, s := range []string{"0.50", "$1", "-3", ".", "9223372.036854775807", "9223372.036854775808", "$$5", "$-5", "-$.5", "1_0", "0x10", "1e3", " 7\n", "0.1234567890123", "٣"} {
		f.Add(s)
	}
	form := regexp.MustCompile(`^-?\$?([0-9]+\.?[0-9]{0,12}|\.[0-9]{1,12})$`)
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMoney(s)
		text := strings.TrimSpace(s)
		if !form.MatchString(text) {
			if err == nil {
				t.Errorf("%q was read as %s", s, m.Decimal())
			}
			return
		}
		want, ok := new(big.Rat).SetString(strings.TrimSuffix(strings.Replace(text, "$", "", 1), "."))
		if !ok {
			t.Fatalf("%q is of the form and no number", s)
		}
		want.Mul(want, big.NewRat(1e12, 1))
		if fits := new(big.Rat).Abs(want).Cmp(new(big.Rat).SetInt64(int64(most))) <= 0; fits != (err == nil) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil {
			return
		}
		if !want.IsInt() || want.Num().Int64() != int64(m) {
			t.Errorf("%q was read as %s", s, m.Decimal())
		}
		if back, err := ParseMoney(m.Decimal()); err != nil || back != m {
			t.Errorf("%q is %d, written %s, read as %d (%v)", s, m, m.Decimal(), back, err)
		}
	})
}

// FuzzPrices: whatever is in a file of prices, its mistakes are told as mistakes, no cost
// is negative or above its worst case, and worst cases are known of what is priced.
func FuzzPrices(f *testing.F) {
	const rest = "write_5m: \"1\", write_1h: \"1\", read: \"1\", output: \"1\", source: s, checked: 2026-01-01}\n"
	f.Add(string(embedded), int64(50_000), int64(50_001), byte(0))
	f.Add("version: 1\nprices:\n  - {model: m, fresh: \"1\", fast: {fresh: \"3\", output: \"1\"}, "+rest, int64(7), int64(2), byte(4))
	f.Add("version: 1\nprices:\n  - {model: m, batch: \"1\", us: \"10\", fresh: \"10000\", "+rest, int64(5_000_000), int64(5_000_000), byte(3))
	f.Add("version: 1\nprices:\n  - {model: m, batch: \"10\", us: 1e-7, fresh: 0x10, "+rest, int64(1), int64(1), byte(3))
	f.Add("version: 1\nprices:\n  - {model: m, up_to: 5, fresh: 0.1000000000000000001, "+rest+"  - {model: m-20260101, fresh: \"2\", "+rest, int64(3), int64(3), byte(0))
	f.Add("version: 1\nprices:\n- {}\n- {model: [}", int64(0), int64(0), byte(0))
	f.Fuzz(func(t *testing.T, s string, fresh, read int64, how byte) {
		b, err := new(Book).With([]byte(s), "mine.yaml")
		if err != nil {
			var m *rows.Mistake
			if !errors.As(err, &m) || b != nil {
				t.Errorf("%v, %v", b, err)
			}
			return
		}
		for _, at := range []time.Time{day("2026-11-25"), day("2026-10-06").Add(23 * time.Hour)} {
			for _, m := range b.Models(at) {
				c := Call{Model: m, At: at, Batch: how&1 > 0, US: how&2 > 0, Fast: how&4 > 0, Tokens: Tokens{Fresh: fresh, Write1h: read / 2, Read: read, Output: read}}
				worst, wrong := b.Worst(AtMost{Model: m, At: at, Prompt: c.Prompt(), Output: read, Batch: c.Batch, US: c.US, Fast: c.Fast})
				got, err := b.Cost(c)
				var u *UnknownError
				switch {
				case err == nil && (wrong != nil || got.Money < 0 || got.Money > worst || got.Money == most):
					t.Errorf("%s: %d at worst, and it was %d (%v)", m, worst, got.Money, wrong)
				case err == nil && !strings.HasSuffix(got.Working, " = $"+got.Money.Decimal()):
					t.Errorf("%s is %s", got.Money.Decimal(), got.Working)
				case errors.As(err, &u) && wrong == nil:
					t.Errorf("%s: %d at worst, of which nothing is known: %v", m, worst, err)
				}
			}
		}
	})
}
