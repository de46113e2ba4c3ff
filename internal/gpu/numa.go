package gpu

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Node is one part of the machine's memory with the processors near it.
type Node struct {
	ID int `json:"id"`
	// CPUs is how many logical processors, CPUList which, as the kernel writes it
	// and numactl and taskset read it: "0-15,32-47". A node may have none.
	CPUs    int    `json:"cpus"`
	CPUList string `json:"cpu_list"`
	// RAMTotal and RAMFree in bytes; free without what caches would give back.
	RAMTotal *int64 `json:"ram_total_bytes"`
	RAMFree  *int64 `json:"ram_free_bytes"`
}

// readNUMA reads /sys/devices/system/node, see
// ABI/stable/sysfs-devices-node of the kernel's manual.
func readNUMA(sysfs string) []Node {
	var nodes []Node
	dirs, _ := filepath.Glob(filepath.Join(escapeGlob(sysfs), "devices", "system", "node", "node[0-9]*")) // the pattern is well-formed
	for _, dir := range dirs {
		id, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "node"))
		if err != nil {
			continue
		}
		n := Node{ID: id, CPUList: line(filepath.Join(dir, "cpulist"))}
		n.CPUs = countCPUs(n.CPUList)
		mem := parseMemInfo(strings.ReplaceAll(contents(filepath.Join(dir, "meminfo")), "Node "+itoa(id)+" ", ""))
		n.RAMTotal, n.RAMFree = mem["MemTotal"], mem["MemFree"]
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b Node) int { return a.ID - b.ID })
	return nodes
}

// countCPUs counts the processors in a list such as "0-3,8"; what cannot be read
// counts nothing.
func countCPUs(list string) int {
	const most = 1 << 16
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(from)
		if err != nil || a < 0 || a >= most {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(to); err != nil || b < a || b >= most {
				continue
			}
		}
		n += b - a + 1
	}
	return n
}
