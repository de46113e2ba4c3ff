// Command peers asks gguf-parser-go, the best public estimator that we know,
// what a model will take, so that internal/memory's benchmark can put its answers
// beside ours. It is in the tools' module: nothing that is shipped needs it.
//
//	peers MODEL.gguf < questions > answers
//
// Questions and answers are JSON, one a line, in the same order.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	parser "github.com/gpustack/gguf-parser-go"
)

// question is a start of the engine: the settings as the engine made them out of
// its flags. K and V are types of the cache by their number in ggml.
type question struct {
	Context, Slots, Batch, MicroBatch int32
	K, V                              uint32
	Flash, FullWindow                 bool
}

// answer is what the library says of the one device, bytes. KV has the states of
// recurrent layers in it: the library does not tell them apart.
type answer struct {
	Weights, KV, Compute, Total int64
	Error                       string `json:",omitempty"`
}

// ask gives the library the best settings that it has:
//   - the context after the engine's rounding for its slots, not the flag: the
//     library rounds to 256 at most;
//   - flash attention on where the engine used it: the library's default is off,
//     the engine's is to use it where the card can;
//   - every layer and the cache on the device, which is its default;
//   - no footprint of a driver: none is in what was measured.
//
// Whether slots share a cache cannot be told to it, nor that embeddings are
// asked of a model that also writes.
func ask(f *parser.GGUFFile, q question) (a answer) {
	defer func() {
		if p := recover(); p != nil { // how the library refuses settings
			a = answer{Error: fmt.Sprint(p)}
		}
	}()
	options := []parser.GGUFRunEstimateOption{
		parser.WithLLaMACppContextSize(q.Context),
		parser.WithParallelSize(q.Slots),
		parser.WithLLaMACppLogicalBatchSize(q.Batch),
		parser.WithLLaMACppPhysicalBatchSize(q.MicroBatch),
		parser.WithLLaMACppCacheKeyType(parser.GGMLType(q.K)),
		parser.WithLLaMACppCacheValueType(parser.GGMLType(q.V)),
	}
	if q.Flash {
		options = append(options, parser.WithFlashAttention())
	}
	if q.FullWindow {
		options = append(options, parser.WithLLaMACppFullSizeSWACache())
	}
	e := f.EstimateLLaMACppRun(options...)
	card := e.Devices[1]
	return answer{
		Weights: int64(card.Weight.Sum()),
		KV:      int64(card.KVCache.Sum()),
		Compute: int64(card.Computation.Sum()),
		Total:   int64(e.SummarizeItem(false, 0, 0).VRAMs[0].NonUMA),
	}
}

func run(path string, in io.Reader, out io.Writer) error {
	f, err := parser.ParseGGUFFile(path, parser.SkipLargeMetadata(), parser.UseMMap())
	if err != nil {
		return fmt.Errorf("gguf-parser-go cannot read %s: %w", path, err)
	}
	w := bufio.NewWriter(out)
	from, to := json.NewDecoder(in), json.NewEncoder(w)
	for {
		var q question
		if err := from.Decode(&q); errors.Is(err, io.EOF) {
			return w.Flush()
		} else if err != nil {
			return fmt.Errorf("a question is no JSON of a question: %w", err)
		}
		if err := to.Encode(ask(f, q)); err != nil {
			return err
		}
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: peers MODEL.gguf < questions > answers")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}
