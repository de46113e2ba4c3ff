package gpu

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// client is one opening of a card, as /proc/PID/fdinfo/N tells of it:
// https://docs.kernel.org/gpu/drm-usage-stats.html.
type client struct {
	id, pci string
	bytes   *int64
	kind    ProcessKind
}

// users fills in who uses the cards. amdgpu's compute driver tells it of all
// users; of the rest, the kernel shows this user's processes only, or all to
// root, and those are searched for rarely: between the searches, the openings
// known are read again.
func (s *drmSource) users(now time.Time, devices []Device, byPCI map[string]int) {
	if s.searched.due(now) {
		var begun time.Time
		if s.c.Now != nil {
			begun = s.c.Now()
		}
		s.clients = openCards(s.c.ProcFS)
		if s.c.Now != nil {
			s.searched.spent(now, s.c.Now().Sub(begun))
		}
	}
	uses := make([][]use, len(devices))
	type opening struct{ pci, id string }
	counted := map[opening]bool{}
	for _, name := range s.clients {
		c, ok := parseFdinfo(contents(name))
		at, known := byPCI[c.pci]
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(name))))
		// The same opening may be in several files, also of forked processes.
		if !ok || !known || err != nil || counted[opening{c.pci, c.id}] {
			continue
		}
		counted[opening{c.pci, c.id}] = true
		id, _ := strconv.ParseUint(c.id, 10, 64) // 0 does for one that is no number
		uses[at] = append(uses[at], use{pid: pid, kind: c.kind, bytes: c.bytes, instance: id + 1})
	}
	for i := range devices {
		d := &devices[i]
		if _, err := os.Stat(s.c.ProcFS); err != nil {
			continue // not told
		}
		ps := mergeUses(uses[i])
		for _, card := range s.cards {
			if card.pci == d.PCI && card.vendor == pciAMD {
				ps = mergeCompute(ps, kfdUses(s.c.SysFS, s.kfd[card.render].id))
			}
		}
		d.Processes = ps
	}
}

// mergeCompute adds what the compute driver tells, which is part of what the
// process's openings tell, where those may be read.
func mergeCompute(ps []Process, compute []use) []Process {
	for _, u := range compute {
		i := slices.IndexFunc(ps, func(p Process) bool { return p.PID == u.pid })
		if i < 0 {
			ps = append(ps, Process{PID: u.pid, Kind: Compute, Bytes: u.bytes})
			continue
		}
		ps[i].Kind = Compute
		if u.bytes != nil && (ps[i].Bytes == nil || *u.bytes > *ps[i].Bytes) {
			ps[i].Bytes = u.bytes
		}
	}
	slices.SortFunc(ps, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return ps
}

// openCards lists the fdinfo files of all openings of a graphics card that this
// process may see. Reading where a descriptor points is a tenth of the cost of
// reading its fdinfo.
func openCards(procfs string) []string {
	var list []string
	dir, err := os.Open(procfs)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read is searched
	for _, pid := range names {
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		fds, err := os.Open(filepath.Join(procfs, pid, "fd"))
		if err != nil {
			continue // another user's, or gone
		}
		numbers, _ := fds.Readdirnames(-1) // likewise
		_ = fds.Close()
		for _, n := range numbers {
			if to, err := os.Readlink(filepath.Join(procfs, pid, "fd", n)); err == nil && strings.HasPrefix(to, "/dev/dri/") {
				list = append(list, filepath.Join(procfs, pid, "fdinfo", n))
			}
		}
	}
	slices.Sort(list)
	return list
}

// parseFdinfo reads one opening. Of the card's own memory, drivers tell what is
// resident or, before Linux 6.10, a total (drm-memory-vram of amdgpu,
// drm-total-local0 of i915, drm-total-vram0 of xe); several tiles are added up.
// An integrated card has no such memory.
func parseFdinfo(text string) (c client, ok bool) {
	resident, total, memory := map[string]int64{}, map[string]int64{}, map[string]int64{}
	graphics, compute := false, false
	for l := range strings.Lines(text) {
		key, value, found := strings.Cut(strings.TrimSpace(l), ":")
		value = strings.TrimSpace(value)
		if !found {
			continue
		}
		switch {
		case key == "drm-driver":
			ok = true
		case key == "drm-client-id":
			c.id = value
		case key == "drm-pdev":
			c.pci = shortPCI(value)
		case strings.HasPrefix(key, "drm-engine-capacity-"), strings.HasPrefix(key, "drm-total-cycles-"):
		case strings.HasPrefix(key, "drm-engine-"), strings.HasPrefix(key, "drm-cycles-"):
			busy, _, _ := strings.Cut(value, " ")
			if busy == "0" || busy == "" {
				continue
			}
			switch key[strings.LastIndexByte(key, '-')+1:] {
			case "gfx", "render", "rcs":
				graphics = true
			case "compute", "ccs":
				compute = true
			}
		default:
			for prefix, to := range map[string]map[string]int64{"drm-resident-": resident, "drm-total-": total, "drm-memory-": memory} {
				region, is := strings.CutPrefix(key, prefix)
				if v, err := kibibytes(value); is && err && (strings.HasPrefix(region, "vram") || strings.HasPrefix(region, "local")) {
					to[region] = v
				}
			}
		}
	}
	for _, regions := range []map[string]int64{resident, memory, total} {
		if len(regions) > 0 {
			c.bytes = new(int64)
			for _, v := range regions {
				*c.bytes += v
			}
			break
		}
	}
	switch {
	case graphics && compute:
		c.kind = Both
	case compute:
		c.kind = Compute
	case graphics:
		c.kind = Graphics
	}
	return c, ok && c.pci != ""
}

// kibibytes reads "60060 KiB", "2 MiB" or bytes without a unit.
func kibibytes(s string) (int64, bool) {
	n, unit, _ := strings.Cut(s, " ")
	v, err := strconv.ParseInt(n, 10, 64)
	if err != nil || v < 0 || v > 1<<40 {
		return 0, false
	}
	switch strings.TrimSpace(unit) {
	case "":
		return v, true
	case "KiB":
		return v << 10, true
	case "MiB":
		return v << 20, true
	case "GiB":
		if v < 1<<20 {
			return v << 30, true
		}
	}
	return 0, false
}
