package main

import (
	"testing"

	"monitor/internal/gpu"
)

// What the driver tells goes before what the catalogue knows, and what neither
// knows is a careful constant.
func TestMachineOfDetectedCards(t *testing.T) {
	cards, err := gpu.LoadCards(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	found := gpu.Machine{
		GPUs: []gpu.Device{
			{Index: 0, Vendor: gpu.Nvidia, Name: "NVIDIA GeForce RTX 4090", Arch: "8.9", Memory: gpu.Memory{Total: new(int64(24564 << 20)), Used: new(int64(900 << 20))}},
			{Index: 1, Vendor: gpu.Nvidia, Name: "NVIDIA silent", Arch: "8.6"},
			{Index: 2, Vendor: gpu.Nvidia, Name: "NVIDIA nobody knows", Memory: gpu.Memory{Total: new(int64(10 << 30)), Reserved: new(int64(300 << 20))}},
			{Index: 0, Vendor: gpu.AMD, Name: "AMD nobody knows", Arch: "gfx1100", Memory: gpu.Memory{Total: new(int64(16 << 30))}},
		},
		Host: gpu.Host{RAMFree: new(int64(50 << 30))},
	}
	m, capability := machineOf(found, cards)
	if capability != 89 || m.Host.Free != 50<<30 || len(m.Devices) != 3 {
		t.Fatalf("capability %d, machine %+v", capability, m)
	}
	a, b, c := m.Devices[0], m.Devices[1], m.Devices[2]
	if a.Foreign != 900<<20 || a.Kept == 0 || a.Bandwidth != 1_008_000_000_000 || a.Overhead == unknownOverhead || a.Backend != "CUDA0" {
		t.Errorf("a card of the catalogue: %+v", a)
	}
	if b.Kept != 300<<20 || b.Bandwidth != 0 || b.Overhead != unknownOverhead || b.Backend != "CUDA2" {
		t.Errorf("a card that nobody knows: %+v", b)
	}
	if c.Backend != "ROCm0" || c.Index == a.Index {
		t.Errorf("a card of another vendor: %+v", c)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

func TestCapabilityOf(t *testing.T) {
	for arch, want := range map[string]int{"8.9": 89, "12.0": 120, "gfx1100": 0, "": 0, "8.10": 0, "x.y": 0} {
		if got := capabilityOf(arch); got != want {
			t.Errorf("%q is %d, want %d", arch, got, want)
		}
	}
}

// Every row of the catalogue can be planned with: it has a header in each of its
// quantisations.
func TestEveryRowCanBePlanned(t *testing.T) {
	home := t.TempDir()
	prog, err := Open(Config{Getenv: func(k string) string { return map[string]string{"MONITOR_HOME": home}[k] }})
	if err != nil {
		t.Fatal(err)
	}
	p := planCommand{prog}
	cat, err := p.catalogue()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, row := range cat.Models() {
		names = append(names, row.Name)
	}
	models, err := p.modelFacts(cat, names, engineFacts{capability: 89})
	if err != nil {
		t.Fatal(err)
	}
	if len(models) < len(names) {
		t.Errorf("%d of %d rows can be planned", len(models), len(names))
	}
	for _, m := range models {
		row, err := cat.Model(m.Name)
		if err == nil && len(m.Variants) != len(row.Quants) {
			t.Errorf("%s: %d of %d quantisations can be planned", m.Name, len(m.Variants), len(row.Quants))
		}
	}
}
