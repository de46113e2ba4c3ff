package gpu

import "testing"

func TestTheCatalogueCompletesADevice(t *testing.T) {
	cards, err := LoadCards(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	m := Machine{GPUs: []Device{
		{Vendor: Nvidia, Name: "NVIDIA GeForce RTX 4090", Memory: Memory{Total: new(24564 * mib)}},
		{Vendor: Nvidia, Name: "NVIDIA GeForce RTX 4090", Memory: Memory{Total: new(24564 * mib)}, Units: Units{SMs: new(7)}}, // what the driver tells stands
		{Vendor: Nvidia, Name: "NVIDIA GeForce RTX 4090", Memory: Memory{Total: new(4 * gib)}},                                // of another size
		{Vendor: Nvidia, Name: "A card of unknown name"},
	}}
	cards.Complete(&m)
	if d := m.GPUs[0]; d.Card != "rtx-4090" || d.Memory.Bandwidth == nil || *d.Memory.Bandwidth != 1008 || d.Units.SMs == nil || *d.Units.SMs != 128 {
		t.Errorf("%s", show(d))
	}
	if d := m.GPUs[1]; *d.Units.SMs != 7 {
		t.Errorf("%s", show(d))
	}
	for _, d := range m.GPUs[2:] {
		if d.Card != "" || d.Memory.Bandwidth != nil || d.Units.SMs != nil {
			t.Errorf("a card that the catalogue does not have: %s", show(d))
		}
	}
}
