package runner

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"monitor/internal/engine"
)

// args turns a configuration into the command line of one engine build. Pure.
// What holds for every start: loopback only, an API key that is not on the
// command line, no download, no web page, no fitting of sizes behind our back,
// no prompt cache in the host's memory beyond CacheRAM, a fixed share of the
// window per slot, no empty run at the start, since the warm-up does more. Tools, agents and other hosts are never switched on.
func args(c Config, port int, keyFile string) ([]string, error) {
	if c.Model.Path == "" {
		return nil, errors.New("no model file is given to the engine")
	}
	caps := c.Engine.Flags
	type setting struct {
		name, value string
		skip        bool
	}
	settings := []setting{
		{name: "model", value: c.Model.Path},
		{name: "alias", value: c.Model.Name, skip: c.Model.Name == ""},
		{name: "host", value: "127.0.0.1"},
		{name: "port", value: strconv.Itoa(port)},
		{name: "api-key-file", value: keyFile},
		{name: "context", value: strconv.Itoa(c.Slots * c.Window)},
		{name: "slots", value: strconv.Itoa(c.Slots)},
		{name: "threads", value: strconv.Itoa(c.Threads), skip: c.Threads == 0},
		{name: "gpu-layers", value: strconv.Itoa(c.GPULayers)},
		{name: "split-kv", skip: c.Reserve.Unified},
		{name: "unified-kv", skip: !c.Reserve.Unified},
		{name: "kv-k", value: c.Reserve.K, skip: c.Reserve.K == ""},
		{name: "kv-v", value: c.Reserve.V, skip: c.Reserve.V == ""},
		{name: "flash-attention", value: c.Reserve.FlashAttention, skip: c.Reserve.FlashAttention == ""},
		{name: "batch", value: strconv.Itoa(c.Reserve.Batch), skip: c.Reserve.Batch == 0},
		{name: "micro-batch", value: strconv.Itoa(c.Reserve.MicroBatch), skip: c.Reserve.MicroBatch == 0},
		{name: "full-window", skip: !c.Reserve.FullWindow},
		{name: "fit", value: "off"},
		{name: "cache-ram", value: strconv.Itoa(c.CacheRAM)},
		{name: "offline"},
		{name: "no-ui"},
		{name: "cors", value: "localhost"},
		{name: "no-context-shift"},
		{name: "jinja"},
		{name: "metrics"},
		{name: "show-slots"},
		{name: "no-warmup"},
		{name: "device", value: strings.Join(c.Devices, ","), skip: len(c.Devices) == 0},
		{name: "split-mode", value: "layer", skip: len(c.Split) == 0},
		{name: "tensor-split", value: commas(c.Split), skip: len(c.Split) == 0},
		{name: "slot-save-path", value: filepath.Join(c.SlotDir, ".") + string(filepath.Separator), skip: c.SlotDir == ""},
		{name: "verbosity", value: "4", skip: !caps.Traces},
	}
	var argv []string
	for _, s := range settings {
		if s.skip {
			continue
		}
		words, err := caps.Args(s.name, s.value)
		if err != nil {
			return nil, err
		}
		argv = append(argv, words...)
	}
	if has, _ := caps.Args("api-key-file", "x"); has == nil && !caps.KnowsEnv(keyVariable) {
		return nil, fmt.Errorf("this engine (%s) takes no API key from a file or from %s, so that any program on this machine could use it; use another build: monitor engine install", caps.Version, keyVariable)
	}
	if has, _ := caps.Args("gpu-layers", "1"); has == nil && c.GPULayers != 0 {
		return nil, errors.New("this engine was built without a GPU backend, yet layers are to go to the GPU; install a build for your card: monitor engine install, or set 0 layers")
	}
	return argv, nil
}

func commas(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ",")
}

// keyVariable is where llama-server and our launcher look for the API key.
const keyVariable = "LLAMA_API_KEY"

// childEnv is the environment of an engine: engine.ChildEnv, plus the key for a
// build that cannot read it from a file.
func childEnv(environ []string, caps engine.Capabilities, key string) []string {
	env := engine.ChildEnv(environ)
	if !caps.Knows("--api-key-file") {
		env = append(env, keyVariable+"="+key)
	}
	return env
}
