package cost

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// most is the most that Money holds. Where a sum is more, it stays there: no budget
// holds it.
const most Money = math.MaxInt64

// plus is m + n, or false and the most where that is more.
func (m Money) plus(n Money) (Money, bool) {
	if n > 0 && m > most-n {
		return most, false
	}
	return m + n, true
}

// mulDiv is a·b/c without overflow in between, rounded up: a bill that is a part of a
// picodollar short would be below what was charged. Amounts are not negative, c is more
// than zero; what is more than Money holds is the most.
func mulDiv(a, b, c Money) Money {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return most
	}
	q, r := bits.Div64(hi, lo, uint64(c))
	if q >= uint64(most) {
		return most
	}
	if r > 0 {
		q++
	}
	return Money(q)
}

// Apart are two amounts, neither below zero, as a person reads them, with as many decimals
// as it takes to see that they differ.
func Apart(m, n Money) (string, string) {
	if d := max(m-n, n-m); d > 0 && d < max(m, n)/100 { // rounded they would look alike
		return "$" + m.Decimal(), "$" + n.Decimal()
	}
	return m.String(), n.String()
}

// ParseMoney reads an amount of dollars as people write it, "0.50", "$1.25" or "-$3",
// with up to twelve decimals. The error says what is wrong with it.
func ParseMoney(s string) (Money, error) {
	text, negative := strings.CutPrefix(strings.TrimSpace(s), "-")
	text = strings.TrimPrefix(text, "$")
	whole, part, _ := strings.Cut(text, ".")
	if whole+part == "" || len(part) > 12 {
		return 0, fmt.Errorf("%q is no amount of dollars; write it as 0.50, with up to 12 decimals", s)
	}
	var n int64
	for _, r := range whole + part + strings.Repeat("0", 12-len(part)) {
		if r < '0' || r > '9' {
			return 0, fmt.Errorf("%q is no amount of dollars; write it as 0.50, with up to 12 decimals", s)
		}
		if n > (1<<63-1-int64(r-'0'))/10 {
			return 0, fmt.Errorf("%q is more than the 9.2 million dollars that an amount can be", s)
		}
		n = 10*n + int64(r-'0')
	}
	if negative {
		n = -n
	}
	return Money(n), nil
}

// Decimal is the exact amount with as many decimals as it needs, "0.0000125".
func (m Money) Decimal() string {
	sign, u := "", uint64(m)
	if m < 0 {
		sign, u = "-", -u
	}
	s := fmt.Sprintf("%d.%012d", u/1e12, u%1e12)
	return sign + strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// String is the amount for a person: two decimals from a dollar on, below that three
// digits that count, rounded half up and away from zero. What is not zero never reads
// as zero.
func (m Money) String() string {
	sign, u := "", uint64(m)
	if m < 0 {
		sign, u = "-", -u
	}
	unit, decimals := uint64(1e10), 2 // a cent
	for unit > 1 && decimals < 12 && u < 100*unit {
		unit, decimals = unit/10, decimals+1
	}
	if u == 0 {
		unit, decimals = 1e10, 2
	}
	n := (u + unit/2) / unit
	scale := uint64(1e12) / unit
	return fmt.Sprintf("%s$%d.%0*d", sign, n/scale, decimals, n%scale)
}

// MarshalJSON writes the exact amount as a string, since a number would be read as a
// float.
func (m Money) MarshalJSON() ([]byte, error) { return json.Marshal(m.Decimal()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (m *Money) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("an amount of money is written as a string, as in \"0.50\", not as %s", b)
	}
	v, err := ParseMoney(s)
	*m = v
	return err
}
