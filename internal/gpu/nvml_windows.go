//go:build !static

package gpu

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// openLibrary loads NVIDIA's library and returns the look-up of its functions.
// Only from the folders where drivers put it: a DLL of that name in the current
// folder is none of theirs.
func openLibrary(path string) (func(string) (uintptr, error), error) {
	candidates := []string{path}
	if path == "" {
		candidates = nil
		if dir, err := windows.GetSystemDirectory(); err == nil {
			candidates = append(candidates, filepath.Join(dir, "nvml.dll"))
		}
		if dir := os.Getenv("ProgramW6432"); dir != "" {
			candidates = append(candidates, filepath.Join(dir, "NVIDIA Corporation", "NVSMI", "nvml.dll"))
		}
	}
	for _, name := range candidates {
		if _, err := os.Stat(name); err != nil && path == "" {
			continue
		}
		h, err := windows.LoadLibrary(name)
		if err != nil {
			return nil, fmt.Errorf("NVIDIA's library %s cannot be loaded: %w", name, err)
		}
		return func(n string) (uintptr, error) { return windows.GetProcAddress(h, n) }, nil
	}
	return nil, errAbsent
}
