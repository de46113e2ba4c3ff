//go:build linux && !static

package gpu

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/ebitengine/purego"
)

// openLibrary loads NVIDIA's library and returns the look-up of its functions.
// It stays loaded: the library keeps threads and exit handlers of its own.
func openLibrary(path string) (func(string) (uintptr, error), error) {
	candidates := []string{path}
	if path == "" {
		candidates = []string{
			"libnvidia-ml.so.1",
			"/usr/lib/wsl/lib/libnvidia-ml.so.1",                         // Windows' Linux, where ld.so.conf may lack it
			"/run/opengl-driver/lib/libnvidia-ml.so.1",                   // NixOS
			"/usr/local/nvidia/lib64/libnvidia-ml.so.1",                  // Kubernetes' device plugin
			"/usr/lib64/nvidia/libnvidia-ml.so.1",                        // Fedora's older packages
			"/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1", // Debian's alternatives
		}
	}
	var broken error
	for _, name := range candidates {
		h, err := onOneThread(func() (uintptr, error) { return purego.Dlopen(name, purego.RTLD_LAZY|purego.RTLD_LOCAL) })
		if err == nil {
			return func(n string) (uintptr, error) {
				return onOneThread(func() (uintptr, error) { return purego.Dlsym(h, n) })
			}, nil
		}
		// A file that is there and does not load is worth a word; one that is not
		// there is the normal case on a machine without a card.
		if _, statErr := os.Stat(name); broken == nil && (path != "" || strings.HasPrefix(name, "/") && statErr == nil) {
			broken = fmt.Errorf("NVIDIA's library %s cannot be loaded: %w", name, err)
		}
	}
	if broken != nil {
		return nil, broken
	}
	return nil, errAbsent
}

// onOneThread asks the loader something. It keeps why it failed with the
// thread that asked, and purego fetches that with a second call: on another
// thread it would find nothing, or what somebody else's failure left there.
func onOneThread(ask func() (uintptr, error)) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return ask()
}
