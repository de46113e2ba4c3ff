package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"monitor/internal/catalog"
	"monitor/internal/fetch"
)

// inspectJSON is `models inspect --json`; docs/json.md says what the fields are.
type inspectJSON struct {
	Version      int              `json:"version"`
	Source       string           `json:"source"`
	Name         string           `json:"name"`
	Architecture string           `json:"architecture"`
	Format       formatJSON       `json:"format"`
	Parameters   int64            `json:"parameters"`
	Quant        string           `json:"quant"`
	Types        []tensorTypeJSON `json:"types"`
	Layers       uint64           `json:"layers"`
	Heads        []uint64         `json:"heads"`
	KVHeads      []uint64         `json:"kv_heads"`
	Embedding    uint64           `json:"embedding"`
	Context      uint64           `json:"context"`
	Vocabulary   uint64           `json:"vocabulary"`
	Parts        int              `json:"parts"`
	Bytes        bytesJSON        `json:"bytes"`
	Complete     bool             `json:"complete"`
	Incomplete   string           `json:"incomplete,omitempty"`
	Tensors      []tensorJSON     `json:"tensors,omitempty"`
}

type formatJSON struct {
	Version   uint32 `json:"version"`
	BigEndian bool   `json:"big_endian"`
}

type bytesJSON struct {
	Model  int64 `json:"model"`
	Header int64 `json:"header"`
	Read   int64 `json:"read"`
}

type tensorTypeJSON struct {
	Type       string `json:"type"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"`
}

type tensorJSON struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Dims   []int64 `json:"dims"`
	Bytes  int64   `json:"bytes"`
	Part   int     `json:"part"`
	Offset int64   `json:"offset"`
}

func (p modelCommands) inspectCommand(asJSON *bool) *cobra.Command {
	var tensors bool
	c := &cobra.Command{
		Use: "inspect FILE|URL|NAME", Short: "Look into a GGUF file, here or elsewhere, without downloading it",
		Long: `Reads the header of a model and nothing of its weights: a few MB of a file of any size, over
the network by ranges. What can be named: a file (of a divided model any of its files); an http or https
address; an installed model or a row of the catalogue (NAME or NAME@QUANT); a file at the hub, as
OWNER/NAME:QUANT, OWNER/NAME/FILE.gguf, with @REVISION after NAME if it is not main.`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			names, _ := p.completeModels(false)(c, args, begun)
			return names, cobra.ShellCompDirectiveDefault // a file will do, too
		},
		RunE: func(c *cobra.Command, args []string) error {
			return p.modelsInspect(c.Context(), args[0], tensors, *asJSON)
		},
	}
	c.Flags().BoolVar(&tensors, "tensors", false, "list every tensor, too")
	return c
}

// modelsInspect looks into a model that is here, or elsewhere.
func (p modelCommands) modelsInspect(ctx context.Context, what string, tensors, asJSON bool) error {
	in, err := p.inspect(ctx, what)
	if err != nil {
		return err
	}
	v := describeHeader(in)
	if tensors {
		for _, t := range in.Header.Tensors {
			v.Tensors = append(v.Tensors, tensorJSON{t.Name, t.Type.String(), t.Dims[:t.NDims], t.Bytes(), t.Part + 1, t.Offset})
		}
	}
	if asJSON {
		return p.json(v)
	}
	return p.printHeader(v)
}

// inspect reads the header of what is named: a file on this disk first.
func (p modelCommands) inspect(ctx context.Context, what string) (catalog.Inspection, error) {
	if err := p.readSettings(); err != nil {
		return catalog.Inspection{}, err
	}
	path := p.path(what)
	if st, err := os.Stat(path); err == nil && !st.IsDir() && !strings.Contains(what, "://") {
		return catalog.InspectFile(path)
	}
	cat, err := p.catalogue()
	if err != nil {
		return catalog.Inspection{}, err
	}
	lib, err := p.downloads()
	if err != nil {
		return catalog.Inspection{}, err
	}
	in, err := lib.Inspect(ctx, cat, what)
	if unknown, ok := err.(*catalog.NotFoundError); ok {
		if strings.HasSuffix(what, ".gguf") {
			return in, usage("there is no file %s", path)
		}
		return in, usage("%w; a FILE, an ADDRESS or OWNER/NAME:QUANT at the hub can be inspected, too", unknown)
	}
	return in, err
}

// describeHeader picks from a header what people ask of a model.
func describeHeader(in catalog.Inspection) inspectJSON {
	f := in.Header
	arch := f.Architecture()
	number := func(key string) uint64 { n, _ := f.Meta.Uint(arch + "." + key); return n }
	name, _ := f.Meta.String("general.name")
	v := inspectJSON{
		Version: 1, Source: in.Source, Name: name, Architecture: arch, Format: formatJSON{f.Version, f.BigEndian},
		Parameters: f.Parameters(), Quant: f.Quant(), Types: []tensorTypeJSON{}, Layers: number("block_count"),
		Embedding: number("embedding_length"), Context: number("context_length"), Vocabulary: number("vocab_size"),
		Parts: f.Parts, Bytes: bytesJSON{f.Size, f.HeaderBytes, in.Read}, Complete: true,
	}
	if n, ok := f.Meta.Len("tokenizer.ggml.tokens"); ok {
		v.Vocabulary = uint64(n)
	}
	v.Heads, _ = f.Meta.Uints(arch + ".attention.head_count")
	v.KVHeads, _ = f.Meta.Uints(arch + ".attention.head_count_kv")
	if v.KVHeads == nil {
		v.KVHeads = v.Heads // absent means as many, says the format
	}
	for _, s := range f.Shares() {
		v.Types = append(v.Types, tensorTypeJSON{s.Type.String(), s.Tensors, s.Elements, s.Bytes})
	}
	if err := f.Complete(); err != nil {
		v.Complete, v.Incomplete = false, err.Error()
	}
	return v
}

func (p modelCommands) printHeader(v inspectJSON) error {
	order := "little-endian"
	if v.Format.BigEndian {
		order = "BIG-ENDIAN: no engine here loads it"
	}
	p.printf("model         %s\narchitecture  %s\nsource        %s\nformat        GGUF version %d, %s\n", orDash(v.Name), orDash(v.Architecture), v.Source, v.Format.Version, order)
	p.printf("parameters    %s, counted from the tensors\n", count(v.Parameters))
	p.printf("layers        %d, width %d, heads %s, for keys and values %s\n", v.Layers, v.Embedding, span(v.Heads), span(v.KVHeads))
	p.printf("context       %d tokens\nvocabulary    %d tokens\n", v.Context, v.Vocabulary)
	whole := "all of them here"
	if !v.Complete {
		whole = v.Incomplete
	}
	if v.Parts > 1 {
		p.printf("parts         %d files\n", v.Parts)
	}
	p.printf("size          %s by its tensor table; %s\n", fetch.Bytes(v.Bytes.Model), printable(whole))
	p.printf("read          %s of it, of which the header is %s\n", fetch.Bytes(v.Bytes.Read), fetch.Bytes(v.Bytes.Header))
	p.printf("quantisation  %s\n\n", orDash(v.Quant))
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TYPE\tTENSORS\tPARAMETERS\tBYTES\tSHARE\tBITS A WEIGHT")
	total := int64(0)
	for _, t := range v.Types {
		total += t.Bytes
	}
	for _, t := range v.Types {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.1f %%\t%.4g\n", t.Type, t.Tensors, count(t.Parameters), fetch.Bytes(t.Bytes),
			100*float64(t.Bytes)/float64(max(total, 1)), 8*float64(t.Bytes)/float64(max(t.Parameters, 1)))
	}
	if len(v.Tensors) > 0 {
		fmt.Fprintln(w, "\nTENSOR\tTYPE\tDIMENSIONS\tBYTES\tPART")
	}
	for _, t := range v.Tensors {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n", printable(t.Name), t.Type, strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Dims), " ", " × "), "[]"), t.Bytes, t.Part)
	}
	return w.Flush()
}

// orDash is a text of a header, fit for one line of a terminal.
func orDash(s string) string {
	if s = printable(strings.ToValidUTF8(s, "?")); s == "" {
		return "–"
	}
	if r := []rune(s); len(r) > 100 {
		s = string(r[:100]) + "…"
	}
	return s
}

// span is a number, or the range of one that differs by layer.
func span(n []uint64) string {
	switch {
	case len(n) == 0:
		return "–"
	case slices.Min(n) == slices.Max(n):
		return fmt.Sprint(n[0])
	}
	return fmt.Sprintf("%d to %d by layer", slices.Min(n), slices.Max(n))
}

// count is a number of parameters as models are named by: 1.5 B, 135 M.
func count(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}} {
		if n >= u.size {
			return fmt.Sprintf("%.2f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprint(n)
}
