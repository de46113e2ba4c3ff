// Package cost is arithmetic about money: what a call to a paid model cost by the
// prices of its day, what a local answer cost in joules and in the card's wear, what
// a call can cost at worst, what a budget still allows, and what a job would have
// cost had it been done otherwise.
//
// It is pure: no clock, no file, no network. Money is an exact decimal and no float
// ever touches it; what is not known is an error or "unknown", never zero.
package cost

// Money is an amount of US dollars in units of 10⁻¹² dollar, exact: the smallest
// price in use, a cache read at $0.01 per million tokens, halved in a batch, is
// 5,000 of them a token. Its range is ±9.2 million dollars.
type Money int64

// Dollar is one US dollar.
const Dollar Money = 1e12

// Tokens are what one call used, in kinds that are charged apart and do not
// overlap: the prompt is Fresh + Write5m + Write1h + Read.
type Tokens struct {
	// Fresh was read from the prompt and neither found in a cache nor put there.
	Fresh int64 `json:"fresh"`
	// Write5m and Write1h were put into the cache for so long; Read was found there.
	Write5m int64 `json:"write_5m,omitempty"`
	Write1h int64 `json:"write_1h,omitempty"`
	Read    int64 `json:"read,omitempty"`
	// Output was written, thinking included.
	Output int64 `json:"output"`
}

// Prompt is the whole prompt: what a price's band goes by.
func (t Tokens) Prompt() int64 { return t.Fresh + t.Write5m + t.Write1h + t.Read }
