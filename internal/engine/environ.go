package engine

import (
	"runtime"
	"slices"
	"strings"
)

// ChildEnv picks from an environment what an engine may see: where programs and
// libraries are, the language, which GPUs to use, and tuning of the compute
// libraries. Everything else stays behind: keys and tokens, and the LLAMA_ARG_…
// variables, which would silently change the flags. Pure; used by every start
// of an engine.
//
// It adds OMP_WAIT_POLICY=passive unless the user chose a policy: llama.cpp's CPU
// threads wait for each other at a barrier thousands of times per token, and by
// default they do so spinning. When anything else wants a core, a thread that is
// waited for does not run while the others burn the time that it needs. Measured
// with the wheel on 2 cores at a load of 15: 55 tokens/s instead of 7, prompts
// 18 times faster. Not to spin at all costs an idle machine a quarter of its
// speed, so GNU's library may do so a thousand times: the same five units took
// 17 s idle (23 s without, 16 s with ten thousand) and, beside two busy
// processes, gave 25 tokens/s (17 without, 10 with ten thousand); single runs,
// 2026-11-24.
func ChildEnv(environ []string) []string {
	names := []string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
		"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_CACHE_PATH", "CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
		"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "ROCM_PATH", "ZES_ENABLE_SYSMAN", "ONEAPI_DEVICE_SELECTOR",
		"VK_ICD_FILENAMES", "VK_DRIVER_FILES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND", "OMP_PLACES"}
	prefixes := []string{"LC_", "GGML_CUDA_", "GGML_VK_"}
	fold := runtime.GOOS == "windows"
	if fold {
		names = append(names, "SYSTEMROOT", "WINDIR", "SYSTEMDRIVE", "TEMP", "TMP", "PATHEXT", "USERPROFILE", "LOCALAPPDATA", "PROGRAMDATA", "NUMBER_OF_PROCESSORS")
	}
	var env []string
	for _, kv := range environ {
		name, _, ok := strings.Cut(kv, "=")
		if !ok {
			continue
		}
		if fold {
			name = strings.ToUpper(name)
		}
		if slices.Contains(names, name) || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			env = append(env, kv)
		}
	}
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "OMP_WAIT_POLICY=") }) {
		env = append(env, "OMP_WAIT_POLICY=passive")
		if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "GOMP_SPINCOUNT=") }) {
			env = append(env, "GOMP_SPINCOUNT=1000")
		}
	}
	return env
}
