package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"monitor/internal/catalog"
	"monitor/internal/fetch"
	"monitor/internal/placement"
)

// library is the folder of the models that are installed here.
func (p *Program) library() *catalog.Library {
	return &catalog.Library{Dir: p.folders.models(), Fetch: p.fetcher()}
}

// downloads is the library with the hub's address and token; only what fetches
// models needs them.
func (p *Program) downloads() (*catalog.Library, error) {
	token := p.Getenv("HF_TOKEN")
	if token == "" {
		var err error
		if token, err = readSecret(p.settings.Download.HFTokenFile); err != nil {
			return nil, err
		}
	}
	l := p.library()
	l.Hub = catalog.Hub{Endpoint: cmp.Or(p.Getenv("HF_ENDPOINT"), p.settings.Download.HFEndpoint), Token: token}
	return l, nil
}

// modelCommands are `monitor models` and its children.
type modelCommands struct{ *Program }

// installedModel finds the model to use: the one named, or the one that the
// catalogue's rule gives this machine, or the largest that is here and fits.
func (p *Program) installedModel(cat *catalog.Catalog, name string, m catalog.Machine) (catalog.Installed, catalog.Model, error) {
	lib := p.library()
	if name != "" {
		row, rowErr := cat.Model(strings.SplitN(name, "@", 2)[0])
		if rowErr == nil {
			if _, quant, ok := strings.Cut(name, "@"); ok {
				name = row.Name + "@" + quant
			} else {
				name = row.Name
			}
		}
		inst, err := lib.Find(name)
		var none *catalog.NotInstalledError
		switch {
		case errors.As(err, &none) && rowErr != nil:
			return inst, row, &coded{exitUsage, rowErr}
		case errors.As(err, &none):
			return inst, row, &coded{exitMissing, none}
		}
		return inst, row, err
	}
	choice := cat.Default(m)
	if inst, err := lib.Find(choice.Model.Name); err == nil {
		return inst, choice.Model, nil
	}
	all, err := lib.List()
	if err != nil {
		return catalog.Installed{}, catalog.Model{}, err
	}
	slices.SortStableFunc(all, func(a, b catalog.Installed) int { return cmp.Compare(b.Bytes(), a.Bytes()) })
	for _, inst := range all {
		if inst.Bytes() <= choice.Budget && inst.Check() == nil {
			row, _ := cat.Model(inst.Name) // an imported file may have no row
			return inst, row, nil
		}
	}
	return catalog.Installed{}, catalog.Model{}, missing("no model that fits this machine is installed; type: monitor setup")
}

func (p modelCommands) command() *cobra.Command {
	var asJSON bool
	list := func(c *cobra.Command, _ []string) error { return p.modelsList(c.Context(), asJSON) }
	c := &cobra.Command{Use: "models", Short: "List, show, inspect, pull, import and remove models", Args: cobra.NoArgs, RunE: list}
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print as JSON")
	var quant, as string
	pull := &cobra.Command{Use: "pull NAME", Short: "Download a model of the catalogue: resumed, checked, whole or not at all",
		Args: cobra.ExactArgs(1), ValidArgsFunction: p.completeModels(false),
		RunE: func(c *cobra.Command, args []string) error { return p.modelsPull(c.Context(), args[0], quant) }}
	pull.Flags().StringVar(&quant, "quant", "", "the quantisation (`Q4_K_M`); empty: the one that the catalogue prefers")
	imp := &cobra.Command{Use: "import [FILE]", Short: "Use a GGUF file that is on this disk, without a copy; without FILE: list what other programs left here",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return p.modelsImport(c.Context(), args, as, asJSON) }}
	imp.Flags().StringVar(&as, "name", "", "the `NAME` it gets here; empty: from the file")
	c.AddCommand(
		&cobra.Command{Use: "measured", Short: "List what loaded models took, beside what was predicted", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return p.modelsMeasured(c.Context(), asJSON) }},
		&cobra.Command{Use: "list", Short: "List the catalogue and what is installed", Args: cobra.NoArgs, RunE: list},
		&cobra.Command{Use: "show NAME", Short: "Show one model: files, sizes, licence, memory", Args: cobra.ExactArgs(1), ValidArgsFunction: p.completeModels(false),
			RunE: func(c *cobra.Command, args []string) error { return p.modelsShow(c.Context(), args[0], asJSON) }},
		p.inspectCommand(&asJSON), p.needCommand(&asJSON),
		pull, imp,
		&cobra.Command{Use: "rm NAME", Short: "Remove an installed model (of an imported one only the record)", Args: cobra.ExactArgs(1), ValidArgsFunction: p.completeModels(true),
			RunE: func(c *cobra.Command, args []string) error {
				if err := p.readSettings(); err != nil {
					return err
				}
				if err := p.lock(); err != nil {
					return err
				}
				in, err := p.library().Remove(c.Context(), args[0])
				if err == nil {
					p.printf("removed %s (%s, %s)\n", in.Name, in.Quant, fetch.Bytes(in.Bytes()))
				}
				return err
			}},
	)
	return c
}

func (p modelCommands) completeModels(installed bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var out []string
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if installed {
			all, _ := p.library().List() // what can be read is offered
			for _, in := range all {
				out = append(out, in.Name)
			}
		} else if cat, err := p.catalogue(); err == nil {
			for _, m := range cat.Models() {
				out = append(out, m.Name+"\t"+m.Title)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// modelJSON is a model in `--json` output.
type modelJSON struct {
	catalog.Model
	// NeedBytes is the memory that it takes with listSlots workers of listTokens
	// tokens: the file that is here, else the preferred quantisation. Fits is whether this
	// machine's largest card, or without one its memory, has it.
	NeedBytes int64                `json:"need_bytes"`
	Fits      bool                 `json:"fits"`
	Chosen    bool                 `json:"chosen"`
	Installed []installedModelJSON `json:"installed,omitempty"`
}

type installedModelJSON struct {
	catalog.Installed
	Path string `json:"path"`
}

func (p modelCommands) models(ctx context.Context) ([]modelJSON, catalog.Choice, error) {
	if err := p.readSettings(); err != nil {
		return nil, catalog.Choice{}, err
	}
	cat, err := p.catalogue()
	if err != nil {
		return nil, catalog.Choice{}, err
	}
	choice := cat.Default(p.machine(ctx))
	// What setup would choose.
	if s, reason, err := planCommand(p).suits(ctx, cat, func(*placement.Seat) {}, func(placement.Variant) bool { return true }); err == nil {
		if row, err := cat.Model(s.Model); err == nil {
			choice.Model, choice.Reason = row, reason
		}
	}
	here, err := p.library().List()
	if err != nil {
		return nil, choice, err
	}
	var rows []modelJSON
	known := map[string]bool{}
	for _, m := range cat.Models() {
		row := modelJSON{Model: m, Chosen: m.Name == choice.Model.Name}
		if len(m.Quants) > 0 {
			row.NeedBytes = catalog.Need(m, m.Quants[0])
			row.Fits = row.NeedBytes <= choice.Budget
		}
		known[m.Name] = true
		for _, in := range here {
			if in.Name == m.Name {
				row.Installed = append(row.Installed, installedModelJSON{in, in.Path()})
			}
		}
		rows = append(rows, row)
	}
	for _, in := range here {
		if !known[in.Name] {
			rows = append(rows, modelJSON{
				Model:     catalog.Model{Name: in.Name, Title: in.Name, Licence: catalog.Unknown, Architecture: in.Architecture, Context: int(in.Context)},
				NeedBytes: in.Bytes(), Fits: in.Bytes() <= choice.Budget, Installed: []installedModelJSON{{in, in.Path()}},
			})
		}
	}
	return rows, choice, p.judgeAll(ctx, cat, rows, choice.Budget)
}

func (p modelCommands) modelsList(ctx context.Context, asJSON bool) error {
	rows, choice, err := p.models(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return p.json(map[string]any{"version": 1, "models": rows, "choice": choice.Reason})
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tHERE\tQUANT\tSIZE\tNEEDS\tFITS\tLICENCE")
	for _, m := range rows {
		here, quant, size := "", "", ""
		if len(m.Quants) > 0 {
			quant, size = m.Quants[0].Name, fetch.Bytes(m.Quants[0].Bytes())
		}
		if len(m.Installed) > 0 {
			here, quant, size = "yes", m.Installed[0].Quant, fetch.Bytes(m.Installed[0].Bytes())
		}
		fits := "no"
		if m.Fits {
			fits = "yes"
		}
		if m.Trial {
			fits += ", a toy"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, here, quant, size, fetch.Bytes(m.NeedBytes), fits, m.Licence)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	p.printf("\nNEEDS and FITS: with %d workers of %d tokens; for other settings: monitor models need NAME, monitor plan.\n", listSlots, listTokens)
	p.printf("For this machine: %s.\n", choice.Reason)
	return nil
}

func (p modelCommands) modelsShow(ctx context.Context, name string, asJSON bool) error {
	rows, _, err := p.models(ctx)
	if err != nil {
		return err
	}
	cat, err := p.catalogue()
	if err != nil {
		return err
	}
	want := name
	row, rowErr := cat.Model(name)
	if rowErr == nil {
		want = row.Name
	}
	i := slices.IndexFunc(rows, func(m modelJSON) bool { return m.Name == want })
	if i < 0 {
		return &coded{exitUsage, rowErr}
	}
	m := rows[i]
	if asJSON {
		return p.json(struct {
			Version int `json:"version"`
			modelJSON
		}{1, m})
	}
	p.printf("name      %s (%s)\nlicence   %s\ncontext   %d tokens\n", m.Name, m.Title, m.Licence, m.Context)
	p.printf("chat      %s, architecture %s\nskills    %s\nedits     %s (%s)\n", m.Chat, m.Architecture, strings.Join(m.Skills, ", "), m.Edit.Format, m.Edit.Source)
	p.printf("needs     %s with %d workers of %d tokens\n", fetch.Bytes(m.NeedBytes), listSlots, listTokens)
	if m.Trial {
		p.printf("trial     only for trying things out; for real answers: %s\n", m.Instead)
	}
	if m.Note != "" {
		p.printf("note      %s\n", m.Note)
	}
	for _, q := range m.Quants {
		for _, f := range q.Files {
			about := ""
			if f.Approximate {
				about = "about "
			}
			p.printf("%-9s %s, %s%s, sha256 %s\n", q.Name, f.Name, about, fetch.Bytes(f.Bytes), f.SHA256)
		}
	}
	for _, in := range m.Installed {
		p.printf("here      %s, %s, from %s\n          %s\n", in.Quant, fetch.Bytes(in.Bytes()), in.Source, in.Path)
	}
	return nil
}

func (p modelCommands) modelsPull(ctx context.Context, name, quant string) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	cat, err := p.catalogue()
	if err != nil {
		return err
	}
	if base, q, ok := strings.Cut(name, "@"); ok && quant == "" {
		name, quant = base, q
	}
	row, err := cat.Model(name)
	if err != nil {
		return &coded{exitUsage, err}
	}
	if err := p.folders.make(); err != nil {
		return err
	}
	lib, err := p.downloads()
	if err != nil {
		return err
	}
	plan, err := lib.Plan(ctx, row, quant)
	if err != nil {
		return err
	}
	p.printf("%s\n", plan)
	if plan.Installed {
		return nil
	}
	return p.pull(ctx, plan)
}

// modelsImport takes a file in, or lists what other programs left on the disk.
func (p modelCommands) modelsImport(ctx context.Context, args []string, name string, asJSON bool) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	if len(args) == 1 {
		if err := p.folders.make(); err != nil {
			return err
		}
		in, err := p.library().Import(ctx, p.path(args[0]), name, "")
		if err != nil {
			return err
		}
		p.printf("imported %s (%s, %s, not copied)\n  monitor analyze . --model %s\n", in.Name, in.Quant, fetch.Bytes(in.Bytes()), in.Name)
		return nil
	}
	places := catalog.UsualPlaces(cmp.Or(p.Getenv("HOME"), p.Getenv("USERPROFILE")))
	for _, v := range []struct {
		env, sub string
		to       *[]string
	}{{"OLLAMA_MODELS", "", &places.Ollama}, {"HF_HUB_CACHE", "", &places.HuggingFace}, {"HF_HOME", "hub", &places.HuggingFace}} {
		if dir := p.Getenv(v.env); dir != "" {
			*v.to = append(*v.to, filepath.Join(dir, v.sub))
		}
	}
	found := catalog.FindLocal(places)
	if asJSON {
		return p.json(map[string]any{"version": 1, "found": found})
	}
	if len(found) == 0 {
		p.printf("No GGUF file in the folders of Ollama, LM Studio and Hugging Face. One elsewhere: monitor models import FILE\n")
		return nil
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TITLE\tFROM\tSIZE\tFILE")
	for _, f := range found {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(f.Title), f.From, fetch.Bytes(f.Bytes), f.Path)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	p.printf("\nTo use one: monitor models import FILE\n")
	return nil
}
