package gpu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Energy is one counter of energy that the processor keeps (RAPL). The counters
// overlap: core is part of package, and psys is the whole board.
type Energy struct {
	// Zone as the kernel names it: "package-0", "package-0/core", "psys".
	Zone string `json:"zone"`
	// Microjoules counts up and begins again at 0 after Range; nil where it may
	// not be read.
	Microjoules *int64 `json:"microjoules"`
	Range       *int64 `json:"range_microjoules,omitempty"`
	// Problem says why it cannot be read, and what would mend it.
	Problem string `json:"problem,omitempty"`
}

// Since is the energy in joules that was drawn between an earlier reading of the
// same zone and this one, if less than one Range was. ok is false where that
// cannot be said.
func (e Energy) Since(earlier Energy) (joules float64, ok bool) {
	if e.Zone != earlier.Zone || e.Microjoules == nil || earlier.Microjoules == nil {
		return 0, false
	}
	d := *e.Microjoules - *earlier.Microjoules
	if d < 0 {
		if e.Range == nil {
			return 0, false
		}
		d += *e.Range
	}
	if d < 0 {
		return 0, false
	}
	return float64(d) / 1e6, true
}

// readEnergy reads /sys/class/powercap, see the kernel's manual,
// power/powercap/powercap.html. AMD's processors are there under Intel's name too.
func readEnergy(sysfs string) []Energy { return readZones(sysfs, func(string) bool { return true }) }

// packageEnergy reads the counters of whole packages only.
func packageEnergy(sysfs string) []Energy { return readZones(sysfs, wholePackage) }

// readZones reads the counters that are wanted by their names.
func readZones(sysfs string, wanted func(zone string) bool) []Energy {
	var list []Energy
	dirs, _ := filepath.Glob(filepath.Join(escapeGlob(sysfs), "class", "powercap", "intel-rapl:*")) // the pattern is well-formed
	slices.Sort(dirs)
	names := map[string]string{}
	for _, dir := range dirs {
		id := filepath.Base(dir)
		zone := line(filepath.Join(dir, "name"))
		if zone == "" {
			zone = id
		}
		if i := strings.LastIndexByte(id, ':'); strings.Count(id, ":") > 1 && names[id[:i]] != "" {
			zone = names[id[:i]] + "/" + zone
		}
		names[id] = zone
		if !wanted(zone) {
			continue
		}
		e := Energy{Zone: zone, Range: count(filepath.Join(dir, "max_energy_range_uj"))}
		name := filepath.Join(dir, "energy_uj")
		text, err := os.ReadFile(name)
		if err != nil {
			e.Problem = energyProblem(name, err)
		} else if v, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil || v < 0 {
			e.Problem = name + " holds no number"
		} else {
			e.Microjoules = &v
		}
		list = append(list, e)
	}
	return list
}

// energyProblem says why a counter cannot be read. Linux closed them in 5.10
// because they betray what is computed, CVE-2020-8694.
func energyProblem(name string, err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("only root may read %s (Linux closed it in 5.10 against eavesdropping); where nobody on this machine has to be kept out: sudo chmod a+r %s, again after each restart", name, name)
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return fmt.Sprintf("%s cannot be read: %v", name, err)
}
