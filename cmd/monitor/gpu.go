package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"monitor/internal/fetch"
	"monitor/internal/gpu"
)

// gpuCommand is `monitor gpu`.
type gpuCommand struct{ *Program }

func (p gpuCommand) command() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "gpu", Short: "Say what graphics cards, memory and processor this machine has", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := gpu.Detect(c.Context(), gpu.Config{})
			if err != nil {
				return err
			}
			if asJSON {
				return p.json(struct {
					Version int `json:"version"`
					gpu.Machine
				}{1, m})
			}
			p.printMachine(m)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return p.withCards(c)
}

func (p gpuCommand) printMachine(m gpu.Machine) {
	if len(m.GPUs) == 0 {
		p.printf("gpu      none: %s\n", m.Why)
	}
	for _, d := range m.GPUs {
		p.printf("gpu %-4d %s (%s)\n", d.Index, d.Name, strings.Join(nonEmpty(string(d.Source), "driver "+d.Driver, "arch "+d.Arch), ", "))
		mem := []string{}
		add := func(what string, v *int64) {
			if v != nil {
				mem = append(mem, fetch.Bytes(*v)+" "+what)
			}
		}
		add("in all", d.Memory.Total)
		add("free", d.Memory.Free)
		add("used", d.Memory.Used)
		if len(mem) == 0 {
			mem = append(mem, "unknown")
		}
		p.printf("  memory %s\n", strings.Join(mem, ", "))
		load := []string{}
		if v := d.Load.Percent; v != nil {
			load = append(load, fmt.Sprintf("%d %% busy", *v))
		}
		if v := d.Load.Watts; v != nil {
			load = append(load, fmt.Sprintf("%.0f W", *v))
		}
		if v := d.Load.LimitWatts; v != nil {
			load = append(load, fmt.Sprintf("limit %.0f W", *v))
		}
		if v := d.Load.Celsius; v != nil {
			load = append(load, fmt.Sprintf("%d °C", *v))
		}
		if len(load) > 0 {
			p.printf("  load   %s\n", strings.Join(load, ", "))
		}
	}
	if m.CUDAVersion != "" {
		p.printf("cuda     up to %s\n", m.CUDAVersion)
	}
	for _, n := range m.Notes {
		p.printf("note     %s\n", n)
	}
	p.printf("cpu      %s, %d cores usable, %s\n", strings.Join(nonEmpty(m.Host.CPU, m.Host.OS+"/"+m.Host.Arch), ", "), m.Host.Cores, strings.Join(m.Host.Instructions, " "))
	if m.Host.RAMTotal != nil && m.Host.RAMFree != nil {
		p.printf("ram      %s, %s free\n", fetch.Bytes(*m.Host.RAMTotal), fetch.Bytes(*m.Host.RAMFree))
	}
}

// nonEmpty keeps the facts that are known; "driver " alone is not one.
func nonEmpty(s ...string) []string {
	var out []string
	for _, v := range s {
		if v != "" && !strings.HasSuffix(v, " ") {
			out = append(out, v)
		}
	}
	return out
}
