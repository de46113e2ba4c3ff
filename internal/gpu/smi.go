package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// smiFields are the columns asked for, in this order. A driver that does not
// know one refuses the whole query and names it; smiOther has its other name, of
// earlier or later drivers, or the column is left out. memory.reserved came with
// driver 470 and compute_cap with 510.
var smiFields = []string{
	"index", "uuid", "name", "pci.bus_id", "driver_version", "memory.total", "memory.reserved", "memory.used", "memory.free",
	"utilization.gpu", "temperature.gpu", "power.draw", "enforced.power.limit", "compute_cap",
	"utilization.memory", "fan.speed", "clocks.current.sm", "clocks.max.sm", "clocks.current.memory", "clocks.max.memory",
	"clocks_throttle_reasons.active", "pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current", "pcie.link.width.max",
	"ecc.mode.current", "mig.mode.current", "persistence_mode", "display_mode", "display_active",
}

// smiOther is what a column is called in other generations of the driver.
var smiOther = map[string]string{
	"clocks_throttle_reasons.active": "clocks_event_reasons.active", // since 535
	"display_mode":                   "display_attached",            // since 570
	"used_gpu_memory":                "used_memory",
}

var (
	smiUnknownField = regexp.MustCompile(`Field "([^"]+)" is not a valid field`)
	// Plain nvidia-smi's head: "CUDA Version: 12.4", in later drivers "CUDA UMD Version: 13.1".
	smiCUDA = regexp.MustCompile(`CUDA(?: [A-Z]+)? Version\s*:\s*([0-9]+\.[0-9]+)`)
	// Its table of processes; drivers before 450 have no columns for MIG:
	// "|    0   N/A  N/A      2301      G   /usr/lib/xorg/Xorg          123MiB |".
	smiProcess = regexp.MustCompile(`(?m)^\|\s+(\d+)\s+(?:(?:N/A|\d+)\s+(?:N/A|\d+)\s+)?(\d+)\s+(C\+G|M\+C|C|G)\s+(\S.*?)\s+(\d+MiB|N/A)\s+\|\s*$`)
	// nvidia-smi -L: "GPU 0: NVIDIA A100 (UUID: GPU-…)" and, indented, "MIG 1g.5gb     Device  0: (UUID: MIG-…)".
	smiCard     = regexp.MustCompile(`^GPU\s+(\d+):`)
	smiInstance = regexp.MustCompile(`^\s+MIG\s+(\S+)\s+Device\s+\d+:\s+\(UUID:\s+(MIG-[^)]+)\)`)
)

// smiShare of a core is what asking nvidia-smi may cost a session: it takes a
// tenth of a second of a core's time.
const smiShare = 0.003

// smiSource is the program nvidia-smi in a session.
type smiSource struct {
	c       Config
	calls   patient[smiAnswer]
	asked   thrift
	last    found
	err     error  // of the last time
	trouble string // of the last time it gave no card
	fields  []string
	apps    []string
}

type smiAnswer struct {
	f    found
	err  error
	cost time.Duration
}

// find asks the program where that is due, and repeats its last answer where
// not.
func (s *smiSource) find(ctx context.Context, now time.Time, t turn) (found, error) {
	if !s.asked.due(now) && !t.moved {
		return found{devices: cloneDevices(s.last.devices), driver: s.last.driver, cuda: s.last.cuda, notes: s.last.notes}, s.err
	}
	candidates := []string{s.c.SMI}
	if s.c.SMI == "" {
		candidates = []string{"nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi", "/run/current-system/sw/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi"}
		if runtime.GOOS == "windows" {
			candidates = []string{"nvidia-smi.exe", filepath.Join(os.Getenv("ProgramW6432"), "NVIDIA Corporation", "NVSMI", "nvidia-smi.exe")}
		}
	}
	program, err := lookPath(candidates...)
	if err != nil {
		return found{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	if s.fields == nil {
		s.fields, s.apps = smiFields, smiApps
	}
	q := &smiQuery{program: program, fields: s.fields, apps: s.apps}
	// A child in an uninterruptible call into the driver does not die when it is
	// killed, and waiting for it would never end.
	a, err := s.calls.do(ctx, func() smiAnswer {
		f, err := q.ask(ctx)
		return smiAnswer{f, err, q.cost}
	})
	switch {
	case errors.Is(err, errHangs) || err != nil || ctx.Err() != nil:
		a = smiAnswer{err: fmt.Errorf("nvidia-smi did not answer within %s; the driver hangs: restart the machine", s.c.Timeout), cost: s.c.Timeout / 100}
	default:
		s.fields, s.apps = q.fields, q.apps // what this driver knows
	}
	s.asked.spent(now, a.cost)
	s.last, s.err, s.trouble = a.f, a.err, ""
	return found{devices: cloneDevices(a.f.devices), driver: a.f.driver, cuda: a.f.cuda, notes: a.f.notes}, a.err
}

// cloneDevices: what becomes of a card's processes in one look is not there in
// the next.
func cloneDevices(ds []Device) []Device {
	out := slices.Clone(ds)
	for i := range out {
		out[i].Processes = slices.Clone(out[i].Processes)
	}
	return out
}

// smiQuery is one round of questions to the program.
type smiQuery struct {
	program      string
	fields, apps []string
	cost         time.Duration // of processor time in the program
}

// ask asks for the cards, then for what only other questions tell.
func (q *smiQuery) ask(ctx context.Context) (found, error) {
	out, err := q.query(ctx, "--query-gpu=", &q.fields)
	f := parseSMI(out, q.fields)
	if len(f.devices) == 0 {
		if err != nil || len(f.notes) > 0 {
			return found{}, explainSMI(out, err)
		}
		return found{}, nil
	}
	apps, appsErr := q.query(ctx, "--query-compute-apps=", &q.apps)
	if appsErr != nil {
		apps = ""
	}
	head, headErr := q.run(ctx)
	if headErr != nil {
		head = ""
	}
	if m := smiCUDA.FindStringSubmatch(head); m != nil {
		f.cuda = m[1]
	}
	mig := false
	for i := range f.devices {
		d := &f.devices[i]
		if f.cuda != "" {
			d.Runtime = "CUDA " + f.cuda
		}
		if appsErr == nil || headErr == nil {
			d.Processes = smiProcesses(apps, q.apps, head, *d)
		}
		mig = mig || d.Modes.MIG != nil && *d.Modes.MIG
	}
	if mig {
		if list, err := q.run(ctx, "-L"); err == nil {
			smiInstances(list, f.devices)
		}
	}
	return f, nil
}

// query asks for the fields and takes out, or renames, those that the driver
// does not know.
func (q *smiQuery) query(ctx context.Context, what string, fields *[]string) (string, error) {
	for {
		out, err := q.run(ctx, what+strings.Join(*fields, ","), "--format=csv,noheader,nounits")
		m := smiUnknownField.FindStringSubmatch(out)
		if err == nil || m == nil || ctx.Err() != nil {
			return out, err
		}
		i := slices.Index(*fields, m[1])
		if i < 0 {
			return out, err
		}
		fewer := slices.Clone(*fields)
		if other := smiOther[m[1]]; other != "" {
			fewer[i] = other
		} else {
			fewer = slices.Delete(fewer, i, i+1)
		}
		*fields = fewer
	}
}

func (q *smiQuery) run(ctx context.Context, args ...string) (string, error) {
	out, cost, err := runSMI(ctx, q.program, args...)
	q.cost += cost
	return out, err
}

// runSMI returns what the program says and the processor time that it took.
func runSMI(ctx context.Context, program string, args ...string) (string, time.Duration, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	// A comma as the decimal point would tear the columns apart.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LANG=C")
	// A child in an uninterruptible call into the driver does not die when it is
	// killed; its pipes must not keep us.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var cost time.Duration
	if st := cmd.ProcessState; st != nil {
		cost = st.UserTime() + st.SystemTime()
	}
	return string(out), cost, err
}

// explainSMI turns what nvidia-smi says instead of an answer into what to do.
func explainSMI(out string, err error) error {
	first, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	low := strings.ToLower(out)
	switch {
	case strings.Contains(low, "no devices were found"):
		return errors.New("NVIDIA's driver runs but finds no card; look at the card's seat and power, or pass it to this container or virtual machine")
	case strings.Contains(low, "version mismatch"):
		return errors.New("the NVIDIA driver was upgraded while its old kernel module is still loaded (driver/library version mismatch); restart the machine")
	case strings.Contains(low, "couldn't communicate with the nvidia driver"):
		return errors.New("nvidia-smi is installed but the kernel module is not loaded; load it (sudo modprobe nvidia) or restart; with Secure Boot, the module must be signed")
	case strings.Contains(low, "insufficient permissions"):
		return errors.New("nvidia-smi has no permission to use the cards; add your user to the group that owns /dev/nvidia* (often video or render) and log in again")
	case strings.Contains(low, "gpu is lost"):
		return fmt.Errorf("a card fell off the bus; restart the machine, and if it comes again look at its power and seat (nvidia-smi: %.200s)", strings.ToValidUTF8(first, "�"))
	case strings.Contains(low, "couldn't find libnvidia-ml"):
		return errors.New("nvidia-smi is installed without NVIDIA's library; reinstall the driver")
	case err != nil:
		return fmt.Errorf("nvidia-smi failed (%w): %.200s", err, strings.ToValidUTF8(first, "�"))
	}
	return fmt.Errorf("nvidia-smi gave no answer that can be read: %.200s", strings.ToValidUTF8(first, "�"))
}

// parseSMI reads nvidia-smi's CSV (no header, no units), one card a line, with
// the columns in fields. A line that is no card becomes a note; a value that is
// no number stays unknown, in whatever words the driver says so ("[N/A]",
// "[Not Supported]", "[Unknown Error]", "ERR!").
func parseSMI(out string, fields []string) found {
	var f found
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		row, ok := splitSMI(line, fields)
		d, err := deviceOfSMI(row)
		if !ok || err != nil {
			f.notes = append(f.notes, smiNote(line))
			continue
		}
		f.devices = append(f.devices, d)
	}
	if len(f.devices) > 0 {
		f.driver = f.devices[0].Driver
	}
	return f
}

// smiNote says what a line means that is no card.
func smiNote(line string) string {
	line = strings.ToValidUTF8(line, "�")
	if strings.Contains(strings.ToLower(line), "gpu is lost") {
		return fmt.Sprintf("A card fell off the bus; restart the machine, and if it comes again look at its power and seat (nvidia-smi: %.200s)", line)
	}
	return fmt.Sprintf("nvidia-smi says what is no card: %.200s", line)
}

// splitSMI gives each column its value. Only a name may hold a comma:
// what is too much belongs to it.
func splitSMI(line string, fields []string) (map[string]string, bool) {
	parts := strings.Split(line, ",")
	extra := len(parts) - len(fields)
	if extra < 0 {
		return nil, false
	}
	row := make(map[string]string, len(fields))
	at := 0
	for _, name := range fields {
		n := 1
		if name == "name" || name == "process_name" {
			n += extra
			extra = 0
		}
		row[name] = strings.TrimSpace(strings.Join(parts[at:at+n], ","))
		at += n
	}
	return row, extra == 0
}

var errNoCard = errors.New("no card")

func deviceOfSMI(row map[string]string) (Device, error) {
	index, err := strconv.Atoi(row["index"])
	if err != nil || index < 0 {
		return Device{}, errNoCard
	}
	mib := func(field string) *int64 { return mebibytes(row[field]) }
	whole := func(field string, most float64) *int {
		v := number(row[field])
		if v == nil || *v > most {
			return nil
		}
		return new(int(*v))
	}
	either := func(field string) string {
		if v, ok := row[field]; ok {
			return v
		}
		return row[smiOther[field]]
	}
	d := Device{
		Index: index, Vendor: Nvidia, Source: NvidiaSMI,
		Name: told(row["name"]), UUID: told(row["uuid"]), PCI: shortPCI(told(row["pci.bus_id"])),
		Driver: told(row["driver_version"]), Arch: told(row["compute_cap"]),
		Memory: Memory{Total: mib("memory.total"), Reserved: mib("memory.reserved"), Used: mib("memory.used"), Free: mib("memory.free")},
		Load: Load{
			Percent: whole("utilization.gpu", 100), MemoryPercent: whole("utilization.memory", 100), Celsius: whole("temperature.gpu", 1000),
			Watts: number(row["power.draw"]), LimitWatts: number(row["enforced.power.limit"]), FanPercent: whole("fan.speed", 1000),
		},
		Clocks: Clocks{
			SM: whole("clocks.current.sm", 1<<20), SMMax: whole("clocks.max.sm", 1<<20),
			Memory: whole("clocks.current.memory", 1<<20), MemoryMax: whole("clocks.max.memory", 1<<20),
		},
		Link: Link{
			Generation: whole("pcie.link.gen.current", 16), MaxGeneration: whole("pcie.link.gen.max", 16),
			Width: whole("pcie.link.width.current", 64), MaxWidth: whole("pcie.link.width.max", 64),
		},
		Modes: Modes{
			ECC: enabled(row["ecc.mode.current"]), MIG: enabled(row["mig.mode.current"]), Persistence: enabled(row["persistence_mode"]),
			DisplayAttached: enabled(either("display_mode")), DisplayActive: enabled(row["display_active"]),
		},
	}
	if bits, err := strconv.ParseUint(strings.TrimPrefix(either("clocks_throttle_reasons.active"), "0x"), 16, 64); err == nil {
		d.Clocks.Throttle = throttleReasons(bits)
	}
	if d.Name == "" {
		d.Name = "NVIDIA card of unknown name"
	}
	// GB10 and Jetson live in the host's memory and answer "[N/A]" here; a card
	// that is merely in trouble does not know its load either.
	d.Unified = d.Memory.Total == nil && d.Load.Percent != nil
	return d, nil
}

// enabled reads a switch; nil is "not told".
func enabled(s string) *bool {
	switch strings.ToLower(s) {
	case "enabled", "yes", "on":
		return new(true)
	case "disabled", "no", "off":
		return new(false)
	}
	return nil
}

// number reads a figure, with or without a unit behind it; nil is "not told".
func number(s string) *float64 {
	s, _, _ = strings.Cut(strings.TrimSpace(s), " ")
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v < 0 || v > 1e15 || v != v {
		return nil
	}
	return &v
}

// told is s, or "" where it is one of the ways to say that it is not known.
func told(s string) string {
	low := strings.ToLower(strings.Trim(s, "[]"))
	switch low {
	case "n/a", "not supported", "not available", "not found", "unknown error", "err!", "gpu is lost", "gpu requires reset", "insufficient permissions", "no permission", "unknown", "requested functionality has been deprecated":
		return ""
	}
	return strings.ToValidUTF8(s, "�")
}

// shortPCI writes a bus address as Linux does: NVIDIA's "00000000:01:00.0" has
// a domain of eight digits.
func shortPCI(s string) string {
	s = strings.ToLower(s)
	if domain, rest, ok := strings.Cut(s, ":"); ok && len(domain) == 8 && strings.HasPrefix(domain, "0000") {
		return domain[4:] + ":" + rest
	}
	return s
}
