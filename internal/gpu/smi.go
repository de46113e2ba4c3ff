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
	"strconv"
	"strings"
	"time"
)

// smiFields are the columns asked for, in this order. memory.reserved came with
// driver 470 and compute_cap with 510; a driver that does not know one refuses
// the whole query and names it.
var smiFields = []string{
	"index", "uuid", "name", "pci.bus_id", "driver_version", "memory.total", "memory.reserved", "memory.used", "memory.free",
	"utilization.gpu", "temperature.gpu", "power.draw", "enforced.power.limit", "compute_cap",
}

var (
	smiUnknownField = regexp.MustCompile(`Field "([^"]+)" is not a valid field`)
	// Plain nvidia-smi's head: "CUDA Version: 12.4", in later drivers "CUDA UMD Version: 13.1".
	smiCUDA = regexp.MustCompile(`CUDA(?: [A-Z]+)? Version\s*:\s*([0-9]+\.[0-9]+)`)
)

// detectSMI asks the program nvidia-smi.
func detectSMI(ctx context.Context, c Config) (found, error) {
	candidates := []string{c.SMI}
	if c.SMI == "" {
		candidates = []string{"nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi", "/run/current-system/sw/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi"}
		if runtime.GOOS == "windows" {
			candidates = []string{"nvidia-smi.exe", filepath.Join(os.Getenv("ProgramW6432"), "NVIDIA Corporation", "NVSMI", "nvidia-smi.exe")}
		}
	}
	program, err := lookPath(candidates...)
	if err != nil {
		return found{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	fields := smiFields
	for {
		out, err := runSMI(ctx, program, "--query-gpu="+strings.Join(fields, ","), "--format=csv,noheader,nounits")
		if ctx.Err() != nil {
			return found{}, fmt.Errorf("nvidia-smi did not answer within %s; the driver hangs: restart the machine", c.Timeout)
		}
		if m := smiUnknownField.FindStringSubmatch(out); err != nil && m != nil {
			if fewer := without(fields, m[1]); len(fewer) < len(fields) {
				fields = fewer
				continue
			}
		}
		f := parseSMI(out, fields)
		if len(f.devices) == 0 {
			if err != nil || len(f.notes) > 0 {
				return found{}, explainSMI(out, err)
			}
			return found{}, nil
		}
		if head, err := runSMI(ctx, program); err == nil {
			if m := smiCUDA.FindStringSubmatch(head); m != nil {
				f.cuda = m[1]
			}
		}
		return f, nil
	}
}

func runSMI(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	// A comma as the decimal point would tear the columns apart.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LANG=C")
	// A child in an uninterruptible call into the driver does not die when it is
	// killed; its pipes must not keep us.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func without(list []string, gone string) []string {
	var rest []string
	for _, s := range list {
		if s != gone {
			rest = append(rest, s)
		}
	}
	return rest
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
			f.notes = append(f.notes, fmt.Sprintf("nvidia-smi says what is no card: %.200s", strings.ToValidUTF8(line, "�")))
			continue
		}
		f.devices = append(f.devices, d)
	}
	if len(f.devices) > 0 {
		f.driver = f.devices[0].Driver
	}
	return f
}

// splitSMI gives each column its value. Only a card's name may hold a comma:
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
		if name == "name" {
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
	mib := func(field string) *int64 {
		// In MiB, rounded by the program.
		v := number(row[field])
		if v == nil || *v > 1<<30 {
			return nil
		}
		return new(int64(*v * (1 << 20)))
	}
	whole := func(field string) *int {
		v := number(row[field])
		if v == nil || *v > 1<<30 {
			return nil
		}
		return new(int(*v))
	}
	d := Device{
		Index: index, Vendor: Nvidia, Source: NvidiaSMI,
		Name: told(row["name"]), UUID: told(row["uuid"]), PCI: shortPCI(told(row["pci.bus_id"])),
		Driver: told(row["driver_version"]), Arch: told(row["compute_cap"]),
		Memory: Memory{Total: mib("memory.total"), Reserved: mib("memory.reserved"), Used: mib("memory.used"), Free: mib("memory.free")},
		Load: Load{
			Percent: whole("utilization.gpu"), Celsius: whole("temperature.gpu"),
			Watts: number(row["power.draw"]), LimitWatts: number(row["enforced.power.limit"]),
		},
	}
	if d.Load.Percent != nil && *d.Load.Percent > 100 {
		d.Load.Percent = nil
	}
	if d.Name == "" {
		d.Name = "NVIDIA card of unknown name"
	}
	// GB10 and Jetson live in the host's memory and answer "[N/A]" here; a card
	// that is merely in trouble does not know its load either.
	d.Unified = d.Memory.Total == nil && d.Load.Percent != nil
	return d, nil
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
	case "n/a", "not supported", "unknown error", "err!", "gpu is lost", "insufficient permissions", "unknown":
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
