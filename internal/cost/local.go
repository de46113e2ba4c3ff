package cost

import (
	"errors"
	"fmt"
	"time"
)

// Local is what makes a local answer cost money: electricity, and the card's price over
// the time that it is at work.
type Local struct {
	// Tariff of a kilowatt hour; 0 is unknown, and then no local cost is known.
	Tariff Money
	// CardPrice, spread over Lifetime at Use, in thousandths of the time. A price of 0
	// leaves the card out: it is there anyway.
	CardPrice Money
	Lifetime  time.Duration
	Use       int64
}

// Energy is what was drawn for some work.
type Energy struct {
	// Millijoules in all; Known is false where nothing could be read, Estimated where
	// at least a part is a card's power times the time.
	Millijoules      int64
	Known, Estimated bool
}

// LocalCharge is what local work cost.
type LocalCharge struct {
	Money     Money
	Estimated bool
	Working   string
}

// ErrUnknownLocal is in the chain where it is not known what local work cost.
var ErrUnknownLocal = errors.New("what local work cost is not known")

// kWh in millijoules.
const kWh = 3_600_000_000

// Cost is electricity plus the card's share: E·tariff + busy·price/(lifetime·use)
// (reference §3.3, formula 2), rounded up. busy is the work's share of the card's time:
// where several answers are written at once, what is given for each must add up to the
// time that passed, as their energies must to what was drawn. It is unknown, with the
// reason, where the energy, the tariff or what the card's wear goes by is.
func (l Local) Cost(e Energy, busy time.Duration) (LocalCharge, error) {
	switch {
	case l.Tariff <= 0:
		return LocalCharge{}, &UnknownError{Model: "local work", Why: "no tariff is set", do: "set cost.tariff in the config, dollars for a kilowatt hour"}
	case !e.Known:
		return LocalCharge{}, &UnknownError{Model: "local work", Why: "the energy that it drew could not be measured", do: "monitor doctor says what can be read on this machine"}
	case l.CardPrice < 0 || l.CardPrice > 0 && (l.Lifetime <= 0 || l.Use < 1 || l.Use > 1000):
		return LocalCharge{}, &UnknownError{Model: "local work", Why: "a card's price is spread over its life and its use, and those are missing or cannot be", do: "set the card's lifetime and a use of 0.1 to 100 % of it in the config, or no price of the card"}
	case e.Millijoules < 0 || busy < 0:
		return LocalCharge{}, fmt.Errorf("local work of %d mJ in %s cannot be", e.Millijoules, busy)
	}
	electricity := mulDiv(Money(e.Millijoules), l.Tariff, kWh)
	c := LocalCharge{Money: electricity, Estimated: e.Estimated}
	how := "measured"
	if e.Estimated {
		how = "estimated"
	}
	c.Working = fmt.Sprintf("%d.%03d kJ %s × $%s a kWh = $%s", e.Millijoules/1e6, e.Millijoules/1e3%1e3, how, l.Tariff.Decimal(), electricity.Decimal())
	if l.CardPrice > 0 {
		share := mulDiv(Money(busy), l.CardPrice, max(1, mulDiv(Money(l.Lifetime), Money(l.Use), 1000)))
		c.Money, _ = c.Money.plus(share)
		c.Working += fmt.Sprintf("; %s of a card of $%s over %s at %d.%d %% use = $%s", busy.Round(time.Millisecond), l.CardPrice.Decimal(), years(l.Lifetime), l.Use/10, l.Use%10, share.Decimal())
	}
	return c, nil
}

func years(d time.Duration) string {
	const year = 365 * 24 * time.Hour
	if d%year == 0 {
		return fmt.Sprintf("%d years", d/year)
	}
	return fmt.Sprintf("%.1f years", float64(d)/float64(year))
}
