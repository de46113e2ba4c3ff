package gpu

// Device is one card. A nil pointer is a figure that its driver does not tell.
type Device struct {
	// Index is the number that the vendor's own tools give the card. For NVIDIA it
	// is nvidia-smi's: CUDA numbers cards by speed unless CUDA_DEVICE_ORDER is
	// PCI_BUS_ID, so a card is named to an engine by its UUID.
	Index  int    `json:"index"`
	Vendor Vendor `json:"vendor"`
	Name   string `json:"name"`
	UUID   string `json:"uuid,omitempty"`
	// PCI is the bus address, "0000:01:00.0"; "" where there is none.
	PCI    string `json:"pci,omitempty"`
	Source Source `json:"source"`
	Driver string `json:"driver,omitempty"`
	// Runtime is the newest compute runtime that the driver can run ("CUDA 12.8"),
	// or the one installed for AMD's cards ("ROCm 6.2.4"); "" where it is not told.
	Runtime string `json:"runtime,omitempty"`
	// Arch is NVIDIA's compute capability ("8.9") or AMD's instruction set
	// ("gfx1100"); "" where it is not told.
	Arch string `json:"arch,omitempty"`
	// Card is the row of the catalogue that fits, by Cards.Complete; "" without one.
	Card string `json:"card,omitempty"`
	// Unified: the card shares the host's memory and has no fixed amount of its own.
	Unified bool `json:"unified,omitempty"`
	// Lost says why a card that a Session has seen does not answer now, and what
	// may bring it back; "" for a card that answers. What is told of a lost card is
	// what it is, not what it does. Detect lists no lost card.
	Lost   string `json:"lost,omitempty"`
	Units  Units  `json:"units,omitzero"`
	Memory Memory `json:"memory"`
	Load   Load   `json:"load"`
	Clocks Clocks `json:"clocks,omitzero"`
	Link   Link   `json:"link,omitzero"`
	Modes  Modes  `json:"modes,omitzero"`
	// Processes that use the card, by number; nil where the driver does not tell,
	// empty where there is none. Of AMD's and Intel's cards: those that this user
	// may see, and all that compute with ROCm.
	Processes []Process `json:"processes"`
	// Instances are the parts of a card in MIG mode: an engine is given one of
	// these by its UUID, never the whole card.
	Instances []Instance `json:"instances,omitempty"`
}

// Units of a card that compute.
type Units struct {
	// SMs: NVIDIA's streaming multiprocessors, AMD's compute units.
	SMs *int `json:"sm_count,omitempty"`
	// Cores: NVIDIA's CUDA cores.
	Cores *int `json:"core_count,omitempty"`
}

// Memory of a card, in bytes. Total is what the card has; Reserved what the
// driver keeps for itself; Used what programs hold, ours or not. Where all are
// told, Total = Reserved + Used + Free.
type Memory struct {
	Total    *int64 `json:"total_bytes"`
	Reserved *int64 `json:"reserved_bytes,omitempty"`
	Used     *int64 `json:"used_bytes"`
	Free     *int64 `json:"free_bytes"`
	// Ours is what the processes of Config.Ours hold, Others what is used beyond
	// that, at least 0 (the driver counts the two at different moments). Both are
	// nil where the driver does not say what ours hold.
	Ours   *int64 `json:"used_by_us_bytes"`
	Others *int64 `json:"used_by_others_bytes"`
	// Shared is how much of the host's memory the card may use beside its own, and
	// SharedUsed how much it does (AMD's GTT; for the graphics part of a processor
	// that is most of what it has).
	Shared     *int64 `json:"shared_total_bytes,omitempty"`
	SharedUsed *int64 `json:"shared_used_bytes,omitempty"`
	// BusBits is the width of the memory's bus.
	BusBits *int `json:"bus_bits,omitempty"`
	// Bandwidth in GB/s, 10^9 bytes, by Cards.Complete: no driver tells it.
	Bandwidth *float64 `json:"bandwidth_gbs,omitempty"`
}

// Load is what a card is doing.
type Load struct {
	// Percent of the last sample period in which something ran, [0, 100].
	Percent *int `json:"percent"`
	// MemoryPercent of that period in which memory was read or written, [0, 100].
	MemoryPercent *int `json:"memory_percent,omitempty"`
	// Watts drawn now, and the limit in force.
	Watts      *float64 `json:"watts"`
	LimitWatts *float64 `json:"limit_watts"`
	// Joules drawn since some moment that stays the same while the driver runs.
	Joules  *float64 `json:"joules,omitempty"`
	Celsius *int     `json:"celsius"`
	// FanPercent of the fan's full speed, as the card intends it.
	FanPercent *int `json:"fan_percent,omitempty"`
}

// Clocks of a card in MHz, now and at most.
type Clocks struct {
	SM        *int `json:"sm_mhz,omitempty"`
	SMMax     *int `json:"sm_max_mhz,omitempty"`
	Memory    *int `json:"memory_mhz,omitempty"`
	MemoryMax *int `json:"memory_max_mhz,omitempty"`
	// Throttle names what keeps the clocks below what they could be, in the words
	// of throttleReasons; nil where it is not told. Being idle is no reason.
	Throttle []string `json:"throttle,omitzero"`
}

// Link is the card's connection by PCI Express: generation 1 to 7, width in
// lanes, now and at most. A card that idles lowers the generation.
type Link struct {
	Generation    *int `json:"pcie_generation,omitempty"`
	MaxGeneration *int `json:"pcie_max_generation,omitempty"`
	Width         *int `json:"pcie_width,omitempty"`
	MaxWidth      *int `json:"pcie_max_width,omitempty"`
}

// Modes that a card is in.
type Modes struct {
	// ECC: memory errors are corrected, at the price of some memory on cards with GDDR.
	ECC *bool `json:"ecc,omitempty"`
	// MIG: the card is cut into Instances.
	MIG *bool `json:"mig,omitempty"`
	// Persistence: the driver stays ready while nobody uses the card.
	Persistence *bool `json:"persistence,omitempty"`
	// DisplayAttached: a screen is plugged in. DisplayActive: the card draws one,
	// which takes memory even without a cable.
	DisplayAttached *bool `json:"display_attached,omitempty"`
	DisplayActive   *bool `json:"display_active,omitempty"`
}

// ProcessKind says what a process uses a card for.
type ProcessKind string

// The kinds of use.
const (
	Compute  ProcessKind = "compute"
	Graphics ProcessKind = "graphics"
	Both     ProcessKind = "compute+graphics"
)

// Process uses a card.
type Process struct {
	PID int `json:"pid"`
	// Name of the program, without its folder; "" where it may not be known.
	Name string      `json:"name,omitempty"`
	Kind ProcessKind `json:"kind,omitempty"`
	// Bytes of the card's memory that it holds; nil where the driver does not tell,
	// as on Windows' desktop cards.
	Bytes *int64 `json:"bytes"`
	// Ours: it is among Config.Ours.
	Ours bool `json:"ours,omitempty"`
}

// Instance is one part of a card in MIG mode.
type Instance struct {
	// UUID begins with MIG-; CUDA_VISIBLE_DEVICES takes it.
	UUID string `json:"uuid"`
	// Name as the driver has it, "NVIDIA A100-SXM4-40GB MIG 1g.5gb"; "" where it is
	// not told.
	Name   string `json:"name,omitempty"`
	Memory Memory `json:"memory"`
	SMs    *int   `json:"sm_count,omitempty"`
}

// identity is what a card is known by from one look to the next: its slot, since
// a card in trouble may forget its own name.
func (d Device) identity() string {
	for _, s := range []string{d.PCI, d.UUID} {
		if s != "" {
			return string(d.Vendor) + " " + s
		}
	}
	return string(d.Vendor) + " " + itoa(d.Index) + " " + d.Name
}

// lost is what stays true of a card that no longer answers.
func (d Device) lost(why string) Device {
	return Device{
		Index: d.Index, Vendor: d.Vendor, Name: d.Name, UUID: d.UUID, PCI: d.PCI, Source: d.Source, Driver: d.Driver, Runtime: d.Runtime,
		Arch: d.Arch, Unified: d.Unified, Units: d.Units, Memory: Memory{Total: d.Memory.Total, BusBits: d.Memory.BusBits}, Lost: why, // Card and Bandwidth are Complete's
	}
}
