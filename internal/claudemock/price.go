package claudemock

import (
	"math/big"
	"regexp"
	"time"
)

// price is one row of a model's prices in dollars per million tokens, for calls
// from a day on (UTC) and prompts of more than so many tokens. The rows are
// Anthropic's pricing page and the audits of it, November of 2026; Fable 5.2's
// cache rates rest on one audit.
type price struct {
	from  string // day, RFC 3339 date; empty is always
	above int64
	in    string
	out   string
	w5m   string
	w1h   string
	read  string
}

var (
	fable52Prices  = []price{{in: "8", out: "40", w5m: "10", w1h: "16", read: "0.20"}}
	fable51Prices  = []price{{in: "10", out: "50", w5m: "12.50", w1h: "20", read: "0.25"}}
	opus55Prices   = []price{{in: "4", out: "20", w5m: "5", w1h: "8", read: "0.20"}}
	opus4Prices    = []price{{in: "5", out: "25", w5m: "6.25", w1h: "10", read: "0.50"}} // 4.5 to 5
	sonnet55Prices = []price{
		{in: "2", out: "10", w5m: "2.50", w1h: "4", read: "0.20"},
		{from: "2026-10-07", in: "2", out: "10", w5m: "2.50", w1h: "4", read: "0.10"},
	}
	haiku55Prices = []price{
		{in: "0.10", out: "0.50", w5m: "0.125", w1h: "0.20", read: "0.01"},
		{above: 100_000, in: "0.50", out: "2.50", w5m: "0.625", w1h: "1.00", read: "0.05"},
	}
	sonnet4Prices = []price{{in: "3", out: "15", w5m: "3.75", w1h: "6", read: "0.30"}}
	haiku45Prices = []price{{in: "1", out: "5", w5m: "1.25", w1h: "2", read: "0.10"}}
)

// Usage is the tokens of one call by what they are charged as. The prompt is
// Input + Write5m + Write1h + Read; Output includes Thinking.
type Usage struct {
	Input    int64 `json:"input"`
	Write5m  int64 `json:"write_5m,omitempty"`
	Write1h  int64 `json:"write_1h,omitempty"`
	Read     int64 `json:"read,omitempty"`
	Output   int64 `json:"output"`
	Thinking int64 `json:"thinking,omitempty"`
}

func (u Usage) prompt() int64 { return u.Input + u.Write5m + u.Write1h + u.Read }

// Terms are the things beside tokens that a price depends on.
type Terms struct {
	Fast  bool `json:"fast,omitempty"`
	US    bool `json:"us,omitempty"`
	Batch bool `json:"batch,omitempty"`
}

// charge is what a call costs in dollars, exact. Fast mode doubles all rates
// (Opus 5.5: $8 and $40; that cache rates follow is taken), inference in the US is
// a tenth more, a batch is half.
func charge(m *model, u Usage, t Terms, at time.Time) *big.Rat {
	var row price
	for _, p := range m.prices {
		if at.UTC().Format(time.DateOnly) >= p.from && u.prompt() >= p.above && (p.above == 0 || u.prompt() > p.above) {
			row = p
		}
	}
	sum := new(big.Rat)
	for _, part := range []struct {
		rate   string
		tokens int64
	}{{row.in, u.Input}, {row.out, u.Output}, {row.w5m, u.Write5m}, {row.w1h, u.Write1h}, {row.read, u.Read}} {
		rate, _ := decimal(part.rate)
		sum.Add(sum, rate.Mul(rate, new(big.Rat).SetInt64(part.tokens)))
	}
	sum.Quo(sum, big.NewRat(1_000_000, 1))
	if t.Fast {
		sum.Mul(sum, big.NewRat(2, 1))
	}
	if t.US {
		sum.Mul(sum, big.NewRat(11, 10))
	}
	if t.Batch {
		sum.Mul(sum, big.NewRat(1, 2))
	}
	return sum
}

var amount = regexp.MustCompile(`^-?[0-9]{1,15}(\.[0-9]{1,15})?$`)

// decimal reads an amount such as 0.125, and no fraction nor exponent.
func decimal(s string) (*big.Rat, bool) {
	if !amount.MatchString(s) {
		return new(big.Rat), false
	}
	return new(big.Rat).SetString(s)
}

// exact writes an amount with all its digits. All of ours end: they are
// multiples of powers of two and five.
func exact(r *big.Rat) string {
	n, _ := r.FloatPrec()
	return r.FloatString(n)
}
