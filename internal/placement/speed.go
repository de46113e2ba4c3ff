package placement

import "math"

// What a step of decoding takes beyond reading. Fitted to measurements of an
// 8-billion model in Q4_0 on an RTX 4090 (1,008 GB/s; llama.cpp PRs 17505, 15131, 20586, as the
// serving reference, 4 and 5, has them): 193, 364, 1,217, 1,684 and 1,930 tokens/s with 1, 2,
// 10, 14 and 16 streams, which the two give to 3 %. Held against what they were not
// fitted to: gpt-oss-20b on an RTX 5090 (PR 24843), 1, 2 and 10 streams at 396, 527 and
// 920 tokens/s, come out 17 % too low, 2 % too low and 8 % too high.
const (
	// operationTime is what starting one operation costs, seconds. It bounds small
	// models, and mixtures of experts, whose graphs are long.
	operationTime = 1.5e-6
	// workerCost is what each further worker adds to a step, as a share of the
	// reading of the weights: their products are not free. From workersCosted
	// on the engine multiplies in another way, which costs no more.
	workerCost    = 0.07
	workersCosted = 10
	// lateCost is what each worker adds after the first workersMeasured, beyond which we know
	// of no measurement: the arithmetic itself, 2 operations for each of 8 billion weights at 165
	// TFLOPS (an RTX 4090 in FP16; serving reference, 5) against the reading of 4.36 GB. A
	// card with less arithmetic for its bandwidth is slower there.
	lateCost        = 0.022
	workersMeasured = 16
)

// Speed is what to expect of an engine, in tokens per second written by the model.
// Every step of an engine reads the weights once for all workers and each
// worker's cache, so that with bytes W and KV and the memory's bandwidth BW
//
//	one worker   <= BW / (W + KV)
//	B workers    <= B x BW / (W + B x KV)
//
// and for a mixture of experts W(B) = dense + experts x (1 - (1 - used/count)^B)
// (serving reference, 5): that is the ceiling. What is expected adds to each step the
// time of its operations and of the further workers' products. Zero where a
// bandwidth is not known. Prompts are read faster; this is about writing.
type Speed struct {
	// One worker busy with an empty window: the most a single question sees.
	One float64 `json:"one_worker"`
	// Worker and All: every worker busy, every window full; each, and together.
	Worker float64 `json:"each_of_all"`
	All    float64 `json:"all_workers"`
	// Ceiling is what the bandwidth allows for All.
	Ceiling float64 `json:"ceiling"`
	// Together is All while the other engines on its cards are as busy: they take
	// turns. CeilingTogether is what the bandwidth allows then.
	Together        float64 `json:"beside_others"`
	CeilingTogether float64 `json:"ceiling_beside_others"`
	// Measured is what All, Worker and Together rest on where this was measured here;
	// nil where they are worked out. What was measured has the reading of prompts in it, as
	// work has, and is the lower for it.
	Measured *Measurement `json:"measured,omitempty"`
}

// step is the time of one step of an engine, in seconds.
type step struct {
	reads   float64 // reading, at the devices' bandwidth: the bound
	weights float64 // the part of it that is the cards' weights
	starts  float64 // starting its operations
}

// expected is what such a step takes with so many busy workers.
func (s step) expected(busy int) float64 {
	if s.reads == 0 {
		return 0
	}
	share := workerCost*float64(min(busy-1, workersCosted)) + lateCost*float64(max(0, busy-workersMeasured))
	return s.reads + s.weights*share + s.starts
}

// stepOf an engine with so many busy workers whose windows are full to a share;
// pace is the bytes per second of each device, turns(d) is how many engines take
// turns on a device. All 0 where a bandwidth is not known.
func (p *problem) stepOf(pl place, busy int, full float64, pace []float64, turns func(d int) float64) step {
	v := p.pl.variant(pl.config)
	layers := float64(v.Layers + 1)
	weights := float64(v.Dense)
	if v.Count > 0 {
		weights += float64(v.Experts) * (1 - math.Pow(1-float64(v.Used)/float64(v.Count), float64(busy)))
	}
	part := float64(busy) / float64(pl.slots)
	var s step
	for j, d := range pl.devices {
		if pace[d] == 0 {
			return step{}
		}
		t := pl.need.Devices[j]
		bytes := weights * float64(pl.layers[j]) / layers
		if weights == 0 {
			bytes = float64(t.Weights)
		}
		s.weights += bytes / pace[d] * turns(d)
		s.reads += (bytes + part*(float64(t.KV)*full+float64(t.State))) / pace[d] * turns(d)
		s.starts += float64(pl.need.Operations) * float64(pl.layers[j]) / layers * operationTime * turns(d)
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
		s.reads += (bytes + part*(float64(t.KV)*full+float64(t.State))) / float64(bw)
	}
	return s
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
	alone, full := p.stepOf(pl, 1, 0, real, once), p.stepOf(pl, pl.slots, 1, real, once)
	beside := p.stepOf(pl, pl.slots, 1, real, turnsOn(places))
	s := Speed{
		One:             perSecond(1, alone.expected(1)),
		All:             perSecond(pl.slots, full.expected(pl.slots)),
		Ceiling:         perSecond(pl.slots, full.reads),
		Together:        perSecond(pl.slots, beside.expected(pl.slots)),
		CeilingTogether: perSecond(pl.slots, beside.reads),
	}
	s.Worker = s.All / float64(pl.slots)
	s.measured(p, pl, real, turnsOn(places))
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

// rate is the ceiling of the tokens per second of all engines that have their
// layers, all workers busy, in steps of a thousandth so that rounding decides
// nothing. Layouts are compared by it: by what needs no measurement.
func (p *problem) rate(places []place) float64 {
	var sum float64
	turns := turnsOn(places)
	for _, pl := range places {
		if len(pl.layers) > 0 {
			sum += perSecond(pl.slots, p.stepOf(pl, pl.slots, 1, p.pace, turns).reads)
		}
	}
	return math.Round(sum*1000) / 1000
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
			best = max(best, perSecond(pl.slots, p.stepOf(pl, pl.slots, 1, p.pace, once).reads))
		}
	}
	return math.Ceil(best*1000) / 1000
}
