package fakeengine

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// flags of the two builds that the engine plays, in the layout of their --help.
const (
	newHelp = `----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
                                        (env: LLAMA_ARG_THREADS)
-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded from model)
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM, either an exact number,
                                        'auto', or 'all' (default: auto)
-fit,  --fit [on|off]                   whether to adjust unset arguments to fit in device memory ('on' or
                                        'off', default: 'on')
-b,    --batch-size N                   logical maximum batch size (default: 2048)
-ub,   --ubatch-size N                  physical maximum batch size (default: 512)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ctv,  --cache-type-v TYPE              KV cache data type for V
-dev,  --device <dev1,dev2,..>          comma-separated list of devices to use for offloading (none = don't
                                        offload)
-sm,   --split-mode {none,layer,row,tensor}
                                        how to split the model across multiple GPUs
-ts,   --tensor-split N0,N1,N2,...      fraction of the model to offload to each GPU, comma-separated list of
                                        proportions, e.g. 3,1
-mg,   --main-gpu INDEX                 the GPU to use for the model
-m,    --model FNAME                    model path to load
-lv,   --verbosity, --log-verbosity N   Set the verbosity threshold. Values:
                                         - 3: info
                                         - 4: trace (more info)
                                         - 5: debug
--list-devices                          print list of available devices and exit
--offline                               Offline mode: forces use of cache, prevents network access


----- example-specific params -----

-cram, --cache-ram N                    set the maximum cache size in MiB (default: 8192, -1 - no limit, 0 - disable)
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
                                        use single unified KV buffer shared across all sequences
--context-shift, --no-context-shift     whether to use context shift on infinite text generation
--warmup, --no-warmup                   whether to perform warmup with an empty run (default: enabled)
-np,   --parallel N                     number of server slots (default: -1, -1 = auto)
-a,    --alias STRING                   set model name aliases, comma-separated (to be used by API)
--host HOST                             IP addresses to listen on, comma-separated
--port PORT                             port to listen (default: 8080)
--cors-origins ORIGINS                  comma-separated list of allowed origins for CORS (default: *)
--ui, --webui, --no-ui, --no-webui      whether to enable the Web UI (default: enabled)
--api-key-file FNAME                    path to file containing API keys, one per line
--metrics                               enable prometheus compatible metrics endpoint (default: disabled)
--slots, --no-slots                     expose slots monitoring endpoint (default: enabled)
--slot-save-path PATH                   path to save slot kv cache (default: disabled)
--jinja, --no-jinja                     whether to use jinja template engine for chat (default: enabled)
`
	oldHelp = `----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of threads to use during generation (default: -1)
-c,    --ctx-size N                     size of the prompt context (default: 4096, 0 = loaded from model)
-ngl,  --gpu-layers, --n-gpu-layers N   number of layers to store in VRAM
-b,    --batch-size N                   logical maximum batch size (default: 2048)
-ub,   --ubatch-size N                  physical maximum batch size (default: 512)
-fa,   --flash-attn                     enable Flash Attention (default: disabled)
-ctk,  --cache-type-k TYPE              KV cache data type for K (default: f16)
-ctv,  --cache-type-v TYPE              KV cache data type for V (default: f16)
-sm,   --split-mode SPLIT_MODE          how to split the model across multiple GPUs
-ts,   --tensor-split SPLIT             fraction of the model to offload to each GPU
-mg,   --main-gpu i                     the GPU to use for the model
-lv,   --verbosity N                    set specific verbosity level (default: 0)
-m,    --model FNAME                    model path
-np,   --parallel N                     number of parallel sequences to decode (default: 1)
-a,    --alias STRING                   set alias for model name (to be used by REST API)
--host HOST                             ip address to listen (default: 127.0.0.1)
--port PORT                             port to listen (default: 8080)
--no-webui                              Disable the Web UI
--api-key KEY                           API key to use for authentication (default: none)
                                        (env: LLAMA_API_KEY)
--metrics                               enable prometheus compatible metrics endpoint (default: disabled)
--slots                                 enable slots monitoring endpoint (default: disabled)
--slot-save-path PATH                   path to save slot kv cache (default: disabled)
`
)

// Main is the engine as a process: it takes llama-server's flags, reads its
// script from the file that MONITOR_FAKE_ENGINE names, and returns the exit
// status.
func Main(argv []string) int {
	if os.Getenv(scriptVariable) == leftBehind {
		return stay()
	}
	var s Script
	b, err := os.ReadFile(os.Getenv(scriptVariable))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakeengine: no script:", err)
		return 2
	}
	help, version := newHelp, "version: 0.14.2 (build 10488, commit 1a2b3c4)\nbuilt with GNU 12.2.0 for Linux x86_64"
	if s.OldBuild {
		help, version = oldHelp, "version: 3600 (2fb92678)\nbuilt with cc (Debian 12.2.0-14) 12.2.0 for x86_64-linux-gnu"
	}
	f, err := parseFlags(argv, help)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch {
	case f["--help"] != "":
		fmt.Print(help)
		return 0
	case f["--version"] != "":
		fmt.Fprintln(os.Stderr, version)
		return 0
	case f["--list-devices"] != "":
		return listDevices(s)
	}
	if s.Quirks.EchoEnv != "" {
		if err := os.WriteFile(s.Quirks.EchoEnv, []byte(strings.Join(os.Environ(), "\n")), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	return serve(s, f)
}

// parseFlags reads a command line by the build's own help: a flag that is not
// there is an error. Flags are returned under the last name of their line that
// is not a negation; a switch has the value "on", a negation "off".
func parseFlags(argv []string, help string) (map[string]string, error) {
	type meaning struct {
		name  string
		value bool
		off   bool
	}
	table := map[string]meaning{}
	for line := range strings.Lines(help) {
		if !strings.HasPrefix(line, "-") || strings.HasPrefix(line, "-----") {
			continue
		}
		var names []string
		words := strings.Fields(line)
		for len(words) > 0 && strings.HasPrefix(words[0], "-") {
			names = append(names, strings.TrimSuffix(words[0], ","))
			words = words[1:]
		}
		head := strings.TrimRight(line[:min(len(line), 40)], " \n")
		last := head[strings.LastIndexByte(head, ' ')+1:]
		value := !strings.HasPrefix(last, "-")
		name := names[0]
		for _, n := range names {
			if strings.HasPrefix(n, "--") && !strings.HasPrefix(n, "--no-") {
				name = n
				break
			}
		}
		for _, n := range names {
			off := n != name && (strings.HasPrefix(n, "--no-") || strings.HasPrefix(n, "-no-"))
			table[n] = meaning{name: name, value: value, off: off}
		}
	}
	got := map[string]string{}
	for i := 0; i < len(argv); i++ {
		m, ok := table[argv[i]]
		switch {
		case !ok:
			return nil, fmt.Errorf("error: invalid argument: %s", argv[i])
		case m.off:
			got[m.name] = "off"
		case !m.value:
			got[m.name] = "on"
		case i+1 == len(argv):
			return nil, fmt.Errorf("error while handling argument %q: expected value for argument", argv[i])
		default:
			i++
			got[m.name] = argv[i]
		}
	}
	return got, nil
}

func listDevices(s Script) int {
	devices := s.Devices
	if len(devices) == 0 && s.Memory.Driver != "" {
		var err error
		if devices, err = listed(s.Memory.Driver); err != nil {
			fmt.Fprintln(os.Stderr, "fakeengine:", err)
			return 2
		}
	}
	fmt.Println("Available devices:")
	for _, d := range devices {
		fmt.Println("  " + d)
	}
	if len(devices) == 0 {
		fmt.Println("  (none)")
	}
	return 0
}

// configure reads the flags into a state.
func (s *state) configure(f map[string]string) error {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(f[name]); err == nil {
			return n
		}
		return otherwise
	}
	slots := max(1, number("--parallel", 1))
	s.flags = settings{
		slots: slots, window: number("--ctx-size", 4096) / slots, batch: max(1, number("--batch-size", 2048)), models: []string{f["--alias"]}, path: f["--model"],
		savePath: f["--slot-save-path"], metrics: f["--metrics"] == "on", slotsPage: f["--slots"] == "on" || f["--slots"] == "" && !s.script.OldBuild,
	}
	key := os.Getenv("LLAMA_API_KEY")
	if name := f["--api-key-file"]; name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("error: failed to open file '%s'", name)
		}
		key = strings.TrimSpace(string(b))
	}
	if key != "" {
		s.key.Store(&key)
	}
	return nil
}

func serve(s Script, f map[string]string) int {
	st, err := newState(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakeengine:", err)
		return 2
	}
	c := &console{w: os.Stderr, old: s.OldBuild, trace: f["--verbosity"] == "4" || f["--verbosity"] == "5", begun: time.Now()}
	st.logf = c.logf
	if s.StartError != "" && (st.start <= s.FailStarts || s.FailStartsFrom > 0 && st.start >= s.FailStartsFrom) {
		c.logf(0, "%s", s.StartError)
		return 1
	}
	if _, err := os.Stat(f["--model"]); err != nil {
		c.logf('E', "gguf_init_from_file: failed to open GGUF file '%s' (No such file or directory)", f["--model"])
		return 1
	}
	if err := st.configure(f); err != nil {
		c.logf(0, "%v", err)
		return 1
	}
	st.die, st.exit = dieOf, func() { os.Exit(0) }
	l, err := net.Listen("tcp", net.JoinHostPort(f["--host"], f["--port"]))
	if err != nil {
		c.logf('E', "couldn't bind HTTP server socket, hostname: %s, port: %s", f["--host"], f["--port"])
		return 1
	}
	if err := st.prepareEnd(l); err != nil {
		c.logf('E', "fakeengine: %v", err)
		return 2
	}
	st.load = loader(st, c, f["--model"])
	st.loaded = func() { afterLoad(st, c, "http://"+l.Addr().String()) }
	st.begin()
	server := &http.Server{Handler: st.handler(), ReadHeaderTimeout: time.Minute}
	c.logf('E', "%v", server.Serve(l))
	return 1
}
