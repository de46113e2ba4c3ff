package placement

import (
	"strconv"
	"strings"

	"monitor/internal/memory"
)

// flags are llama-server's arguments for one engine, as of its builds of autumn
// 2026; the runner translates them for older ones. Each slot has its own share of
// the window (--no-kv-unified), so that a long job cannot starve the others, and
// nothing is fitted behind our back (--fit off). -ngl is the exact number, since
// what -1 means differs between builds.
func (p *problem) flags(pl place, v Variant) []string {
	f := []string{"--fit", "off"}
	if v.File != "" {
		f = append(f, "--model", v.File)
	}
	_, split := pl.settings()
	on := 0
	for _, n := range pl.layers {
		on += n
	}
	f = append(f,
		"-c", strconv.Itoa(pl.slots*pl.context), "-np", strconv.Itoa(pl.slots), "--no-kv-unified",
		"-ngl", strconv.Itoa(on), "-fa", "auto", "-ctk", ladder[pl.kv], "-ctv", ladder[pl.kv],
		"-b", strconv.Itoa(memory.DefaultBatch), "-ub", strconv.Itoa(memory.DefaultMicroBatch),
	)
	if len(p.devs) > 1 {
		var names []string
		for _, d := range pl.devices {
			names = append(names, p.devs[d].Backend)
		}
		if names[0] != "" {
			f = append(f, "--device", strings.Join(names, ","))
		}
	}
	if split != nil {
		var shares []string
		for _, n := range split {
			shares = append(shares, strconv.Itoa(n))
		}
		f = append(f, "--split-mode", "layer", "--tensor-split", strings.Join(shares, ","))
	}
	return append(f, "--cache-ram", "0")
}

// env makes CUDA number cards as the driver's tools do, and not by speed, so that
// CUDA0 is the card that was planned with.
func (p *problem) env() []string {
	if len(p.devs) > 1 && strings.HasPrefix(p.devs[0].Backend, "CUDA") {
		return []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID"}
	}
	return nil
}
