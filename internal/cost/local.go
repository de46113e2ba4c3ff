package cost

import (
	"fmt"
	"time"
)

// Local is what makes a local answer cost money: electricity, and the card's price over
// the time that it is at work.
type Local struct {
	// Tariff of a kilowatt hour; 0 is unknown, and then no local cost is known.
	Tariff Money
	// CardPrice, spread over Lifetime at Use, in thousandths of the time. 0 leaves the card out:
	// it is there anyway.
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

// kWh in millijoules.
const kWh = 3_600_000_000

// Cost is electricity plus the card's share: E·tariff + busy·price/(lifetime·use)
// (reference §3.3, formula 2). It is unknown, with the reason, where the energy or the
// tariff is.
func (l Local) Cost(e Energy, busy time.Duration) (LocalCharge, error) {
	switch {
	case l.Tariff <= 0:
		return LocalCharge{}, &UnknownError{"local work", "no tariff is set: cost.tariff in the config, dollars for a kilowatt hour"}
	case !e.Known:
		return LocalCharge{}, &UnknownError{"local work", "the energy that it drew could not be measured"}
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
	if l.CardPrice > 0 && l.Lifetime > 0 && l.Use > 0 {
		used := Money(l.Lifetime/time.Millisecond) * Money(l.Use) / 1000
		share := mulDiv(Money(busy/time.Millisecond), l.CardPrice, max(1, used))
		c.Money += share
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
