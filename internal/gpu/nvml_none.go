//go:build (!linux && !windows) || static

package gpu

import "context"

// nvmlSource finds nothing: NVIDIA has no driver for this system, or this is
// the build that loads no library into itself (go build -tags static), which
// asks nvidia-smi.
type nvmlSource struct{}

func newNVML(Config) nvmlSource { return nvmlSource{} }

func (*nvmlSource) find(context.Context, turn) (found, error) { return found{}, errAbsent }

func (*nvmlSource) energy(context.Context) []CardEnergy { return nil }

func (*nvmlSource) lost(Device) string { return "" }

func (*nvmlSource) close(context.Context) {}
