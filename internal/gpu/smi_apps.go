package gpu

import (
	"strconv"
	"strings"
)

// smiApps are the columns of the query for processes that compute. Graphics has
// no query of its own: those are in plain nvidia-smi's table.
var smiApps = []string{"gpu_uuid", "pid", "process_name", "used_gpu_memory"}

// smiProcesses lists who uses a card, from both answers; never nil.
func smiProcesses(apps string, fields []string, head string, d Device) []Process {
	var uses []use
	exact := map[int]bool{}
	n := uint64(0) // each line is memory of its own, in MIG mode of another instance
	for line := range strings.Lines(apps) {
		n++
		row, ok := splitSMI(strings.TrimSpace(line), fields)
		pid, err := strconv.Atoi(row["pid"])
		if !ok || err != nil || pid <= 0 || row["gpu_uuid"] != d.UUID {
			continue
		}
		memory := row["used_gpu_memory"]
		if memory == "" {
			memory = row["used_memory"]
		}
		uses = append(uses, use{pid: pid, kind: Compute, instance: n, bytes: mebibytes(memory), name: baseName(told(row["process_name"]))})
		exact[pid] = true
	}
	kinds := map[string]ProcessKind{"C": Compute, "M+C": Compute, "G": Graphics, "C+G": Both}
	for _, m := range smiProcess.FindAllStringSubmatch(head, -1) {
		index, err1 := strconv.Atoi(m[1])
		pid, err2 := strconv.Atoi(m[2])
		if err1 != nil || err2 != nil || index != d.Index || pid <= 0 {
			continue
		}
		u := use{pid: pid, kind: kinds[m[3]]}
		// The table cuts long names at their front and rounds; the query does not.
		if !exact[pid] {
			n++
			u.instance, u.bytes = n, mebibytes(strings.TrimSuffix(m[5], "MiB"))
			if !strings.HasPrefix(m[4], "...") || strings.Contains(m[4], "/") {
				u.name = baseName(m[4])
			}
		}
		uses = append(uses, u)
	}
	return mergeUses(uses)
}

// mebibytes reads a figure in MiB, rounded by the program; nil is "not told".
func mebibytes(s string) *int64 {
	v := number(s)
	if v == nil || *v > 1<<30 {
		return nil
	}
	return new(int64(*v * (1 << 20)))
}

// smiInstances gives the cards their instances from the list of nvidia-smi -L.
func smiInstances(list string, devices []Device) {
	at := -1
	for l := range strings.Lines(list) {
		if m := smiCard.FindStringSubmatch(l); m != nil {
			at = -1
			for i := range devices {
				if strconv.Itoa(devices[i].Index) == m[1] {
					at = i
				}
			}
		}
		if m := smiInstance.FindStringSubmatch(strings.TrimRight(l, "\r\n")); m != nil && at >= 0 {
			devices[at].Instances = append(devices[at].Instances, Instance{UUID: m[2], Name: devices[at].Name + " MIG " + m[1]})
		}
	}
}
