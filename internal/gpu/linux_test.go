package gpu

import (
	"runtime"
	"strings"
	"testing"

	"monitor/internal/needs"
)

// onLinux: the Linux files are read on Linux only, colons in their names and all.
func onLinux(t *testing.T) {
	if runtime.GOOS != "linux" {
		needs.Missing(t, "Linux", "run the tests on Linux")
	}
}

func TestGfxNames(t *testing.T) {
	onLinux(t)
	root := tree(t, map[string]string{
		"class/kfd/kfd/topology/nodes/1/properties": "gfx_target_version 90010\ndrm_render_minor 128\n",
		"class/kfd/kfd/topology/nodes/2/properties": "gfx_target_version 90402\ndrm_render_minor 129\n",
		"class/kfd/kfd/topology/nodes/3/properties": "gfx_target_version 120001\ndrm_render_minor 130\n",
	})
	// MI200 is gfx90a, MI300 gfx942, RX 9070 gfx1201.
	archs := map[string]string{}
	for render, node := range kfdNodes(root) {
		archs[render] = node.arch
	}
	same(t, "archs", archs, map[string]string{"renderD128": "gfx90a", "renderD129": "gfx942", "renderD130": "gfx1201"})
}

const cpuinfo = `processor	: 0
model name	: AMD Ryzen 9 7950X 16-Core Processor
physical id	: 0
core id		: 0

processor	: 1
model name	: AMD Ryzen 9 7950X 16-Core Processor
physical id	: 0
core id		: 1

processor	: 2
model name	: AMD Ryzen 9 7950X 16-Core Processor
physical id	: 0
core id		: 0
`

const meminfo = "MemTotal:       64000000 kB\nMemFree:        1000000 kB\nMemAvailable:   50000000 kB\nHugePages_Total:       3\n"

func hostOf(t *testing.T, proc, sys map[string]string) Host {
	t.Helper()
	h := Host{Cores: 16}
	linuxHost(Config{ProcFS: tree(t, proc), SysFS: tree(t, sys)}, &h)
	return h
}

func TestHost(t *testing.T) {
	onLinux(t)
	h := hostOf(t, map[string]string{"cpuinfo": cpuinfo, "meminfo": meminfo, "self/cgroup": "0::/\n"}, nil)
	if h.CPU != "AMD Ryzen 9 7950X 16-Core Processor" || *h.PhysicalCores != 2 || h.Cores != 16 || *h.RAMTotal != 64000000*1024 || *h.RAMFree != 50000000*1024 {
		t.Errorf("%s", show(h))
	}
	if h := hostOf(t, nil, nil); h.CPU != "" || h.PhysicalCores != nil || h.RAMTotal != nil || h.RAMFree != nil || h.Cores != 16 {
		t.Errorf("a /proc that tells nothing: %s", show(h))
	}
}

func TestHostWithinControlGroups(t *testing.T) {
	onLinux(t)
	proc := func(cgroup string) map[string]string {
		return map[string]string{"cpuinfo": cpuinfo, "meminfo": meminfo, "self/cgroup": cgroup}
	}
	t.Run("v2, the parent is tighter", func(t *testing.T) {
		h := hostOf(t, proc("0::/user.slice/job.scope\n"), map[string]string{
			"fs/cgroup/user.slice/memory.max":               "8589934592\n",
			"fs/cgroup/user.slice/memory.current":           "6442450944\n",
			"fs/cgroup/user.slice/memory.stat":              "anon 1\ninactive_file 1073741824\n",
			"fs/cgroup/user.slice/cpu.max":                  "250000 100000\n",
			"fs/cgroup/user.slice/job.scope/memory.max":     "max\n",
			"fs/cgroup/user.slice/job.scope/memory.current": "1\n",
			"fs/cgroup/user.slice/job.scope/cpu.max":        "max 100000\n",
		})
		if h.Cores != 3 || *h.RAMTotal != 8*gib || *h.RAMFree != 3*gib {
			t.Errorf("want 3 cores, 8 GiB, 3 GiB free: %s", show(h))
		}
	})
	t.Run("v2 in a container, where the path is not there", func(t *testing.T) {
		h := hostOf(t, proc("0::/docker/abc\n"), map[string]string{"fs/cgroup/memory.max": "4294967296\n", "fs/cgroup/cpu.max": "50000 100000\n"})
		if h.Cores != 1 || *h.RAMTotal != 4*gib {
			t.Errorf("want 1 core, 4 GiB: %s", show(h))
		}
	})
	t.Run("v1", func(t *testing.T) {
		h := hostOf(t, proc("5:cpu,cpuacct:/a\n4:memory:/a\n"), map[string]string{
			"fs/cgroup/memory/a/memory.limit_in_bytes":  "2147483648\n",
			"fs/cgroup/memory/a/memory.usage_in_bytes":  "1073741824\n",
			"fs/cgroup/memory/memory.limit_in_bytes":    "9223372036854771712\n",
			"fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us":  "400000\n",
			"fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
			"fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":    "-1\n",
			"fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":   "100000\n",
		})
		if h.Cores != 4 || *h.RAMTotal != 2*gib || *h.RAMFree != 1*gib {
			t.Errorf("want 4 cores, 2 GiB, 1 GiB free: %s", show(h))
		}
	})
}

func FuzzHostFiles(f *testing.F) {
	f.Add(cpuinfo, meminfo)
	f.Add("model name\t:\ncore id:", "MemTotal: 99999999999999999999 kB\n:\n: \n")
	f.Fuzz(func(t *testing.T, info, mem string) {
		if model, n := parseCPUInfo(info); strings.Contains(model, "\n") || n != nil && *n < 1 {
			t.Fatalf("model %q, cores %s", model, show(n))
		}
		for k, v := range parseMemInfo(mem) {
			if *v < 0 {
				t.Fatalf("%s: %d", k, *v)
			}
		}
	})
}
