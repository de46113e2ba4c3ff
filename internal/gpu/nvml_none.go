//go:build (!linux && !windows) || static

package gpu

import "context"

// detectNVML finds nothing: NVIDIA has no driver for this system, or this is
// the build that loads no library into itself (go build -tags static), which
// asks nvidia-smi.
func detectNVML(context.Context, Config) (found, error) { return found{}, errAbsent }
