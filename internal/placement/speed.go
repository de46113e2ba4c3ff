package placement

import "math"

// PlanningShare is the part of the bandwidth's ceiling that a plan counts on.
// Measured shares of one stream on an RTX 4090 are 0.68 to 0.88, most of them between
// 0.75 and 0.85 (serving reference, 5).
const PlanningShare = 0.8

// Speed is what to expect of an engine, in tokens per second written by the model.
// Every step of an engine reads the weights once for all workers and each
// worker's cache, so that with bytes W and KV and the memory's bandwidth BW
//
//	one worker   <= BW / (W + KV)
//	B workers    <= B x BW / (W + B x KV)
//
// and for a mixture of experts W(B) = dense + experts x (1 - (1 - used/count)^B)
// (serving reference, 5). PlanningShare of that is expected. Zero where a
// bandwidth is not known. Prompts are read faster; this is about writing.
type Speed struct {
	// One worker busy with an empty window: the most a single question sees.
	One float64 `json:"one_worker"`
	// Worker and All: every worker busy, every window full; each, and together.
	Worker float64 `json:"each_of_all"`
	All    float64 `json:"all_workers"`
	// Ceiling is All without PlanningShare.
	Ceiling float64 `json:"ceiling"`
	// Together is All while the other engines on its cards are as busy: they take
	// turns.
	Together float64 `json:"beside_others"`
}

// stepTime is the seconds of one step with so many busy workers whose windows are
// full to a share; pace is the bytes per second of each device, turns(d)
// is how many engines take turns on a device. 0 where a
// bandwidth is not known.
func (p *problem) stepTime(pl place, busy int, full float64, pace []float64, turns func(d int) float64) float64 {
	v := p.pl.variant(pl.config)
	layers := float64(v.Layers + 1)
	weights := float64(v.Dense)
	if v.Count > 0 {
		weights += float64(v.Experts) * (1 - math.Pow(1-float64(v.Used)/float64(v.Count), float64(busy)))
	}
	part := float64(busy) / float64(pl.slots)
	var seconds float64
	for j, d := range pl.devices {
		if pace[d] == 0 {
			return 0
		}
		t := pl.need.Devices[j]
		bytes := weights * float64(pl.layers[j]) / layers
		if weights == 0 {
			bytes = float64(t.Weights)
		}
		bytes += part * (float64(t.KV)*full + float64(t.State))
		seconds += bytes / pace[d] * turns(d)
	}
	if pl.hostLayers > 0 {
		bw := p.machine.Host.Bandwidth
		if bw == 0 {
			bw = AssumedHostBandwidth
		}
		t := pl.need.Host
		bytes := weights * float64(pl.hostLayers) / layers
		if weights == 0 {
			bytes = float64(t.Weights)
		}
		seconds += (bytes + part*(float64(t.KV)*full+float64(t.State))) / float64(bw)
	}
	return seconds
}

// paces are the bandwidths by which layouts are compared: those of the cards, or
// the same for all where one is not known, so that at least engines that share a card are told from
// engines that do not.
func (p *problem) paces() []float64 {
	out := make([]float64, len(p.devs))
	known := true
	for d, dev := range p.devs {
		out[d] = float64(dev.Bandwidth)
		known = known && dev.Bandwidth > 0
	}
	for d := range out {
		if !known {
			out[d] = 1e11
		}
	}
	return out
}

func perSecond(tokens int, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(tokens) / seconds
}

func once(int) float64 { return 1 }

// speed of one engine of a finished packing.
func (p *problem) speed(pl place, places []place) Speed {
	real := make([]float64, len(p.devs))
	for d, dev := range p.devs {
		real[d] = float64(dev.Bandwidth)
	}
	ceiling := perSecond(pl.slots, p.stepTime(pl, pl.slots, 1, real, once))
	s := Speed{
		One:     PlanningShare * perSecond(1, p.stepTime(pl, 1, 0, real, once)),
		All:     PlanningShare * ceiling,
		Ceiling: ceiling,
	}
	s.Worker = s.All / float64(pl.slots)
	s.Together = PlanningShare * perSecond(pl.slots, p.stepTime(pl, pl.slots, 1, real, turnsOn(places)))
	return s
}

// turnsOn counts the engines on each device.
func turnsOn(places []place) func(int) float64 {
	return func(d int) float64 {
		n := 0.0
		for _, o := range places {
			for _, e := range o.devices {
				if e == d {
					n++
				}
			}
		}
		return n
	}
}

// rate is the tokens per second of all engines that have their layers, all
// workers busy, in steps of a thousandth so that rounding decides nothing.
func (p *problem) rate(places []place) float64 {
	var sum float64
	turns := turnsOn(places)
	for _, pl := range places {
		if len(pl.layers) > 0 {
			sum += perSecond(pl.slots, p.stepTime(pl, pl.slots, 1, p.pace, turns))
		}
	}
	return math.Round(sum*PlanningShare*1000) / 1000
}

// fastest is what the best of a seat's alternatives reaches at most: whole and
// alone on the fastest card.
func (p *problem) fastest(alts []alternative) float64 {
	var best float64
	for _, a := range alts {
		need, err := p.pl.need(a.config, -1, nil)
		if err != nil {
			continue
		}
		for d := range p.devs {
			pl := place{config: a.config, devices: []int{d}, layers: []int{p.pl.variant(a.config).Layers + 1}, need: need}
			best = max(best, perSecond(pl.slots, p.stepTime(pl, pl.slots, 1, p.pace, once)))
		}
	}
	return math.Ceil(best*PlanningShare*1000) / 1000
}
